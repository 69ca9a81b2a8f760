"""Measures what hostile clients and upstreams make threadtap hold, with default settings.

Each attack opens so many connections (`--connections`, 16 by default) and holds as much in each as it is let, while the memory of
the process is watched. It fails when an attack adds more than it may, or when a new client is not served meanwhile. With 64
connections it takes a few minutes more. Ends with `N passed, N failed`; exit status 1 when anything failed.
"""

import argparse
import selectors
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

import hpack
from hyperframe.frame import DataFrame, HeadersFrame, RstStreamFrame, SettingsFrame, WindowUpdateFrame

from torture import END_HEADERS, END_STREAM, PREFACE, Checks, Threadtap, polite_get

# What an attack may add: `server.h2_memory` and what hyper takes beside it, and for each connection its own part, its buffers, and
# the window for its bodies. What is captured has a bound of its own (`capture.budget`), so these requests are not.
SHARED_BYTES = 110 << 20
CONNECTION_BYTES = 2 << 20
STREAMS = 200
WINDOW = 256 << 10
# Nothing changes any more when threadtap has done nothing for so long, and was not kept from it by others.
SETTLED_SECS = 2
LONGEST_SECS = 30
PIECE = b"x" * 65536


class Upstream(threading.Thread):
    """Does with each connection what the path it is asked for says. One thread for all of them."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.socket()
        # What is sent to it and not read stays where it came from.
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(4096)
        self.address = self.listener.getsockname()
        self.listener.setblocking(False)
        self.selector = selectors.DefaultSelector()
        self.silent = []
        self.selector.register(self.listener, selectors.EVENT_READ, None)

    def run(self):
        while True:
            for key, _ in self.selector.select():
                try:
                    if key.data is None:
                        self.accept()
                    else:
                        key.data(key.fileobj)
                except BlockingIOError:
                    pass
                except OSError:
                    self.close(key.fileobj)

    def accept(self):
        peer, _ = self.listener.accept()
        peer.setblocking(False)
        self.selector.register(peer, selectors.EVENT_READ, self.asked)

    def close(self, peer):
        self.selector.unregister(peer)
        peer.close()

    def asked(self, peer):
        request = peer.recv(4096)
        if not request:
            return self.close(peer)
        path = request.split(b" ", 2)[1:2]
        if path == [b"/ok"]:
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        elif path == [b"/silence"]:
            # Neither read nor answered any more.
            self.selector.unregister(peer)
            self.silent.append(peer)
        elif path in ENDLESS:
            beginning, piece = ENDLESS[path[0]]
            peer.sendall(beginning)
            self.selector.modify(peer, selectors.EVENT_WRITE, lambda peer: peer.send(piece))

    def forget(self):
        while self.silent:
            self.silent.pop().close()


class Paths(dict):
    def __contains__(self, path):
        return bool(path) and super().__contains__(path[0])


# What an upstream goes on sending, by path.
ENDLESS = Paths({
    b"/body": (b"HTTP/1.1 200 OK\r\n\r\n", PIECE),
    b"/head": (b"HTTP/1.1 200 OK\r\nx: ", PIECE),
    b"/lines": (b"HTTP/1.1 200 OK\r\n", b"x:y\r\n" * 2000),
    b"/trailers": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"x:y\r\n" * 2000),
    b"/extension": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", PIECE),
    b"/chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 2000),
})


class Client:
    """Sends pieces as long as they are taken. It reads nothing, unless it `follows` the windows it is given."""

    def __init__(self, address, pieces, follows=False):
        self.socket = socket.create_connection(address)
        self.socket.setblocking(False)
        self.left, self.received, self.follows = b"", b"", follows
        # What may still be sent of all bodies and of each.
        self.window, self.windows = 65_535, {}
        self.pieces = iter(pieces(self) if callable(pieces) else pieces)

    def push(self):
        """Sends what is taken now; whether anything was."""
        moved = self.follows and self.read()
        for _ in range(50):
            self.left = self.left or next(self.pieces, b"")
            if not self.left:
                break
            try:
                self.left = self.left[self.socket.send(self.left):]
                moved = True
            except BlockingIOError:
                break
            except OSError:
                self.left, self.pieces = b"", iter(())
        return moved

    def read(self):
        try:
            data = self.socket.recv(65536)
        except OSError:
            return False
        self.received += data
        while len(self.received) >= 9 + (length := int.from_bytes(self.received[:3], "big")):
            kind, stream = self.received[3], int.from_bytes(self.received[5:9], "big")
            if kind == WindowUpdateFrame.type:
                more = int.from_bytes(self.received[9:13], "big")
                if stream == 0:
                    self.window += more
                elif stream in self.windows:
                    self.windows[stream] += more
            elif kind == RstStreamFrame.type:
                self.windows.pop(stream, None)
            self.received = self.received[9 + length:]
        return bool(data)

    def bodies(self, size):
        """Bodies in frames of so many bytes, for all streams in turn, within their windows. Nothing is sent while none is open."""
        while True:
            piece = b""
            for stream, left in list(self.windows.items()):
                if min(left, self.window) >= size and len(piece) < 65_536:
                    self.windows[stream] = left - size
                    self.window -= size
                    piece += DataFrame(stream, b"x" * size).serialize()
            yield piece


class Flood:
    """Clients of an attack."""

    def __init__(self, address):
        self.address, self.clients = address, []

    def client(self, pieces, follows=False):
        self.clients.append(Client(self.address, pieces, follows))

    def push(self):
        return any([client.push() for client in self.clients])

    def close(self):
        for client in self.clients:
            client.socket.close()


def frames(path, method="GET", settings=None, extra=(), blocks=b""):
    """The preface, and the head of a request for each stream. `blocks` is added to each but the first."""
    encoder = hpack.Encoder()
    fields = [(":method", method), (":scheme", "http"), (":authority", "a"), (":path", path)]
    flags = [END_HEADERS] if method == "PUT" else [END_STREAM, END_HEADERS]
    preface = PREFACE + SettingsFrame(0, settings=settings or {}).serialize()
    yield preface + WindowUpdateFrame(0, window_increment=2**30).serialize()
    for stream in range(1, 2 * STREAMS, 2):
        block = encoder.encode([*fields, *(extra if stream == 1 else ())])
        yield HeadersFrame(stream, block + (blocks if stream > 1 else b""), flags=flags).serialize()


def small_requests(flood, count):
    """What as many requests take that hold nothing."""
    for _ in range(count):
        flood.client(frames("/silence"))


def large_heads(flood, count, path="/silence"):
    """64 KiB of header list for each request, sixteen bytes of it on the wire."""
    for _ in range(count):
        flood.client(frames(path, extra=[("x", "v" * 3900)], blocks=b"\xbe" * 15))


def many_lines(flood, count):
    """As large lists, of lines as short as can be."""
    for _ in range(count):
        flood.client(frames("/silence", extra=[("x", "")], blocks=b"\xbe" * 1800))


def large_heads_with_bodies(flood, count):
    for _ in range(count):
        flood.client(frames("/silence", "PUT", extra=[("x", "v" * 3900)], blocks=b"\xbe" * 15))


def bodies_that_are_not_read(flood, count, size=16_384):
    """Bodies that upstream does not read, each as much as its window takes."""
    def pieces(client):
        yield from frames("/silence", "PUT")
        # They hold once the settings are acknowledged.
        yield SettingsFrame(0, flags=["ACK"]).serialize()
        client.windows = dict.fromkeys(range(1, 2 * STREAMS, 2), WINDOW)
        yield from client.bodies(size)
    for _ in range(count):
        flood.client(pieces, follows=True)


def bodies_in_little_frames(flood, count):
    """As little as they may be: a connection with many smaller ones is closed."""
    bodies_that_are_not_read(flood, count, 256)


def answers_that_are_not_read(flood, count, path="/body"):
    for _ in range(count):
        flood.client(frames(path, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 2**31 - 1}))


def answers_for_a_window_of_one(flood, count):
    for _ in range(count):
        flood.client(frames("/body", settings={SettingsFrame.INITIAL_WINDOW_SIZE: 1}))


def little_chunks_that_are_not_read(flood, count):
    answers_that_are_not_read(flood, count, "/chunks")


def http1_heads_without_an_end(flood, count):
    for _ in range(count):
        flood.client([b"GET / HTTP/1.1\r\nHost: h\r\nx: "] + [PIECE] * 3 + [b"x" * 60_000])
        flood.client([b"GET / HTTP/1.1\r\nHost: h\r\n" + b"x:y\r\n" * 50_000])


def http1_large_heads(flood, count):
    head = b"GET /silence HTTP/1.1\r\nHost: h\r\nx: " + b"x" * 260_000 + b"\r\n\r\n"
    for _ in range(count):
        flood.client([head] + [b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 10_000])


def http1_answers_without_an_end(flood, count):
    for path in (b"/head", b"/lines", b"/trailers", b"/extension", b"/body", b"/chunks"):
        for _ in range(count):
            flood.client([b"GET %s HTTP/1.1\r\nHost: h\r\n\r\n" % path])


def http1_uploads_that_are_not_read(flood, count):
    for _ in range(count):
        flood.client([b"POST /silence HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999\r\n\r\n"] + [PIECE] * 200)


ATTACKS = [
    small_requests, large_heads, many_lines, large_heads_with_bodies, bodies_that_are_not_read, bodies_in_little_frames,
    answers_that_are_not_read, answers_for_a_window_of_one, little_chunks_that_are_not_read, http1_heads_without_an_end,
    http1_large_heads, http1_answers_without_an_end, http1_uploads_that_are_not_read,
]


def work(pid):
    """What tells whether a process goes on: what its threads have done, unless one still wants to."""
    done = []
    for stat in Path("/proc").glob(f"{pid}/task/*/stat"):
        fields = stat.read_text().rsplit(")", 1)[1].split()
        done.append((fields[0] == "R" and time.monotonic(), fields[11], fields[12]))
    return done


def attack(checks, upstream, attack, count, directory):
    """Each attack has a process of its own, so that what another left behind does not count."""
    name = attack.__name__.replace("_", " ")
    threadtap = Threadtap(f"http://{upstream.address[0]}:{upstream.address[1]}", directory)
    try:
        polite_get(threadtap.address, "/ok")
        before = most = threadtap.memory()
        flood = Flood(threadtap.address)
        attack(flood, count)
        begun = moved = time.monotonic()
        done = None
        while (now := time.monotonic()) - moved < SETTLED_SECS and now - begun < LONGEST_SECS:
            most = max(most, threadtap.memory())
            pushed, before_now, done = flood.push(), done, work(threadtap.process.pid)
            if pushed or done != before_now:
                moved = time.monotonic()
            time.sleep(0.01)
        try:
            served = polite_get(threadtap.address, "/ok")
        except OSError as error:
            served = error
        refused = threadtap.metric("threadtap_http2_streams_refused_total")
        flood.close()
    finally:
        # A drain would wait for the attackers.
        threadtap.process.kill()
        threadtap.process.wait()
        upstream.forget()
    bound = SHARED_BYTES + count * CONNECTION_BYTES
    checks.check(f"{name}: memory stays within its bound", most - before < bound, f"{most - before >> 20} MiB more")
    checks.check(f"{name}: a new client is served", served == (200, 2), served)
    checks.check(f"{name}: nothing panicked", "panicked" not in threadtap.log.read_text())
    print(
        f"{name}: {before >> 20} MiB before, {most - before >> 20:+} MiB, {refused} streams refused, "
        f"{time.monotonic() - begun:.0f} s",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=16, help="of each attack; 16")
    parser.add_argument("--only", default="", help="attacks whose name has this in it")
    arguments = parser.parse_args()
    checks = Checks()
    upstream = Upstream()
    upstream.start()
    for at, each in enumerate(ATTACKS):
        if arguments.only in each.__name__:
            with tempfile.TemporaryDirectory() as directory:
                attack(checks, upstream, each, arguments.connections, Path(directory))
    print(f"{checks.passed} passed, {checks.failed} failed")
    sys.exit(1 if checks.failed else 0)


if __name__ == "__main__":
    main()
