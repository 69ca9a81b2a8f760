from kit import *
SOURCE = 'openai/openai-python PR#3819, vm0-ai/vm0#24687, Effect-TS/effect PR#6976'
WHAT = 'the stream begins with a byte order mark, torn apart between two writes'
REQUEST = ask()
ANSWER = sse(b'\xef\xbb', b'\xbfdata: ' + json.dumps(chunk({'role': 'assistant', 'content': 'Hel'})).encode() + b'\n\n', chunk({'content': 'lo'}), chunk({}, 'stop', usage=usage(9, 2)))
def CHECK(rec, all): return expect(rec, status='completed', out=['Hello'], usage=usage(9, 2), complete=True)
