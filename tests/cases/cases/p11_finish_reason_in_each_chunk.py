from kit import *
SOURCE = 'BerriAI/litellm PR#31634, BerriAI/litellm PR#27139 (#19121), linagora/openrag PR#462'
WHAT = 'Gemini by LiteLLM: finish_reason with each call before the end, then another call, text, and stop twice'
REQUEST = ask()
def call(i, id): return {'tool_calls': [{'index': i, 'id': id, 'type': 'function', 'function': {'name': 'f', 'arguments': '{"n":%d}' % i}}]}
ANSWER = sse(chunk({'role': 'assistant', **call(0, 'call_a')}, 'tool_calls'), chunk(call(1, 'call_b'), 'tool_calls'), chunk({'content': 'Done.'}, 'stop'), chunk({'content': None}, 'stop', usage=usage(9, 5)))
def CHECK(rec, all): return expect(rec, status='completed', out=['Done.'], calls=[('f', '{"n":0}'), ('f', '{"n":1}')], ids=['call_a', 'call_b'], usage=usage(9, 5))
