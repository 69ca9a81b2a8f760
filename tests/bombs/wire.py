"""HTTP/1.1 as both ends of the bombs speak it: fast, and without keeping bodies."""

import os
import re
import socket
import time

from bomb import Pace

# How long a body is held after the gate has opened, and the longest wait for the gate.
HOLD_SECS = 1.5
GATE_SECS = 120
SCRATCH_BYTES = 1 << 18


def give_way():
    """For the attacker and its upstream, which would be on other machines: they share one core, at the lowest priority."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.nice(19)


class Reader:
    """Reads messages from a socket. Bodies are counted and dropped."""

    def __init__(self, peer):
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = peer
        self.rest = b""
        self.scratch = bytearray(SCRATCH_BYTES)

    def until(self, mark):
        """What comes up to the mark, with it; none at the end of the connection."""
        searched = 0
        while (at := self.rest.find(mark, searched)) < 0:
            searched = max(0, len(self.rest) - len(mark))
            data = self.socket.recv(65536)
            if not data:
                return None
            self.rest += data
        at += len(mark)
        found, self.rest = self.rest[:at], self.rest[at:]
        return found

    def head(self):
        return self.until(b"\r\n\r\n")

    def skip(self, count):
        """Drops `count` bytes. Returns how many there were: fewer if the connection ended."""
        left = count - len(self.rest)
        self.rest = self.rest[count:]
        while left > 0:
            got = self.socket.recv_into(self.scratch, min(left, SCRATCH_BYTES))
            if not got:
                return count - left
            left -= got
        return count

    def body(self, head):
        """Drops the body that belongs to a head. Returns its size, and whether it was whole."""
        if length := re.search(rb"(?i)\r\ncontent-length: *(\d+)", head):
            length = int(length[1])
            got = self.skip(length)
            return got, got == length
        if not re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
            return 0, True
        got = 0
        while line := self.until(b"\r\n"):
            size = int(line.split(b";")[0], 16)
            if self.skip(size + 2) < size + 2:
                break
            got += size
            if size == 0:
                return got, True
        return got, False


def framing(part, body):
    """The header lines that describe a body."""
    coding = f"content-encoding: {part.coding}\r\n" if part.coding else ""
    length = "transfer-encoding: chunked" if part.chunked else f"content-length: {body.wire_bytes}"
    return f"content-type: {part.type}\r\n{coding}{length}\r\n"


def send(peer, head, part, body, gate):
    """Sends head and body at the part's pace. Returns whether the connection is to be kept."""
    if part.pace is Pace.LATE:
        wait_at(gate)
    held = part.pace in (Pace.HELD, Pace.BROKEN)
    *blocks, last = body.wire or [b""]
    if not blocks and not held and not part.chunked:
        peer.sendall(head + last)
        return True
    peer.sendall(head)
    for block in blocks:
        send_piece(peer, block, part.chunked)
    send_piece(peer, last[:-1] if held else last, part.chunked)
    if held:
        wait_at(gate)
        if part.pace is Pace.BROKEN:
            return False
        send_piece(peer, last[-1:], part.chunked)
    if part.chunked:
        peer.sendall(b"0\r\n\r\n")
    return True


def send_piece(peer, data, chunked):
    if data and chunked:
        data = b"%x\r\n%b\r\n" % (len(data), data)
    peer.sendall(data)


def wait_at(gate):
    """Waits at the gate. If one of the connections cannot come, nobody waits any longer."""
    try:
        gate.wait(GATE_SECS)
    except Exception:
        pass
    time.sleep(HOLD_SECS)
