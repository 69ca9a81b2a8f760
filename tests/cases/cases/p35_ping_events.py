from kit import *
SOURCE = 'waylaidwanderer/node-chatgpt-api PR#100, ztjhz/BetterChatGPT#538, caozhiyuan/copilot-api PR#88'
WHAT = 'event: ping between the chunks, with a date, with nothing, and with {"type":"ping"} as its data'
REQUEST = ask()
ANSWER = sse('event: ping\ndata: 2026-02-20 08:40:33.556053\n\n', chunk({'role': 'assistant', 'content': 'Hel'}), 'event: ping\ndata: {"type": "ping"}\n\n', ': ping\n', chunk({'content': 'lo'}), 'event: ping\ndata:\n\n', chunk({}, 'stop', usage=usage(9, 2)))
def CHECK(rec, all): return expect(rec, status='completed', out=['Hello'], usage=usage(9, 2), complete=True)
