"""Lets agent frameworks talk through threadtap, and looks whether each of their talks is one conversation in its records.

usage: frameworks.py [--direct]

For each flow of each framework it checks that

- there is one record for each response, in one conversation;
- each response but the first names the one before as its parent, and a tool's output goes on with the turn that called it;
- the inputs are what is new, and the instructions are the same in every record.

Ends with `N passed, N failed`; exit status 1 when anything failed. Needs the standard library alone.
"""

import time

from records import part_text
from runner import HERE, play, run

PYTHON = str(HERE / ".venv-frameworks/bin/python")
FLOWS = [PYTHON, str(HERE / "python/framework_flows.py"), "{url}"]
FRAMEWORKS = {
    "AI SDK": ["node", str(HERE / "node/framework_flows.mjs"), "{url}"],
    "langchain": [*FLOWS, "langchain"],
    "openai-agents": [*FLOWS, "openai-agents"],
}
TURNS = ["What are the store hours?", "And on Sundays?", "Thank you."]
INSTRUCTIONS = "You keep a store."
# The inputs of each response of a flow; what tools returned stands behind its role.
INPUTS = {
    "turns": [[text] for text in TURNS],
    "turns, streamed": [[text] for text in TURNS],
    "turns of a session": [[text] for text in TURNS],
    "tool": [TURNS[:1], ["sunny in Paris", "noon in Europe/Paris"]],
}
RECORDS_SECS = 30


def recorded(proxy, ids):
    """The records of responses, once all are there."""
    deadline = time.monotonic() + RECORDS_SECS
    while True:
        records = [row["interaction"] for row in proxy.records()]
        found = {record["run"]: record for record in records if record["run"] in ids}
        if len(found) == len(ids) or time.monotonic() > deadline:
            return [found.get(id) for id in ids]
        time.sleep(0.2)


def check_flow(checks, name, records, inputs):
    checks.check(f"{name}: each response has a record", all(records), records)
    if not all(records):
        return
    checks.equal(f"{name}: one conversation", {records[0]["run"]}, {record["conversation"]["id"] for record in records})
    runs = [record["run"] for record in records]
    checks.equal(f"{name}: parents", [None, *runs[:-1]], [record.get("parent_id") for record in records])
    turns = [runs[0] if inputs is INPUTS["tool"] else run for run in runs]
    checks.equal(f"{name}: turns", turns, [record["turn_id"] for record in records])
    checks.equal(f"{name}: inputs", inputs, [texts(record["inputs"]) for record in records])
    checks.equal(f"{name}: instructions", {INSTRUCTIONS}, {record.get("instructions") for record in records})
    checks.check(f"{name}: complete", all(record["inputs_complete"] for record in records))


def texts(messages):
    return ["\n".join(part_text(part) for part in message["object"]["content"]) for message in messages]


def check_frameworks(checks, fakes, proxy):
    for framework, command in FRAMEWORKS.items():
        before = checks.passed
        flows = play(command, proxy.base_url if proxy else fakes.assistants, "plain")
        for flow, ids in flows.items():
            if proxy:
                check_flow(checks, f"{framework}, {flow}", recorded(proxy, ids), INPUTS[flow])
        print(f"{framework}: {len(flows)} flows, {checks.passed - before} held", flush=True)


if __name__ == "__main__":
    run(__doc__, lambda _fakes, _directory: {}, check_frameworks)
