from kit import *
SOURCE = 'variation on helixml/chat-widget PR#5 (choices that are no array)'
WHAT = 'choices is an object by index; if it cannot be read, the record must not say that all was seen'
REQUEST = ask(stream=False)
ANSWER = doc({'id': 'p20', 'object': 'chat.completion', 'created': 1790000000, 'model': 'm-1', 'choices': {'0': {'index': 0, 'message': {'role': 'assistant', 'content': 'Hi'}, 'finish_reason': 'stop'}}, 'usage': usage(9, 2)})
def CHECK(rec, all):
    bad = expect(rec, usage=usage(9, 2))
    if rec and not rec['outputs'] and (rec['outputs_complete'] or rec['status'] == 'completed'): bad.append(f'no output, but status {rec["status"]}, outputs_complete {rec["outputs_complete"]}')
    return bad
