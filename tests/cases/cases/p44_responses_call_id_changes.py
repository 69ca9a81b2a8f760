from kit import *
SOURCE = 'vllm-project/vllm PR#47916'
WHAT = 'vLLM: the call has other ids in response.completed than it had in the stream: it is one call, not two'
ev = lambda e: 'event: ' + e['type'] + '\ndata: ' + json.dumps(e) + '\n\n'
REQUEST = {'path': '/v1/responses', 'body': {'model': 'm-1', 'input': 'question', 'stream': True}}

def fc(n, args, st): return {'id': f'fc_{n}', 'type': 'function_call', 'call_id': f'call_{n}', 'name': 'add', 'arguments': args, 'status': st}
ANSWER = sse(*map(ev, [{'type': 'response.created', 'response': {'id': 'resp_p44', 'object': 'response', 'status': 'in_progress', 'model': 'm-1', 'output': []}},
    {'type': 'response.output_item.added', 'output_index': 0, 'item': fc('one', '', 'in_progress')},
    {'type': 'response.function_call_arguments.delta', 'output_index': 0, 'item_id': 'fc_one', 'delta': '{"n":1}'},
    {'type': 'response.function_call_arguments.done', 'output_index': 0, 'item_id': 'fc_one', 'arguments': '{"n":1}'},
    {'type': 'response.output_item.done', 'output_index': 0, 'item': fc('one', '{"n":1}', 'completed')},
    {'type': 'response.completed', 'response': {'id': 'resp_p44', 'object': 'response', 'status': 'completed', 'model': 'm-1', 'output': [fc('two', '{"n":1}', 'completed')], 'usage': {'input_tokens': 9, 'output_tokens': 4, 'total_tokens': 13}}}]), done=False)
def CHECK(rec, all): return expect(rec, status='completed', calls=[('add', '{"n":1}')], usage={'input_tokens': 9, 'output_tokens': 4, 'total_tokens': 13})
