from kit import *
SOURCE = 'variation on elie222/rakazo#416, elizaOS/eliza#30904'
WHAT = 'an emoji is torn apart: \\ud83d ends one piece, \\ude00 begins the next; an app in JavaScript sees the emoji, others a sign in its place; the text around it must not be lost'
REQUEST = ask()
J = json.dumps
ANSWER = sse(chunk({'role': 'assistant', 'content': 'Hi'}), 'data: ' + J(chunk({'content': ' you @@'})).replace('@@', '\\ud83d') + '\n\n', 'data: ' + J(chunk({'content': '@@ there'})).replace('@@', '\\ude00') + '\n\n', chunk({}, 'stop', usage=usage(9, 4)))
def CHECK(rec, all):
    bad = expect(rec, usage=usage(9, 4))
    out = rec and ''.join(text(m) for m in rec['outputs'])
    if rec and not (out.startswith('Hi you ') and out.endswith(' there')) and rec['outputs_complete']: bad.append(f'outputs {out!r}, and outputs_complete')
    if rec and out != 'Hi you \U0001f600 there' and '\ufffd' not in out and rec['outputs_complete']: bad.append(f'outputs {out!r}: the emoji is gone without a trace')
    return bad
