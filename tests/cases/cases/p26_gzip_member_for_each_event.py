from kit import *
SOURCE = 'variation on github/gh-aw-firewall PR#1550 (multi-chunk gzip), BerriAI/litellm PR#40028 (the same with zstd)'
WHAT = 'a stream packed with gzip: each event is a whole gzip member (RFC 1952 allows many)'
import zlib
def gz(b): z = zlib.compressobj(6, zlib.DEFLATED, 31); return z.compress(b) + z.flush()
REQUEST = ask()
EVENTS = [b'data: ' + json.dumps(e).encode() + b'\n\n' for e in (chunk({'role': 'assistant', 'content': 'Hel'}), chunk({'content': 'lo'}), chunk({}, 'stop'), chunk(usage=usage(9, 2), choices=[]))] + [b'data: [DONE]\n\n']
ANSWER = sse(*map(gz, EVENTS), done=False, head='HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n')
def CHECK(rec, all): return expect(rec, status='completed', out=['Hello'], usage=usage(9, 2), complete=True)
