from kit import *
SOURCE = 'Menci/Floway#481, pydantic/pydantic-ai#8642, openai/openai-node PR#2444'
WHAT = 'logprobs of each chunk are of its own tokens only; together they are those of the whole answer, each once'
L = lambda t, p: {'token': t, 'logprob': p, 'bytes': list(t.encode()), 'top_logprobs': []}
def lp(delta, *toks, fin=None):
    c = chunk(delta, fin); c['choices'][0]['logprobs'] = {'content': list(toks), 'refusal': None}; return c
REQUEST = ask(logprobs=True)
T = [L('Hel', -0.5), L('lo', -0.25), L('!', -1.5)]
ANSWER = sse(lp({'role': 'assistant', 'content': ''}), lp({'content': 'Hel'}, T[0]), lp({'content': 'lo!'}, T[1], T[2]), chunk({}, 'stop'), chunk(usage=usage(9, 3), choices=[]))
def CHECK(rec, all):
    bad = expect(rec, status='completed', out=['Hello!'], usage=usage(9, 3))
    got = rec and (rec['response']['choices'][0].get('logprobs') or {}).get('content')
    return bad + ([] if got == T else [f'logprobs: {got!r}'])
