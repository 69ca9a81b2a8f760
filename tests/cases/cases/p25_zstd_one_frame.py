from kit import *
SOURCE = 'cita-777/metapi PR#335'
WHAT = 'a stream packed with zstd: one frame, a block flushed for each event'
REQUEST = {**ask(), 'headers': {'accept-encoding': 'br, gzip, deflate, zstd'}}
P = ['28b52ffd0058b40400c2ca201d7069d206cdd5ca26dbdbd58814977b4105407017df78ff54125513e00b06435290a82eb6eccbe9f23038092d427895e49a039bbddc7b9d504af7b2a7f271a4ecd79ae65510655f48b3e80841d95322e283c6cbae69d87815844040a2ec26fbf2c057b9c22e0e1e9651a72a0cc64363261cf0ab3c01a00a03fb0ebeec061d29bb3e13050006239ab65ea809e30f379e96984f',
     '740000106c6f0310073781b8380c4d0a08',
     'ac000060642273746f70227d5d7d0a0a0200284303810257',
     'fc0100c4025d2c2022757361676570726f6d70745f746f6b656e73223a20392c2022322c2022746f74616c31317d7d0a0a050036f7eddc0024b1cc83b4e754a90102',
     '700000646174613a205b444f4e455d0a0a010000']
ANSWER = sse(*map(bytes.fromhex, P), done=False, head='HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: zstd\r\ntransfer-encoding: chunked\r\n\r\n')
def CHECK(rec, all): return expect(rec, status='completed', out=['Hello'], usage=usage(9, 2), complete=True)
