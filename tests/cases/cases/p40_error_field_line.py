from kit import *
SOURCE = 'ggml-org/llama.cpp PR#16109 (#16104)'
WHAT = 'llama-server: the error is told in a line "error: {...}", which SSE readers skip, and the stream ends without finish_reason'
REQUEST = ask()
ANSWER = sse(chunk({'role': 'assistant', 'content': 'Hel'}), 'error: {"code": 500, "message": "context size exceeded", "type": "server_error"}\n\n', done=False)
WAIT = 3
def CHECK(rec, all): return expect(rec, status_in=['failed', 'incomplete', 'unknown_final', 'error'], out=['Hel']) + ([] if rec and (rec['status'] == 'failed' or not rec['outputs_complete']) else ['neither failed nor known to be not all'])
