from kit import *
SOURCE = 'BerriAI/litellm PR#40028, BerriAI/litellm PR#35601 (#35589), cita-777/metapi PR#335'
WHAT = 'a stream packed with zstd: each event is a whole frame of its own'
REQUEST = {**ask(), 'headers': {'accept-encoding': 'br, gzip, deflate, zstd'}}
P = ['28b52ffd0058b50400c2ca201d7069d206cdd5ca26dbdbd58814977b4105407017df78ff54125513e00b06435290a82eb6eccbe9f23038092d427895e49a039bbddc7b9d504af7b2a7f271a4ecd79ae65510655f48b3e80841d95322e283c6cbae69d87815844040a2ec26fbf2c057b9c22e0e1e9651a72a0cc64363261cf0ab3c01a00a03fb0ebeec061d29bb3e13050006239ab65ea809e30f379e96984f',
     '28b52ffd0058550400b2491e1d70a76d03fcc953e397ed0ddd10d2bb2324002007fac69b9f27a91ae1bc04d11c9add850fcfad204d0094b27809fc4ef35ed6c69d670e8fda6afa1de3f0059a789d311c5ed15cad92fdf0aba9d9ef1805c271f8a40d6992bf73025e5416dcabe922acb368a90301fd3b3f068bb06c48e50f9fd69943d4500a04008943944d187fb8f1b4c47c02',
     '28b52ffd005805040032891c1b7069dbec14e5e9b74b8d0595ae6a20faff886fbc7fbc44d504f80286d1109a2bdcef9877fcd02e05f5965b87e36918cca3669b8e07c1fc62935b6706987fab8b95b6639e6de2763c882090603e6da35df4789e700aa587e3d5cb94c67ab42ec2c0c7f304c094a68d941ef3699dc1448d5203004d187fb8f1b4c47c02',
     '28b52ffd00582d0400e2081c1b6089db1a7fb1b9d6bea2c672576d8aa2a0ec9deeece44441209c1345f13c2935d5dc472438a203f38cb209b7a19fe3e5ddc1fc2214d31c51818079661561a6ee986fbbd81d51e01824ccaf6db58b1ed113a5616a288cf4b6e7588dd64d1cf8889e00ed396dc5f4985fc81d4cd56a05060036f7ed6cd01577d9e0f1871b4f4bcc27',
     '28b52ffd0058710000646174613a205b444f4e455d0a0a']
ANSWER = sse(*map(bytes.fromhex, P), done=False, head='HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: zstd\r\ntransfer-encoding: chunked\r\n\r\n')
def CHECK(rec, all): return expect(rec, status='completed', out=['Hello'], usage=usage(9, 2), complete=True)
