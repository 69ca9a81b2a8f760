from kit import *
SOURCE = 'veryfront/veryfront-code PR#3369, cline/cline PR#11423, langchain-ai/langchainjs PR#11457'
WHAT = 'usage three times: with finish_reason, in a chunk with choices [], and in an event that is nothing but usage; it must be counted once'
REQUEST = ask()
ANSWER = sse(chunk({'role': 'assistant', 'content': 'Hello'}), chunk({}, 'stop', usage=usage(9, 2)), chunk(usage=usage(9, 2), choices=[]), {'usage': usage(9, 2)})
def CHECK(rec, all): return expect(rec, status='completed', out=['Hello'], usage=usage(9, 2), complete=True) + ([] if rec and rec['tokens'].get('total') == 11 else ['tokens.total']) + ([] if len(all) == 1 else ['records: %d' % len(all)])
