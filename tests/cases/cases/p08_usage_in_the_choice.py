from kit import *
SOURCE = 'earendil-works/pi#2017 (PR#2016)'
WHAT = 'Moonshot: usage stands in the choice of the last chunk, and nowhere else'
REQUEST = ask(stream_options=None)
U = dict(usage(9, 2), cached_tokens=4)
LAST = chunk({}, 'stop'); LAST['choices'][0]['usage'] = U
ANSWER = sse(chunk({'role': 'assistant', 'content': 'Hel'}), chunk({'content': 'lo'}), LAST)
def CHECK(rec, all): return expect(rec, status='completed', out=['Hello'], usage=U, absent=None)
