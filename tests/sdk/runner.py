"""Runs the SDKs' flows directly against the fake Assistants server and again through threadtap, and compares.

usage: runner.py [--direct]

For each SDK and each shape of the server's answers (plain; compressed, CRLF, comments, split anywhere) it checks that

- the app saw through threadtap what it sees without it, to the last field, save ids and times;
- the server was sent the same requests, save hop-by-hop headers and threadtap's own;
- the analytics backend got exactly one payload for each completed run, with the right content, and none for others;
- the admin API shows exactly one record for each run that is over, which says what happened and what the app saw.

Ends with `N passed, N failed`; exit status 1 when anything failed. Needs the standard library alone.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from records import AppView, check_records, part_text

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PYTHON_3 = [str(HERE / ".venv-openai-3/bin/python"), str(HERE / "python/flows.py"), "{url}"]
PYTHON_1 = [str(HERE / ".venv-openai-1/bin/python"), *PYTHON_3[1:]]
NODE = ["node", str(HERE / "node/flows.mjs"), "{url}"]
AGENTS = [str(HERE / ".venv-azure/bin/python"), str(HERE / "python/azure_flows.py"), "{url}", "{wire}"]
SDKS = {
    "openai-python 3": [*PYTHON_3, "openai"],
    "openai-python 3, Azure's dated paths": [*PYTHON_3, "azure-dated"],
    "openai-python 3, Azure's v1 paths": [*PYTHON_3, "azure-v1"],
    "openai-python 1.43": [*PYTHON_1, "openai"],
    "openai-node 7": [*NODE, "openai"],
    "openai-node 7, Azure's dated paths": [*NODE, "azure-dated"],
    "azure-ai-agents 1": AGENTS,
}
ATTRIBUTION = {
    "user-azure": ({"userId": "user-azure"}, "session-azure"),
    "user-py": ({"userId": "user-py"}, "session-py"),
    "user-node": ({"userId": "user-node", "firstName": "Ada"}, "session-node"),
}
WIRES = ["plain", "cut", "hostile"]
# What only one of them needs: the SDK reads no hostile stream without the app's help, but a compressed and cut one.
ALONE = {"cut": ["azure-ai-agents 1"]}
# What a proxy may change: hop-by-hop headers, the host, and threadtap's own headers, which are not for the server.
HEADERS_OF_THE_HOP = {"connection", "keep-alive", "host", "te", "transfer-encoding"}
FAKES = ROOT / "target/debug/examples/fakes"
BINARY = ROOT / "target/debug/threadtap"
READY_SECS = 20
DELIVERY_SECS = 60
# On a machine that has little time for it.
FETCH_SECS = 120
EXIT_SECS = 30


class Checks:
    """Counts what held, and says at once what did not."""

    def __init__(self):
        self.passed = 0
        self.failures = []

    def check(self, name, holds, why=""):
        if holds:
            self.passed += 1
        else:
            self.failures.append(name)
            print(f"FAILED {name}: {why}", flush=True)

    def equal(self, name, expected, got):
        difference = first_difference(expected, got)
        self.check(name, difference is None, difference)


def first_difference(expected, got, at="$"):
    """Where two JSON values begin to differ; None when they do not."""
    if isinstance(expected, dict) and isinstance(got, dict):
        if list(expected) != list(got):
            return f"{at}: keys {list(expected)} became {list(got)}"
        found = (first_difference(expected[key], got[key], f"{at}.{key}") for key in expected)
        return next((difference for difference in found if difference), None)
    if isinstance(expected, list) and isinstance(got, list):
        if len(expected) != len(got):
            return f"{at}: {len(expected)} items became {len(got)}"
        found = (first_difference(a, b, f"{at}[{i}]") for i, (a, b) in enumerate(zip(expected, got)))
        return next((difference for difference in found if difference), None)
    return None if expected == got else f"{at}: {expected!r} became {got!r}"


class Normal:
    """Numbers ids in the order they appear, and blanks times and what only pads."""

    KINDS = "asst|thread|msg|run|step|call|req|resp|conv|rs|fc|fco|ws|mcp|cmp|gAAAAA"
    ID = re.compile(
        rf"\b(?:({KINDS})_[0-9A-Za-z]{{24}}|chatcmpl-[0-9A-Za-z]{{24}}|[0-9a-f]{{8}}(?:-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}})\b"
    )

    def __init__(self):
        self.ids = {}

    def __call__(self, value, key=""):
        if isinstance(value, dict):
            return {name: self(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [self(item) for item in value]
        if key == "obfuscation":
            return "some padding"
        if isinstance(value, str):
            return self.ID.sub(self.number, value)
        if (key == "created" or key.endswith("_at")) and value is not None:
            return "some time"
        return value

    def number(self, match):
        kind = match[1] or ("chatcmpl" if match[0].startswith("chatcmpl") else "uuid")
        return self.ids.setdefault(match[0], f"{kind}#{len(self.ids)}")


def fetch(url, method="GET"):
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=FETCH_SECS) as answer:
        body = answer.read()
        return json.loads(body) if body else None


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Fakes:
    """The fake Assistants server and analytics backend, as a process of their own."""

    def __init__(self):
        self.process = subprocess.Popen(
            [FAKES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        addresses = json.loads(self.process.stdout.readline())
        self.assistants = addresses["assistants"]
        self.collector = addresses["collector"]
        self.control = addresses["control"]

    def snapshot(self):
        return fetch(f"{self.control}/snapshot")

    def run_ids(self):
        return {truth["run"] for truth in self.snapshot()}

    def received(self):
        return fetch(f"{self.control}/received")

    def requests(self, start):
        return fetch(f"{self.control}/requests?from={start}")

    def reshape(self, wire):
        fetch(f"{self.control}/wire/{wire}", "POST")

    def stop(self):
        self.process.stdin.close()
        self.process.wait(EXIT_SECS)


class Threadtap:
    """The proxy, as a user runs it."""

    def __init__(self, fakes, directory, sink):
        """`sink` is the environment that switches a sink on."""
        listen, admin = free_port(), free_port()
        self.base_url = f"http://127.0.0.1:{listen}"
        self.admin_url = f"http://127.0.0.1:{admin}"
        self.log_path = Path(directory) / "threadtap.log"
        own = ("ALIGNAI_", "RECONIFY_", "THREADTAP_")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(own)} | sink
        with self.log_path.open("w") as log:
            self.process = subprocess.Popen(
                [
                    BINARY,
                    "--listen", f"127.0.0.1:{listen}",
                    "--upstream", fakes.assistants,
                    "--admin-listen", f"127.0.0.1:{admin}",
                    "--data-dir", str(Path(directory) / "data"),
                ],
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )
        self.wait_ready(f"{self.admin_url}/readyz")

    def wait_ready(self, url):
        deadline = time.monotonic() + READY_SECS
        while True:
            try:
                fetch_status(url)
                return
            except OSError as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.process.kill()
                    sys.exit(f"threadtap is not ready ({error}):\n{self.log_path.read_text()}")
            time.sleep(0.05)

    def records(self):
        """Every record there is, newest first."""
        rows, before = [], ""
        while True:
            page = fetch(f"{self.admin_url}/api/v1/interactions?limit=500{before}")
            if not page["data"]:
                return rows
            rows += page["data"]
            before = f"&before={page['before']}"

    def drain(self, checks):
        status = self.stop()
        checks.check("threadtap drains and exits 0", status == 0, status)

    def stop(self):
        """Drains it; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(EXIT_SECS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return "none: it had to be killed"


def fetch_status(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.status


def play(command, url, wire):
    """Lets one SDK play its flows; its report."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("AZURE_", "OPENAI_"))
    }
    done = subprocess.run(
        [part.format(url=url, wire=wire) for part in command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        timeout=300,
    )
    if done.returncode != 0:
        raise RuntimeError(f"exit status {done.returncode}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout)


def as_sent(requests):
    """Requests as the server got them, without what belongs to the hop."""
    normal = Normal()
    kept = []
    for request in requests:
        headers = sorted(
            [name, normal(value)] for name, value in request["headers"]
            if name not in HEADERS_OF_THE_HOP and not name.startswith("x-threadtap-")
        )
        body = normal(request["body"])
        kept.append({"line": f"{request['method']} {normal(request['target'])}", "headers": headers, "body": body})
    return kept


def round_trip(checks, fakes, proxy, sdk, wire, view):
    """Plays one SDK's flows directly and through the proxy, and compares; the ids of the runs that passed the proxy.

    What the app saw through the proxy goes into `view`.
    """
    name, command = f"{sdk} ({wire})", SDKS[sdk]
    reports, sent, runs = [], [], set()
    for base_url in [fakes.assistants] + ([proxy.base_url] if proxy else []):
        start = len(fakes.requests(0))
        before = fakes.run_ids()
        try:
            reports.append(play(command, base_url, wire))
        except (OSError, RuntimeError, ValueError, subprocess.TimeoutExpired) as error:
            checks.check(f"{name}: plays against {base_url}", False, error)
            return runs
        sent.append(fakes.requests(start))
        if proxy and base_url == proxy.base_url:
            runs = fakes.run_ids() - before
    direct = reports[0]["flows"]
    for flow, outcome in direct.items():
        checks.check(f"{name}: {flow}: directly", "seen" in outcome, outcome.get("error"))
    if proxy is None:
        return runs
    view.take(reports[1]["flows"])
    for flow, outcome in reports[1]["flows"].items():
        # `Normal` afresh for each, so that ids are numbered alike.
        checks.equal(f"{name}: {flow}: through threadtap", Normal()(direct[flow]), Normal()(outcome))
    checks.equal(f"{name}: requests as the server got them", as_sent(sent[0]), as_sent(sent[1]))
    own = [header for request in sent[1] for header, _ in request["headers"] if header.startswith("x-threadtap-")]
    checks.check(f"{name}: no x-threadtap header goes upstream", not own, own)
    return runs


def expected_payload(truth):
    """What Reconify must be told of a run, in short."""
    return {
        "order": ["reconify", "request", "response", "user", "session", "sessionTimeout", "timestamps"],
        "reconify": {
            "format": "openai", "appKey": "app-key", "apiKey": "api-key", "type": "assistant", "version": "3.1.0",
        },
        "thread": [truth["thread"]] * 2,
        "assistant": truth["assistant"],
        "model": truth["model"],
        "asked": [message["text"] for message in truth["inputs"]],
        "answered": [message["text"] for message in truth["outputs"]],
        "last answer": truth["outputs"][-1]["id"] if truth["outputs"] else None,
        "usage": truth["usage"] | {"total_tokens": sum(truth["usage"].values())},
        "timestamps": [truth["started_at"] * 1000, truth["ended_at"] * 1000],
        "sessionTimeout": 15,
    }


def payload_in_short(payload):
    asked, answered = payload["request"], payload["response"]
    return {
        "order": list(payload),
        "reconify": payload["reconify"],
        "thread": [asked["thread_id"], answered["thread_id"]],
        "assistant": asked["assistant_id"],
        "model": asked["model"],
        "asked": [part["text"]["value"] for part in asked["content"]],
        "answered": [part_text(part) for part in answered["content"]],
        "last answer": answered["id"],
        "usage": answered["usage"],
        "timestamps": [payload["timestamps"]["request"], payload["timestamps"]["response"]],
        "sessionTimeout": payload["sessionTimeout"],
    }


def run_of(payload):
    return (payload.get("response") or {}).get("run_id")


def wait_delivered(fakes, runs):
    deadline = time.monotonic() + DELIVERY_SECS
    while time.monotonic() < deadline:
        if runs <= {run_of(payload) for payload in fakes.received()}:
            return
        time.sleep(0.1)


def check_payloads(checks, fakes, truths):
    """Holds what the backend received against what happened."""
    received = fakes.received()
    known = {truth["run"] for truth in truths}
    strays = [run_of(payload) for payload in received if run_of(payload) not in known]
    checks.check("payloads: none is about something that did not pass threadtap", not strays, strays)
    for truth in truths:
        name = f"payload of {truth['assistant']} {truth['run']}"
        mine = [payload for payload in received if run_of(payload) == truth["run"]]
        wanted = 1 if truth["status"] == "completed" else 0
        checks.check(f"{name}: {wanted} received", len(mine) == wanted, f"{len(mine)} were")
        for payload in mine[:wanted]:
            try:
                short = payload_in_short(payload)
            except (KeyError, TypeError, IndexError) as error:
                checks.check(f"{name}: its shape", False, f"{error!r} in {payload}")
                continue
            checks.equal(f"{name}: its content", expected_payload(truth), short)
            # A message that was born in another request has an id that no answer ever told.
            last = truth["inputs"][-1]["id"] if truth["inputs"] else None
            question = payload["request"].get("id")
            checks.check(f"{name}: its question's id", question in (None, last), question)
            user = (payload.get("user") or {}).get("userId")
            expected = ATTRIBUTION.get(user, (None, None))
            checks.equal(f"{name}: its user and session", list(expected), [payload["user"], payload["session"]])


def build(direct):
    targets = ["--example", "fakes"] + ([] if direct else ["--bin", "threadtap"])
    subprocess.run(["cargo", "build", "--locked", *targets], cwd=ROOT, check=True)


def run(usage, environment, act):
    """Runs a program of checks, as its arguments say, and exits.

    `environment` makes threadtap's own of the fakes and a directory; `act` is given the checks, the fakes, and threadtap unless
    it is left out.
    """
    direct = sys.argv[1:] == ["--direct"]
    if sys.argv[1:] and not direct:
        sys.exit(usage)
    build(direct)
    checks = Checks()
    fakes = Fakes()
    try:
        with tempfile.TemporaryDirectory() as directory:
            proxy = None if direct else Threadtap(fakes, directory, environment(fakes, Path(directory)))
            act(checks, fakes, proxy)
            if proxy and checks.failures:
                print(f"--- threadtap's log, its end ---\n{proxy.log_path.read_text()[-4000:]}")
    finally:
        fakes.stop()
    print(f"{checks.passed} passed, {len(checks.failures)} failed")
    sys.exit(1 if checks.failures else 0)


def reconify(fakes, _directory):
    return {"RECONIFY_APP_KEY": "app-key", "RECONIFY_API_KEY": "api-key", "RECONIFY_URL": fakes.collector}


def check_runs(checks, fakes, proxy):
    view = AppView()
    through = proxied(checks, fakes, proxy, view)
    if proxy is None:
        return
    wait_delivered(fakes, {truth["run"] for truth in through if truth["status"] == "completed"})
    check_records(checks, proxy.records, through, view, ATTRIBUTION)
    proxy.drain(checks)
    check_payloads(checks, fakes, through)


def proxied(checks, fakes, proxy, view):
    """Plays everything, and lets `view` see what the apps saw; the runs that passed the proxy."""
    through = set()
    for wire in WIRES:
        fakes.reshape(wire)
        for sdk in ALONE.get(wire, SDKS):
            before = checks.passed
            through |= round_trip(checks, fakes, proxy, sdk, wire, view)
            print(f"{sdk} ({wire}): {checks.passed - before} held", flush=True)
    return [truth for truth in fakes.snapshot() if truth["run"] in through]


if __name__ == "__main__":
    run(__doc__, reconify, check_runs)
