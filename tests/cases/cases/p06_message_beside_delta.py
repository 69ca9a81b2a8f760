from kit import *
SOURCE = 'open-webui/open-webui#9927, langchain-ai/langchain PR#39924'
WHAT = 'Perplexity: each chunk has the new piece in delta and all of the text so far in message; citations, search_results and the usage so far in each; no [DONE]'
REQUEST = ask('/chat/completions')
U = lambda c: dict(usage(5, c), search_context_size='low', cost={'input_tokens_cost': 0.0, 'total_cost': 0.005})
S = [{'title': 't', 'url': 'https://e.test/1', 'date': None}]
def both(full, piece, n, fin=None):
    c = chunk({'role': 'assistant', 'content': piece}, fin, usage=U(n), citations=['https://e.test/1'], search_results=S, model='sonar')
    c['choices'][0]['message'] = {'role': 'assistant', 'content': full}; return c
ANSWER = sse(both('It is', 'It is', 1), both('It is 42', ' 42', 2), both('It is 42.[1]', '.[1]', 3), both('It is 42.[1]', '', 3, 'stop'), done=False)
def CHECK(rec, all):
    bad = expect(rec, status='completed', out=['It is 42.[1]'], usage=U(3), model='sonar')
    got = rec and (rec['response'].get('citations'), rec['response'].get('search_results'))
    return bad + ([] if got == (['https://e.test/1'], S) else [f'citations and search_results of the response: {got!r}'])
