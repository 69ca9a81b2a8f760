from kit import *
SOURCE = 'lidge-jun/opencodex PR#115 (#114), diillson/chatcli PR#1458, enetx/surf#42'
WHAT = 'a stream packed with brotli, flushed after each event'
REQUEST = {**ask(), 'headers': {'accept-encoding': 'br, gzip, deflate, zstd'}}
P = ['8b640000c4d04bafd0e5f82775003df858839a9e3bda01eb2b1f84855169d139b6a59b030dc5a213f45f1c9290e56160397734e06b7edafddafc981e7834407319e808ea7c1e413bfdc75a261d6f1ac45247a178e07e76fd06f6bd9bf0faa0416a3943a7413171089ae55a1135ebf79de51df661ed2417fa4afa8dcef84747794161d04088b25dee843000',
     '980500408aed2d81a946b024b4ede1c6f02003',
     '3005004042a415596418c13470689e053294f3d500',
     'f8050040f464fd2599acd0b4604232662aa71c07aab525091eec0749580f6e439f430521da2f4d08312f3aea9ded9a4bea59897f87b72a838990b297ea3f6000',
     '680008646174613a205b444f4e455d0a0a03']
ANSWER = sse(*map(bytes.fromhex, P), done=False, head='HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: br\r\ntransfer-encoding: chunked\r\n\r\n')
def CHECK(rec, all): return expect(rec, status='completed', out=['Hello'], usage=usage(9, 2), complete=True)
