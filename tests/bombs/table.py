"""What a bomb cost, and whether that is within bounds."""

import dataclasses
from collections import Counter

from bomb import Bomb, Expects
from clients import session_of
from threadtap import Records

MB = 1_000_000
MOST_BYTES = 512 * MB
# The bound for the exit status is generous, because all processes share the machine's cores.
SLOWEST_SECS = 10
# How much slower than in quiet times the other client may become before it is marked.
FACTOR = 2
HEADINGS = [
    "bomb", "wire MB", "decoded MB", "peak MB", "+peak", "later MB", "store MB", "CPU s", "CPU s/MB",
    "p50 ms", "p99 ms", "quiet p99", "record after s", "record", "counted",
]


@dataclasses.dataclass
class Result:
    """What was seen of a bomb. Requests of the other client are (number, start, end, succeeded)."""

    bomb: Bomb
    wire_bytes: int
    decoded_bytes: int
    rss_before: int
    peak: int
    rss_later: int
    store_bytes: int
    cpu_secs: float
    secs: float
    others: list
    quiet: list
    records: Records
    counted: dict
    failed: int
    why: list
    died: bool
    killed: bool
    forwards_only: bool

    def excesses(self):
        """Everything that makes this bomb a failure."""
        if self.peak > MOST_BYTES:
            yield f"{self.peak / MB:.0f} MB"
        if self.died:
            yield "killed at the limit" if self.killed else "died"
        if failed := sum(not succeeded for _, _, _, succeeded in self.others):
            yield f"{failed} requests of the other client failed"
        if not self.forwards_only and (missing := len(self.succeeded()) - len(self.delays())):
            yield f"{missing} records of the other client missing"
        if (slowest := max(times(self.others), default=0)) > SLOWEST_SECS:
            yield f"the other client waited {slowest:.0f} s"

    def succeeded(self):
        return [(number, end) for number, _, end, succeeded in self.others if succeeded]

    def delays(self):
        """From the end of each response of the other client to its record being readable."""
        seen = self.records.others
        return [seen[number] - end for number, end in self.succeeded() if number in seen]

    def record(self):
        """What the bomb's records say, marked if that is not what is expected."""
        if self.forwards_only:
            return ""
        if self.bomb.expects is Expects.UNTOLD:
            return "; ".join(self.why)
        found = Counter(self.records.bombs.get(session_of(self.bomb), []))
        says = [f"{count} × {what}" if count > 1 else what for what, count in found.most_common(3)] or ["none"]
        if self.failed:
            says.append(f"{self.failed} connections failed: {', '.join(self.why)}")
        counted = any(name.startswith(("dropped", "problems")) for name in self.counted)
        expected = {
            Expects.RECORD: bool(found), Expects.COUNTED: bool(found) or counted, Expects.NOTHING: not found,
        }[self.bomb.expects]
        return ("" if expected else "? ") + "; ".join(says).replace("|", "/")

    def cells(self):
        took, decoded = times(self.others), self.decoded_bytes / MB
        p99, quiet = quantile(took, 0.99), quantile(times(self.quiet), 0.99)
        return [
            self.bomb.name, f"{self.wire_bytes / MB:.2f}", f"{decoded:.1f}", f"{self.peak / MB:.0f}",
            f"{(self.peak - self.rss_before) / MB:.0f}", f"{self.rss_later / MB:.0f}",
            f"{self.store_bytes / MB:.0f}", f"{self.cpu_secs:.2f}", f"{self.cpu_secs / max(decoded, 0.001):.4f}",
            f"{quantile(took, 0.5) * 1000:.1f}", f"{p99 * 1000:.1f}{' !' if p99 > FACTOR * quiet else ''}",
            f"{quiet * 1000:.1f}", f"{max(self.delays(), default=0):.1f}", self.record(),
            ", ".join(f"{name} {count}" for name, count in self.counted.items()),
        ]

    def line(self):
        """The result as soon as it is known. Records may still come."""
        named = dict(zip(HEADINGS, self.cells()))
        shown = ["peak MB", "later MB", "CPU s", "p99 ms", "record after s", "record", "counted"]
        says = "; ".join(f"{name} {named[name]}" for name in shown if named[name])
        excesses = "; ".join(self.excesses())
        return f"{self.bomb.name} ({self.secs:.1f} s): {says}" + (f"  <- {excesses}" if excesses else "")


def times(requests):
    return sorted(end - start for _, start, end, _ in requests)


def quantile(values, part):
    return values[min(len(values) - 1, int(len(values) * part))] if values else 0.0


def table(results):
    """All results in Markdown, and what is not within bounds."""
    lines = [HEADINGS, ["---"] * len(HEADINGS)] + [result.cells() for result in results]
    excesses = [(result.bomb.name, "; ".join(result.excesses())) for result in results]
    excesses = [f"- {name}: {excess}" for name, excess in excesses if excess]
    most = max((result.peak for result in results), default=0) / MB
    summary = f"{len(results)} bombs, peak {most:.0f} MB of {MOST_BYTES / MB:.0f}, {len(excesses)} not within bounds."
    return "\n".join([*("| " + " | ".join(line) + " |" for line in lines), "", summary, *excesses, ""])
