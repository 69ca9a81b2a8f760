"""Runs the SDK's flows against an Assistants server that nobody of this project wrote (server.py), directly and again through
threadtap, and compares.

usage: independent.py [--binary PATH]    (with a Python that has ../python/independent.txt)
  --binary  threadtap itself; without it, it is built

It checks that

- the app saw through threadtap what it sees without it, to the last field, save ids and times;
- the admin API shows exactly one record for each run, soon after the app saw the end: no run waits for `outputs_grace`;
- the record says what the app asked and saw, and that this is all wherever the app was shown as much;
- the analytics backend was sent each completed run once, with what was asked and answered, and nothing else.

Ends with `N passed, N failed`; exit status 1 when anything failed.
"""

import json
import subprocess
import sys
import tempfile
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

# The scripts that this one shares its ways with.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import runner
from records import in_short, part_text, text_of
from runner import ATTRIBUTION, HERE, Checks, Normal, Threadtap, play
from server import Listener, Server

FLOWS = [sys.executable, str(HERE / "python/independent_flows.py"), "{url}"]
# Nothing can wait for it and be in time.
SETTINGS = """
[correlation]
outputs_grace = "1h"
"""
SOON_SECS = 60
DELIVERY_SECS = 30


class Collect(BaseHTTPRequestHandler):
    """Takes what a sink sends."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.received.append(json.loads(body))
        self.send_response_only(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Collector(Listener):
    """A fake analytics backend."""

    def __init__(self):
        super().__init__(Collect)
        self.received = []
        self.url = f"{self.origin}/track"


def turns_of(flows):
    """Every run in a report with its flow's name, by its id."""
    return {
        turn["run"]["id"]: {"flow": flow, **turn} for flow, outcome in flows.items() for turn in outcome.get("seen", [])
    }


def expected_record(turn):
    """What the record must say of a run, as `in_short` has it."""
    run = turn["run"]
    return {
        "thread": run["thread_id"],
        "assistant": run["assistant_id"],
        "model": run["model"],
        "status": run["status"],
        "assumed": False,
        "pairing": "exact",
        "inputs": [["user", text] for text in turn["asked"]],
        "inputs_complete": True,
        "outputs": [[message["id"], text_of({"object": message})] for message in turn["answers"]],
        "calls": [[call["id"], "function", call["name"], call["arguments"], call["output"]] for call in turn["calls"]],
        "usage": run["usage"],
        "usage_absent": None if run["usage"] else "not_reported",
        "error": run["last_error"],
        "metadata": run["metadata"],
        "times": [
            run["created_at"], run["started_at"], run["completed_at"] or run["failed_at"] or run["cancelled_at"],
        ],
    }


def check_records(checks, records, turns):
    """Waits for a record of every run, but not for long, and holds each against what the app saw."""
    deadline = time.monotonic() + SOON_SECS
    while True:
        found = [row["interaction"] for row in records()]
        if turns.keys() <= {record["run"] for record in found} or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    strays = [record["run"] for record in found if record["run"] not in turns]
    checks.check("records: none is about something else", not strays, strays)
    for run, turn in turns.items():
        name = f"record of {turn['flow']} {run}"
        mine = [record for record in found if record["run"] == run]
        checks.check(f"{name}: there is one, soon", len(mine) == 1, f"there are {len(mine)}")
        for record in mine[:1]:
            try:
                check_record(checks, name, record, turn)
            except (KeyError, TypeError, ValueError) as error:
                checks.check(f"{name}: its shape", False, f"{error!r} in {record}")


def check_record(checks, name, record, turn):
    checks.equal(f"{name}: as the app saw it", expected_record(turn), in_short(record))
    if turn["proved"]:
        checks.check(f"{name}: its outputs are complete", record["outputs_complete"] is True, record["outputs_complete"])
    checks.equal(f"{name}: its API", "assistants", record["api"])
    attribution = record["attribution"]
    checks.equal(
        f"{name}: its user and session", list(ATTRIBUTION["user-py"]), [attribution.get("user"), attribution.get("session")]
    )
    recorded = {message["id"]: message["object"] for message in record["outputs"]}
    for message in turn["answers"]:
        object = recorded.get(message["id"], {})
        checks.equal(f"{name}: {message['id']} word for word", message["content"], object.get("content"))


