from kit import *
SOURCE = 'variation on sashirestela/simple-openai PR#213 (thread.run.incomplete), betalgo/openai#594'
WHAT = 'a run as a stream is cut by its token limit: message.incomplete, then thread.run.incomplete'
REQUEST = {'path': '/v1/threads/thread_p53/runs', 'body': {'assistant_id': 'asst_1', 'stream': True}, 'headers': {'openai-beta': 'assistants=v2'}}
RUN = {'id': 'run_p53', 'object': 'thread.run', 'created_at': 1790000000, 'assistant_id': 'asst_1', 'thread_id': 'thread_p53', 'model': 'm-1', 'usage': None, 'incomplete_details': None, 'last_error': None}
MSG = {'id': 'msg_p53', 'object': 'thread.message', 'created_at': 1790000001, 'assistant_id': 'asst_1', 'thread_id': 'thread_p53', 'run_id': 'run_p53', 'role': 'assistant', 'metadata': {}}
e = lambda name, d: f'event: {name}\ndata: {json.dumps(d)}\n\n'
ANSWER = sse(e('thread.run.created', {**RUN, 'status': 'queued'}), e('thread.message.created', {**MSG, 'status': 'in_progress', 'content': []}), e('thread.message.delta', {'id': 'msg_p53', 'object': 'thread.message.delta', 'delta': {'content': [{'index': 0, 'type': 'text', 'text': {'value': 'Hel', 'annotations': []}}]}}),
    e('thread.message.incomplete', {**MSG, 'status': 'incomplete', 'incomplete_details': {'reason': 'max_tokens'}, 'content': [{'type': 'text', 'text': {'value': 'Hel', 'annotations': []}}]}), e('thread.run.incomplete', {**RUN, 'status': 'incomplete', 'incomplete_details': {'reason': 'max_completion_tokens'}, 'usage': usage(9, 1)}), 'event: done\ndata: [DONE]\n\n', done=False)
WAIT = 4
def CHECK(rec, all): return expect(rec, status='incomplete', out=['Hel'], usage=usage(9, 1), error='max_completion_tokens')
