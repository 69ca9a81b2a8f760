from kit import *
SOURCE = 'rahilp/second-brain-cloudflare#353'
WHAT = 'the answer itself says [DONE], and "data: [DONE]" at a line of its own'
REQUEST = ask()
T = 'Keep [DONE] in\n\ndata: [DONE]\n\nthis sentence.'
ANSWER = sse(chunk({'role': 'assistant', 'content': T[:20]}), chunk({'content': '[DONE]'}), chunk({'content': T[20:]}), chunk({}, 'stop', usage=usage(9, 2)))
def CHECK(rec, all): return expect(rec, status='completed', out=[T[:20] + '[DONE]' + T[20:]], usage=usage(9, 2), complete=True)
