"""Holds the admin API's records against what happened and against what the apps saw."""

import json
import time

from reports import everything

# What the API itself calls an end.
ENDS = {"cancelled", "completed", "expired", "failed", "incomplete"}
# Longer than a run whose messages nobody fetches is waited for (`correlation.outputs_grace`, 30 s).
RECORD_SECS = 60


class AppView:
    """The last that the apps saw of each run, message and call that passed threadtap."""

    def __init__(self):
        self.runs = {}
        self.messages = {}
        self.calls = {}

    def take(self, report):
        """Takes every object of the API out of a report, wherever it is."""
        for value in everything(report):
            if isinstance(value, dict):
                self.take_object(value)

    def take_object(self, value):
        status = value.get("status")
        if value.get("object") == "thread.run" and status in ENDS:
            self.runs[value["id"]] = value
        elif value.get("object") == "thread.message" and status in ("completed", "incomplete"):
            self.messages[value["id"]] = value
        elif value.get("object") == "thread.run.step" and status == "completed":
            for call in value["step_details"].get("tool_calls") or []:
                self.calls[call["id"]] = {"run": value["run_id"], **call}


def check_records(checks, records, truths, view, attribution):
    """Waits for a record of every run that is over, and holds each against the truth and the apps' view."""
    over = {truth["run"]: truth for truth in truths if truth["status"] in ENDS or truth["thread_deleted"]}
    deadline = time.monotonic() + RECORD_SECS
    while True:
        found = [row["interaction"] for row in records()]
        if over.keys() <= {record["run"] for record in found} or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    strays = [record["run"] for record in found if record["run"] not in over]
    checks.check("records: none is about a run that goes on, or is unknown", not strays, strays)
    unseen = [run for run in view.runs if run not in over]
    checks.check("records: no app saw the end of a run that is not over", not unseen, unseen)
    for run, truth in over.items():
        name = f"record of {truth['assistant']} {run}"
        mine = [record for record in found if record["run"] == run]
        checks.check(f"{name}: there is one", len(mine) == 1, f"there are {len(mine)}")
        for record in mine[:1]:
            try:
                check_record(checks, name, record, truth, view, attribution)
            except (KeyError, TypeError, ValueError) as error:
                checks.check(f"{name}: its shape", False, f"{error!r} in {record}")


def check_record(checks, name, record, truth, view, attribution):
    checks.equal(f"{name}: as it happened", happened(truth, record, view), in_short(record))
    user = record["attribution"].get("user")
    expected = attribution.get((user or {}).get("userId"), (None, None))
    checks.equal(f"{name}: its user and session", list(expected), [user, record["attribution"].get("session")])
    if record["run"] in view.runs:
        checks.equal(f"{name}: its run as the app saw it", seen(view.runs[record["run"]]), run_of(record))
    # Every answer and call that the app saw is in the record, word for word.
    recorded = {message["id"]: message["object"] for message in record["outputs"]}
    for id, message in view.messages.items():
        if message.get("run_id") == record["run"] and message["role"] == "assistant":
            of_both = [canonical(whole.get("content")) for whole in (message, recorded.get(id, {}))]
            checks.equal(f"{name}: {id} as the app saw it", *of_both)
    calls = {call["id"]: call_in_short(call) for call in record["tool_calls"]}
    for id, call in view.calls.items():
        if call["run"] == record["run"]:
            checks.equal(f"{name}: {id} as the app saw it", seen_call(call), calls.get(id))


def canonical(value):
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def happened(truth, record, view):
    """What the record must say of a run."""
    deleted = truth["status"] not in ENDS
    usage = truth["usage"]
    # What nobody fetched cannot be known, and the record must say that something may be missing.
    complete = record["outputs_complete"]
    outputs = [message for message in truth["outputs"] if complete or message["id"] in view.messages]
    return {
        "thread": truth["thread"],
        "assistant": truth["assistant"],
        "model": truth["model"],
        "status": "thread_deleted" if deleted else truth["status"],
        "assumed": deleted,
        "pairing": "exact",
        "inputs": [[message["role"], message["text"]] for message in truth["inputs"]],
        "inputs_complete": True,
        "outputs": [[message["id"], message["text"]] for message in outputs],
        "calls": [[call[key] for key in ("id", "kind", "name", "arguments", "output")] for call in truth["tool_calls"]],
        "usage": usage and usage | {"total_tokens": sum(usage.values())},
        "usage_absent": "end_not_seen" if deleted else None,
        "error": truth["error"],
        "metadata": truth["metadata"] or None,
        # The API has no field for when a run expired or became incomplete.
        "times": [
            truth["created_at"], truth["started_at"],
            truth["ended_at"] if truth["status"] in ("cancelled", "completed", "failed") else None,
        ],
    }


def in_short(record):
    times = record["times"]
    return {
        "thread": record["conversation"]["id"],
        "assistant": record["assistant"],
        "model": record["model"],
        "status": record["status"],
        "assumed": record["assumed"],
        "pairing": record["pairing"],
        "inputs": [[message["role"], text_of(message)] for message in record["inputs"]],
        "inputs_complete": record["inputs_complete"],
        "outputs": [[message["id"], text_of(message)] for message in record["outputs"]],
        "calls": [call_in_short(call) for call in record["tool_calls"]],
        "usage": record["usage"],
        "usage_absent": record["usage_absent"],
        "error": record["error"],
        "metadata": record["metadata"],
        "times": [times["created_at"], times["started_at"], times["ended_at"]],
    }


def text_of(message):
    return "\n".join(map(part_text, message["object"]["content"]))


def part_text(part):
    return f"[refusal: {part['refusal']}]" if part["type"] == "refusal" else part["text"]["value"]


def call_in_short(call):
    output = call.get("output")
    if call["kind"] == "code_interpreter" and output is not None:
        output = "".join(part["logs"] for part in json.loads(output))
    return [call["id"], call["kind"], call.get("name") or "", call.get("arguments"), output]


def seen_call(call):
    """A call as a step showed it to the app."""
    if call["type"] == "code_interpreter":
        code = call["code_interpreter"]
        return [call["id"], call["type"], "", code["input"], "".join(part["logs"] for part in code["outputs"])]
    if call["type"] == "azure_ai_search":
        search = call["azure_ai_search"]
        return [call["id"], call["type"], "", search["input"], search["output"]]
    if call["type"] == "bing_grounding":
        details = json.dumps(call["bing_grounding"], separators=(",", ":"))
        return [call["id"], call["type"], "", details, None]
    function = call["function"]
    return [call["id"], call["type"], function["name"], function["arguments"], function.get("output")]


def seen(run):
    """A run as the app saw it at its end."""
    return {
        "thread": run["thread_id"],
        "assistant": run["assistant_id"],
        "model": run["model"],
        "status": run["status"],
        "usage": canonical(run.get("usage")),
        "error": canonical(run.get("last_error") or run.get("incomplete_details")),
        "metadata": canonical(run.get("metadata") or None),
        "created_at": run["created_at"],
    }


def run_of(record):
    return {
        "thread": record["conversation"]["id"],
        "assistant": record["assistant"],
        "model": record["model"],
        "status": record["status"],
        "usage": canonical(record["usage"]),
        "error": canonical(record["error"]),
        "metadata": canonical(record["metadata"]),
        "created_at": record["times"]["created_at"],
    }
