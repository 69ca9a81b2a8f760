from kit import *
SOURCE = 'variation on decolua/9router PR#3297 (usage of a chat put into response.completed)'
WHAT = 'a translating proxy: usage of response.completed has the names of Chat Completions'
ev = lambda e: 'event: ' + e['type'] + '\ndata: ' + json.dumps(e) + '\n\n'
REQUEST = {'path': '/v1/responses', 'body': {'model': 'm-1', 'input': 'question', 'stream': True}}

U = dict(usage(9, 4), prompt_tokens_details={'cached_tokens': 3})
ANSWER = sse(*map(ev, [{'type': 'response.created', 'response': {'id': 'resp_p50', 'object': 'response', 'status': 'in_progress', 'model': 'm-1', 'output': []}},
    {'type': 'response.output_text.delta', 'output_index': 0, 'item_id': 'msg_1', 'content_index': 0, 'delta': 'OK'},
    {'type': 'response.completed', 'response': {'id': 'resp_p50', 'object': 'response', 'status': 'completed', 'model': 'm-1', 'output': [{'id': 'msg_1', 'type': 'message', 'role': 'assistant', 'status': 'completed', 'content': [{'type': 'output_text', 'text': 'OK', 'annotations': []}]}], 'usage': U}}]), done=False)
def CHECK(rec, all): return expect(rec, status='completed', out=['OK'], usage=U) + ([] if rec and (rec['tokens'] or {}).get('input') == 9 and rec['tokens'].get('output') == 4 else [f'tokens: {rec and rec["tokens"]!r}'])
