from kit import *
SOURCE = 'abundantbeing/hermes-browser-extension#11'
WHAT = 'pieces, then a last chunk of another shape: no delta, but the whole message once more'
REQUEST = ask()
LAST = {'id': 'chatcmpl-1', 'object': 'chat.completion', 'created': 1790000000, 'model': 'm-1', 'choices': [{'index': 0, 'message': {'role': 'assistant', 'content': 'Hello'}, 'finish_reason': 'stop'}], 'usage': usage(9, 2)}
ANSWER = sse(chunk({'role': 'assistant', 'content': 'Hel'}), chunk({'content': 'lo'}), LAST)
def CHECK(rec, all): return expect(rec, status='completed', out=['Hello'], usage=usage(9, 2)) + ([] if len(all) == 1 else ['records: %d' % len(all)])
