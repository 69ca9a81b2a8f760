from kit import *
SOURCE = 'variation on madroidmaq/mlx-omni-server PR#56, PrimeIntellect-ai/prime-rl PR#2082'
WHAT = 'a body with logprobs of -Infinity, as Python writes it: an app in Python reads it; text and usage are there, or the record does not say that it is all'
REQUEST = ask(stream=False, logprobs=True)
ANSWER = doc({'id': 'p37', 'object': 'chat.completion', 'created': 1790000000, 'model': 'm-1', 'choices': [{'index': 0, 'message': {'role': 'assistant', 'content': 'Hi'}, 'logprobs': {'content': [{'token': 'Hi', 'logprob': 0.0, 'bytes': None, 'top_logprobs': [{'token': 'Ho', 'logprob': float('-inf'), 'bytes': None}]}]}, 'finish_reason': 'stop'}], 'usage': usage(9, 1)})
def CHECK(rec, all):
    bad = expect(rec)
    out = rec and [text(m) for m in rec['outputs']]
    return bad + ([] if not rec or out == ['Hi'] and rec['usage'] == usage(9, 1) or not rec['outputs_complete'] and rec['status'] != 'completed' else [f'outputs {out!r}, outputs_complete {rec["outputs_complete"]}, usage {rec["usage"]!r}'])
