"""Runs the SDKs' flows of Responses, Conversations and Chat Completions directly against the fake server and again through
threadtap, and compares.

usage: turns.py [--direct]

For each SDK and each shape of the server's answers it checks that

- what the app saw is what the fake server says happened;
- the app saw through threadtap what it sees without it, to the last field, save ids, times and padding;
- the server was sent the same requests, save hop-by-hop headers and threadtap's own;
- the admin API shows exactly one record for each response and completion, which says what happened;
- two Reconify sinks, which tell responses in one way and in the other, are sent of each turn once what its app asked and saw,
  and nothing of turns in which nobody speaks or that ended otherwise than is wanted.

Ends with `N passed, N failed`; exit status 1 when anything failed. Needs the standard library alone.
"""

import subprocess

from runner import ATTRIBUTION, HERE, Normal, as_sent, fetch, play, run
from turn_payloads import Answers, check_payloads, expected_payloads, settings, wait_delivered
from turn_records import check_records, check_views, truth_id
from turn_views import TurnViews

NODE = ["node", str(HERE / "node/turn_flows.mjs")]
MANY, FEW = ["plain", "hostile", "bare", "torn"], ["plain", "bare"]


def python(version, kind):
    return [str(HERE / f".venv-openai-{version}/bin/python"), str(HERE / "python/turn_flows.py"), "{url}", kind]


# The command, and the shapes of answers it is played with.
SDKS = {
    "openai-python 3": (python(3, "openai"), MANY),
    "openai-python 3, Azure's dated paths": (python(3, "azure-dated"), FEW),
    "openai-python 3, Azure's v1 paths": (python(3, "azure-v1"), ["plain"]),
    "openai-python 2": (python(2, "openai"), FEW),
    "openai-python 1.43": (python(1, "openai"), FEW),
    "openai-node 7": ([*NODE, "openai", "{url}", "openai"], MANY),
    "openai-node 7, Azure's dated paths": ([*NODE, "openai", "{url}", "azure-dated"], ["plain"]),
    "openai-node 4": ([*NODE, "openai-4", "{url}", "openai"], FEW),
}
# Where the fake server tells the truth.
APIS = {"responses": "/responses", "chat": "/completions"}
# What an SDK is too old for, or reads no stream of.
NOT_PLAYED = {("openai-python 1.43", "responses")}
# A response's last event is lost to the SDKs without its blank line.
CHAT_ALONE = {"torn"}


def round_trip(checks, fakes, requests, proxy, sdk, wire, api, answers):
    """Plays one SDK's flows of one API directly and through the proxy, and compares; the ids of the turns that passed the proxy.

    What their apps were answered goes into `answers`.
    """
    name = f"{sdk}, {api} ({wire})"
    command = [*SDKS[sdk][0], api]
    reports, sent, turns = [], [], []
    for base_url in [fakes.assistants] + ([proxy.base_url] if proxy else []):
        before = {truth_id(truth) for truth in truths_of(fakes, api)}
        try:
            report = play(command, base_url, wire)
        except (OSError, RuntimeError, ValueError, subprocess.TimeoutExpired) as error:
            checks.check(f"{name}: plays against {base_url}", False, error)
            return set()
        sent.append(requests.new())
        mine = [truth for truth in truths_of(fakes, api) if truth_id(truth) not in before]
        turns.append({truth_id(truth) for truth in mine})
        reports.append(report["flows"])
        view = TurnViews()
        view.take(report["flows"])
        for flow, outcome in report["flows"].items():
            checks.check(f"{name}: {flow}: plays", "seen" in outcome, outcome.get("error"))
        check_views(checks, api, mine, view)
    if proxy is None:
        return set()
    answers.take(reports[1])
    for flow, outcome in reports[1].items():
        # `Normal` afresh for each, so that ids are numbered alike.
        checks.equal(f"{name}: {flow}: through threadtap", Normal()(reports[0][flow]), Normal()(outcome))
    checks.equal(f"{name}: requests as the server got them", as_sent(sent[0]), as_sent(sent[1]))
    return turns[1]


class Requests:
    """What the server is sent, each request told once."""

    def __init__(self, fakes):
        self.fakes = fakes
        self.known = 0

    def new(self):
        new = self.fakes.requests(self.known)
        self.known += len(new)
        return new


def truths_of(fakes, api):
    return fetch(f"{fakes.control}{APIS[api]}")


def sinks(fakes, directory):
    config = directory / "threadtap.toml"
    config.write_text(settings(fakes.collector))
    return {"THREADTAP_CONFIG": str(config)}


def check_turns(checks, fakes, proxy):
    requests, answers = Requests(fakes), Answers()
    through = {api: set() for api in APIS}
    for sdk, (_, wires) in SDKS.items():
        for wire in wires:
            fakes.reshape(wire)
            for api in APIS:
                if (sdk, api) in NOT_PLAYED or (wire in CHAT_ALONE and api != "chat"):
                    continue
                before = checks.passed
                through[api] |= round_trip(checks, fakes, requests, proxy, sdk, wire, api, answers)
                print(f"{sdk}, {api} ({wire}): {checks.passed - before} held", flush=True)
    if proxy is None:
        return
    every = []
    for api, ids in through.items():
        truths = [truth for truth in truths_of(fakes, api) if truth_id(truth) in ids]
        check_records(checks, api, proxy.records, truths, ATTRIBUTION)
        every += truths
    wait_delivered(fakes.received, expected_payloads(every))
    proxy.drain(checks)
    check_payloads(checks, fakes.received(), every, answers, ATTRIBUTION)


if __name__ == "__main__":
    run(__doc__, sinks, check_turns)
