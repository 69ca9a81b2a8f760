"""Bytes of bombs, made block by block, so that gigabytes need no memory.

A shape is an iterable of bytes that can be iterated again. A template is text with one `@`, which
stands for another shape. `%d` in a unit is its number.
"""

import functools

BLOCK_BYTES = 1 << 18
MILLION = 1_000_000
# Just below the 16 MiB of a body that threadtap copies by default, with what stands around it.
MOST = 16_700_000


class Shape:
    def __init__(self, make, arguments):
        self.make, self.arguments = make, arguments

    def __iter__(self):
        return self.make(*self.arguments)


def shape(make):
    """A generator function whose result can be iterated again."""
    return functools.wraps(make)(lambda *arguments: Shape(make, arguments))


@shape
def repeated(unit, count):
    """The unit `count` times. All blocks but the last are the same object."""
    unit = encoded(unit)
    per_block = max(1, BLOCK_BYTES // len(unit))
    block = unit * per_block
    for _ in range(count // per_block):
        yield block
    if rest := count % per_block:
        yield unit * rest


@shape
def numbered(unit, count):
    """The unit `count` times, with its number wherever it has a `%d`."""
    holes = unit.count("%d")
    for start in range(0, count, 4096):
        numbers = range(start, min(start + 4096, count))
        yield "".join([unit % ((number,) * holes) for number in numbers]).encode()


@shape
def around(template, inner):
    """The template with the inner shape in place of its `@`."""
    before, after = encoded(template).split(b"@")
    yield before
    yield from [encoded(inner)] if isinstance(inner, (str, bytes)) else inner
    yield after


@shape
def replaced(inner, old, new):
    """The inner shape with other bytes; they do not stand across two of its blocks."""
    for block in inner:
        yield block.replace(old, new)


@shape
def array(unit, count):
    """A JSON array of `count` items."""
    make = numbered if "%d" in unit else repeated
    yield b"["
    yield from make(unit + ",", count - 1)
    yield unit.replace("%d", str(count)).encode()
    yield b"]"


def array_of(unit, size):
    """A JSON array of about `size` bytes, if the numbers in it have six digits."""
    return array(unit, size // (len(unit) + 1 + 5 * unit.count("%d")))


@shape
def keys(count, key="k%d", value="1"):
    """A JSON object with `count` members."""
    make = numbered if "%d" in key else repeated
    yield b"{"
    yield from make(f'"{key}":{value},', count)
    yield b'"last":1}'


@shape
def nested(opening, core, closing, depth):
    """JSON that is `depth` levels deep; without `closing`, it never ends."""
    yield from repeated(opening, depth)
    yield encoded(core)
    if closing:
        yield from repeated(closing, depth)


@shape
def string(unit, size):
    """A JSON string of about `size` bytes."""
    yield b'"'
    yield from repeated(unit, size // len(encoded(unit)))
    yield b'"'


def encoded(text):
    return text if isinstance(text, bytes) else text.encode()
