from kit import *
SOURCE = 'BerriAI/litellm PR#37792, mrdushidush/claudette PR#238'
WHAT = 'Ollama by LiteLLM: function.arguments is an object, in a stream'
REQUEST = ask()
ANSWER = sse(chunk({'role': 'assistant', 'content': None, 'tool_calls': [{'index': 0, 'id': 'call_a', 'type': 'function', 'function': {'name': 'f', 'arguments': {'city': 'Rome', 'n': 1}}}]}), chunk({}, 'tool_calls', usage=usage(9, 5)))
def CHECK(rec, all):
    bad = expect(rec, status='completed', ids=['call_a'], usage=usage(9, 5))
    if not rec or len(rec['tool_calls']) != 1: return bad
    a = rec['tool_calls'][0].get('arguments')
    try: a = json.loads(a) if isinstance(a, str) else a
    except ValueError: pass
    return bad + ([] if (rec['tool_calls'][0].get('name'), a) == ('f', {'city': 'Rome', 'n': 1}) else [f'call: {rec["tool_calls"][0]!r}'])
