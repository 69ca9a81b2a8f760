from kit import *
SOURCE = 'EdamAme-x/pentect#1438, a2aproject/a2a-js#714'
WHAT = 'lines end with CR alone, events with two'
REQUEST = ask()
ANSWER = sse(*['data: ' + json.dumps(c) + '\r\r' for c in (chunk({'role': 'assistant', 'content': 'Hel'}), chunk({'content': 'lo'}), chunk({}, 'stop'), chunk(usage=usage(9, 2), choices=[]))], 'data: [DONE]\r\r', done=False)
def CHECK(rec, all): return expect(rec, status='completed', out=['Hello'], usage=usage(9, 2), complete=True)
