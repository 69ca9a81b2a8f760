"""Attacks threadtap, mostly over HTTP/2, while a well-behaved client goes on being served.

After each attack it checks what became of the attacker, that no request of the well-behaved client failed and none took long,
that a new client is served, and that the memory of the process stayed within its bound. Some attacks break off requests that
are captured; at the end no record of these may claim to be complete. Ends with `N passed, N failed`; exit status 1 when
anything failed. `HALF_OPEN=20000` makes the attack with half-open connections as large as that.
"""

import http.client
import http.server
import json
import os
import random
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import hpack
from hyperframe.frame import (
    ContinuationFrame, DataFrame, Frame, GoAwayFrame, HeadersFrame, PingFrame, RstStreamFrame, SettingsFrame,
    WindowUpdateFrame,
)

ROOT = Path(__file__).resolve().parent.parent.parent
THREADTAP = ROOT / "target/debug/threadtap"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
END_STREAM, END_HEADERS = "END_STREAM", "END_HEADERS"
BIG = 8 << 20
COMPLETIONS = "/v1/chat/completions"
ANSWER = "0123456789"
# What captured requests ask begins with it: those that are broken off on one side or the other, and those that are not.
BROKEN, WHOLE = "broken", "whole"
# How long an attack that is not ended by threadtap goes on.
ATTACK_SECS = 2.0
# What all attacks together may add to the memory of the process. The tables and buffers of hundreds of connections fit in.
MEMORY_BYTES = 64 << 20
# The slowest request of the well-behaved client. Undisturbed it takes a millisecond; a machine with other work may add to it.
SLOWEST_SECS = 5.0
MEDIAN_SECS = 0.1
FIRST_BYTE_SECS = 2
# Connections that are opened and send no request; threadtap has places for half as many.
HALF_OPEN = int(os.environ.get("HALF_OPEN", "2000"))
# What each of them may add to the memory of the process while it is open. One process opens no more than it may have files.
HALF_OPEN_BYTES = 8 << 10
HELD_BY_ONE = 4000
READY_SECS = 30
EXIT_SECS = 60


