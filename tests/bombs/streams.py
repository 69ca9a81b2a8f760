"""Bombs in event streams."""

import random

from apis import (
    CHAT_BEGIN, CHAT_END, chat_response, label, response_begin, response_end, responses_response, run_begin,
    run_end, run_response, stream,
)
from bomb import Bomb, Expects
from shapes import BLOCK_BYTES, MILLION, array, array_of, around, keys, nested, numbered, repeated, shape, string
from uploads import TREE

# The largest event that is read is one of 16 MiB.
EVENT = 15_900_000


def chunk(delta, index="0", more=""):
    """A chunk of a chat stream."""
    return f'data: {{"id":"chatcmpl-1","choices":[{{"index":{index},"delta":{delta}{more}}}]}}\n\n'


def typed(name, **members):
    """An event of Responses; the values are JSON already."""
    data = "".join(f',"{member}":{value}' for member, value in members.items())
    return f'event: {name}\ndata: {{"type":"{name}"{data}}}\n\n'


def message_delta(message, part):
    delta = f'{{"id":"{message}","object":"thread.message.delta","delta":{{"content":[{part}]}}}}'
    return f"event: thread.message.delta\ndata: {delta}\n\n"


def step_delta(step, index):
    call = f'{{"index":{index},"id":"c%d","type":"function","function":{{"name":"f","arguments":"x"}}}}'
    details = f'{{"step_details":{{"type":"tool_calls","tool_calls":[{call}]}}}}'
    data = f'{{"id":"{step}","object":"thread.run.step.delta","delta":{details}}}'
    return f"event: thread.run.step.delta\ndata: {data}\n\n"


def created(kind, fields):
    return f'event: {kind}.created\ndata: {{"object":"{kind}",{fields}}}\n\n'


# Small events, of which a stream has a million.
CALL = '{"index":%d,"id":"c%d","function":{"name":"f","arguments":"x"}}'
TOOL_CALLS_BY_INDEX = chunk(f'{{"tool_calls":[{CALL}]}}')
CHAT_EVENTS = [
    ("choices by index", chunk('{"content":"x"}', "%d")),
    ("tool calls by index", TOOL_CALLS_BY_INDEX),
    ("tool calls by id", TOOL_CALLS_BY_INDEX.replace('"index":%d,', "")),
    ("content", chunk('{"content":"x"}')),
    ("reasoning", chunk('{"reasoning_content":"x"}')),
    ("reasoning_details", chunk('{"reasoning_details":[{"type":"reasoning.text","id":"r%d","index":%d,"text":"x"}]}')),
    ("annotations", chunk('{"annotations":[{"type":"url_citation","url":"u%d"}]}')),
    ("logprobs", chunk('{"content":"x"}', more=',"logprobs":{"content":[{"token":"x","logprob":-1}]}')),
    ("unknown members", chunk('{"k%d":"x"}')),
    ("ids", 'data: {"id":"chatcmpl-%d","choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'),
    ("usage", 'data: {"id":"chatcmpl-1","choices":[],"usage":{"prompt_tokens":%d}}\n\n'),
    ("finish reasons", chunk("{}", more=',"finish_reason":"r%d"')),
]
TEXT_DELTA, ITEM = "response.output_text.delta", {"item_id": '"i"', "output_index": "0"}
ADDED = '{"type":"function_call","id":"i%d","call_id":"c%d","name":"f"}'
RESPONSE_EVENTS = [
    ("text by item", typed(TEXT_DELTA, item_id='"i%d"', output_index="%d", content_index="0", delta='"x"')),
    ("text by part", typed(TEXT_DELTA, **ITEM, content_index="%d", delta='"x"')),
    ("arguments", typed("response.function_call_arguments.delta", item_id='"i%d"', output_index="%d", delta='"x"')),
    ("summaries", typed("response.reasoning_summary_text.delta", **ITEM, summary_index="%d", delta='"x"')),
    ("items added", typed("response.output_item.added", output_index="%d", item=ADDED)),
    ("annotations", typed("response.output_text.annotation.added", **ITEM, content_index="0", annotation_index="%d")),
    ("other events", typed("response.x%d", delta='"x"')),
]
TEXT_PART = '{"index":%s,"type":"text","text":{"value":"x"}}'
CITATION = '{"index":0,"type":"text","text":{"annotations":[{"index":%d,"type":"file_citation"}]}}'
EMPTY_MESSAGE = '"id":"msg_%d","thread_id":"thread_IDENT","run_id":"run_IDENT","role":"assistant","content":[]'
RUN_EVENTS = [
    ("text by message", message_delta("msg_%d", TEXT_PART % "0")),
    ("text by part", message_delta("msg_1", TEXT_PART % "%d")),
    ("text", message_delta("msg_1", TEXT_PART % "0")),
    ("annotations", message_delta("msg_1", CITATION)),
    ("tool calls by index", step_delta("step_1", "%d")),
    ("tool calls by step", step_delta("step_%d", "0")),
    ("messages created", created("thread.message", EMPTY_MESSAGE)),
    ("runs created", created("thread.run", '"id":"run_%d","thread_id":"thread_IDENT","status":"queued"')),
    ("threads created", created("thread", '"id":"thread_%d"')),
]


