from kit import *
SOURCE = 'CherryHQ/cherry-studio#11287, edenai/edenai-apis PR#360'
WHAT = 'MiniMax: 200, choices null, zeros as usage, and the error in base_resp'
REQUEST = ask(stream=False)
ANSWER = doc({'id': 'p39', 'object': 'chat.completion', 'created': 1790000000, 'model': 'MiniMax-M2', 'choices': None, 'usage': usage(0, 0), 'base_resp': {'status_code': 1002, 'status_msg': 'rate limit exceeded(RPM)'}})
def CHECK(rec, all): return expect(rec, status='failed', out=[], error='rate limit exceeded')
