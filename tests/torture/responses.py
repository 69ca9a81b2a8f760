"""Compares what clients get of oddly written responses: directly, through nginx, and through threadtap.

An upstream on a raw socket sends each response of the table. `http.client` and `h11` ask for it directly, through nginx and
through threadtap. It fails when

- nginx delivers a body that threadtap does not deliver,
- what threadtap sends cannot be read, by either client, as the body the table names, or
- the response is dangerous by the table, and threadtap does not refuse it.

The table names the body, because nginx is no oracle of what it refuses. Ends with `N passed, N failed`; exit status 1 when
anything failed. `--all` prints a line for each response.
"""

import http.client
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import h11

from torture import Checks, Threadtap, free_port

PATIENCE_SECS = 10
REFUSED = None
UNREADABLE = (OSError, http.client.HTTPException, ValueError, OverflowError)
OK = b"ok"
POST = b'{"input": "ok"}'


def closed(head, body=OK):
    """A response whose connection is closed after it."""
    return f"HTTP/1.1 200 OK\r\n{head}\r\n".encode("latin-1") + body


def chunks(body, head=""):
    return closed(f"Transfer-Encoding: chunked\r\n{head}", body)


def line(start, rest="Content-Length: 2\r\n"):
    return f"{start}\r\n{rest}\r\n".encode("latin-1") + OK


CHUNKED = b"2\r\nok\r\n0\r\n\r\n"
CUT = "cut"
AS_DIRECTLY = "as directly"
MANY = "".join(f"x-{n}: {n}\r\n" for n in range(300)).encode()
LONG = b"x-long: " + b"y" * 60_000 + b"\r\n"

