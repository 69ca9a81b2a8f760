from kit import *
SOURCE = 'moeru-ai/airi PR#2593 (PR#2589)'
WHAT = 'OpenRouter: every item is done, and the stream ends well-formed without response.completed: the text is kept, but the end was not told'
ev = lambda e: 'event: ' + e['type'] + '\ndata: ' + json.dumps(e) + '\n\n'
REQUEST = {'path': '/v1/responses', 'body': {'model': 'm-1', 'input': 'question', 'stream': True}}

WAIT = 4
ANSWER = sse(*map(ev, [{'type': 'response.created', 'response': {'id': 'resp_p47', 'object': 'response', 'status': 'in_progress', 'model': 'm-1', 'output': []}},
    {'type': 'response.output_item.added', 'output_index': 0, 'item': {'id': 'msg_1', 'type': 'message', 'role': 'assistant', 'status': 'in_progress', 'content': []}},
    {'type': 'response.output_text.delta', 'output_index': 0, 'item_id': 'msg_1', 'content_index': 0, 'delta': 'OK'},
    {'type': 'response.output_item.done', 'output_index': 0, 'item': {'id': 'msg_1', 'type': 'message', 'role': 'assistant', 'status': 'completed', 'content': [{'type': 'output_text', 'text': 'OK', 'annotations': []}]}}]), done=False)
def CHECK(rec, all): return expect(rec, status_in=['unknown_final', 'incomplete', 'failed', 'error'], out=['OK'], absent='end_not_seen', complete=False)
