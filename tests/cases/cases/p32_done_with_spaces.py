from kit import *
SOURCE = 'mistralai/mistral-vibe PR#793 (#770)'
WHAT = 'the end is written "data:  [DONE] " with spaces around'
REQUEST = ask()
ANSWER = sse(chunk({'role': 'assistant', 'content': 'Hello'}), chunk({}, 'stop', usage=usage(9, 2)), 'data:  [DONE] \n\n', done=False)
def CHECK(rec, all): return expect(rec, status='completed', out=['Hello'], usage=usage(9, 2), complete=True)
