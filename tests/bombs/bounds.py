"""Bombs just below the bounds of what is read, and many small ones that fill what is remembered."""

import documents
import uploads
from apis import (
    CHAT, CHAT_REQUEST, CHAT_RESPONSE, Exchange, chat_request, chat_response, label, list_response, message_request,
    responses_request, responses_response, text,
)
from bomb import Bomb, Expects, filled
from shapes import MILLION, array_of, string

KILO = 1000
# capture.max_body is 16 MiB, decoded too. Bodies above 256 KiB may not take all of capture.budget.
SIZES = [250 * KILO, MILLION, 4 * MILLION, 12 * MILLION, 16 * MILLION]
TREE = uploads.TREE
INPUT, CONTENT = uploads.LISTS[0][1], uploads.LISTS[3][1]
TEXTS = '{"role":"user","content":"some text"}'
# Messages of a list: of the run, of other runs, of the user, and of nobody who is named.
LISTED = [
    ("messages of the run", documents.ANSWER),
    ("messages of as many runs", documents.OTHER_ANSWER),
    ("the user's messages", '{"id":"m%d","role":"user","content":[]}'),
    ("messages without a run", '{"id":"m%d","role":"assistant","content":[]}'),
    ("messages without ids", '{"role":"assistant","content":[]}'),
]


def megabytes(size):
    return f"{size / MILLION:g} MB"


def filling(name, count, request, response, target, lines="", connections=2):
    """Requests that each leave something in a table, at most 2000 in a second."""
    share = count // connections
    ranges = [range(start, start + share) for start in range(0, share * connections, share)]
    talks = [[Exchange(target, request, response, numbers, lines, 0.05)] for numbers in ranges]
    return Bomb(f"{count} {name}", talks, Expects.UNTOLD)


def bombs():
    for size in SIZES:
        much = megabytes(size)
        tree, dialogue = array_of(TREE, size), array_of(TEXTS, size)
        parts = array_of(uploads.TEXT_PART, size)
        for name, talk, short in [
            ("chat request, tree", chat_request(filled(uploads.CHAT_LIST, tree, "gzip")), True),
            ("chat request, dialogue", chat_request(filled(uploads.CHAT_LIST, dialogue)), True),
            ("chat request, text", chat_request(filled(uploads.CONTENT, string("some text, ", size))), False),
            ("responses request, tree", responses_request(filled(INPUT, tree, "br"), label(much)), False),
            ("message request, parts", message_request(filled(CONTENT, parts), label("bounds " + much)), False),
            ("chat document, tree", chat_response(filled(documents.CHAT, tree, "gzip")), True),
            ("responses document, tree", responses_response(filled(documents.RESPONSE, tree, "zstd")), True),
        ]:
            yield Bomb(f"{name} of {much}", [talk], Expects.COUNTED, short and size == 12 * MILLION)
        for what, unit in LISTED:
            ident = label(f"bounds {what} {much}")
            response = documents.named(filled(documents.LIST, array_of(unit, size), "gzip"), ident)
            talk = list_response(response, ident, documents.MESSAGES)
            yield Bomb(f"list of {much}: {what}", [talk], Expects.COUNTED, size == 4 * MILLION and "of the run" in what)
    for count, size in [(64, 12 * MILLION), (64, 4 * MILLION), (256, MILLION), (512, 250 * KILO)]:
        tree = array_of(TREE, size)
        for name, talk in [
            ("request trees", chat_request(filled(uploads.CHAT_LIST, tree, "gzip"))),
            ("document trees", chat_response(filled(documents.CHAT, tree, "gzip"))),
            ("dialogues", chat_request(filled(uploads.CHAT_LIST, array_of(TEXTS, size)))),
        ]:
            short = count == 64 and name != "dialogues" and size > 4 * MILLION
            yield Bomb(f"{count} {name} of {megabytes(size)}", [talk] * count, Expects.COUNTED, short)
    question = filled(CONTENT, string("some text, ", 30 * KILO))
    said = text('{"id":"msg_%d","object":"thread.message","thread_id":"thread_fill_%d","role":"user","content":[]}')
    yield filling("threads with a text of 30 kB", 20_000, question, said, "POST /v1/threads/thread_fill_%d/messages")
    for name, value in [("session", "%d"), ("user", "%d"), ("user", '{"userId":"%d","email":"@"}')]:
        value = value.replace("@", "u" * 3000) if "@" in value else "i" * 3000 + value
        kind = f"{name}s with {'an email' if 'email' in value else 'an id'} of 3 kB"
        yield filling(kind, 40_000, CHAT_REQUEST, CHAT_RESPONSE, CHAT, f"x-threadtap-{name}: {value}\r\n")
