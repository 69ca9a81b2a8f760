from kit import *
SOURCE = 'ranxianglei/billion-context#549, lidge-jun/opencodex#700'
WHAT = 'no event: lines, only data: without a space'
REQUEST = {'path': '/v1/responses', 'body': {'model': 'm-1', 'input': 'question', 'stream': True}}

ANSWER = sse(*['data:' + json.dumps(e) + '\n\n' for e in [{'type': 'response.created', 'response': {'id': 'resp_p49', 'object': 'response', 'status': 'in_progress', 'model': 'm-1', 'output': []}},
    {'type': 'response.output_text.delta', 'output_index': 0, 'item_id': 'msg_1', 'content_index': 0, 'delta': 'OK'},
    {'type': 'response.completed', 'response': {'id': 'resp_p49', 'object': 'response', 'status': 'completed', 'model': 'm-1', 'output': [{'id': 'msg_1', 'type': 'message', 'role': 'assistant', 'status': 'completed', 'content': [{'type': 'output_text', 'text': 'OK', 'annotations': []}]}], 'usage': {'input_tokens': 9, 'output_tokens': 4, 'total_tokens': 13}}}]], done=False)
def CHECK(rec, all): return expect(rec, status='completed', out=['OK'], usage={'input_tokens': 9, 'output_tokens': 4, 'total_tokens': 13}, complete=True)
