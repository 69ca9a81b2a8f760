"""Bombs in requests."""

from apis import (
    Exchange, chat_request, items_request, label, message_request, responses_request, run_request,
    thread_request, thread_run_request,
)
from bomb import Bomb, Expects, Part, filled
from shapes import MILLION, MOST, array, array_of, around, keys, nested, repeated, string

SPACE = MOST - 1000
TREE = '{"a":[]}'
# Where a chat request has its messages, the text of one, a member of one, and a member of its own.
CHAT_LIST = '{"model":"m","messages":@}'
CONTENT = '{"model":"m","messages":[{"role":"user","content":@}]}'
IN_MESSAGE = '{"model":"m","messages":[{"role":"user","content":"a question","extra":@}]}'
EXTRA = '{"model":"m","messages":[{"role":"user","content":"a question"}],"extra":@}'
METADATA, USER, TOOLS = (EXTRA.replace("extra", name) for name in ["metadata", "user", "tools"])
CALLS = CHAT_LIST.replace("@", '[{"role":"user","content":"a"},{"role":"assistant","tool_calls":@}]')
CALLED = CALLS.replace("@", '[{"id":"c","type":"function","function":{"name":"f","arguments":"[@0]"}}]')
SAID = CHAT_LIST.replace("@", '[{"role":"user","content":"a"},{"role":"assistant","content":"b@"},{"role":"user","content":"c"}]')
# Where the other APIs have a list of things that someone said.
LISTS = [
    ("responses input", '{"model":"m","input":@}', responses_request),
    ("conversation items", '{"items":@}', items_request),
    ("threads", '{"messages":@}', thread_request),
    ("message content", '{"role":"user","content":@}', message_request),
    ("runs", '{"assistant_id":"asst_1","stream":true,"additional_messages":@}', run_request),
    ("threads/runs", '{"assistant_id":"asst_1","stream":true,"thread":{"messages":@}}', thread_run_request),
]

DIALOGUE = '{"role":"user","content":"hello there"},{"role":"assistant","content":"good morning"}'
TEXT_PART = '{"type":"text","text":"a"}'
URL_PART = '{"type":"image_url","image_url":{"url":"data:image/png;base64,%s"}}'
TOOL = '{"type":"function","function":{"name":"f","parameters":{}}}'
CALL = '{"id":"c%d","type":"function","function":{"name":"f","arguments":"{}"}}'
TOOL_OUTPUT = '{"role":"tool","tool_call_id":"c%d","content":"o"}'

