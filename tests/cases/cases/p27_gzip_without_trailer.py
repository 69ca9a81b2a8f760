from kit import *
SOURCE = 'variation on sindresorhus/decompress-response#19, ProxymanApp/Proxyman#2518'
WHAT = 'a stream packed with gzip and flushed after each event; all events are there, but the gzip trailer never comes'
import zlib
Z = zlib.compressobj(6, zlib.DEFLATED, 31)
REQUEST = ask()
EVENTS = [b'data: ' + json.dumps(e).encode() + b'\n\n' for e in (chunk({'role': 'assistant', 'content': 'Hel'}), chunk({'content': 'lo'}), chunk({}, 'stop'), chunk(usage=usage(9, 2), choices=[]))] + [b'data: [DONE]\n\n']
ANSWER = sse(*[Z.compress(e) + Z.flush(zlib.Z_SYNC_FLUSH) for e in EVENTS], done=False, head='HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n')
def CHECK(rec, all): return expect(rec, status='completed', out=['Hello'], usage=usage(9, 2))
