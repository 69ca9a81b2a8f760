from kit import *
SOURCE = 'vercel-labs/fx PR#911'
WHAT = 'finish_reason tool_calls, usage, and only then a piece of text without finish_reason, and usage again'
REQUEST = ask()
LATE = chunk({'content': 'Found it.'}); del LATE['choices'][0]['finish_reason']
ANSWER = sse(chunk({'role': 'assistant', 'tool_calls': [{'index': 0, 'id': 'call_a', 'type': 'function', 'function': {'name': 'f', 'arguments': '{}'}}]}), chunk({}, 'tool_calls'), chunk(usage=usage(9, 2), choices=[]), LATE, chunk(usage=usage(9, 5), choices=[]))
def CHECK(rec, all): return expect(rec, status='completed', out=['Found it.'], calls=[('f', '{}')], usage=usage(9, 5))
