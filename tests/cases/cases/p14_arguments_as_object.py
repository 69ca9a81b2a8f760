from kit import *
SOURCE = 'ggml-org/llama.cpp#20198, huggingface/text-generation-inference#2461'
WHAT = 'llama-server and TGI: function.arguments is an object'
REQUEST = ask(stream=False)
ANSWER = doc({'id': 'p14', 'object': 'chat.completion', 'created': 1790000000, 'model': 'm-1', 'choices': [{'index': 0, 'message': {'role': 'assistant', 'content': None, 'tool_calls': [{'id': 'call_a', 'type': 'function', 'function': {'name': 'f', 'arguments': {'city': 'Rome', 'n': 1}}}]}, 'finish_reason': 'tool_calls'}], 'usage': usage(9, 5)})
def CHECK(rec, all):
    bad = expect(rec, status='completed', ids=['call_a'], usage=usage(9, 5))
    if not rec or len(rec['tool_calls']) != 1: return bad
    a = rec['tool_calls'][0].get('arguments')
    try: a = json.loads(a) if isinstance(a, str) else a
    except ValueError: pass
    return bad + ([] if (rec['tool_calls'][0].get('name'), a) == ('f', {'city': 'Rome', 'n': 1}) else [f'call: {rec["tool_calls"][0]!r}'])
