from kit import *
SOURCE = 'BerriAI/litellm PR#28070 (#28001), siyuan-note/siyuan#14787, BoundaryML/baml PR#1746'
WHAT = 'OpenRouter and SambaNova: token counts with fractions, created with a fraction'
U = {'prompt_tokens': 14417.92, 'completion_tokens': 57.0, 'total_tokens': 14474.92, 'cost': 0.0042}
REQUEST = ask('/api/v1/chat/completions')
ANSWER = sse(chunk({'role': 'assistant', 'content': 'Hello'}, created=1790000000.492141), chunk({}, 'stop', created=1790000000.492141), chunk(usage=U, choices=[], created=1790000000.492141))
def CHECK(rec, all): return expect(rec, status='completed', out=['Hello'], usage=U, complete=True)
