"""Bombs of many clients at once, and of many threads."""

import random

import documents
import streams
import uploads
from apis import (
    CHAT, CHAT_BEGIN, CHAT_END, CHAT_RESPONSE, NO_BODY, RUN_REQUEST, Exchange, chat_request, chat_response,
    response_begin, responses_request, responses_response, stream, text,
)
from bomb import Bomb, Expects, Pace, filled
from shapes import MILLION, MOST, array_of, around, repeated

CROWD = 64
LATE_RESPONSE = CHAT_RESPONSE.paced(Pace.LATE)

BIG_REQUEST = filled(uploads.CHAT_LIST, array_of(uploads.DIALOGUE, uploads.SPACE))
TREE_REQUEST = uploads.tree(uploads.CHAT_LIST, "gzip")
INPUT_TREE_REQUEST = uploads.tree(uploads.LISTS[0][1], "gzip")
BLANKS_REQUEST = filled(uploads.EXTRA, around("@0", repeated(" ", 60 * MILLION)), "gzip")

CHOICES = array_of('{"index":0,"message":{"content":"some text"}}', MOST - 1000)
BIG_RESPONSE = filled(documents.CHAT, CHOICES, pace=Pace.HELD)
TREE_RESPONSE = uploads.tree(documents.CHAT, "gzip")
OUTPUT_TREE_RESPONSE = uploads.tree(documents.RESPONSE, "gzip")

UNFINISHED = around('data: {"a":"@', repeated("x", 15 * MILLION))
UNFINISHED_STREAM = stream(CHAT_BEGIN, UNFINISHED, pace=Pace.BROKEN)
PIECES = repeated(streams.chunk('{"content":"' + "x" * 100 + '"}'), 70_000)


def windows(coding):
    """A stream that fills the largest window of a decoder, and then pauses."""
    return stream(CHAT_BEGIN, streams.poorly_packed(20 * MILLION), CHAT_END, coding, pace=Pace.HELD)


# Each is one connection's talk, and whether it is a main one.
TALKS = [
    ("requests of 16 MB, answered late", [Exchange(CHAT, BIG_REQUEST, LATE_RESPONSE)], True),
    ("requests of 16 MB, held", chat_request(BIG_REQUEST.paced(Pace.HELD)), False),
    ("requests, trees of 60 MB, answered late", [Exchange(CHAT, TREE_REQUEST, LATE_RESPONSE)], False),
    ("requests, trees of 60 MB", chat_request(TREE_REQUEST), False),
    ("requests, trees of 60 MB, of Responses", responses_request(INPUT_TREE_REQUEST, "crowd"), False),
    ("requests, 60 MB of blanks", chat_request(BLANKS_REQUEST), False),
    ("documents of 16 MB, held", chat_response(BIG_RESPONSE), True),
    ("documents of 16 MB that break off", chat_response(BIG_RESPONSE.paced(Pace.BROKEN)), False),
    ("documents, trees of 60 MB, held", chat_response(TREE_RESPONSE.paced(Pace.HELD)), False),
    ("documents, trees of 60 MB", chat_response(TREE_RESPONSE), False),
    ("documents, trees of 60 MB, of Responses", responses_response(OUTPUT_TREE_RESPONSE), False),
    ("unfinished events of 15 MB", chat_response(UNFINISHED_STREAM), True),
    ("unfinished events of 15 MB, gzip",
     chat_response(stream(CHAT_BEGIN, UNFINISHED, "", "gzip", pace=Pace.HELD)), False),
    ("unfinished events of 15 MB, of Responses",
     responses_response(stream(response_begin("crowd"), UNFINISHED, pace=Pace.BROKEN)), False),
    ("streams that fill the window of br", chat_response(windows("br")), False),
    ("streams that fill the window of zstd", chat_response(windows("zstd")), False),
    ("streams in br four times", chat_response(windows("br, br, br, br")), False),
    ("streams of 7 MB of text in small pieces",
     chat_response(stream(CHAT_BEGIN, PIECES, CHAT_END, pace=Pace.HELD)), False),
]
KINDS = [
    chat_request(TREE_REQUEST), chat_request(BLANKS_REQUEST), [Exchange(CHAT, BIG_REQUEST, LATE_RESPONSE)],
    chat_response(TREE_RESPONSE), responses_response(OUTPUT_TREE_RESPONSE), chat_response(BIG_RESPONSE),
    chat_response(UNFINISHED_STREAM), chat_response(windows("br")),
]

MESSAGE = (
    '{"id":"msg_%d","object":"thread.message","thread_id":"thread_%d","role":"user","created_at":1,'
    '"content":[{"type":"text","text":{"value":"a question","annotations":[]}}]}'
)
QUEUED = '{"id":"run_%d","object":"thread.run","thread_id":"thread_%d","status":"queued","created_at":1}'


def threads(name, count, connections=8):
    """Many threads: their messages are listed, or a run is begun that never ends."""
    share = count // connections
    listed = text(documents.LIST.replace("@", f"[{MESSAGE}]"))
    for target, request, response in [
        ("GET /v1/threads/thread_%d/messages", NO_BODY, listed),
        ("POST /v1/threads/thread_%d/runs", RUN_REQUEST, text(QUEUED)),
    ]:
        ranges = [range(start, start + share) for start in range(0, share * connections, share)]
        # A million without a pause would be a test of the rate.
        pause_secs = 0.08 if count >= MILLION else 0
        talks = [[Exchange(target, request, response, numbers, "", pause_secs)] for numbers in ranges]
        yield Bomb(f"{name} threads: {target.replace('%d', 'N')}", talks, Expects.UNTOLD, count < MILLION)


def bombs():
    for name, talk, short in TALKS:
        yield Bomb(f"{CROWD} {name}", [talk] * CROWD, Expects.COUNTED, short)
    mixed = KINDS * (CROWD // len(KINDS))
    random.Random(1).shuffle(mixed)
    yield Bomb(f"{CROWD} of all kinds", mixed, Expects.COUNTED, True)
    yield from threads("10^5", 100_000)
    yield from threads("10^6", MILLION)
