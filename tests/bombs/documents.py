"""Bombs in responses that are one JSON document."""

from apis import chat_response, label, list_response, poll_response, responses_response, run_response
from bomb import Bomb, Expects, Part, filled
from shapes import MILLION, MOST, array, array_of, around, keys, nested, repeated, replaced, string
from uploads import CALL, SPACE, TREE

CHAT = '{"id":"chatcmpl-1","object":"chat.completion","model":"m","choices":@}'
CHAT_EXTRA = CHAT.replace("@", '[{"index":0,"message":{"content":"a"}}],"extra":@')
CHAT_USAGE = CHAT_EXTRA.replace("extra", "usage")
CHOICE = CHAT.replace("@", '[{"index":0,"finish_reason":"stop","message":@}]')
TEXT, TOOL_CALLS = CHOICE.replace("@", '{"content":@}'), CHOICE.replace("@", '{"tool_calls":@}')
REASONING, ANNOTATIONS, LOGPROBS = (
    CHOICE.replace("@", '{"content":"a",@}').replace("@", member)
    for member in ['"reasoning_details":@', '"annotations":@', '"logprobs":{"content":@}']
)
WHOLE_CHOICE = '{"index":%d,"message":{"content":"a"},"finish_reason":"stop"}'
TOKEN = '{"token":"a","logprob":-1,"bytes":[97],"top_logprobs":[]}'
CHAT_DOCUMENTS = [
    ("950 000 choices", filled(CHAT, array('{"index":%d}', 950_000))),
    ("choices of one index, 15 MB", filled(CHAT, array_of('{"index":0}', 15 * MILLION))),
    ("whole choices, 60 MB", filled(CHAT, array_of(WHOLE_CHOICE, 60 * MILLION), "gzip")),
    ("10^6 tool calls", filled(TOOL_CALLS, array('{"id":"%d"}', MILLION))),
    ("whole tool calls, 60 MB", filled(TOOL_CALLS, array_of(CALL, 60 * MILLION), "gzip")),
    ("tiny parts, 15 MB", filled(TEXT, array_of('{"type":"text","text":"a"}', 15 * MILLION))),
    ("empty parts, 15 MB", filled(TEXT, array_of("{}", 15 * MILLION))),
    ("text of 16 MB", filled(TEXT, string("some text, ", SPACE))),
    ("text of escaped NULs", filled(TEXT, string("\\u0000", SPACE))),
    ("reasoning_details, 15 MB", filled(REASONING, array_of('{"type":"reasoning.text","text":"a"}', 15 * MILLION))),
    ("annotations, 15 MB", filled(ANNOTATIONS, array_of(TREE, 15 * MILLION))),
    ("logprobs, 15 MB", filled(LOGPROBS, array_of(TOKEN, 15 * MILLION))),
    ("10^6 keys in a message", filled(CHOICE, keys(MILLION))),
    ("10^6 keys", filled(CHAT_EXTRA, keys(MILLION))),
    ("10^6 keys in usage", filled(CHAT_USAGE, keys(MILLION))),
    ("usage that is a tree, 60 MB", filled(CHAT_USAGE, array_of(TREE, 60 * MILLION), "gzip")),
    ("objects 10^7 deep", filled(CHAT_EXTRA, nested('{"a":', "0", "}", 10 * MILLION), "gzip")),
    ("NaN, 15 MB", filled(CHAT_EXTRA, array_of("NaN", 15 * MILLION))),
    ("JSON lines, 60 MB", Part(repeated('{"choices":[]}\n', 4 * MILLION), "gzip")),
    ("2 GB of blanks", filled(CHAT_EXTRA, around("@0", repeated(" ", 2000 * MILLION)), "gzip")),
]

RESPONSE = '{"object":"response","status":"completed","model":"m","output":@}'
RESPONSE_EXTRA, RESPONSE_USAGE, RESPONSE_METADATA, RESPONSE_TOOLS = (
    RESPONSE.replace("@", f'[],"{name}":@') for name in ["extra", "usage", "metadata", "tools"]
)
CONTENT = RESPONSE.replace("@", '[{"type":"message","role":"assistant","content":@}]')
CONTENT_TEXT = CONTENT.replace("@", '[{"type":"output_text","text":@}]')
CONTENT_ANNOTATIONS = CONTENT_TEXT.replace("@", '"a","annotations":@')
SUMMARY = RESPONSE.replace("@", '[{"type":"reasoning","summary":@}]')
MESSAGE = '{"type":"message","id":"m%d","role":"assistant","content":[{"type":"output_text","text":"a"}]}'
FUNCTION_CALL = '{"type":"function_call","call_id":"c%d","name":"f","arguments":"{}"}'
TEXT_PART, SUMMARY_PART = '{"type":"output_text","text":"a"}', '{"type":"summary_text","text":"a"}'
RESPONSES_DOCUMENTS = [
    ("10^6 output items", filled(RESPONSE, array('{"id":"%d"}', MILLION))),
    ("messages, 60 MB", filled(RESPONSE, array_of(MESSAGE, 60 * MILLION), "gzip")),
    ("function calls, 60 MB", filled(RESPONSE, array_of(FUNCTION_CALL, 60 * MILLION), "gzip")),
    ("reasoning, 15 MB", filled(RESPONSE, array_of('{"type":"reasoning","summary":[]}', 15 * MILLION))),
    ("summaries, 15 MB", filled(SUMMARY, array_of(SUMMARY_PART, 15 * MILLION))),
    ("output that is a tree, 60 MB", filled(RESPONSE, array_of(TREE, 60 * MILLION), "gzip")),
    ("parts, 15 MB", filled(CONTENT, array_of(TEXT_PART, 15 * MILLION))),
    ("parts that are a tree, 60 MB", filled(CONTENT, array_of(TREE, 60 * MILLION), "gzip")),
    ("text of 16 MB", filled(CONTENT_TEXT, string("some text, ", SPACE))),
    ("annotations, 60 MB", filled(CONTENT_ANNOTATIONS, array_of(TREE, 60 * MILLION), "gzip")),
    ("10^6 keys in usage", filled(RESPONSE_USAGE, keys(MILLION))),
    ("10^6 keys in metadata", filled(RESPONSE_METADATA, keys(MILLION, "k%d", '"v"'))),
    ("10^6 keys", filled(RESPONSE_EXTRA, keys(MILLION))),
    ("tools, 60 MB", filled(RESPONSE_TOOLS, array_of(TREE, 60 * MILLION), "gzip")),
]

