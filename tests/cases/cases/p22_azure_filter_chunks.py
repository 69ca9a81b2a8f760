from kit import *
SOURCE = 'microsoft/autogen#6465, langchain-ai/langchain#18977, openai/openai-python#1677'
WHAT = 'Azure with the asynchronous filter: first and last chunks have id and model "", choices [] or a choice without delta; the filter results of the text come after finish_reason'
F = {k: {'filtered': False, 'severity': 'safe'} for k in ('hate', 'self_harm', 'sexual', 'violence')}
E = {'id': '', 'object': '', 'created': 0, 'model': ''}
REQUEST = ask('/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21')
C = dict(model='gpt-4o-2024-08-06', id='chatcmpl-p22')
ANSWER = sse({**E, 'choices': [], 'prompt_filter_results': [{'prompt_index': 0, 'content_filter_results': F}], 'usage': None}, chunk({'role': 'assistant', 'content': 'Hel'}, **C), chunk({'content': 'lo'}, **C), {**E, 'choices': [{'index': 0, 'finish_reason': None, 'content_filter_results': F, 'content_filter_offsets': {'check_offset': 44, 'start_offset': 44, 'end_offset': 46}}], 'usage': None}, chunk({}, 'stop', **C), chunk(usage=usage(9, 2), choices=[], **C), {**E, 'choices': [{'index': 0, 'finish_reason': None, 'content_filter_results': F, 'content_filter_offsets': {'check_offset': 46, 'start_offset': 46, 'end_offset': 49}}], 'usage': None})
def CHECK(rec, all): return expect(rec, status='completed', out=['Hello'], usage=usage(9, 2), model='gpt-4o-2024-08-06', complete=True) + ([] if len(all) == 1 else ['records: %d' % len(all)]) + ([] if rec and 'chatcmpl-p22' in json.dumps(rec['run']) else [f'run: {rec and rec["run"]!r}'])