# Read as far as their depth allows, and then not as JSON.
DEEP = [
    ("arrays 10^5 deep", filled(EXTRA, nested("[", "", "]", 100_000))),
    ("arrays 10^7 deep", filled(EXTRA, nested("[", "", "]", 10 * MILLION), "gzip")),
    ("arrays 10^7 deep, never closed", filled(CHAT_LIST, nested("[", "", "", 10 * MILLION), "gzip")),
    ("objects 10^5 deep", filled(IN_MESSAGE, nested('{"a":', "0", "}", 100_000))),
    ("objects 10^7 deep", filled(IN_MESSAGE, nested('{"a":', "0", "}", 10 * MILLION), "gzip")),
]
CHAT_REQUESTS = [
    ("small objects, 15 MB", filled(CHAT_LIST, array_of('{"a":0}', 15 * MILLION))),
    ("dialogue, 4 MB", filled(CHAT_LIST, array_of(DIALOGUE, 4 * MILLION))),
    ("dialogue, 15 MB", filled(CHAT_LIST, array_of(DIALOGUE, 15 * MILLION))),
    ("tiny parts of one message, 15 MB", filled(CONTENT, array_of(TEXT_PART, 15 * MILLION))),
    ("empty parts of one message, 15 MB", filled(CONTENT, array_of("{}", 15 * MILLION))),
    ("numbers for parts, 15 MB", filled(CONTENT, array_of("0", 15 * MILLION))),
    ("10^6 keys in a message", filled(IN_MESSAGE, keys(MILLION))),
    ("10^6 keys in the body", filled(EXTRA, keys(MILLION))),
    ("one key 2·10^6 times in the body", filled(EXTRA, keys(2 * MILLION, "a"))),
    ("one key 2·10^6 times in a message", filled(IN_MESSAGE, keys(2 * MILLION, "a"))),
    ("text of escaped NULs", filled(CONTENT, string("\\u0000", SPACE))),
    ("text of escaped half characters", filled(CONTENT, string("\\ud800", SPACE))),
    ("text of escaped backslashes", filled(CONTENT, string("\\\\", SPACE))),
    ("text of 16 MB", filled(CONTENT, string("some text, ", SPACE))),
    ("text of invalid UTF-8", filled(CONTENT, string(b"\xff", SPACE))),
    ("arguments that are a tree, 15 MB", filled(CALLED, repeated("[],", 5 * MILLION))),
    ("an answer with 15 MB of blanks", filled(SAID, repeated(" ", 15 * MILLION))),
    ("a number of 16 MB", filled(EXTRA, repeated("7", SPACE))),
    ("blanks, 16 MB", filled(EXTRA, around("@0", repeated(" ", SPACE)))),
    ("metadata of 10^6 keys", filled(METADATA, keys(MILLION, "k%d", '"v"'))),
    ("user of 16 MB", filled(USER, string("u", SPACE))),
    ("tools, 15 MB", filled(TOOLS, array_of(TOOL, 15 * MILLION))),
    ("tools that are a tree, 15 MB", filled(TOOLS, array_of(TREE, 15 * MILLION))),
    ("tool calls, 60 MB", filled(CALLS, array_of(CALL, 60 * MILLION), "gzip")),
    ("tool outputs, 60 MB", filled(CHAT_LIST, array_of(TOOL_OUTPUT, 60 * MILLION), "gzip")),
    ("system messages, 15 MB", filled(CHAT_LIST, array_of('{"role":"system","content":"s"}', 15 * MILLION))),
    ("NaN, 15 MB", filled(CHAT_LIST, array_of('{"a":NaN}', 15 * MILLION))),
    ("half characters in 10^6 strings", filled(CHAT_LIST, array_of('"\\ud800"', 15 * MILLION))),
    ("a data URL of 16 MB", filled(CONTENT, around(f"[{URL_PART % '@'}]", repeated("A", SPACE)))),
    ("data URLs, 15 MB", filled(CONTENT, array_of(URL_PART % "AAAA", 15 * MILLION))),
    ("JSON lines, 15 MB", Part(repeated("{}\n", 5 * MILLION))),
    ("a chunked tree, 15 MB", filled(CHAT_LIST, array_of(TREE, 15 * MILLION), chunked=True)),
    ("200 MB of blanks", filled(EXTRA, around("@0", repeated(" ", 200 * MILLION)), "gzip")),
    ("2 GB of blanks", filled(EXTRA, around("@0", repeated(" ", 2000 * MILLION)), "gzip")),
]
SHORT = {
    "small objects, 15 MB", "dialogue, 15 MB", "arrays 10^7 deep", "10^6 keys in a message",
    "text of escaped NULs", "200 MB of blanks",
}


def tree(template, coding):
    """60 MB of the smallest objects that hold something. As a tree each takes a hundred bytes or more."""
    return filled(template, array_of(TREE, 60 * MILLION), coding)


def bombs():
    for coding in ["gzip", "br", "zstd", "deflate", "gzip, gzip", "gzip, br, zstd"]:
        name = f"chat request: tree of 60 MB, {coding}"
        yield Bomb(name, [chat_request(tree(CHAT_LIST, coding))], short=coding == "gzip")
    for expects, requests in [(Expects.RECORD, CHAT_REQUESTS), (Expects.COUNTED, DEEP)]:
        for what, request in requests:
            yield Bomb(f"chat request: {what}", [chat_request(request)], expects, what in SHORT)

    for route, template, talk in LISTS:
        said = TEXT_PART if "content" in template else '{"role":"user","content":"hi"}'
        for what, request in [
            ("tree of 60 MB, gzip", tree(template, "gzip")),
            ("10^6 keys", filled(template, around("[@]", keys(MILLION)))),
            ("messages, 15 MB", filled(template, array_of(said, 15 * MILLION))),
            ("text of escaped NULs", filled(template, string("\\u0000", SPACE))),
        ]:
            name = f"{route} request: {what}"
            short = what.startswith("tree") and route == "threads/runs"
            yield Bomb(name, [talk(request, label(name))], short=short)

    for name, exchange in unrecorded():
        yield Bomb(name, [[exchange]], Expects.NOTHING)


def unrecorded():
    """What is forwarded and not read."""
    form = '--b\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n@\r\n--b--\r\n'
    upload = filled(form, repeated(b"\0\xff", 50 * MILLION), type="multipart/form-data; boundary=b")
    answer = filled('{"text":@}', string("a", MOST))
    for path in ["files", "audio/transcriptions"]:
        yield f"{path}: a form of 100 MB", Exchange(f"POST /v1/{path}", upload, answer)
    request = filled('{"input":@}', array("0", 8 * MILLION))
    answer = filled('{"data":@}', array('{"embedding":[0.1]}', MILLION))
    yield "embeddings: 16 MB both ways", Exchange("POST /v1/embeddings", request, answer)
