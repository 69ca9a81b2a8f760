"""Lets agent frameworks talk through threadtap, and looks whether each of their talks is one conversation in its records.

usage: frameworks.py [--direct]

For each flow of each framework it checks that

- there is one record for each response, in one conversation;
- each response but the first names the one before as its parent, and a tool's output goes on with the turn that called it;
- the inputs are what is new, and the instructions are those of the agent that was asked;
- where threadtap is told to wait for what goes on with a turn, the steps of a turn with tools are one record;
- where the app names a session and a user, the record has them; docs/frameworks.md shows how, in lines of these flows.

Ends with `N passed, N failed`; exit status 1 when anything failed. Needs the standard library alone.
"""

import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from records import part_text
from runner import HERE, ROOT, Threadtap, play, run
from turn_records import api_id

PLACES = ["{url}", "{merging}", "{control}"]
FLOWS = [HERE / "node/framework_flows.mjs", HERE / "python/framework_flows.py"]
PAGE = ROOT / "docs/frameworks.md"
PYTHON = [str(FLOWS[1]), *PLACES]
PYTHON_3 = [str(HERE / ".venv-frameworks/bin/python"), *PYTHON]
PYTHON_2 = [str(HERE / ".venv-frameworks-openai-2/bin/python"), *PYTHON]
FRAMEWORKS = {
    "AI SDK": ["node", str(FLOWS[0]), *PLACES],
    "langchain": [*PYTHON_3, "langchain"],
    "llama-index": [*PYTHON_2, "llama-index"],
    "openai-agents": [*PYTHON_3, "openai-agents"],
    "pydantic-ai": [*PYTHON_3, "pydantic-ai"],
    "semantic-kernel": [*PYTHON_2, "semantic-kernel"],
}
INSTRUCTIONS = "You keep a store."
OTHER_INSTRUCTIONS = "You take orders."
# What the tools of a turn return, step by step; what a framework says of a handoff.
OUTPUTS = {
    "handoff": [['{"assistant": "clerk"}']],
    "tool": [["sunny in Paris", "noon in Europe/Paris"]],
    "tool, twice": [["sunny in Paris"], ["noon in Europe/Paris"]],
}
# What repeats a conversation on Responses without ids.
WITHOUT_IDS = {
    "AI SDK": ["tool", "tool, twice", "turns", "turns, streamed"],
    "llama-index": ["tool", "tool, twice", "turns", "turns, thinking"],
    "pydantic-ai": ["turns of an old model", "turns, thinking"],
}
# Longer than any flow takes; a turn that goes on is recorded as soon as it is over.
MERGING = '[correlation]\ncontinuation_grace = "60s"\n'
RECORDS_SECS = 30


def said(name):
    return [f"What are the store hours? ({name})", "And on Sundays?", "Thank you."]


def expected(name, ids):
    """What the records of a flow are to say, in short."""
    framework, api, kind = name.removesuffix(", merged").split(", ", 2)
    merged, named = name.endswith(", merged"), kind.startswith("named")
    kind = kind.removeprefix("named ")
    first, second, third = said(name)
    # What hands in what tools returned is no turn of its own: `turn` is where the next one begins.
    returned = OUTPUTS.get(kind, [])
    turn = len(returned) + 1
    steps = [ids[:turn], ids[turn:]] if merged else [[id] for id in ids]
    turns = [ids[0], *ids[turn:]] if merged else [*ids[:1] * turn, *ids[turn:]]
    # What returned is told of the calls where it is in their record.
    calls = [sum(returned, [])] if merged else [[None] * len(outputs) for outputs in returned]
    asked = [[first], *([] if merged else returned), [second]]
    if not returned:
        asked = [[first]] if named else [[first], [second], [third]]
    by_words = api == "Chat" or kind in WITHOUT_IDS.get(framework, [])
    after = 1 if merged else turn
    pairings = ["exact"] * after + ["history" if by_words else "exact"] * (len(asked) - after)
    if kind == "turns, an object first":
        asked[1].insert(0, "Final result processed.")
        calls, pairings[1] = [[None]], "exact"
    later = OTHER_INSTRUCTIONS if kind == "handoff" else INSTRUCTIONS
    if (framework, kind) == ("langchain", "turns by id"):
        # Its system message is part of what it does not repeat.
        later = None
    return {
        "runs": [step[0] for step in steps],
        "continuations": [step[1:] for step in steps],
        "parents": [None, *[step[-1] for step in steps[:-1]]],
        "turns": turns,
        "pairings": pairings,
        "inputs": asked,
        "calls": calls + [[]] * (len(asked) - len(calls)),
        "instructions": [INSTRUCTIONS] + [later] * (len(asked) - 1),
        "names": [[f"session of {name}", f"user of {name}"] if named else [None, None]] * len(asked),
    }