# Each has a name, the bytes upstream sends before it closes, and the body a client is to get: REFUSED for a 502, CUT for a
# response that must not look whole.
RESPONSES = [
    ("a length", closed("Content-Length: 2\r\n"), OK),
    ("no length", closed(""), OK),
    ("one length twice", closed("Content-Length: 2\r\nContent-Length: 2\r\n"), OK),
    ("one length twice in a line", closed("Content-Length: 2, 2\r\n"), OK),
    ("one length twice without a space", closed("Content-Length: 2,2\r\n"), OK),
    ("one length written in two ways", closed("Content-Length: 2\r\nContent-Length: 02\r\n"), OK),
    ("two lengths", closed("Content-Length: 1\r\nContent-Length: 2\r\n"), OK),
    ("two lengths in a line", closed("Content-Length: 1, 2\r\n"), OK),
    ("an empty length", closed("Content-Length:\r\n"), OK),
    ("an empty member", closed("Content-Length: 2,\r\n"), OK),
    ("a signed length", closed("Content-Length: +2\r\n"), OK),
    ("a negative length", closed("Content-Length: -2\r\n"), OK),
    ("a hexadecimal length", closed("Content-Length: 0x2\r\n"), OK),
    ("a fraction", closed("Content-Length: 2.0\r\n"), OK),
    ("a length of words", closed("Content-Length: two\r\n"), OK),
    ("a length of 20 nines", closed(f"Content-Length: {'9' * 20}\r\n"), OK),
    ("a length of 400 digits", closed(f"Content-Length: {'9' * 400}\r\n"), OK),
    ("a length with a comment", closed("Content-Length: 2 (bytes)\r\n"), OK),
    ("a length with a space before its colon", closed("Content-Length : 2\r\n"), OK),
    ("a length that is folded", closed("Content-Length:\r\n 2\r\n"), OK),
    ("a length that is not reached", closed("Content-Length: 9\r\n"), CUT),
    ("chunks", chunks(CHUNKED), OK),
    ("chunks and the same length", chunks(CHUNKED, "Content-Length: 2\r\n"), OK),
    ("chunks and another length", chunks(CHUNKED, "Content-Length: 9\r\n"), OK),
    ("chunks and no readable length", chunks(CHUNKED, "Content-Length: +2\r\n"), OK),
    ("chunks twice", chunks(CHUNKED, "Transfer-Encoding: chunked\r\n"), OK),
    ("chunks twice in a line", closed("Transfer-Encoding: chunked, chunked\r\n", CHUNKED), OK),
    ("chunks and an empty member", closed("Transfer-Encoding: chunked,\r\n", CHUNKED), OK),
    ("an empty member and chunks", closed("Transfer-Encoding: , chunked\r\n", CHUNKED), OK),
    ("identity and chunks", closed("Transfer-Encoding: identity, chunked\r\n", CHUNKED), OK),
    ("upper case", closed("TRANSFER-ENCODING: Chunked\r\n", CHUNKED), OK),
    ("chunks from HTTP/1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED, OK),
    ("identity", closed("Transfer-Encoding: identity\r\n"), OK),
    ("identity and a length", closed("Transfer-Encoding: identity\r\nContent-Length: 2\r\n"), OK),
    ("an empty coding", closed("Transfer-Encoding:\r\nContent-Length: 2\r\n"), OK),
    ("LF after sizes", chunks(b"2\nok\r\n0\n\r\n"), OK),
    ("LF only in chunks", chunks(b"2\nok\n0\n\n"), OK),
    ("LF after an extension", chunks(b"2;x=y\nok\r\n0;z\n\r\n"), OK),
    ("LF after trailers", chunks(b"2\r\nok\r\n0\r\nx: y\n\n"), OK),
    ("an extension", chunks(b"2;x=\"y\"\r\nok\r\n0\r\n\r\n"), OK),
    ("a long extension", chunks(b"2;x=" + b"y" * 3000 + b"\r\nok\r\n0\r\n\r\n"), OK),
    ("blanks after a size", chunks(b"2  \t\r\nok\r\n0 \r\n\r\n"), OK),
    ("blanks before a size", chunks(b" 2\r\nok\r\n 0\r\n\r\n"), OK),
    ("leading zeros", chunks(b"0000000000000000000000002\r\nok\r\n000\r\n\r\n"), OK),
    ("upper case digits", chunks(b"A\r\n0123456789\r\n0\r\n\r\n"), b"0123456789"),
    ("lower case digits", chunks(b"a\r\n0123456789\r\n0\r\n\r\n"), b"0123456789"),
    ("a trailer", chunks(b"2\r\nok\r\n0\r\nx: y\r\n\r\n"), OK),
    ("300 trailers", chunks(b"2\r\nok\r\n0\r\n" + MANY + b"\r\n"), OK),
    ("3000 trailers", chunks(b"2\r\nok\r\n0\r\n" + MANY * 10 + b"\r\n"), OK),
    ("a long trailer", chunks(b"2\r\nok\r\n0\r\n" + LONG + b"\r\n"), OK),
    ("trailers of a megabyte", chunks(b"2\r\nok\r\n0\r\n" + LONG * 18 + b"\r\n"), OK),
    ("a trailer that is none", chunks(b"2\r\nok\r\n0\r\nno colon\r\n\r\n"), OK),
    ("a trailer with a control byte", chunks(b"2\r\nok\r\n0\r\nx: \x01\r\n\r\n"), OK),
    ("a trailer of framing", chunks(b"2\r\nok\r\n0\r\nContent-Length: 9\r\n\r\n"), OK),
    ("a size that is none", chunks(b"x\r\nok\r\n0\r\n\r\n"), CUT),
    ("a size too large", chunks(b"fffffffffffffffff\r\nok\r\n0\r\n\r\n"), CUT),
    ("data longer than its size", chunks(b"2\r\nokay\r\n0\r\n\r\n"), CUT),
    ("no last chunk", chunks(b"2\r\nok\r\n"), CUT),
    ("half a chunk", chunks(b"9\r\nok"), CUT),
    ("no end of the trailers", chunks(b"2\r\nok\r\n0\r\n"), CUT),
    ("HTTP/1.0", line("HTTP/1.0 200 OK"), OK),
    ("HTTP/1.2", line("HTTP/1.2 200 OK"), OK),
    ("HTTP/1.9", line("HTTP/1.9 200 OK"), OK),
    ("HTTP/1.10", line("HTTP/1.10 200 OK"), OK),
    ("HTTP/2.0", line("HTTP/2.0 200 OK"), OK),
    ("HTTP/2", line("HTTP/2 200"), OK),
    ("no reason", line("HTTP/1.1 200"), OK),
    ("no reason and a space", line("HTTP/1.1 200 "), OK),
    ("two spaces", line("HTTP/1.1  200 OK"), OK),
    ("a tab", line("HTTP/1.1\t200\tOK"), OK),
    ("a reason beyond ASCII", line("HTTP/1.1 200 Tr\xe8s bien"), OK),
    ("a reason with a control byte", line("HTTP/1.1 200 O\x01K"), OK),
    ("a reason with NUL", line("HTTP/1.1 200 O\0K"), OK),
    ("a reason with CR", line("HTTP/1.1 200 O\rContent-Length: 9"), OK),
    ("an empty line before", b"\r\n" + line("HTTP/1.1 200 OK"), OK),
    ("LF in the head", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", OK),
    ("100 before", b"HTTP/1.1 100 Continue\r\n\r\n" + line("HTTP/1.1 200 OK"), OK),
    ("103 before", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + line("HTTP/1.1 200 OK"), OK),
    ("a folded line", closed("Content-Length: 2\r\nx: 1\r\n  2\r\n"), OK),
    ("a fold in the first line", closed(" x: 1\r\nContent-Length: 2\r\n"), OK),
    ("a space before a colon", closed("Content-Length: 2\r\nx : 1\r\n"), OK),
    ("a line without a colon", closed("nonsense\r\nContent-Length: 2\r\n"), OK),
    ("a line without a name", closed(": x\r\nContent-Length: 2\r\n"), OK),
    ("a name with a space", closed("a b: x\r\nContent-Length: 2\r\n"), OK),
    ("a name with underscores", closed("a_b: x\r\nContent-Length: 2\r\n"), OK),
    ("a name beyond ASCII", closed("\xe9: x\r\nContent-Length: 2\r\n"), OK),
    ("a value with NUL", closed("x: a\0b\r\nContent-Length: 2\r\n"), OK),
    ("a value with CR", closed("x: a\rContent-Length: 9\r\nContent-Length: 2\r\n"), OK),
    ("a value with CR and two lines", closed("x: a\r\rx-split: y\r\nContent-Length: 2\r\n"), OK),
    ("two CR at the end of a line", closed("x: a\r\r\nContent-Length: 2\r\n"), OK),
    ("a value beyond ASCII", closed("x: \xe9\r\nContent-Length: 2\r\n"), OK),
    ("90 lines", closed(b"".join(MANY.splitlines(True)[:90]).decode() + "Content-Length: 2\r\n"), OK),
    ("204 with a body", b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok", b""),
    ("204 with chunks", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED, b""),
    ("304 with a body", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nok", b""),
    ("a status of two digits", line("HTTP/1.1 20 OK"), REFUSED),
    ("a status of four digits", line("HTTP/1.1 2000 OK"), REFUSED),
    ("a status that is none", line("HTTP/1.1 abc OK"), REFUSED),
    ("lower case", line("http/1.1 200 OK"), REFUSED),
    ("another protocol", b"SSH-2.0-OpenSSH\r\n\r\n", REFUSED),
    ("a body alone", b'{"id": "x"}\r\n\r\n', REFUSED),
    ("half a head", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", REFUSED),
    ("nothing", b"", REFUSED),
]

# What h11 refuses, because it does not undo the coding or for a control byte. Others get what they get directly.
LOOSE = [
    ("gzip until close", closed("Transfer-Encoding: gzip\r\n", b"\x1f\x8bpacked")),
    ("gzip and a length", closed("Transfer-Encoding: gzip\r\nContent-Length: 8\r\n", b"\x1f\x8bpacked")),
    ("chunks within gzip", closed("Transfer-Encoding: chunked, gzip\r\n", b"\x1f\x8bpacked")),
    ("an unknown coding", closed("Transfer-Encoding: xchunked\r\n", b"packed")),
    ("a value with control bytes", closed("x: \x01\x0b\x7f\r\nContent-Length: 2\r\n")),
]

# Deliveries of nginx that are no reading of HTTP/1: it passes on what does not begin as HTTP (as HTTP/0.9) behind a 200.
NOT_HTTP = {
    "a status of two digits", "a status of four digits", "a status that is none", "lower case", "another protocol",
    "a body alone",
}


class Upstream(threading.Thread):
    """Sends each client the response that its path names, and closes."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = self.listener.getsockname()
        self.responses = [sent for _, sent, _ in RESPONSES] + [sent for _, sent in LOOSE]
        self.asked = [0] * len(self.responses)
        self.open, self.changed = 0, threading.Condition()

    def run(self):
        while True:
            peer, _ = self.listener.accept()
            self.count(1)
            threading.Thread(target=self.respond, args=(peer,), daemon=True).start()

    def count(self, more):
        with self.changed:
            self.open += more
            self.changed.notify_all()

    def settle(self):
        """Waits until every response is closed: the next request must not go out on a connection that is being closed."""
        with self.changed:
            return self.changed.wait_for(lambda: self.open == 0, PATIENCE_SECS)

    def respond(self, peer):
        with peer:
            try:
                self.send(peer)
            except OSError:
                pass  # Not all of it was wanted.
            finally:
                self.count(-1)
            try:
                # A close before all was read would be a reset.
                peer.recv(65536)
            except OSError:
                pass

    def send(self, peer):
        request = b""
        while not request.endswith(POST):
            data = peer.recv(65536)
            if not data:
                return
            request += data
        index = int(request.split(b" ", 2)[1].rsplit(b"/", 1)[1])
        self.asked[index] += 1
        peer.sendall(self.responses[index])
        peer.shutdown(socket.SHUT_WR)


class Nginx:
    def __init__(self, upstream, directory):
        self.address = ("127.0.0.1", free_port())
        config = directory / "nginx.conf"
        config.write_text(f"""
daemon off; pid {directory}/nginx.pid; error_log {directory}/nginx.log; worker_processes 1; events {{}}
http {{
  access_log off;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
  scgi_temp_path {directory}/scgi; uwsgi_temp_path {directory}/uwsgi;
  server {{
    listen 127.0.0.1:{self.address[1]};
    location / {{
      proxy_pass http://{upstream[0]}:{upstream[1]}; proxy_http_version 1.1; proxy_buffer_size 64k; proxy_buffers 8 64k;
      proxy_next_upstream off;
    }}
  }}
}}
""")
        command = [shutil.which("nginx") or "/usr/sbin/nginx", "-c", config, "-p", directory]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE_SECS
        while True:
            try:
                return socket.create_connection(self.address).close()
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    sys.exit("nginx does not start")
                time.sleep(0.05)

    def stop(self):
        self.process.terminate()
        self.process.wait()


def with_http_client(address, path):
    """Status, and the body or why there is none whole."""
    connection = http.client.HTTPConnection(*address, timeout=PATIENCE_SECS)
    try:
        connection.request("POST", path, POST)
        answer = connection.getresponse()
        try:
            return answer.status, answer.read()
        except UNREADABLE as error:
            return answer.status, type(error).__name__
    except UNREADABLE as error:
        return None, type(error).__name__
    finally:
        connection.close()


def with_h11(address, path):
    """The same, by a client that takes nothing but what RFC 9112 allows."""
    client, status, body = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20), None, b""
    try:
        with socket.create_connection(address, timeout=PATIENCE_SECS) as peer:
            head = [("Host", "h"), ("Content-Length", str(len(POST)))]
            peer.sendall(client.send(h11.Request(method="POST", target=path, headers=head)))
            peer.sendall(client.send(h11.Data(data=POST)))
            peer.sendall(client.send(h11.EndOfMessage()))
            while True:
                event = client.next_event()
                if event is h11.NEED_DATA:
                    client.receive_data(peer.recv(65536))
                elif isinstance(event, h11.Response):
                    status = event.status_code
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    return status, body
                elif isinstance(event, h11.ConnectionClosed):
                    return status, "ConnectionClosed"
    except (OSError, h11.ProtocolError) as error:
        return status, type(error).__name__


CLIENTS = {"http.client": with_http_client, "h11": with_h11}


def refused(got):
    return got[0] == 502


def matches(expected, got):
    """Whether a client got what the table names."""
    status, body = got
    if expected is REFUSED:
        return refused(got)
    if expected is CUT:
        return not refused(got) and isinstance(body, str)
    return status in (200, 204, 304) and body == expected


def compare(checks, upstream, ways):
    names = [(name, expected) for name, _, expected in RESPONSES] + [(name, AS_DIRECTLY) for name, _ in LOOSE]
    for index, (name, expected) in enumerate(names):
        path = f"/v1/chat/completions/{index}"
        got = {}
        for way, address in ways.items():
            for client, ask in CLIENTS.items():
                got[way, client] = ask(address, path)
                checks.check(f"{name}: {way} has asked, and was answered", upstream.settle())
        if "--all" in sys.argv:
            seen = {f"{way} {client}": short(value) for (way, client), value in got.items()}
            print(f"{name:40} {seen}", flush=True)
        by_nginx, by_us = got["nginx", "http.client"], got["threadtap", "http.client"]
        if expected is AS_DIRECTLY:
            checks.check(f"{name}: as directly", by_us == got["direct", "http.client"], got)
        else:
            for client in CLIENTS:
                checks.check(f"{name}: {client}", matches(expected, got["threadtap", client]), got["threadtap", client])
            if name not in NOT_HTTP and by_nginx[0] == 200 and isinstance(by_nginx[1], bytes):
                checks.check(f"{name}: as through nginx", by_us == by_nginx, f"nginx {by_nginx}, threadtap {by_us}")
        # Each way and client asked once; more would be a request that was sent twice.
        checks.check(f"{name}: is asked for once", upstream.asked[index] == len(got), upstream.asked[index])


def main():
    checks = Checks()
    upstream = Upstream()
    upstream.start()
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        nginx = Nginx(upstream.address, directory)
        threadtap = Threadtap(f"http://{upstream.address[0]}:{upstream.address[1]}", directory)
        try:
            ways = {"direct": upstream.address, "nginx": nginx.address, "threadtap": threadtap.address}
            compare(checks, upstream, ways)
        finally:
            status = threadtap.stop()
            nginx.stop()
        checks.check("threadtap exits 0", status == 0, status)
        checks.check("nothing panicked", "panicked" not in threadtap.log.read_text())
    print(f"{checks.passed} passed, {checks.failed} failed")
    sys.exit(1 if checks.failed else 0)


def short(got):
    status, body = got
    return f"{status} {body if len(body) < 12 else body[:12]}"


if __name__ == "__main__":
    main()
