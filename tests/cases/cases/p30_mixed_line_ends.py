from kit import *
SOURCE = 'openai/openai-node PR#2309, rexxars/eventsource-parser#17'
WHAT = 'LF then CRLF, CRLF then LF; and a CRLF torn apart between two writes, in one event of two data lines'
REQUEST = ask()
J = [json.dumps(c) for c in (chunk({'role': 'assistant', 'content': 'Hel'}), chunk({'content': 'lo'}), chunk({}, 'stop', usage=usage(9, 2)))]
CUT = J[1].index('"choices"')
ANSWER = sse('data: ' + J[0] + '\n\r\n', 'data: ' + J[1][:CUT] + '\r', '\ndata: ' + J[1][CUT:] + '\r', '\n\r', '\n', 'data: ' + J[2] + '\r\n\n', 'data: [DONE]\r\n\r\n', done=False)
def CHECK(rec, all): return expect(rec, status='completed', out=['Hello'], usage=usage(9, 2), complete=True)
