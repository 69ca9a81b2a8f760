from kit import *
SOURCE = 'openai/openai-openapi#577 (openai/openai-python#2507), majiayu000/litellm-rs PR#568'
WHAT = 'a spoken answer: delta.audio brings the id, then transcript and data in pieces, last expires_at; content is null'
REQUEST = ask(modalities=['text', 'audio'], audio={'voice': 'alloy', 'format': 'pcm16'})
ANSWER = sse(chunk({'role': 'assistant', 'refusal': None, 'audio': {'id': 'audio_1', 'transcript': 'Hel'}}), chunk({'content': None, 'audio': {'transcript': 'lo there'}}), chunk({'audio': {'data': 'AAAA'}}), chunk({'audio': {'data': 'BBBB'}}), chunk({'audio': {'expires_at': 1790003600}}), chunk({}, 'stop'), chunk(usage=usage(9, 20), choices=[]))
def CHECK(rec, all):
    bad = expect(rec, status='completed', usage=usage(9, 20), complete=True)
    if not rec: return bad
    a = (rec['response']['choices'][0].get('message') or {}).get('audio') or {}
    if (a.get('id'), a.get('transcript'), a.get('expires_at')) != ('audio_1', 'Hello there', 1790003600): bad.append(f'message.audio: {a!r}')
    if a.get('data') != 'AAAABBBB' and not str(a.get('data')).startswith('[8 characters'): bad.append(f'message.audio.data: {a.get("data")!r}, right AAAABBBB or what stands for all of it')
    if 'Hello there' not in json.dumps(rec['outputs']): bad.append(f'what was said is not in the outputs: {rec["outputs"]!r}')
    return bad