@shape
def poorly_packed(size):
    """Chat chunks and comments that compress to about a fiftieth: less than what ends decoding."""
    noise = random.Random(1)
    comments = (":" + "x" * 120 + "\n").encode()
    for _ in range(size // BLOCK_BYTES):
        block = b":" + noise.randbytes(3000).hex().encode() + b"\n" + chunk('{"content":"x"}').encode() * 20
        yield block + comments * ((BLOCK_BYTES - len(block)) // len(comments))


def tree_event(size):
    return around(chunk('{"content":@}'), array_of(TREE, size))


# What stands between the beginning and the end of a chat stream, and its coding.
CHAT_STREAMS = [
    ("3·10^6 events without content", repeated("data: {}\n\n", 3 * MILLION), ""),
    ("10^7 comments", repeated(":\n", 10 * MILLION), ""),
    ("10^7 blank lines", repeated("\n", 10 * MILLION), ""),
    ("10^6 events that are not JSON", repeated("data: nothing\n\n", MILLION), ""),
    ("one event of 10^6 data lines", around("@\n", repeated("data: 1\n", MILLION)), ""),
    ("one event of 3·10^6 empty data lines", around("@\n", repeated("data\n", 3 * MILLION)), ""),
    ("one event with 10^6 names", around("@\n", numbered("event: e%d\n", MILLION)), ""),
    ("10^6 chunks glued in one data", around("data: @\n\n", repeated('{"choices":[]}', MILLION)), ""),
    ("700 000 events glued in one line", around("data: @\n\n", repeated('{"choices":[]}data: ', 700_000)), ""),
    ("one event of 15.9 MB", around('data: {"a":@}\n\n', string("x", EVENT)), ""),
    ("one event, text of 15.9 MB", around(chunk('{"content":@}'), string("some text, ", EVENT)), ""),
    ("one event, escaped NULs", around(chunk('{"content":@}'), string("\\u0000", EVENT)), ""),
    ("one event, tree of 15.9 MB", tree_event(EVENT), ""),
    ("one event, choices of 15.9 MB", around('data: {"choices":@}\n\n', array_of('{"index":0}', EVENT)), ""),
    ("one event, 900 000 tool calls", around(chunk('{"tool_calls":@}'), array('{"index":%d}', 900_000)), ""),
    ("one event, delta of 10^6 keys", around(chunk("@"), keys(MILLION)), ""),
    ("one event, usage of 10^6 keys", around('data: {"choices":[],"usage":@}\n\n', keys(MILLION)), ""),
    ("one event, 5·10^6 deep", around(chunk('{"content":@}'), nested("[", "", "]", 5 * MILLION)), ""),
    ("one event of 17 MB", around("data: @\n\n", repeated("x", 17 * MILLION)), ""),
    ("one event of 2 GB", around("data: @\n\n", repeated("x", 2000 * MILLION)), ""),
    ("a line of 2 GB without an end", around("data: @", repeated("x", 2000 * MILLION)), ""),
    ("an id of 15 MB", around("id: @\n\n", repeated("x", 15 * MILLION)), ""),
    ("20 events of 15 MB", repeated(b'data: {"a":"' + b"x" * (15 * MILLION) + b'"}\n\n', 20), ""),
    ("20 events, trees of 5 MB", repeated(b"".join(tree_event(5 * MILLION)), 20), ""),
    ("200 MB of comments, 1000 to 1", repeated(":" + "x" * 8000 + "\n", 25_000), "gzip"),
    ("1 GB of chunks, 300 to 1", repeated(chunk('{"content":"x"}'), 12 * MILLION), "gzip"),
    ("one event of 1 GB, 1000 to 1", around("data: @\n\n", repeated("x", 1000 * MILLION)), "gzip"),
    ("1 GB of events, 50 to 1", poorly_packed(1000 * MILLION), "gzip"),
    *(("events, 50 to 1", poorly_packed(200 * MILLION), coding) for coding in ["br", "zstd", "deflate", "gzip, gzip"]),
]
ITEM_DONE = typed("response.output_item.done", output_index="0", item='{"type":"message","content":@}')
DELTA = typed(TEXT_DELTA, item_id='"i"', output_index="0", delta="@")
IN_PROGRESS = typed("response.in_progress", response='{"id":"resp_x","object":"response","output":@}')
RESPONSE_STREAMS = [
    ("20 whole responses of 5 MB", repeated(b"".join(around(IN_PROGRESS, array_of(TREE, 5 * MILLION))), 20)),
    ("one item, tree of 15.9 MB", around(ITEM_DONE, array_of(TREE, EVENT))),
    ("one delta, tree of 15.9 MB", around(DELTA, array_of(TREE, EVENT))),
]
RUN_TREE = message_delta("msg_1", '{"index":0,"type":"text","text":{"value":"a","annotations":@}}')
SHORT = {
    "one event of 10^6 data lines", "10^6 chunks glued in one data", "one event, tree of 15.9 MB",
    "one event, 900 000 tool calls", "200 MB of comments, 1000 to 1", "one item, tree of 15.9 MB",
}


def bombs():
    for what, middle, coding in CHAT_STREAMS:
        name = f"chat stream: {what}" + (f", {coding}" if coding else "")
        talk = chat_response(stream(CHAT_BEGIN, middle, CHAT_END, coding))
        yield Bomb(name, [talk], Expects.COUNTED, what in SHORT)
    for what, middle in [(f"10^6 × {what}", numbered(unit, MILLION)) for what, unit in CHAT_EVENTS]:
        yield Bomb(f"chat stream: {what}", [chat_response(stream(CHAT_BEGIN, middle, CHAT_END))])
    calls = stream(CHAT_BEGIN, numbered(TOOL_CALLS_BY_INDEX, 100_000), CHAT_END)
    yield Bomb("chat stream: 10^5 × tool calls by index", [chat_response(calls)], short=True)

    many = [(f"10^6 × {what}", numbered(unit, MILLION)) for what, unit in RESPONSE_EVENTS]
    for what, middle in many + RESPONSE_STREAMS:
        ident = label("stream " + what)
        talk = responses_response(stream(response_begin(ident), middle, response_end(ident)))
        yield Bomb(f"responses stream: {what}", [talk], Expects.COUNTED, what in SHORT)

    many = [(f"10^6 × {what}", unit, MILLION) for what, unit in RUN_EVENTS]
    for what, unit, count in many + [("annotations, tree of 15.9 MB", RUN_TREE, 0)]:
        ident = label("stream " + what)
        unit = unit.replace("IDENT", ident)
        middle = numbered(unit, count) if count else around(unit, array_of(TREE, EVENT))
        talk = run_response(stream(run_begin(ident), middle, run_end(ident)), ident)
        yield Bomb(f"run stream: {what}", [talk], Expects.COUNTED)
