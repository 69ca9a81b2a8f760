from kit import *
SOURCE = 'variation on lemonade-sdk/lemonade#3607, ggml-org/llama.cpp PR#24957'
WHAT = 'Lemonade: no output_index, content_index and sequence_number anywhere; two items; here response.completed has no output (as in c21)'
ev = lambda e: 'event: ' + e['type'] + '\ndata: ' + json.dumps(e) + '\n\n'
REQUEST = {'path': '/v1/responses', 'body': {'model': 'm-1', 'input': 'question', 'stream': True}}

ANSWER = sse(*map(ev, [{'type': 'response.created', 'response': {'id': 'resp_p41', 'object': 'response', 'status': 'in_progress', 'model': 'm-1', 'output': []}},
    {'type': 'response.output_item.added', 'item': {'id': 'msg_1', 'type': 'message', 'role': 'assistant', 'status': 'in_progress', 'content': []}},
    {'type': 'response.output_text.delta', 'item_id': 'msg_1', 'delta': 'O'}, {'type': 'response.output_text.delta', 'item_id': 'msg_1', 'delta': 'K'},
    {'type': 'response.output_item.done', 'item': {'id': 'msg_1', 'type': 'message', 'role': 'assistant', 'status': 'completed', 'content': [{'type': 'output_text', 'text': 'OK', 'annotations': []}]}},
    {'type': 'response.output_item.added', 'item': {'id': 'fc_1', 'type': 'function_call', 'call_id': 'call_1', 'name': 'add', 'arguments': '', 'status': 'in_progress'}},
    {'type': 'response.function_call_arguments.delta', 'item_id': 'fc_1', 'delta': '{}'},
    {'type': 'response.output_item.done', 'item': {'id': 'fc_1', 'type': 'function_call', 'call_id': 'call_1', 'name': 'add', 'arguments': '{}', 'status': 'completed'}},
    {'type': 'response.completed', 'response': {'id': 'resp_p41', 'object': 'response', 'status': 'completed', 'model': 'm-1', 'usage': {'input_tokens': 9, 'output_tokens': 4, 'total_tokens': 13}}}]), done=False)
def CHECK(rec, all): return expect(rec, status='completed', out=['OK'], calls=[('add', '{}')], usage={'input_tokens': 9, 'output_tokens': 4, 'total_tokens': 13})
