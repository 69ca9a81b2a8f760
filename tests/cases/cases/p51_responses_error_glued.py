from kit import *
SOURCE = 'Wei-Shaw/sub2api#1471'
WHAT = 'response.completed is cut in its middle, and the next line of the same event tells an error: no completed answer, and the text so far is kept'
ev = lambda e: 'event: ' + e['type'] + '\ndata: ' + json.dumps(e) + '\n\n'
REQUEST = {'path': '/v1/responses', 'body': {'model': 'm-1', 'input': 'question', 'stream': True}}

WAIT = 4
DONE = json.dumps({'type': 'response.completed', 'response': {'id': 'resp_p51', 'object': 'response', 'status': 'completed', 'model': 'm-1', 'output': [{'id': 'msg_1', 'type': 'message', 'role': 'assistant', 'status': 'completed', 'content': [{'type': 'output_text', 'text': 'Par', 'annotations': []}]}], 'usage': {'input_tokens': 9, 'output_tokens': 4, 'total_tokens': 13}}})
ANSWER = sse(ev({'type': 'response.created', 'response': {'id': 'resp_p51', 'object': 'response', 'status': 'in_progress', 'model': 'm-1', 'output': []}}), ev({'type': 'response.output_text.delta', 'output_index': 0, 'item_id': 'msg_1', 'content_index': 0, 'delta': 'Par'}),
    'event: response.completed\ndata: ' + DONE[:90] + '\ndata: ' + json.dumps({'type': 'error', 'sequence_number': 0, 'error': {'type': 'upstream_error', 'message': 'stream_read_error'}}) + '\n\n', done=False)
def CHECK(rec, all): return expect(rec, status_in=['failed', 'unknown_final', 'error', 'incomplete'], out=['Par'], complete=False)
