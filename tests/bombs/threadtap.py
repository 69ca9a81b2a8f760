"""A threadtap process under watch: its memory, CPU time, metrics and records."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

READY_SECS = 30
ADMIN_SECS = 120
EXIT_SECS = 60
SAMPLE_SECS = 0.01
POLL_SECS = 0.1
TICKS = os.sysconf("SC_CLK_TCK")
COUNTERS = rb'^threadtap_(capture_dropped|capture_problems|correlation_notes)_total\{[^"]*"([^"]*)"\} (\S+)'


class Threadtap:
    """Runs with default settings, or without capture. It is killed beyond `limit` bytes, so that the machine survives."""

    def __init__(self, binary, upstream_port, limit, forwards_only=False):
        self.home = Path(tempfile.mkdtemp(prefix="bombs-"))
        self.log = self.home / "log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("THREADTAP")}
        command = [
            binary, "--listen", "127.0.0.1:0", "--upstream", f"http://127.0.0.1:{upstream_port}",
            "--admin-listen", "127.0.0.1:0", "--data-dir", self.home / "data",
        ]
        if forwards_only:
            config = self.home / "config.toml"
            config.write_text("[capture]\nenabled = false\n")
            command += ["--config", config]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        self.proc = Path(f"/proc/{self.process.pid}")
        # If memory runs out all the same, the kernel is to end this process.
        (self.proc / "oom_score_adj").write_text("1000")
        self.limit, self.killed = limit, False
        self.sampled_peak, self.sampled_cpu = 0, 0.0
        threading.Thread(target=self.watch, daemon=True).start()
        started = r'"listen":"[^"]*:(\d+)".*"admin":"([^"]*)"'
        port, self.admin = self.wait_until(lambda: re.search(started, self.log.read_text())).groups()
        self.port = int(port)
        self.wait_until(self.is_ready)

    def wait_until(self, fact):
        deadline = time.monotonic() + READY_SECS
        while self.alive() and time.monotonic() < deadline:
            if found := fact():
                return found
            time.sleep(0.05)
        self.process.kill()
        raise SystemExit(f"threadtap is not ready:\n{self.log.read_text()}")

    def is_ready(self):
        try:
            return self.get("/readyz")
        except OSError:
            return None

    def alive(self):
        return self.process.poll() is None

    def watch(self):
        while self.alive():
            self.cpu_secs()
            rss = self.rss()
            self.sampled_peak = max(self.sampled_peak, rss)
            if rss > self.limit:
                self.killed = True
                self.process.kill()
            time.sleep(SAMPLE_SECS)

    def status(self, field):
        try:
            found = re.search(rf"{field}:\s+(\d+) kB", (self.proc / "status").read_text())
        except OSError:
            return 0
        return int(found[1]) << 10 if found else 0

    def rss(self):
        return self.status("VmRSS")

    def peak(self):
        """The most it held since `reset_peak`. If the process is gone, as far as it was sampled."""
        return max(self.status("VmHWM"), self.sampled_peak)

    def reset_peak(self):
        self.sampled_peak = 0
        if self.alive():
            # proc(5): 5 sets VmHWM to what is held now.
            (self.proc / "clear_refs").write_text("5")

    def cpu_secs(self):
        """What it has used so far. If the process is gone, as far as it was sampled."""
        try:
            fields = (self.proc / "stat").read_text().rsplit(")", 1)[1].split()
            self.sampled_cpu = max(self.sampled_cpu, (int(fields[11]) + int(fields[12])) / TICKS)
        except OSError:
            pass
        return self.sampled_cpu

    def store_bytes(self):
        return sum(file.stat().st_size for file in (self.home / "data").glob("threadtap.db*"))

    def get(self, path):
        return urllib.request.urlopen(f"http://{self.admin}{path}", timeout=ADMIN_SECS).read()

    def counters(self):
        """What was dropped, odd or noted so far, by reason. Empty if it cannot be asked."""
        try:
            found = re.findall(COUNTERS, self.get("/metrics"), re.M)
        except OSError:
            return {}
        return {
            f"{kind.decode().removeprefix('capture_')} {reason.decode()}": int(float(value))
            for kind, reason, value in found
        }

    def close(self):
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(EXIT_SECS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)


class Records:
    """Follows the records at the admin listener.

    It reads one at a time: a bomb's record may be large, and a page of them would be a bomb itself.
    """

    def __init__(self, threadtap):
        self.threadtap = threadtap
        self.newest = 0
        # When the record of each question of the other client was seen, by its number.
        self.others = {}
        # What the records of bombs say, by session.
        self.bombs = {}
        threading.Thread(target=self.follow, daemon=True).start()

    def follow(self):
        while self.threadtap.alive():
            time.sleep(POLL_SECS)
            try:
                self.catch_up()
            except OSError:
                continue  # It may be busy, or gone.

    def catch_up(self):
        """Goes back from the newest record to the newest that is known."""
        before, newest = None, self.newest
        while True:
            page = self.threadtap.get("/api/v1/interactions?limit=1" + (f"&before={before}" if before else ""))
            # Not from the JSON, for the record may be one that Python cannot read.
            found = re.match(rb'\{"before":(\d+)', page) or re.search(rb'"before":(\d+)\}$', page)
            before = int(found[1]) if found else 0
            if before <= self.newest:
                break
            newest = max(newest, before)
            self.take(page)
        self.newest = newest

    def take(self, page):
        try:
            record = json.loads(page)["data"][0]["interaction"]
        except (ValueError, RecursionError) as error:
            self.bombs.setdefault(None, []).append(f"not readable: {error!r}"[:60])
            return
        session = record["attribution"].get("session")
        if session == "other":
            number = re.search(r"question (\d+)", json.dumps(record["inputs"]))[1]
            self.others[int(number)] = time.monotonic()
        else:
            self.bombs.setdefault(session, []).append(summary(record))


def summary(record):
    says = [record["status"], f"{len(record['inputs'])} in", f"{len(record['outputs'])} out"]
    if calls := record.get("tool_calls"):
        says.append(f"{len(calls)} calls")
    says += [f"{name} incomplete" for name in ("inputs", "outputs") if not record[f"{name}_complete"]]
    if error := record.get("error"):
        says.append(json.dumps(error)[:60])
    return ", ".join(says)
