from kit import *
SOURCE = 'can1357/oh-my-pi PR#4692, decolua/9router PR#2142'
WHAT = 'the last event is response.done instead of response.completed, then [DONE]'
ev = lambda e: 'event: ' + e['type'] + '\ndata: ' + json.dumps(e) + '\n\n'
REQUEST = {'path': '/v1/responses', 'body': {'model': 'm-1', 'input': 'question', 'stream': True}}

ANSWER = sse(*map(ev, [{'type': 'response.created', 'response': {'id': 'resp_p45', 'object': 'response', 'status': 'in_progress', 'model': 'm-1', 'output': []}},
    {'type': 'response.output_text.delta', 'output_index': 0, 'item_id': 'msg_1', 'content_index': 0, 'delta': 'OK'},
    {'type': 'response.done', 'response': {'id': 'resp_p45', 'object': 'response', 'status': 'completed', 'model': 'm-1', 'output': [{'id': 'msg_1', 'type': 'message', 'role': 'assistant', 'status': 'completed', 'content': [{'type': 'output_text', 'text': 'OK', 'annotations': []}]}], 'usage': {'input_tokens': 9, 'output_tokens': 4, 'total_tokens': 13}}}]))
WAIT = 3
def CHECK(rec, all): return expect(rec, status='completed', out=['OK'], usage={'input_tokens': 9, 'output_tokens': 4, 'total_tokens': 13}, complete=True)