def in_short(records):
    return {
        "runs": [api_id(record["run"]) for record in records],
        "continuations": [[api_id(run) for run in record.get("continuations", [])] for record in records],
        "parents": [api_id(record.get("parent_id")) for record in records],
        "turns": [api_id(record["turn_id"]) for record in records],
        "pairings": [record["pairing"] for record in records],
        "inputs": [texts(record["inputs"]) for record in records],
        "calls": [[call.get("output") for call in record["tool_calls"]] for record in records],
        "instructions": [record.get("instructions") for record in records],
        "names": [names(record["attribution"]) for record in records],
    }


def texts(messages):
    return ["\n".join(part_text(part) for part in message["object"]["content"]) for message in messages]


def names(attribution):
    return [attribution.get("session"), (attribution.get("user") or {}).get("userId")]


def recorded(proxy, ids, runs):
    """The records that are of some responses, once those of these runs are there."""
    deadline = time.monotonic() + RECORDS_SECS
    while True:
        records = [row["interaction"] for row in proxy.records()]
        found = {api_id(record["run"]): record for record in records if api_id(record["run"]) in ids}
        if found.keys() >= set(runs) or time.monotonic() > deadline:
            return [found[id] for id in ids if id in found]
        time.sleep(0.2)


def check_flow(checks, proxy, name, ids):
    wanted = expected(name, ids)
    records = recorded(proxy, ids, wanted["runs"])
    got = in_short(records)
    for what, value in wanted.items():
        checks.equal(f"{name}: {what}", value, got[what])
    if not records:
        return
    conversations = {record["conversation"]["id"] for record in records}
    checks.equal(f"{name}: one conversation", wanted["runs"][:1], [api_id(id) for id in conversations])
    checks.check(f"{name}: complete", all(record["inputs_complete"] and record["outputs_complete"] for record in records))


def check_page(checks):
    """Every line of code of the page is one of a flow."""
    played = {line.strip() for path in FLOWS for line in path.read_text().splitlines()}
    code = PAGE.read_text().split("```")[1::2]
    shown = [line for block in code for line in block.splitlines()[1:]]
    strays = [line for line in shown if line.strip() not in played]
    checks.check(f"{PAGE.name}: shows what is played", shown and not strays, strays)


@contextmanager
def merging(fakes):
    """A threadtap that waits for what goes on with a turn."""
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "threadtap.toml"
        config.write_text(MERGING)
        proxy = Threadtap(fakes, directory, {"THREADTAP_CONFIG": str(config)})
        try:
            yield proxy
        finally:
            proxy.stop()


def check_frameworks(checks, fakes, proxy):
    check_page(checks)
    if proxy is None:
        play_all(checks, fakes, None, None)
        return
    with merging(fakes) as waiting:
        play_all(checks, fakes, proxy, waiting)
    proxy.drain(checks)


def play_all(checks, fakes, proxy, waiting):
    places = {"{merging}": waiting.base_url if waiting else fakes.assistants, "{control}": fakes.control}
    for framework, command in FRAMEWORKS.items():
        before = checks.passed
        flows = play([places.get(part, part) for part in command], proxy.base_url if proxy else fakes.assistants, "plain")
        for name, ids in flows.items():
            if proxy:
                check_flow(checks, waiting if name.endswith(", merged") else proxy, name, ids)
        print(f"{framework}: {len(flows)} flows, {checks.passed - before} held", flush=True)


if __name__ == "__main__":
    run(__doc__, lambda _fakes, _directory: {}, check_frameworks)
