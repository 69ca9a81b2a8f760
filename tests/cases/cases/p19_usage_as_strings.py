from kit import *
SOURCE = 'variation on theopenco/llmgateway PR#231 (token counts as strings)'
WHAT = 'token counts are strings'
U = {'prompt_tokens': '9', 'completion_tokens': '2', 'total_tokens': '11'}
REQUEST = ask()
ANSWER = sse(chunk({'role': 'assistant', 'content': 'Hello'}), chunk({}, 'stop'), chunk(usage=U, choices=[]))
def CHECK(rec, all): return expect(rec, status='completed', out=['Hello'], usage=U, complete=True)
