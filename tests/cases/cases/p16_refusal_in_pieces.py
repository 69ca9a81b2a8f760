from kit import *
SOURCE = 'NousResearch/hermes-agent PR#91181, braintrustdata/braintrust-sdk-python PR#258, microsoft/agent-framework-go PR#556'
WHAT = 'the model refuses: content null, and refusal in pieces'
REQUEST = ask()
ANSWER = sse(chunk({'role': 'assistant', 'content': None, 'refusal': ''}), chunk({'content': None, 'refusal': "I'm sorry, "}), chunk({'refusal': 'no.'}), chunk({}, 'stop'), chunk(usage=usage(9, 5), choices=[]))
def CHECK(rec, all):
    bad = expect(rec, status='completed', usage=usage(9, 5), complete=True)
    if not rec: return bad
    parts = [c for m in rec['outputs'] for c in (m.get('object') or m).get('content', [])]
    if [(c.get('type'), c.get('refusal')) for c in parts] != [('refusal', "I'm sorry, no.")]: bad.append(f'outputs: {parts!r}')
    if (rec['response']['choices'][0].get('message') or {}).get('refusal') != "I'm sorry, no.": bad.append('message.refusal of the response')
    return bad