# Lists and objects of the Assistants API, in which IDENT stands for the id of thread and run.
LIST = '{"object":"list","data":@,"has_more":false}'
ANSWER = '{"id":"m%d","object":"thread.message","role":"assistant","run_id":"run_IDENT","content":[]}'
OTHER_ANSWER = '{"id":"m%d","role":"assistant","run_id":"run_%d","content":[]}'
STEP = '{"id":"s%d","object":"thread.run.step","run_id":"run_IDENT","type":"tool_calls","status":"completed"}'
MESSAGES = "messages?limit=100"
LISTS = [
    ("950 000 ids of messages", MESSAGES, filled(LIST, array('{"id":"m%d"}', 950_000))),
    ("messages of the run, 60 MB", MESSAGES, filled(LIST, array_of(ANSWER, 56 * MILLION), "gzip")),
    ("messages of as many runs, 60 MB", MESSAGES, filled(LIST, array_of(OTHER_ANSWER, 60 * MILLION), "gzip")),
    ("the user's messages, 60 MB", MESSAGES,
     filled(LIST, array_of('{"id":"m%d","role":"user","content":[]}', 60 * MILLION), "gzip")),
    ("messages that are a tree, 60 MB", MESSAGES, filled(LIST, array_of(TREE, 60 * MILLION), "gzip")),
    ("steps, 60 MB", "runs/run_IDENT/steps", filled(LIST, array_of(STEP, 56 * MILLION), "gzip")),
    ("runs, 60 MB", "runs",
     filled(LIST, array_of('{"id":"r%d","object":"thread.run","status":"queued"}', 60 * MILLION), "gzip")),
]
COMPLETED = '{"id":"run_IDENT","object":"thread.run","thread_id":"thread_IDENT","status":"completed","extra":@}'
FAILED = COMPLETED.replace("completed", "failed").replace('"extra":@', '"last_error":{"a":@}')
ACTION = '"required_action":{"submit_tool_outputs":{"tool_calls":@}}'
WAITING = COMPLETED.replace("completed", "requires_action").replace('"extra":@', ACTION)
RUNS = [
    ("10^6 keys in usage", filled(COMPLETED.replace("extra", "usage"), keys(MILLION))),
    ("10^6 keys in metadata", filled(COMPLETED.replace("extra", "metadata"), keys(MILLION, "k%d", '"v"'))),
    ("10^6 keys", filled(COMPLETED, keys(MILLION))),
    ("a last_error that is a tree, 60 MB", filled(FAILED, array_of(TREE, 60 * MILLION), "gzip")),
    ("tool calls, 60 MB", filled(WAITING, array_of(CALL, 60 * MILLION), "gzip")),
]
SHORT = {
    "950 000 choices", "10^6 output items", "output that is a tree, 60 MB", "messages of the run, 60 MB",
}


def bombs():
    for coding in ["", "gzip", "br", "zstd", "deflate", "gzip, gzip", "br, br, br, br"]:
        size = 60 * MILLION if coding else MOST - 1000
        response = filled(CHAT, array_of(TREE, size), coding)
        name = f"chat document: choices that are a tree of {size // MILLION} MB, {coding or 'plain'}"
        yield Bomb(name, [chat_response(response)], short=coding == "gzip")
    for api, documents, talk in [
        ("chat", CHAT_DOCUMENTS, chat_response), ("responses", RESPONSES_DOCUMENTS, responses_response),
    ]:
        for what, response in documents:
            yield Bomb(f"{api} document: {what}", [talk(response)], Expects.COUNTED, what in SHORT)
    for what, path, response in LISTS:
        ident = label(what)
        talk = list_response(named(response, ident), ident, path.replace("IDENT", ident))
        yield Bomb(f"list: {what}", [talk], Expects.COUNTED, what in SHORT)
    for how, talk in [("polled", poll_response), ("created", run_response)]:
        for what, response in RUNS:
            ident = label(f"{how} {what}")
            yield Bomb(f"run {how}: {what}", [talk(named(response, ident), ident)], Expects.COUNTED)


def named(response, ident):
    """The part with the id in it."""
    return Part(replaced(response.shape, b"IDENT", ident.encode()), response.coding)
