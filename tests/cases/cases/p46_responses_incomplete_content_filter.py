from kit import *
SOURCE = 'BerriAI/litellm#27186, langchain4j/langchain4j PR#6182 (#6181), tingly-dev/tingly-box PR#1132'
WHAT = 'Azure: response.incomplete, the reason is content_filter, and content_filters beside it'
ev = lambda e: 'event: ' + e['type'] + '\ndata: ' + json.dumps(e) + '\n\n'
REQUEST = {'path': '/v1/responses', 'body': {'model': 'm-1', 'input': 'question', 'stream': True}}

ANSWER = sse(*map(ev, [{'type': 'response.created', 'response': {'id': 'resp_p46', 'object': 'response', 'status': 'in_progress', 'model': 'm-1', 'output': []}},
    {'type': 'response.output_text.delta', 'output_index': 0, 'item_id': 'msg_1', 'content_index': 0, 'delta': 'Par'},
    {'type': 'response.incomplete', 'response': {'id': 'resp_p46', 'object': 'response', 'status': 'incomplete', 'model': 'm-1', 'incomplete_details': {'reason': 'content_filter'}, 'content_filters': [{'blocked': True, 'source_type': 'completion'}], 'output': [{'id': 'msg_1', 'type': 'message', 'role': 'assistant', 'status': 'incomplete', 'content': [{'type': 'output_text', 'text': 'Par', 'annotations': []}]}], 'usage': {'input_tokens': 9, 'output_tokens': 4, 'total_tokens': 13}}}]), done=False)
def CHECK(rec, all): return expect(rec, status='incomplete', out=['Par'], usage={'input_tokens': 9, 'output_tokens': 4, 'total_tokens': 13}, error='content_filter')
