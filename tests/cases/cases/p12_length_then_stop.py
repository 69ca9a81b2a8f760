from kit import *
SOURCE = 'variation on foundation-model-stack/fms-guardrails-orchestrator#482 (finish_reason in the last two messages), ollama/ollama PR#17485 (length was overwritten)'
WHAT = 'finish_reason length with the last text, and stop in an empty chunk after it: the answer was cut short, and must not pass for a whole one'
REQUEST = ask()
ANSWER = sse(chunk({'role': 'assistant', 'content': 'It is'}), chunk({'content': ' a'}, 'length'), chunk({}, 'stop', usage=usage(9, 5)))
def CHECK(rec, all): return expect(rec, status='incomplete', out=['It is a'], usage=usage(9, 5), error='length')
