from kit import *
SOURCE = 'smallmain/vscode-unify-chat-provider PR#71'
WHAT = 'the answer stands in a data member of an envelope; if it cannot be read, the record must not say that all was seen'
REQUEST = ask(stream=False)
ANSWER = doc({'code': 0, 'msg': 'ok', 'data': {'id': 'p21', 'object': 'chat.completion', 'created': 1790000000, 'model': 'm-1', 'choices': [{'index': 0, 'message': {'role': 'assistant', 'content': 'Hi'}, 'finish_reason': 'stop'}], 'usage': usage(9, 2)}})
def CHECK(rec, all):
    bad = expect(rec)
    if rec and not rec['outputs'] and (rec['outputs_complete'] or rec['status'] == 'completed'): bad.append(f'no output, but status {rec["status"]}, outputs_complete {rec["outputs_complete"]}')
    return bad
