from kit import *
SOURCE = 'ollama/ollama#17118, ollama/ollama#14600'
WHAT = 'Ollama: the stream ends well-formed in the middle of the reasoning, without any last event'
ev = lambda e: 'event: ' + e['type'] + '\ndata: ' + json.dumps(e) + '\n\n'
REQUEST = {'path': '/v1/responses', 'body': {'model': 'm-1', 'input': 'question', 'stream': True}}

WAIT = 4
ANSWER = sse(*map(ev, [{'type': 'response.created', 'response': {'id': 'resp_p48', 'object': 'response', 'status': 'in_progress', 'model': 'm-1', 'output': []}},
    {'type': 'response.output_item.added', 'output_index': 0, 'item': {'id': 'rs_1', 'type': 'reasoning', 'summary': []}},
    {'type': 'response.reasoning_summary_text.delta', 'output_index': 0, 'item_id': 'rs_1', 'summary_index': 0, 'delta': 'Let '},
    {'type': 'response.reasoning_summary_text.delta', 'output_index': 0, 'item_id': 'rs_1', 'summary_index': 0, 'delta': 'me'}]), done=False)
def CHECK(rec, all): return expect(rec, status_in=['unknown_final', 'incomplete', 'failed', 'error'], out=[], reasoning='Let me', absent='end_not_seen', complete=False)
