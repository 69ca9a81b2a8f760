from kit import *
SOURCE = 'variation on sindresorhus/decompress-response#19'
WHAT = 'a stream packed with gzip, broken off in the middle of an event: what can be unpacked is kept, and the record does not say that it is all'
import zlib
Z = zlib.compressobj(6, zlib.DEFLATED, 31)
REQUEST = ask()
EVENTS = [b'data: ' + json.dumps(e).encode() + b'\n\n' for e in (chunk({'role': 'assistant', 'content': 'Hel'}), chunk({'content': 'lo'}), chunk({}, 'stop'), chunk(usage=usage(9, 2), choices=[]))] + [b'data: [DONE]\n\n']
P = [Z.compress(e) + Z.flush(zlib.Z_SYNC_FLUSH) for e in EVENTS]
ANSWER = sse(*P[:2], P[2][:len(P[2]) // 2], done=False, end=False, head='HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n') + [0.1, None]
WAIT = 3
def CHECK(rec, all): return expect(rec, status_in=['unknown_final', 'failed', 'error', 'incomplete'], out=['Hello'], complete=False, absent='end_not_seen')