class Upstream(http.server.BaseHTTPRequestHandler):
    """Answers /big with megabytes, /slow in ten pieces, completions with a stream, and the rest with two bytes."""

    protocol_version = "HTTP/1.1"
    # Head and body are two writes, and the second would wait for the acknowledgement of the first.
    disable_nagle_algorithm = True

    def do_GET(self):
        try:
            self.answer()
        except OSError:
            self.close_connection = True  # The client of threadtap left, and so did threadtap.

    def answer(self):
        pieces = {"/big": [b"x" * 65536] * (BIG // 65536), "/slow": [b"piece"] * 10}.get(self.path, [b"ok"])
        self.send_response(200)
        self.send_header("Content-Length", str(sum(map(len, pieces))))
        self.end_headers()
        for piece in pieces:
            self.wfile.write(piece)
            self.wfile.flush()
            if self.path == "/slow":
                time.sleep(0.05)

    def do_POST(self):
        try:
            self.complete()
        except (OSError, ValueError):
            self.close_connection = True  # What came is no whole request, or nobody waits for the answer.

    def complete(self):
        body = self.body()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if self.path != COMPLETIONS:
            self.wfile.write(b"2\r\nok\r\n0\r\n\r\n")
            return
        asked = json.loads(body)["messages"][0]["content"]
        part = {"id": f"chatcmpl-{asked[:8]}", "object": "chat.completion.chunk", "model": "m"}
        for piece in [*ANSWER, None]:
            choice = {"index": 0, "delta": {"content": piece} if piece else {}, "finish_reason": None if piece else "stop"}
            self.event(json.dumps(part | {"choices": [choice]}))
            time.sleep(0.02)
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length)
            if len(body) < length:
                raise ValueError("cut off")
            return body
        body = b""
        while size := int(self.rfile.readline() or b"x", 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while (line := self.rfile.readline()) != b"\r\n":
            if not line:
                raise ValueError("cut off")
        return body

    def event(self, data):
        data = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def handle_error(self, *_):
        pass


class Checks:
    def __init__(self):
        self.passed = 0
        self.failed = 0

    def check(self, name, holds, why=""):
        if holds:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAILED {name}: {why}", flush=True)


class Threadtap:
    def __init__(self, upstream, directory):
        ports = [free_port(), free_port()]
        self.address = ("127.0.0.1", ports[0])
        self.admin = f"http://127.0.0.1:{ports[1]}"
        config = directory / "threadtap.toml"
        config.write_text(
            f'[server]\nfirst_byte_timeout = "{FIRST_BYTE_SECS}s"\nmax_connections = {HALF_OPEN // 2}\n'
        )
        self.log = directory / "threadtap.log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("THREADTAP_")}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [
                    THREADTAP, "--config", config, "--listen", f"127.0.0.1:{ports[0]}", "--upstream", upstream,
                    "--admin-listen", f"127.0.0.1:{ports[1]}", "--data-dir", directory / "data",
                ],
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + READY_SECS
        while True:
            try:
                with urllib.request.urlopen(f"{self.admin}/readyz", timeout=5):
                    return
            except OSError as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.process.kill()
                    sys.exit(f"threadtap is not ready ({error}):\n{self.log.read_text()}")
            time.sleep(0.05)

    def memory(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) << 10

    def metric(self, name):
        """The value of a metric with its labels; none is 0."""
        with urllib.request.urlopen(f"{self.admin}/metrics", timeout=READY_SECS) as answer:
            lines = answer.read().decode().splitlines()
        return sum(int(float(line.split()[-1])) for line in lines if line.startswith(f"{name} "))

    def open_connections(self):
        return self.metric("threadtap_connections")

    def records(self):
        """All records, by what was asked."""
        records, before = {}, ""
        while True:
            with urllib.request.urlopen(f"{self.admin}/api/v1/interactions?limit=500{before}", timeout=READY_SECS) as answer:
                page = json.load(answer)
            for record in (row["interaction"] for row in page["data"]):
                records.setdefault(text_of(record["inputs"]), []).append(record)
            if page["before"] is None:
                return records
            before = f"&before={page['before']}"

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(EXIT_SECS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return "none: it had to be killed"


class Attacker:
    """A connection that speaks in frames of its own making."""

    def __init__(self, address, settings=None, preface=PREFACE):
        self.socket = socket.create_connection(address)
        self.socket.settimeout(ATTACK_SECS)
        self.encoder = hpack.Encoder()
        self.received = b""
        if preface == PREFACE:
            preface += SettingsFrame(0, settings=settings or {}).serialize()
        self.send(preface)

    def send(self, data):
        """Whether all of it could be sent. A peer that does not read makes it false as well."""
        try:
            self.socket.sendall(data)
            return True
        except OSError:
            return False

    def flood(self, pieces, secs=ATTACK_SECS):
        """Sends for a while, or until nothing goes out any more; how many pieces went."""
        deadline = time.monotonic() + secs
        sent = 0
        for piece in pieces:
            if time.monotonic() > deadline or not self.send(piece):
                break
            sent += 1
        return sent

    def headers(self, path="/ok", extra=()):
        fields = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", path), *extra]
        return self.encoder.encode(fields)

    def get(self, stream, path="/ok", extra=()):
        return HeadersFrame(stream, self.headers(path, extra), flags=[END_STREAM, END_HEADERS]).serialize()

    def post(self, stream, asked, extra=(), end=True):
        """A request for a completion, whose body may be left open."""
        fields = [
            (":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", COMPLETIONS),
            ("content-type", "application/json"), *extra,
        ]
        head = HeadersFrame(stream, self.encoder.encode(fields), flags=[END_HEADERS]).serialize()
        body = completion(asked) if end else completion(asked)[:-8]
        return head + DataFrame(stream, body, flags=[END_STREAM] if end else []).serialize()

    def closed(self, secs):
        """Whether the peer closes within so long. What comes before is kept."""
        deadline = time.monotonic() + secs
        while (left := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                return False
            except OSError:
                return True
            if not data:
                return True
            self.received += data
        return False

    def frames(self):
        """The types, streams and payloads of the frames that came."""
        return [frame[:3] for frame in self.flagged()]

    def flagged(self):
        """The same, and their flags."""
        data, frames = self.received, []
        while len(data) >= 9:
            length = int.from_bytes(data[:3], "big")
            frames.append((data[3], int.from_bytes(data[5:9], "big"), data[9:9 + length], data[4]))
            data = data[9 + length:]
        return frames

    def goaway(self):
        return any(kind == GoAwayFrame.type for kind, _, _ in self.frames())

    def answered(self, stream):
        """Whether the head of an answer comes; a busy machine may take its time."""
        deadline = time.monotonic() + READY_SECS
        while True:
            if any(kind == HeadersFrame.type and at == stream for kind, at, _ in self.frames()):
                return True
            if time.monotonic() > deadline or self.closed(0.1):
                return False

    def ended(self, stream):
        """Whether an answer comes whole."""
        deadline = time.monotonic() + READY_SECS
        while not any(kind == DataFrame.type and at == stream and flags & 1 for kind, at, _, flags in self.flagged()):
            if time.monotonic() > deadline or self.closed(0.1):
                return False
        return True

    def leave(self):
        self.socket.close()


def completion(asked):
    """The body of a request for a completion."""
    return json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": asked}]}).encode()


def text_of(messages):
    """The text of all messages, one after the other."""
    parts = [part for message in messages for part in message["object"]["content"]]
    return "".join(part["text"]["value"] for part in parts)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def well_behaved(host, port):
    """Asks over and over until its standard input ends; then prints how long that took. A process of its own.

    Says so when it has begun.
    """
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    took, failed = [], 0
    connection = http.client.HTTPConnection(host, port, timeout=10)
    while not (took and ended.wait(0.01)):
        start = time.monotonic()
        try:
            connection.request("GET", "/ok")
            answer = connection.getresponse()
            failed += answer.status != 200 or answer.read() != b"ok"
        except (OSError, http.client.HTTPException):
            failed += 1
            connection.close()
        took.append(time.monotonic() - start)
        if len(took) == 1:
            print("begun", flush=True)
    print(json.dumps({"asked": len(took), "failed": failed, "median": sorted(took)[len(took) // 2], "slowest": max(took)}))


def half_open(host, port, count):
    """Opens so many connections, sends no whole request on any, and holds them until its standard input ends."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    beginnings = [b"", b"GET /ok HTTP/1.1\r\nHo", PREFACE[:12], PREFACE + SettingsFrame(0).serialize()]
    held = []
    for number in range(count):
        peer = socket.create_connection((host, port), timeout=30)
        try:
            peer.sendall(beginnings[number % len(beginnings)])
        except OSError:
            pass  # It has given way to another already.
        held.append(peer)
    print(len(held), flush=True)
    sys.stdin.read()


class Bystander:
    """The well-behaved client, for the time of an attack."""

    def __init__(self, address):
        command = [sys.executable, __file__, "--well-behaved", address[0], str(address[1])]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()

    def report(self):
        output, _ = self.process.communicate()
        return json.loads(output)


def polite_get(address, path, while_open=None):
    """One request over HTTP/2 by the rules; the status and how much body came."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    connection.initiate_connection()
    status, length = None, 0
    with socket.create_connection(address) as peer:
        peer.settimeout(30)
        connection.send_headers(
            1, [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", path)], end_stream=True
        )
        peer.sendall(connection.data_to_send())
        while True:
            data = peer.recv(65536)
            if not data:
                raise ConnectionError(f"closed after {status} and {length} bytes")
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    status = int(dict(event.headers)[b":status"])
                    if while_open:
                        while_open(peer)
                elif isinstance(event, h2.events.DataReceived):
                    length += len(event.data)
                    connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    return status, length
                elif isinstance(event, h2.events.StreamReset):
                    raise ConnectionError(f"stream reset: {event.error_code}")
            peer.sendall(connection.data_to_send())


# The attacks. Each gets the address, and returns what it wants checked: names and whether they hold.


def rapid_reset(address):
    attackers = [Attacker(address) for _ in range(4)]
    for attacker in attackers:
        attacker.flood(
            attacker.get(stream) + RstStreamFrame(stream, error_code=8).serialize() for stream in range(1, 40_001, 2)
        )
    yield "the connections are closed", all(attacker.closed(5) for attacker in attackers)
    yield "with GOAWAY, or at once", all(attacker.goaway() or not attacker.received for attacker in attackers)


def continuation_flood(address):
    attackers = [Attacker(address) for _ in range(4)]
    for attacker in attackers:
        attacker.send(HeadersFrame(1, attacker.headers(), flags=[END_STREAM]).serialize())
        piece = ContinuationFrame(1, attacker.encoder.encode([("x-filler", "y" * 8000)])).serialize()
        attacker.flood(piece for _ in range(100_000))
    yield "the connections are closed", all(attacker.closed(5) for attacker in attackers)


def empty_continuation_flood(address):
    attacker = Attacker(address)
    attacker.send(HeadersFrame(1, attacker.headers(), flags=[END_STREAM]).serialize())
    attacker.flood(ContinuationFrame(1, b"").serialize() * 1000 for _ in range(10_000))
    yield "the connection is closed", attacker.closed(5)


def window_starvation(address):
    initial_window = {SettingsFrame.INITIAL_WINDOW_SIZE: 1}
    attackers = [Attacker(address, initial_window) for _ in range(10)]
    for attacker in attackers:
        for stream in range(1, 41, 2):
            attacker.send(attacker.get(stream, "/big"))
    yield "the connections stay", not any(attacker.closed(0.3) for attacker in attackers)
    yield "every request is answered", all(attacker.answered(39) for attacker in attackers)
    for attacker in attackers:
        attacker.leave()


def unread_answers(address):
    largest = {SettingsFrame.INITIAL_WINDOW_SIZE: 2**31 - 1}
    attackers = [Attacker(address, largest) for _ in range(4)]
    for attacker in attackers:
        attacker.send(WindowUpdateFrame(0, window_increment=2**30).serialize())
        for stream in range(1, 41, 2):
            attacker.send(attacker.get(stream, "/big"))
    time.sleep(ATTACK_SECS)
    for attacker in attackers:
        attacker.leave()
    yield "it ends", True


def huge_header_list(address):
    attacker = Attacker(address)
    block = attacker.headers(extra=[(f"x-{n}", "v" * 1000) for n in range(200)])
    attacker.send(HeadersFrame(1, block[:16_000]).serialize())
    rest = [block[at:at + 16_000] for at in range(16_000, len(block), 16_000)]
    for at, piece in enumerate(rest):
        last = [END_HEADERS] if at == len(rest) - 1 else []
        attacker.send(ContinuationFrame(1, piece, flags=last).serialize())
    attacker.closed(1)
    kinds = {kind for kind, stream, _ in attacker.frames() if stream == 1}
    refused = attacker.goaway() or kinds & {HeadersFrame.type, RstStreamFrame.type}
    yield "it is refused", bool(refused)
    yield "nothing of upstream's comes", DataFrame.type not in kinds


def compression_bomb(address):
    attackers = [Attacker(address) for _ in range(4)]
    for attacker in attackers:
        attacker.send(attacker.get(1, extra=[("x-bomb", "b" * 3900)]))
        # One byte each that stands for four thousand.
        bomb = attacker.headers() + b"\xbe" * 15_000
        attacker.flood(
            HeadersFrame(stream, bomb, flags=[END_STREAM, END_HEADERS]).serialize() for stream in range(3, 2001, 2)
        )
        attacker.closed(0.2)
    yield "no bomb is answered with upstream's bytes", not any(
        kind == DataFrame.type and stream > 1 and payload == b"ok"
        for attacker in attackers for kind, stream, payload in attacker.frames()
    )


def ping_flood(address):
    attackers = [Attacker(address) for _ in range(4)]
    for attacker in attackers:
        # The acknowledgements are not read.
        attacker.flood((PingFrame(0, opaque_data=b"12345678").serialize() * 500 for _ in range(100_000)), ATTACK_SECS / 2)
    for attacker in attackers:
        attacker.leave()
    yield "it ends", True


def settings_flood(address):
    attackers = [Attacker(address) for _ in range(4)]
    for attacker in attackers:
        piece = SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 65535}).serialize() * 500
        attacker.flood((piece for _ in range(100_000)), ATTACK_SECS / 2)
    for attacker in attackers:
        attacker.leave()
    yield "it ends", True


def half_a_preface(address):
    attackers = [Attacker(address, preface=PREFACE[:random.randrange(24)]) for _ in range(200)]
    yield "they are closed in time", all(attacker.closed(FIRST_BYTE_SECS + 8) for attacker in attackers)


def preface_and_silence(address):
    attackers = [Attacker(address) for _ in range(100)]
    yield "they are served", all(attacker.send(attacker.get(1)) for attacker in attackers)
    time.sleep(0.5)
    for attacker in attackers:
        attacker.closed(0.01)
    yield "and answered", all(attacker.answered(1) for attacker in attackers)
    for attacker in attackers:
        attacker.leave()


def priority_garbage(address):
    polite = Attacker(address)
    polite.send(polite.get(1))
    for stream in range(1, 2001, 2):
        # Depends on a stream that never was, with whatever weight.
        payload = random.randrange(2**31).to_bytes(4, "big") + bytes([random.randrange(256)])
        polite.send(raw_frame(2, 0, stream, payload))
    polite.send(raw_frame(0xFA, 0xFF, 77, b"an unknown type is ignored"))
    polite.send(polite.get(2001))
    polite.closed(1)
    yield "what has no meaning is ignored", polite.answered(1) and polite.answered(2001)
    of_itself = Attacker(address)
    of_itself.flood(raw_frame(2, 0, 1, (1).to_bytes(4, "big") + b"\x01") for _ in range(10_000))
    of_itself.leave()


def raw_frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def noise(address):
    noise = random.Random(1)
    attackers = []
    for _ in range(100):
        attacker = Attacker(address)
        for _ in range(20):
            payload = noise.randbytes(noise.randrange(200))
            attacker.send(raw_frame(noise.randrange(12), noise.randrange(256), noise.randrange(8), payload))
        attackers.append(attacker)
    for attacker in attackers:
        attacker.closed(0.02)
        attacker.leave()
    yield "it ends", True


def window_overflow(address):
    attacker = Attacker(address)
    attacker.send(WindowUpdateFrame(0, window_increment=2**31 - 1).serialize() * 2)
    yield "the connection is closed", attacker.closed(5)
    yield "with GOAWAY", attacker.goaway()


def empty_data_flood(address):
    attacker = Attacker(address)
    fields = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/ok")]
    attacker.send(HeadersFrame(1, attacker.encoder.encode(fields), flags=[END_HEADERS]).serialize())
    attacker.flood(DataFrame(1, b"").serialize() * 500 for _ in range(100_000))
    attacker.leave()
    yield "it ends", True


def goaway_in_the_middle(address):
    goaway = GoAwayFrame(0, last_stream_id=0, error_code=0).serialize()
    try:
        answer = polite_get(address, "/slow", while_open=lambda peer: peer.sendall(goaway))
    except OSError as error:
        answer = error
    yield f"the answer still comes whole ({answer})", answer == (200, 50)


# Frames that break the rules (RFC 9113 §6, §8.1.1), for a stream that is open.
MALFORMED = {
    "data of stream 0": lambda stream: raw_frame(0, 0, 0, b"data"),
    "data of a stream that never was": lambda stream: raw_frame(0, 0, stream + 100, b"data"),
    "data with more padding than payload": lambda stream: raw_frame(0, 8, stream, b"\xff123"),
    "data that is padded without a length": lambda stream: raw_frame(0, 8, stream, b""),
    "a frame too large": lambda stream: raw_frame(0, 0, stream, b"x" * 16_385),
    "half a frame": lambda stream: raw_frame(0, 0, stream, b"x" * 1000)[:500],
    "headers of stream 0": lambda stream: raw_frame(1, 5, 0, b"\x82"),
    "headers of an even stream": lambda stream: raw_frame(1, 5, stream + 1, b"\x82\x86\x84"),
    "headers that cannot be decoded": lambda stream: raw_frame(1, 5, stream + 2, b"\xff\xff\xff\xff\xff\x0f"),
    "headers with an index that is none": lambda stream: raw_frame(1, 5, stream + 2, b"\xc8"),
    "headers in the middle": lambda stream: raw_frame(1, 4, stream, b"\x82\x86\x84"),
    "trailers that are none": lambda stream: raw_frame(1, 5, stream, b"\x82"),
    "trailers in upper case": lambda stream: raw_frame(1, 5, stream, b"\x00\x01A\x011"),
    "trailers with a connection": lambda stream: raw_frame(1, 5, stream, b"\x00\x0aconnection\x01x"),
    "a continuation of nothing": lambda stream: raw_frame(9, 4, stream, b"\x82"),
    "another frame between headers": lambda stream: raw_frame(1, 1, stream + 2, b"\x82") + raw_frame(6, 0, 0, b"x" * 8),
    "settings of a stream": lambda stream: raw_frame(4, 0, stream, b""),
    "settings of five bytes": lambda stream: raw_frame(4, 0, 0, b"12345"),
    "an acknowledgement with settings": lambda stream: raw_frame(4, 1, 0, b"123456"),
    "a window too large": lambda stream: raw_frame(4, 0, 0, b"\x00\x04\xff\xff\xff\xff"),
    "a ping of seven bytes": lambda stream: raw_frame(6, 0, 0, b"1234567"),
    "a ping of a stream": lambda stream: raw_frame(6, 0, stream, b"12345678"),
    "a window update of zero": lambda stream: raw_frame(8, 0, stream, b"\0\0\0\0"),
    "a window update too large": lambda stream: raw_frame(8, 0, stream, b"\x7f\xff\xff\xff") * 2,
    "a reset of stream 0": lambda stream: raw_frame(3, 0, 0, b"\0\0\0\0"),
    "a reset of three bytes": lambda stream: raw_frame(3, 0, stream, b"\0\0\0"),
    "a reset": lambda stream: raw_frame(3, 0, stream, b"\0\0\0\x08"),
    "a promise": lambda stream: raw_frame(5, 4, stream, b"\0\0\0\x02\x82"),
    "goaway of a stream": lambda stream: raw_frame(7, 0, stream, b"\0" * 8),
    "goaway of three bytes": lambda stream: raw_frame(7, 0, 0, b"\0\0\0"),
    "nothing more": lambda stream: b"",
}


def malformed_frames(address):
    """In the middle of captured requests and of captured answers; requests beside them on the same connection as well."""
    attackers = []
    for name, frame in MALFORMED.items():
        in_request = Attacker(address)
        in_request.send(in_request.post(1, f"{BROKEN} {name}, request", end=False))
        in_request.send(frame(1))
        in_answer = Attacker(address)
        in_answer.send(in_answer.post(1, f"{BROKEN} {name}, answer") + in_answer.post(3, f"{BROKEN} {name}, beside"))
        begun = in_answer.answered(1) and in_answer.answered(3)
        yield f"{name}: an answer begins", begun
        in_answer.send(frame(3))
        attackers += [in_request, in_answer]
    for attacker in attackers:
        attacker.closed(0.02)
        attacker.leave()
    for name, extra, end in [
        ("a length too small", [("content-length", "10")], True),
        ("a length too large", [("content-length", "100000")], True),
        ("two lengths", [("content-length", "10"), ("content-length", "20")], True),
        ("a coding", [("transfer-encoding", "chunked")], True),
        ("a connection", [("connection", "close")], True),
        ("a name in upper case", [("X-Upper", "1")], True),
        ("a second method", [(":method", "GET")], True),
    ]:
        attacker = Attacker(address)
        attacker.send(attacker.post(1, f"{BROKEN} {name}", extra, end))
        attacker.closed(0.3)
        attacker.leave()
    for at in range(3):
        attacker = Attacker(address)
        attacker.send(attacker.post(1, f"{WHOLE} {at}"))
        yield "a whole request is answered", attacker.ended(1)
        attacker.leave()


def leaving_in_the_middle(address):
    for _ in range(300):
        attacker = Attacker(address)
        for stream in range(1, 11, 2):
            attacker.send(attacker.get(stream, "/slow"))
        attacker.leave()
    yield "it ends", True


def half_open_connections(address):
    holders = []
    for at in range(0, HALF_OPEN, HELD_BY_ONE):
        count = str(min(HELD_BY_ONE, HALF_OPEN - at))
        command = [sys.executable, __file__, "--half-open", address[0], str(address[1]), count]
        holders.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    # While they come, and when they are there.
    took, failed = [], 0
    while not took or len(took) < 200 or any(holder.poll() is None and not is_ready(holder) for holder in holders):
        start = time.monotonic()
        try:
            failed += polite_get(address, "/ok") != (200, 2)
        except OSError:
            failed += 1
        took.append(time.monotonic() - start)
    held = sum(int(holder.stdout.readline() or 0) for holder in holders)
    yield f"all of them connect ({held})", held == HALF_OPEN
    yield f"new clients are served meanwhile ({failed} of {len(took)} failed)", failed == 0
    # A connection the backlog has no room for is tried again by the system after seconds.
    yield f"quickly ({max(took):.1f} s)", max(took) < SLOWEST_SECS * max(1, HALF_OPEN / 5000)
    for holder in holders:
        holder.communicate()


def is_ready(process):
    """Whether a process has printed something."""
    return bool(select.select([process.stdout], [], [], 0)[0])


ATTACKS = [
    rapid_reset, continuation_flood, empty_continuation_flood, window_starvation, unread_answers, huge_header_list,
    compression_bomb, ping_flood, settings_flood, half_a_preface, preface_and_silence, priority_garbage, noise,
    window_overflow, empty_data_flood, goaway_in_the_middle, leaving_in_the_middle, malformed_frames,
    half_open_connections,
]


def attack(checks, threadtap, attack, memory_before, undisturbed):
    name = attack.__name__.replace("_", " ")
    bystander = Bystander(threadtap.address)
    for what, holds in attack(threadtap.address):
        checks.check(f"{name}: {what}", holds)
    memory = threadtap.memory() - memory_before
    seen = bystander.report()
    checks.check(f"{name}: others are served", seen["asked"] > 0 and seen["failed"] == 0, seen)
    # Of few requests, during a short attack, the median is the slowest one.
    usual = max(MEDIAN_SECS, 20 * undisturbed["median"])
    quick = (seen["asked"] < 20 or seen["median"] < usual) and seen["slowest"] < SLOWEST_SECS
    checks.check(f"{name}: others are served quickly", quick, seen)
    bound = MEMORY_BYTES + (HALF_OPEN * HALF_OPEN_BYTES if attack is half_open_connections else 0)
    checks.check(f"{name}: memory stays within its bound", memory < bound, f"{memory >> 20} MiB more")
    try:
        answer = polite_get(threadtap.address, "/ok")
    except OSError as error:
        answer = error
    checks.check(f"{name}: a new client is served", answer == (200, 2), answer)
    print(
        f"{name}: {seen['asked']} other requests, median {seen['median'] * 1000:.1f} ms, slowest "
        f"{seen['slowest'] * 1000:.0f} ms; {memory >> 20:+} MiB",
        flush=True,
    )


def check_records(checks, threadtap):
    """No record says more than what was seen, and those of whole exchanges say all of it."""
    deadline = time.monotonic() + READY_SECS
    while True:
        records = threadtap.records()
        whole = [record for asked in records if asked.startswith(WHOLE) for record in records[asked]]
        if len(whole) == 3 or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    checks.check("whole exchanges are recorded", len(whole) == 3, len(whole))
    for record in whole:
        complete = record["status"] == "completed" and record["inputs_complete"] and record["outputs_complete"]
        checks.check("they are complete", complete and text_of(record["outputs"]) == ANSWER, record)
    broken = [record for asked in records if not asked.startswith(WHOLE) for record in records[asked]]
    checks.check("exchanges that were broken off are recorded", broken, "there is no record of one")
    for record in broken:
        asked, got = text_of(record["inputs"]), text_of(record["outputs"])
        claims = record["outputs_complete"] or record["status"] == "completed"
        checks.check(f"{asked}: the record claims no more than was seen", not claims or got == ANSWER, record)
        checks.check(f"{asked}: nobody asked that", asked.startswith(BROKEN) or not record["inputs_complete"], record)
    panics = threadtap.metric('threadtap_capture_dropped_total{reason="panic"}')
    checks.check("capture never panicked", panics == 0, panics)


def main():
    checks = Checks()
    upstream = Server(("127.0.0.1", 0), Upstream)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as directory:
        threadtap = Threadtap(f"http://127.0.0.1:{upstream.server_port}", Path(directory))
        bystander = Bystander(threadtap.address)
        time.sleep(1)
        undisturbed = bystander.report()
        print(f"undisturbed: median {undisturbed['median'] * 1000:.1f} ms, slowest {undisturbed['slowest'] * 1000:.0f} ms")
        memory_before = threadtap.memory()
        for each in ATTACKS:
            attack(checks, threadtap, each, memory_before, undisturbed)
        deadline = time.monotonic() + 10
        while threadtap.open_connections() > 0 and time.monotonic() < deadline:
            time.sleep(0.1)
        left = threadtap.open_connections()
        checks.check("no connection is left", left == 0, left)
        check_records(checks, threadtap)
        status = threadtap.stop()
        checks.check("threadtap drains and exits 0", status == 0, status)
        panicked = "panicked" in threadtap.log.read_text()
        checks.check("nothing panicked", not panicked, threadtap.log.read_text()[-3000:] if panicked else "")
    print(f"{checks.passed} passed, {checks.failed} failed")
    sys.exit(1 if checks.failed else 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--well-behaved"]:
        well_behaved(sys.argv[2], int(sys.argv[3]))
    elif sys.argv[1:2] == ["--half-open"]:
        half_open(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
