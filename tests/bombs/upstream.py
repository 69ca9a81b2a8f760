"""The fake upstream, a process of its own: serves bombs from the catalogue, and small completions.

Prints its port, and ends when its standard input does. A request with the name of a bomb in
`x-prepare` makes the responses of that bomb, so that making them takes no time of the test.
"""

import json
import os
import re
import socket
import sys
import threading

import catalogue
from apis import CHAT_RESPONSE, CHAT_STREAM
from bomb import Pace, once, prepared
from wire import Reader, framing, send


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
        return send(peer, f"HTTP/1.1 200 OK\r\n{framing(part, body)}\r\n".encode(), part, body, self.gate)


class Upstream:
    def __init__(self):
        self.prepared = None
        self.other = {}
        for name, part in [(b"plain", CHAT_RESPONSE), (b"stream", CHAT_STREAM)]:
            self.other[name] = message(part.type, b"".join(prepared(part).wire))

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
                if other := re.search(rb"\r\nx-other: (\w+)", head):
                    peer.sendall(self.other[other[1]])
                elif not bomb.respond(peer, head):
                    return
        except OSError:
            pass
        finally:
            peer.close()


def message(kind, body):
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def main():
    upstream = Upstream()
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    while True:
        peer, _ = listener.accept()
        threading.Thread(target=upstream.serve, args=(peer,), daemon=True).start()


if __name__ == "__main__":
    main()
