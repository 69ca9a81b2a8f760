from kit import *
SOURCE = 'ogx-ai/ogx PR#5462 (#5464)'
WHAT = 'vLLM: the first piece of a call has arguments null, then they come in pieces; another call never has any'
REQUEST = ask()
ANSWER = sse(chunk({'role': 'assistant', 'tool_calls': [{'index': 0, 'id': 'call_a', 'type': 'function', 'function': {'name': 'f', 'arguments': None}}]}), chunk({'tool_calls': [{'index': 0, 'function': {'arguments': '{"city": '}}]}), chunk({'tool_calls': [{'index': 0, 'function': {'arguments': '"Rome"}'}}]}), chunk({'tool_calls': [{'index': 1, 'id': 'call_b', 'type': 'function', 'function': {'name': 'g', 'arguments': None}}]}), chunk({}, 'tool_calls', usage=usage(9, 5)))
def CHECK(rec, all):
    bad = expect(rec, status='completed', ids=['call_a', 'call_b'], usage=usage(9, 5))
    got = rec and [(c.get('name'), c.get('arguments')) for c in rec['tool_calls']]
    return bad + ([] if got and got[0] == ('f', '{"city": "Rome"}') and got[1] in [('g', None), ('g', '')] else [f'calls: {got!r}'])
