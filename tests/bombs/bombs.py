"""Plays memory and CPU bombs through a real threadtap and says what each costs.

A bomb is a request, a response, or many at once, that is cheap to send and could be expensive to
read: trees of tiny objects, deep nesting, millions of keys, ids or events, a string or an event as
large as is read at all; plain, and in gzip, br, zstd, deflate and stacks of them. They are listed
in uploads.py, documents.py, streams.py, bounds.py and crowds.py. threadtap has its default settings,
its upstream is a fake one (upstream.py), and meanwhile another client sends small chat completions
(clients.py).

The table says of each bomb:

  wire, decoded   bytes of its requests and responses together, MB
  peak, +peak     the most memory the process held during it (VmHWM), MB; how much more than before
  later           the memory it holds (VmRSS) a while after the bomb was dealt with, MB
  store           how much the database grew, MB
  CPU, CPU/MB     CPU seconds beyond what the other client alone takes; the same per decoded MB
  p50, p99,       response times of the other client during the bomb, and the p99 of its last 200
  quiet p99       requests without one, ms. `!` marks a p99 of more than twice the quiet one. All
                  processes share the cores; those that send the bomb give way to all others.
                  --forward-only plays the same without capture, and shows what forwarding costs
  record after    the longest time from the end of a response of the other client to its record
                  being readable at the admin listener, s
  record          what the bomb's own records say; `?` marks what the catalogue does not expect
  counted         what metrics say was dropped, odd or noted

The exit status is 1 if, in any bomb, the process held more than 512 MB or did not survive, or if a
request of the other client failed, took more than 10 s, or has no record. All bombs follow each
other in one process, so that the last ones also show what the first ones left behind. It is only
replaced after one of these happened. A process that holds more than --limit-mb is killed, so that the
machine survives; it is also what the kernel ends first.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import catalogue
from table import MB, Result, table
from threadtap import Records, Threadtap

HERE = Path(__file__).parent
QUIET_SECS = 3
QUIET_REQUESTS = 200
# How long a bomb may take, and then the record of what the other client sent after it.
BOMB_SECS = 900
RECORD_SECS = 120


def start(name, *arguments):
    """Starts a script of this directory, with pipes to its standard input and output."""
    command = [sys.executable, HERE / name, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


class Other:
    """The well-behaved client."""

    def __init__(self, port):
        self.process = start("clients.py", "other", port)
        self.requests = []
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            number, start, end, succeeded = line.split()
            self.requests.append((int(number), float(start), float(end), succeeded == "1"))

    def within(self, since, until):
        """The requests that were in progress in this time."""
        return [request for request in list(self.requests) if request[2] >= since and request[1] <= until]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Stand:
    """A threadtap, its upstream and the other client: what bombs are played through."""

    def __init__(self, binary, limit, rest_secs, forwards_only):
        self.binary, self.limit, self.rest_secs, self.forwards_only = binary, limit, rest_secs, forwards_only
        self.upstream = start("upstream.py")
        self.upstream_port = int(self.upstream.stdout.readline())
        self.restart()

    def restart(self):
        self.threadtap = Threadtap(self.binary, self.upstream_port, self.limit, self.forwards_only)
        self.records = Records(self.threadtap)
        self.other = Other(self.threadtap.port)
        time.sleep(1)
        since, cpu = time.monotonic(), self.threadtap.cpu_secs()
        time.sleep(QUIET_SECS)
        self.quiet_cpu = (self.threadtap.cpu_secs() - cpu) / QUIET_SECS
        self.quiet = self.other.within(since, time.monotonic())

    def stop(self):
        self.other.close()
        self.threadtap.close()

    def close(self):
        self.stop()
        self.upstream.stdin.close()
        self.upstream.wait()

    def play(self, bomb):
        threadtap = self.threadtap
        sizes = self.prepare(bomb)
        attack = start("clients.py", "attack", threadtap.port, bomb.name)
        attack.stdout.readline()
        threadtap.reset_peak()
        rss, cpu, store = threadtap.rss(), threadtap.cpu_secs(), threadtap.store_bytes()
        counters = threadtap.counters()
        begun = time.monotonic()
        try:
            report = json.loads(attack.communicate("go\n", BOMB_SECS)[0])
        except subprocess.TimeoutExpired:
            attack.kill()
            report = {"wire": 0, "decoded": 0, "failed": len(bomb.talks), "why": ["the bomb did not end"]}
        sent = time.monotonic()
        self.wait_until(sent + RECORD_SECS, lambda: self.forwards_only or self.has_recorded_after(sent))
        settled = time.monotonic()
        cpu_secs = threadtap.cpu_secs() - cpu - self.quiet_cpu * (settled - begun)
        if threadtap.alive():
            time.sleep(self.rest_secs)
        others, quiet = self.other.within(begun, settled), self.quiet
        # The last of them may have ended when the bomb was dealt with, and not have a record yet.
        answered = {number for number, _, _, succeeded in others if succeeded}
        self.wait_until(sent + RECORD_SECS, lambda: self.forwards_only or self.records.others.keys() >= answered)
        # What the next bomb is compared with: as things were of late without one.
        self.quiet = (quiet + self.other.within(settled, time.monotonic()))[-QUIET_REQUESTS:]
        counted = {name: count - counters.get(name, 0) for name, count in threadtap.counters().items()}
        result = Result(
            bomb, sizes["wire"] + report["wire"], sizes["decoded"] + report["decoded"], rss, threadtap.peak(),
            threadtap.rss(), threadtap.store_bytes() - store, max(0.0, cpu_secs), settled - begun, others, quiet,
            self.records, {name: count for name, count in counted.items() if count}, report["failed"],
            report["why"], not threadtap.alive(), threadtap.killed, self.forwards_only,
        )
        print(result.line(), flush=True)
        if any(result.excesses()):
            self.stop()
            self.restart()
        return result

    def prepare(self, bomb):
        """Has upstream make the bomb's responses, and returns their size."""
        with socket.create_connection(("127.0.0.1", self.upstream_port)) as peer:
            peer.sendall(f"POST / HTTP/1.1\r\nx-prepare: {bomb.name}\r\n\r\n".encode())
            peer.shutdown(socket.SHUT_WR)
            response = peer.makefile("rb").read()
        return json.loads(response.partition(b"\r\n\r\n")[2])

    def has_recorded_after(self, since):
        """Whether a request that the other client sent after `since` has a record.

        What came before it was dealt with by then, for all records go the same way.
        """
        later = [number for number, start, _, _ in list(self.other.requests) if start > since]
        return not self.records.others.keys().isdisjoint(later)

    def wait_until(self, deadline, fact):
        while self.threadtap.alive() and time.monotonic() < deadline and not fact():
            time.sleep(0.05)


