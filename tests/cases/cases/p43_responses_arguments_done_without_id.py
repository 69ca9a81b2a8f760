from kit import *
SOURCE = 'can1357/oh-my-pi PR#1971'
WHAT = 'llama.cpp: two calls are opened, then arguments.done events say neither item_id nor output_index; the items that are done have arguments "" again'
ev = lambda e: 'event: ' + e['type'] + '\ndata: ' + json.dumps(e) + '\n\n'
REQUEST = {'path': '/v1/responses', 'body': {'model': 'm-1', 'input': 'question', 'stream': True}}

def fc(n, st): return {'id': f'fc_{n}', 'type': 'function_call', 'call_id': f'call_{n}', 'name': 'add', 'arguments': '', 'status': st}
ANSWER = sse(*map(ev, [{'type': 'response.created', 'response': {'id': 'resp_p43', 'object': 'response', 'status': 'in_progress', 'model': 'm-1', 'output': []}},
    {'type': 'response.output_item.added', 'item': fc('a', 'in_progress')}, {'type': 'response.output_item.added', 'item': fc('b', 'in_progress')},
    {'type': 'response.function_call_arguments.done', 'arguments': '{"n":1}'}, {'type': 'response.function_call_arguments.done', 'arguments': '{"n":2}'},
    {'type': 'response.output_item.done', 'item': fc('a', 'completed')}, {'type': 'response.output_item.done', 'item': fc('b', 'completed')},
    {'type': 'response.completed', 'response': {'id': 'resp_p43', 'object': 'response', 'status': 'completed', 'model': 'm-1', 'usage': {'input_tokens': 9, 'output_tokens': 4, 'total_tokens': 13}}}]), done=False)
def CHECK(rec, all): return expect(rec, status='completed', ids=['call_a', 'call_b'], calls=[('add', '{"n":1}'), ('add', '{"n":2}')], usage={'input_tokens': 9, 'output_tokens': 4, 'total_tokens': 13})
