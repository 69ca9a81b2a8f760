from kit import *
SOURCE = 'variation on openai-php/client PR#392 (members left out in streamed objects)'
WHAT = 'a run as a stream, whose objects leave out object and what is null; the event names say what they are'
REQUEST = {'path': '/v1/threads/thread_p52/runs', 'body': {'assistant_id': 'asst_1', 'stream': True, 'additional_messages': [{'role': 'user', 'content': 'question'}]}, 'headers': {'openai-beta': 'assistants=v2'}}
RUN = {'id': 'run_p52', 'created_at': 1790000000, 'assistant_id': 'asst_1', 'thread_id': 'thread_p52', 'model': 'm-1'}
MSG = {'id': 'msg_p52', 'created_at': 1790000001, 'assistant_id': 'asst_1', 'thread_id': 'thread_p52', 'run_id': 'run_p52', 'role': 'assistant'}
e = lambda name, d: f'event: {name}\ndata: {json.dumps(d)}\n\n'
ANSWER = sse(e('thread.run.created', {**RUN, 'status': 'queued'}), e('thread.run.in_progress', {**RUN, 'status': 'in_progress'}), e('thread.message.created', {**MSG, 'status': 'in_progress', 'content': []}),
    e('thread.message.delta', {'id': 'msg_p52', 'delta': {'content': [{'index': 0, 'type': 'text', 'text': {'value': 'Hel'}}]}}), e('thread.message.delta', {'id': 'msg_p52', 'delta': {'content': [{'index': 0, 'type': 'text', 'text': {'value': 'lo'}}]}}),
    e('thread.message.completed', {**MSG, 'status': 'completed', 'content': [{'type': 'text', 'text': {'value': 'Hello', 'annotations': []}}]}), e('thread.run.completed', {**RUN, 'status': 'completed', 'usage': usage(9, 2)}), 'event: done\ndata: [DONE]\n\n', done=False)
WAIT = 4
def CHECK(rec, all): return expect(rec, status='completed', out=['Hello'], usage=usage(9, 2), api='assistants')
