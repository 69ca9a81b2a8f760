"""What a bomb is: connections, the exchanges on each, and how their bodies go over the wire."""

import dataclasses
import enum
import zlib

import brotli
import zstandard

from shapes import around


class Expects(enum.Enum):
    """What a bomb should leave behind. The table marks what differs."""

    RECORD = "a record"
    COUNTED = "a record, or a metric that says what was dropped or odd"
    NOTHING = "no record: threadtap does not record such requests"
    UNTOLD = "many small exchanges, whose records are not told apart"


class Pace(enum.Enum):
    """How a body is sent. A gate opens when all connections that wait at it are there."""

    AT_ONCE = "as fast as the receiver reads"
    LATE = "a response that begins a little after the gate opens"
    HELD = "all but the last byte; that a little after the gate opens"
    BROKEN = "the same, but the connection is closed instead of the last byte"


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """A request or response body."""

    shape: object
    coding: str = ""
    type: str = "application/json"
    chunked: bool = False
    pace: Pace = Pace.AT_ONCE

    def paced(self, pace):
        return dataclasses.replace(self, pace=pace)


@dataclasses.dataclass(frozen=True, eq=False)
class Exchange:
    """A request and its response.

    With numbers it stands for as many small exchanges, pipelined; a `%d` in target, header lines and
    response is the number. A pause after each batch keeps them from being a test of the rate.
    """

    target: str
    request: Part
    response: Part
    numbers: range = None
    lines: str = ""
    pause_secs: float = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Bomb:
    """Talks are lists of exchanges. Each talk has its own connection, and all go on at once."""

    name: str
    talks: list
    expects: Expects = Expects.RECORD
    short: bool = False


@dataclasses.dataclass(frozen=True)
class Body:
    """A part as it goes over the wire."""

    wire: list
    wire_bytes: int
    decoded_bytes: int


def filled(template, inner, coding="", **more):
    """A part that is the template with the inner shape in it."""
    return Part(around(template, inner), coding, **more)


def prepared(part):
    """The part's body. Equal blocks are in memory once."""
    decoded_bytes = 0

    def counted():
        nonlocal decoded_bytes
        for block in part.shape:
            decoded_bytes += len(block)
            yield block

    blocks = counted()
    for coding in filter(None, part.coding.split(", ")):
        blocks = CODINGS[coding](blocks)
    wire = [block for block in blocks if block]
    return Body(wire, sum(map(len, wire)), decoded_bytes)


def once(make):
    """Makes the body of each part once, although many connections send it."""
    made = {}

    def get(part):
        if part not in made:
            made[part] = make(part)
        return made[part]

    return get


def gzip(blocks):
    return streamed(zlib.compressobj(6, zlib.DEFLATED, 31), blocks)


def deflate(blocks):
    return streamed(zlib.compressobj(6), blocks)


def zstd(blocks):
    """With the largest window that RFC 9659 §3 allows: a decoder has to hold as much."""
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=23)
    return streamed(zstandard.ZstdCompressor(compression_params=parameters).compressobj(), blocks)


def br(blocks):
    """With the largest window of RFC 7932 §9.1."""
    coder = brotli.Compressor(quality=5, lgwin=24)
    for block in blocks:
        yield coder.process(block)
    yield coder.finish()


def streamed(coder, blocks):
    for block in blocks:
        yield coder.compress(block)
    yield coder.flush()


CODINGS = {"gzip": gzip, "deflate": deflate, "zstd": zstd, "br": br}
