from kit import *
SOURCE = 'langfuse/langfuse#16998, openai/openai-go PR#806, BerriAI/litellm PR#15962'
WHAT = 'n = 2: both choices in one chunk, in changing order, each with a tool call of index 0'
REQUEST = ask(n=2)
def d(i, delta, fin=None): return {'index': i, 'delta': delta, 'finish_reason': fin}
def tc(**f): return [{'index': 0, **f}]
def both(*c): return chunk(choices=list(c))
ANSWER = sse(
    both(d(0, {'role': 'assistant', 'content': 'A', 'tool_calls': tc(id='call_a', type='function', function={'name': 'f', 'arguments': ''})}), d(1, {'role': 'assistant', 'content': 'B', 'tool_calls': tc(id='call_b', type='function', function={'name': 'g', 'arguments': '{"q"'})})),
    both(d(1, {'content': '1', 'tool_calls': tc(function={'arguments': ':'})}), d(0, {'content': '0', 'tool_calls': tc(function={'arguments': '{"p":1'})})),
    both(d(0, {'tool_calls': tc(function={'arguments': '}'})}), d(1, {'tool_calls': tc(function={'arguments': '2}'})})),
    both(d(1, {}, 'tool_calls')), both(d(0, {}, 'tool_calls')), chunk(usage=usage(9, 8), choices=[]))
def CHECK(rec, all): return expect(rec, status='completed', out=['A0', 'B1'], calls=[('f', '{"p":1}'), ('g', '{"q":2}')], ids=['call_a', 'call_b'], usage=usage(9, 8), complete=True)
