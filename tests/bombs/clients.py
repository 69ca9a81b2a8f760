"""The clients, each a process of its own: one that sends a bomb, and one that behaves well.

usage: clients.py attack PORT BOMB    prepares the bomb and says `ready`; sends it when a line comes;
                                      prints what became of it, as JSON
       clients.py other PORT          sends a small request every 25 ms until its input ends; prints
                                      a line for each: number, start, end, whether it succeeded
"""

import json
import os
import socket
import sys
import threading
import time

import catalogue
from apis import CHAT, CHAT_REQUEST, CHAT_STREAM_REQUEST, label
from bomb import Pace, once, prepared
from wire import Reader, framing, give_way, send

# A response may take this long while gigabytes of others compete with it.
PATIENCE_SECS = 300
# Small requests that are sent ahead of their responses.
PIPELINED = 50
OTHER_PERIOD_SECS = 0.025
OTHER_CONNECTIONS = 4


class Attack:
    def __init__(self, port, bomb):
        self.port, self.bomb = port, bomb
        self.body = once(prepared)
        self.failures = []
        self.lock = threading.Lock()
        bodies = [self.body(step.request) for talk in bomb.talks for step in talk]
        self.wire_bytes = sum(body.wire_bytes for body in bodies)
        self.decoded_bytes = sum(body.decoded_bytes for body in bodies)
        waiting = sum(any(step.request.pace is not Pace.AT_ONCE for step in talk) for talk in bomb.talks)
        self.gate = threading.Barrier(max(1, waiting))

    def play(self):
        threads = [threading.Thread(target=self.talk, args=(place,)) for place in range(len(self.bomb.talks))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def talk(self, place):
        try:
            with socket.create_connection(("127.0.0.1", self.port), PATIENCE_SECS) as peer:
                reader = Reader(peer)
                for number, step in enumerate(self.bomb.talks[place]):
                    play = self.exchange if step.numbers is None else self.small_exchanges
                    play(reader, f"x-bomb: {place}/{number}\r\n", step)
        except (OSError, ValueError) as error:
            self.failures.append(repr(error))

    def exchange(self, reader, place, step):
        body = self.body(step.request)
        head = self.head(step, place + f"x-threadtap-session: {session_of(self.bomb)}\r\n")
        send(reader.socket, head.encode(), step.request, body, self.gate)
        whole = reader.body(self.response_head(reader))[1]
        if not whole and step.response.pace is not Pace.BROKEN:
            raise ValueError("the response broke off")

    def small_exchanges(self, reader, place, step):
        body = b"".join(self.body(step.request).wire)
        head = self.head(step, f"{place}x-number: %d\r\n{step.lines}")
        passed = 0
        for start in range(0, len(step.numbers), PIPELINED):
            numbers = step.numbers[start:start + PIPELINED]
            reader.socket.sendall(b"".join([head.replace("%d", str(number)).encode() + body for number in numbers]))
            for _ in numbers:
                response = self.response_head(reader)
                passed += len(head) + len(body) + len(response) + reader.body(response)[0]
            time.sleep(step.pause_secs)
        with self.lock:
            self.wire_bytes += passed
            self.decoded_bytes += passed

    def head(self, step, lines):
        if not step.target.startswith("GET"):
            lines += framing(step.request, self.body(step.request))
        return f"{step.target} HTTP/1.1\r\nhost: api.test\r\n{lines}\r\n"

    def response_head(self, reader):
        head = reader.head() or b"no response"
        if not head.startswith(b"HTTP/1.1 200"):
            raise ValueError(head[:40].decode(errors="replace"))
        return head


def session_of(bomb):
    return "bomb-" + label(bomb.name)


def attack(port, name):
    give_way()
    attack = Attack(port, catalogue.bomb(name))
    print("ready", flush=True)
    sys.stdin.readline()
    attack.play()
    print(json.dumps({
        "wire": attack.wire_bytes, "decoded": attack.decoded_bytes, "failed": len(attack.failures),
        "why": sorted(set(attack.failures))[:3],
    }))


class Other:
    """Sends chat completions with a number in the question, every second one streamed."""

    def __init__(self, port):
        self.port = port
        self.connections = [None] * OTHER_CONNECTIONS
        self.bodies = [b"".join(prepared(part).wire) for part in (CHAT_REQUEST, CHAT_STREAM_REQUEST)]

    def ask(self, number):
        """Returns whether a whole response came."""
        at = number % OTHER_CONNECTIONS
        if self.connections[at] is None:
            self.connections[at] = Reader(socket.create_connection(("127.0.0.1", self.port), PATIENCE_SECS))
        reader = self.connections[at]
        body = self.bodies[number % 2].replace(b"a question", b"question %d" % number)
        head = (
            f"{CHAT} HTTP/1.1\r\nhost: api.test\r\nx-threadtap-session: other\r\n"
            f"x-other: {'stream' if number % 2 else 'plain'}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        reader.socket.sendall(head.encode() + body)
        response = reader.head() or b""
        return response.startswith(b"HTTP/1.1 200") and reader.body(response)[1]

    def go_on(self):
        ended = threading.Event()
        threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
        number = 0
        while not ended.wait(OTHER_PERIOD_SECS):
            start = time.monotonic()
            try:
                succeeded = self.ask(number)
            except OSError:
                succeeded = False
            if not succeeded:
                self.connections[number % OTHER_CONNECTIONS] = None
            print(number, start, time.monotonic(), int(succeeded), flush=True)
            number += 1


if __name__ == "__main__":
    if sys.argv[1] == "attack":
        attack(int(sys.argv[2]), sys.argv[3])
    else:
        Other(int(sys.argv[2])).go_on()
