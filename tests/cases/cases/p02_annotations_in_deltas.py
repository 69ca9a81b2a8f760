from kit import *
SOURCE = 'openai/openai-agents-python PR#4252, openai/openai-agents-js PR#1617, adaline/gateway PR#193'
WHAT = 'a search model: url_citation annotations come with a piece of text and in a later chunk of their own'
A = lambda n: {'type': 'url_citation', 'url_citation': {'start_index': n, 'end_index': n + 2, 'title': f't{n}', 'url': f'https://e.test/{n}'}}
REQUEST = ask()
ANSWER = sse(chunk({'role': 'assistant', 'content': ''}), chunk({'content': 'One', 'annotations': [A(0)]}), chunk({'content': ' two'}), chunk({'annotations': [A(4)]}), chunk({}, 'stop'), chunk(usage=usage(9, 2), choices=[]))
def CHECK(rec, all):
    bad = expect(rec, status='completed', out=['One two'], usage=usage(9, 2))
    got = rec and (rec['response']['choices'][0].get('message') or {}).get('annotations')
    return bad + ([] if got == [A(0), A(4)] else [f'message.annotations: {got!r}'])
