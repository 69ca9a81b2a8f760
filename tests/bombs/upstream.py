"""The fake upstream: serves bombs from the catalogue, and small completions to the other client.

It is two processes, so that the other client does not wait for Python to serve a bomb: one accepts
all connections and serves the other client, and one serves the bombs. Each connection serves one
exchange, for threadtap may reuse it for any other; only bombs of many small exchanges keep theirs.

Prints its port, and ends when its standard input does. A request with the name of a bomb in
`x-prepare` makes the responses of that bomb, so that making them takes no time of the test.
"""

import json
import os
import re
import socket
import sys
import threading
import time

import catalogue
from apis import CHAT_RESPONSE, CHAT_STREAM
from bomb import Pace, once, prepared
from wire import Reader, framing, give_way, send

# As long as a head may be.
PEEK = 1 << 16
CLOSE = "connection: close\r\n"


class Prepared:
    """The bomb that is played now."""

    def __init__(self, bomb):
        self.talks = bomb.talks
        self.body = once(prepared)
        waiting = sum(any(step.response.pace is not Pace.AT_ONCE for step in talk) for talk in bomb.talks)
        self.gate = threading.Barrier(max(1, waiting))

    def size(self):
        """Of all responses together. Small ones that are counted by number are counted by the client."""
        bodies = [(step, self.body(step.response)) for talk in self.talks for step in talk]
        bodies = [body for step, body in bodies if step.numbers is None]
        return {
            "wire": sum(body.wire_bytes for body in bodies),
            "decoded": sum(body.decoded_bytes for body in bodies),
        }

    def respond(self, peer, head):
        """Returns whether the connection is to be kept."""
        talk, step = re.search(rb"\r\nx-bomb: (\d+)/(\d+)", head).groups()
        exchange = self.talks[int(talk)][int(step)]
        part, body = exchange.response, self.body(exchange.response)
        if exchange.numbers is not None:
            number = re.search(rb"x-number: (\d+)", head)[1]
            peer.sendall(message("application/json", b"".join(body.wire).replace(b"%d", number)))
            return True
        head = f"HTTP/1.1 200 OK\r\n{framing(part, body)}{CLOSE}\r\n"
        send(peer, head.encode(), part, body, self.gate)
        return False


class Bombs:
    """Serves the bombs, in a process that gives way to all others: upstream is not what is measured."""

    def __init__(self, other):
        self.prepared, self.other = None, other

    def prepare(self, name):
        # What was prepared before goes first: both may not fit.
        self.prepared = None
        self.prepared = Prepared(catalogue.bomb(name))
        return message("application/json", json.dumps(self.prepared.size()).encode())

    def serve(self, peer):
        reader = Reader(peer)
        try:
            while head := reader.head():
                if name := re.search(rb"\r\nx-prepare: ([^\r]+)", head):
                    peer.sendall(self.prepare(name[1].decode()))
                    continue
                # Another bomb may be prepared before the body of this request is there.
                bomb = self.prepared
                if not reader.body(head)[1]:
                    return
                # threadtap may send one on a connection that small exchanges left open.
                if other := re.search(rb"\r\nx-other: (\w+)", head):
                    peer.sendall(self.other[other[1]])
                    return
                if not bomb.respond(peer, head):
                    return
        except OSError:
            pass
        finally:
            peer.close()

    def run(self, handover):
        give_way()
        while peers := socket.recv_fds(handover, 1, 1)[1]:
            peer = socket.socket(fileno=peers[0])
            threading.Thread(target=self.serve, args=(peer,), daemon=True).start()


class Front:
    """Accepts connections, serves the other client, and hands all else to the process with the bombs."""

    def __init__(self, handover, other):
        self.handover, self.other = handover, other

    def serve(self, peer):
        try:
            if other := re.search(rb"\r\nx-other: (\w+)", self.peek(peer)):
                reader = Reader(peer)
                if reader.body(reader.head())[1]:
                    peer.sendall(self.other[other[1]])
            else:
                socket.send_fds(self.handover, [b"."], [peer.fileno()])
        except OSError:
            pass
        finally:
            peer.close()

    def peek(self, peer):
        """The head of the request, which stays in the socket."""
        head = b""
        while b"\r\n\r\n" not in head:
            # Waits until there is more than before, or the connection ends.
            more = peer.recv(PEEK, socket.MSG_PEEK)
            if len(more) <= len(head):
                time.sleep(0.001)
            if not more:
                break
            head = more
        return head

    def run(self, listener):
        while True:
            peer, _ = listener.accept()
            threading.Thread(target=self.serve, args=(peer,), daemon=True).start()


def message(kind, body, lines=""):
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n{lines}\r\n"
    return head.encode() + body


def main():
    other = {
        name: message(part.type, b"".join(prepared(part).wire), CLOSE)
        for name, part in [(b"plain", CHAT_RESPONSE), (b"stream", CHAT_STREAM)]
    }
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        Bombs(other).run(theirs)
        os._exit(0)
    theirs.close()
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    Front(ours, other).run(listener)


if __name__ == "__main__":
    main()
