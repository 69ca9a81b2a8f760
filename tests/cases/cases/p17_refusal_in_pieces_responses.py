from kit import *
SOURCE = 'openai/openai-python PR#3387, openai/openai-node PR#1932'
WHAT = 'Responses: a refusal in pieces, and the stream breaks off before the end; what was refused so far is not lost'
ev = lambda e: 'event: ' + e['type'] + '\ndata: ' + json.dumps(e) + '\n\n'
REQUEST = {'path': '/v1/responses', 'body': {'model': 'm-1', 'input': 'question', 'stream': True}}

WAIT = 4
ANSWER = sse(*map(ev, [{'type': 'response.created', 'response': {'id': 'resp_p17', 'object': 'response', 'status': 'in_progress', 'model': 'm-1', 'output': []}},
    {'type': 'response.output_item.added', 'output_index': 0, 'item': {'id': 'msg_1', 'type': 'message', 'role': 'assistant', 'status': 'in_progress', 'content': []}},
    {'type': 'response.content_part.added', 'output_index': 0, 'item_id': 'msg_1', 'content_index': 0, 'part': {'type': 'refusal', 'refusal': ''}},
    {'type': 'response.refusal.delta', 'output_index': 0, 'item_id': 'msg_1', 'content_index': 0, 'delta': "I'm "},
    {'type': 'response.refusal.delta', 'output_index': 0, 'item_id': 'msg_1', 'content_index': 0, 'delta': 'sorry'}]), done=False, end=False) + [0.1, None]
def CHECK(rec, all):
    bad = expect(rec, status_in=['unknown_final', 'failed', 'error', 'incomplete'], complete=False, absent='end_not_seen')
    parts = rec and [(c.get('type'), c.get('refusal')) for m in rec['outputs'] for c in (m.get('object') or m).get('content', [])]
    return bad + ([] if parts == [('refusal', "I'm sorry")] else [f'outputs: {parts!r}'])
