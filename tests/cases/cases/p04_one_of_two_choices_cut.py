from kit import *
SOURCE = 'variation on langfuse/langfuse#16998'
WHAT = 'n = 2, and one choice of the two was cut short by length; the record must not pass for a whole one'
REQUEST = ask(n=2)
def d(i, delta, fin=None): return {'index': i, 'delta': delta, 'finish_reason': fin}
ANSWER = sse(chunk(choices=[d(1, {'role': 'assistant', 'content': 'Lon'})]), chunk(choices=[d(0, {'role': 'assistant', 'content': 'Short'})]), chunk(choices=[d(1, {'content': 'g'}, 'length'), d(0, {}, 'stop')]), chunk(usage=usage(9, 8), choices=[]))
def CHECK(rec, all):
    bad = expect(rec, status='incomplete', error='length', out=['Short', 'Long'], usage=usage(9, 8))
    got = rec and [c.get('finish_reason') for c in rec['response']['choices']]
    return bad + ([] if got == ['stop', 'length'] else [f'finish reasons of the response: {got!r}'])
