from kit import *
SOURCE = 'infiniflow/ragflow PR#15266 (#15245)'
WHAT = 'a chunk holds NaN (Python writes and reads it, others do not); its text is there, or the record does not say that it is all'
REQUEST = ask()
ANSWER = sse(chunk({'role': 'assistant', 'content': 'Hel'}), 'data: ' + json.dumps(chunk({'content': 'lo', 'reference': [{'similarity': float('nan')}]})) + '\n\n', chunk({}, 'stop', usage=usage(9, 2)))
def CHECK(rec, all):
    bad = expect(rec, usage=usage(9, 2))
    out = rec and [text(m) for m in rec['outputs']]
    return bad + ([] if out == ['Hello'] or out == ['Hel'] and not rec['outputs_complete'] else [f'outputs {out!r}, outputs_complete {rec and rec["outputs_complete"]}'])