def wait_delivered(received, turns):
    """Waits until every completed run that has a record can have been told."""
    wanted = sum(turn["run"]["status"] == "completed" for turn in turns.values())
    deadline = time.monotonic() + DELIVERY_SECS
    while len(received) < wanted and time.monotonic() < deadline:
        time.sleep(0.1)


def check_payloads(checks, received, turns):
    """Holds what the backend received against what the app saw."""
    silent = [payload["request"] for payload in received if payload["response"] is None]
    checks.check("payloads: none lacks its response", not silent, silent)
    told = [payload for payload in received if payload["response"]]
    strays = [payload["response"].get("run_id") for payload in told if payload["response"].get("run_id") not in turns]
    checks.check("payloads: none is about something else", not strays, strays)
    for run, turn in turns.items():
        name = f"payload of {turn['flow']} {run}"
        mine = [payload for payload in told if payload["response"].get("run_id") == run]
        wanted = 1 if turn["run"]["status"] == "completed" else 0
        checks.check(f"{name}: {wanted} received", len(mine) == wanted, f"{len(mine)} were")
        for payload in mine[:wanted]:
            try:
                checks.equal(f"{name}: its content", expected_payload(turn), payload_in_short(payload))
            except (KeyError, TypeError, IndexError) as error:
                checks.check(f"{name}: its shape", False, f"{error!r} in {payload}")


def expected_payload(turn):
    run = turn["run"]
    user, session = ATTRIBUTION["user-py"]
    return {
        "thread": [run["thread_id"]] * 2,
        "assistant": run["assistant_id"],
        "model": run["model"],
        # Messages of several are told as one.
        "asked": "\n".join(turn["asked"]),
        "answered": [part_text(part) for message in turn["answers"] for part in message["content"]],
        "last answer": turn["answers"][-1]["id"],
        "usage": run["usage"],
        "user": user,
        "session": session,
    }


def payload_in_short(payload):
    asked, answered = payload["request"], payload["response"]
    return {
        "thread": [asked["thread_id"], answered["thread_id"]],
        "assistant": asked["assistant_id"],
        "model": asked["model"],
        "asked": "\n".join(part["text"]["value"] for part in asked["content"]),
        "answered": [part_text(part) for part in answered["content"]],
        "last answer": answered["id"],
        "usage": answered.get("usage"),
        "user": payload["user"],
        "session": payload["session"],
    }


def check_independent(checks, server, collector, proxy):
    direct = play(FLOWS, server.origin, "")
    for flow, outcome in direct["flows"].items():
        checks.check(f"{flow}: directly", "seen" in outcome, outcome.get("error"))
    before = len(server.work.created)
    through = play(FLOWS, proxy.base_url, "")
    for flow, outcome in through["flows"].items():
        # `Normal` afresh for each, so that ids are numbered alike.
        checks.equal(f"{flow}: through threadtap", Normal()(direct["flows"][flow]), Normal()(outcome))
    checks.check("the server had an answer to everything", not server.errors, server.errors)
    turns = turns_of(through["flows"])
    checks.equal("the app tells of every run there was", sorted(server.work.created[before:]), sorted(turns))
    print(f"{through['sdk']}: {len(turns)} runs", flush=True)
    check_records(checks, proxy.records, turns)
    wait_delivered(collector.received, turns)
    proxy.drain(checks)
    check_payloads(checks, collector.received, turns)


def build():
    subprocess.run(["cargo", "build", "--locked", "--bin", "threadtap"], cwd=runner.ROOT, check=True)


def main():
    if sys.argv[1:2] == ["--binary"] and len(sys.argv) == 3:
        runner.BINARY = Path(sys.argv[2]).resolve()
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        build()
    checks = Checks()
    server, collector = Server(), Collector()
    try:
        with tempfile.TemporaryDirectory() as directory:
            config = Path(directory) / "threadtap.toml"
            config.write_text(SETTINGS)
            sink = {"RECONIFY_APP_KEY": "app-key", "RECONIFY_API_KEY": "api-key", "RECONIFY_URL": collector.url}
            proxy = Threadtap(server, directory, {"THREADTAP_CONFIG": str(config), **sink})
            try:
                check_independent(checks, server, collector, proxy)
            finally:
                proxy.stop()
            if checks.failures:
                print(f"--- threadtap's log, its end ---\n{proxy.log_path.read_text()[-4000:]}")
    finally:
        server.stop()
        collector.stop()
    print(f"{checks.passed} passed, {len(checks.failures)} failed")
    sys.exit(1 if checks.failures else 0)


if __name__ == "__main__":
    main()
