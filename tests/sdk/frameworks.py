"""Lets agent frameworks talk through threadtap, and looks whether each of their talks is one conversation in its records.

usage: frameworks.py [--direct]

For each flow of each framework it checks that

- there is one record for each response, in one conversation, also where another agent takes over, unless that one is told nothing
  of the one before;
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
# What a framework says of a handoff to somebody.
HANDED_OVER = {
    "AI SDK": "Transferred to {}.",
    "langchain": "Transferred to {}.",
    "llama-index": (
        "Agent {} is now handling the request due to the following reason: an order.\n"
        "Please continue with the current request."
    ),
    "openai-agents": '{{"assistant": "{}"}}',
}
# Flows whose second response begins a conversation of its own: its agent is asked as if nobody had been before.
APART = ["handoff inside", "handoff of an orchestration"]
# Flows whose first response calls what no response of its turn answers.
LEFT_OPEN = ["turns, an object first", *APART]
# What the tools of a turn return, step by step.
OUTPUTS = {
    "tool": [["sunny in Paris", "noon in Europe/Paris"]],
    "tool, twice": [["sunny in Paris"], ["noon in Europe/Paris"]],
}
# What repeats a conversation on Responses without ids.
WITHOUT_IDS = {
    "AI SDK": ["handoff", "handoff within a loop", "tool", "tool, twice", "turns", "turns, streamed"],
    "llama-index": ["handoff", "tool", "tool, twice", "turns", "turns, thinking"],
    "pydantic-ai": ["turns of an old model", "turns, thinking"],
}
# Longer than any flow takes; a turn that goes on is recorded as soon as it is over.
MERGING = '[correlation]\ncontinuation_grace = "60s"\n'
RECORDS_SECS = 30


def said(name):
    return [f"What are the store hours? ({name})", "And on Sundays?", "Thank you."]


def requests_of(framework, kind, texts):
    """What is new in the requests of each turn of a flow; all but the first hand in what tools returned."""
    first, second, third = ([text] for text in texts)
    to_cashier, to_clerk = ([HANDED_OVER.get(framework, "").format(name)] for name in ["cashier", "clerk"])
    match kind:
        case "handoff" | "handoff by id":
            return [[first, to_cashier], [second, to_clerk], [third, to_cashier]]
        case "handoff within a loop":
            return [[first, to_cashier], [second]]
        case "handoff inside":
            return [[first], [["Final result processed.", *second]]]
        case "turns, an object first":
            return [[first], [["Final result processed.", *second]], [third]]
        case "tool" | "tool, twice":
            return [[first, *OUTPUTS[kind]], [second]]
    return [[first], [second], [third]] if kind.startswith("turns") else [[first]]


def instructions_of(framework, kind, turn, handoffs):
    """Those of the agent that is asked."""
    if framework == "langchain" and kind.endswith("by id") and turn + handoffs > 0:
        # Its system message is part of what it does not repeat.
        return None
    is_cashier = turn > 0 if kind in ["handoff inside", "turns, handed on"] else "handoff" in kind and handoffs % 2 == 1
    return OTHER_INSTRUCTIONS if is_cashier else INSTRUCTIONS


def expected(name, ids):
    """The records of a flow, in short; none if it has another number of responses than it should."""
    framework, api, kind = name.removesuffix(", merged").split(", ", 2)
    merged, named = name.endswith(", merged"), kind.startswith("named")
    kind = kind.removeprefix("named ")
    by_words = api == "Chat" or kind in WITHOUT_IDS.get(framework, [])
    turns = requests_of(framework, kind, said(name))
    left = [*ids[:1], *ids[2:]] if kind in APART else ids
    if len(left) != sum(map(len, turns)):
        return []
    records, before, handoffs = [], None, 0
    for turn, (first, *returned) in enumerate(turns):
        runs, left = left[: 1 + len(returned)], left[1 + len(returned) :]
        # What returned is told of the calls where it is in their record.
        parts = [(runs, first, sum(returned, []))]
        if not merged:
            is_left_open = kind in LEFT_OPEN and turn == 0
            calls = [[None] * len(outputs) for outputs in returned] + [[None] * is_left_open]
            parts = zip([[run] for run in runs], [first, *returned], calls)
        for place, (joined, inputs, calls) in enumerate(parts):
            answers = place > 0 or (kind in LEFT_OPEN and turn == 1)
            records.append({
                "run": joined[0],
                "continuations": joined[1:],
                "parent": before,
                "turn": runs[0],
                "conversation": ids[0],
                "pairing": "history" if by_words and before and not answers else "exact",
                "inputs": inputs,
                "calls": calls,
                "instructions": instructions_of(framework, kind, turn, handoffs),
                "names": [f"session of {name}", f"user of {name}"] if named else [None, None],
            })
            before = joined[-1]
            handoffs += len(calls)
    if kind in APART:
        of_itself = dict.fromkeys(["run", "turn", "conversation"], ids[1])
        records.insert(1, records[0] | of_itself | {"calls": [], "instructions": OTHER_INSTRUCTIONS})
    return records


def in_short(record):
    return {
        "run": api_id(record["run"]),
        "continuations": [api_id(run) for run in record.get("continuations", [])],
        "parent": api_id(record.get("parent_id")),
        "turn": api_id(record["turn_id"]),
        "conversation": api_id(record["conversation"]["id"]),
        "pairing": record["pairing"],
        "inputs": texts(record["inputs"]),
        "calls": [call.get("output") for call in record["tool_calls"]],
        "instructions": record.get("instructions"),
        "names": names(record["attribution"]),
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
    checks.check(f"{name}: as many responses as there should be", wanted, ids)
    records = recorded(proxy, ids, [record["run"] for record in wanted])
    found = [in_short(record) for record in records]
    for what in wanted[0] if wanted else []:
        checks.equal(f"{name}: {what}", [record[what] for record in wanted], [record[what] for record in found])
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
