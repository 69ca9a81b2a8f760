from kit import *
SOURCE = 'tashfeenahmed/freellmapi#1087, openai/openai-python#498, lidge-jun/opencodex#1170'
WHAT = 'data:{...} and data:[DONE] without a space; an empty data: line as a sign of life'
REQUEST = ask()
ANSWER = sse('data:\n\n', *['data:' + json.dumps(c) + '\n\n' for c in (chunk({'role': 'assistant', 'content': 'Hel'}), chunk({'content': 'lo'}), chunk({}, 'stop'), chunk(usage=usage(9, 2), choices=[]))], 'data:[DONE]\n\n', done=False)
def CHECK(rec, all): return expect(rec, status='completed', out=['Hello'], usage=usage(9, 2), complete=True)
