from kit import *
SOURCE = 'variation on openai/openai-agents-python PR#3161 (#3104)'
WHAT = 'every item has output_index 0, told apart by their ids only; response.completed has output []'
ev = lambda e: 'event: ' + e['type'] + '\ndata: ' + json.dumps(e) + '\n\n'
REQUEST = {'path': '/v1/responses', 'body': {'model': 'm-1', 'input': 'question', 'stream': True}}

def fc(n, args, st): return {'id': f'fc_{n}', 'type': 'function_call', 'call_id': f'call_{n}', 'name': 'add', 'arguments': args, 'status': st}
ANSWER = sse(*map(ev, [{'type': 'response.created', 'response': {'id': 'resp_p42', 'object': 'response', 'status': 'in_progress', 'model': 'm-1', 'output': []}},
    {'type': 'response.output_item.added', 'output_index': 0, 'item': {'id': 'msg_1', 'type': 'message', 'role': 'assistant', 'status': 'in_progress', 'content': []}},
    {'type': 'response.output_text.delta', 'output_index': 0, 'item_id': 'msg_1', 'content_index': 0, 'delta': 'OK'},
    {'type': 'response.output_item.done', 'output_index': 0, 'item': {'id': 'msg_1', 'type': 'message', 'role': 'assistant', 'status': 'completed', 'content': [{'type': 'output_text', 'text': 'OK', 'annotations': []}]}},
    {'type': 'response.output_item.added', 'output_index': 0, 'item': fc(1, '', 'in_progress')},
    {'type': 'response.function_call_arguments.delta', 'output_index': 0, 'item_id': 'fc_1', 'delta': '{"n":1}'},
    {'type': 'response.output_item.done', 'output_index': 0, 'item': fc(1, '{"n":1}', 'completed')},
    {'type': 'response.output_item.added', 'output_index': 0, 'item': fc(2, '', 'in_progress')},
    {'type': 'response.function_call_arguments.delta', 'output_index': 0, 'item_id': 'fc_2', 'delta': '{"n":2}'},
    {'type': 'response.output_item.done', 'output_index': 0, 'item': fc(2, '{"n":2}', 'completed')},
    {'type': 'response.completed', 'response': {'id': 'resp_p42', 'object': 'response', 'status': 'completed', 'model': 'm-1', 'output': [], 'usage': {'input_tokens': 9, 'output_tokens': 4, 'total_tokens': 13}}}]), done=False)
def CHECK(rec, all): return expect(rec, status='completed', out=['OK'], calls=[('add', '{"n":1}'), ('add', '{"n":2}')], ids=['call_1', 'call_2'], usage={'input_tokens': 9, 'output_tokens': 4, 'total_tokens': 13})