def options():
    parser = argparse.ArgumentParser(
        prog="scripts/bombs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="only the main bombs: about a minute")
    parser.add_argument("--only", action="append", metavar="TEXT", help="bombs with this in their name; repeatable")
    parser.add_argument("--list", action="store_true", help="print the names of the bombs")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the table to this file as well")
    parser.add_argument("--forward-only", action="store_true", help="without capture: what forwarding itself costs others")
    parser.add_argument("--limit-mb", type=int, metavar="N", help="7000, or half of the free memory if that is less")
    parser.add_argument("--rest", type=float, metavar="SECONDS", help="time until `later`: 5, or 0.5 with --short")
    return parser.parse_args()


def main():
    given = options()
    bombs = [
        bomb for bomb in catalogue.bombs()
        if (bomb.short or not given.short) and (not given.only or any(text in bomb.name for text in given.only))
    ]
    if given.list or not bombs:
        print(*(bomb.name for bomb in bombs), sep="\n")
        return not bombs
    free = next(line.split()[1] for line in open("/proc/meminfo") if line.startswith("MemAvailable"))
    limit = given.limit_mb * MB if given.limit_mb else min(7000 * MB, (int(free) << 10) // 2)
    rest_secs = given.rest if given.rest is not None else 0.5 if given.short else 5
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    stand, results = Stand(os.environ["THREADTAP"], limit, rest_secs, given.forward_only), []
    try:
        for bomb in bombs:
            results.append(stand.play(bomb))
            if given.out:
                given.out.write_text(table(results))
    finally:
        stand.close()
        print("\n" + table(results))
    return any(any(result.excesses()) for result in results)


if __name__ == "__main__":
    sys.exit(main())
