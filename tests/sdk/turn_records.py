"""Holds the records of responses and chat completions against what happened and against what the apps saw."""

import json
import time

from turn_views import ENDS

# Longer than a turn whose end nobody told is waited for: a minute, on a machine that has little time for it.
RECORD_SECS = 120


def canonical(value):
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def api_id(run):
    """The API's own id in one that was made unique (`completion~exchange`)."""
    return run and run.rsplit("~", 1)[0]


def check_views(checks, api, truths, views):
    """What the apps saw is what happened: the fake server is right."""
    for truth in truths:
        name = f"{truth_id(truth)} ({truth['model']})"
        if api == "responses":
            seen = views.responses.get(truth["response"])
            if seen is not None and not truth["abandoned"]:
                checks.equal(f"{name}: as the app saw it", response_truth(truth), response_seen(seen))
        elif truth["completion"] in views.completions:
            whole = not (truth["abandoned"] or truth["error"])
            seen = views.completions[truth["completion"]]
            if whole:
                checks.equal(f"{name}: as the app saw it", completion_truth(truth), completion_seen(seen))
        if truth["abandoned"]:
            heard = views.heard.get(truth_id(truth), "")
            checks.check(f"{name}: the app heard its beginning", heard and said(truth).startswith(heard), heard)
    known = {truth_id(truth) for truth in truths}
    strays = [id for id in (views.responses if api == "responses" else views.completions) if id not in known]
    checks.check(f"{api}: the apps saw nothing else", not strays, strays)


def truth_id(truth):
    return truth.get("response") or truth.get("completion")


def said(truth):
    if "response" in truth:
        return "".join(item["text"] for item in truth["outputs"] if item["kind"] == "message")
    return "".join(choice["content"] or "" for choice in truth["choices"])


def response_truth(truth):
    usage = truth["usage"]
    return {
        "status": truth["status"], "model": truth["model"],
        "output": [canonical(item["object"]) for item in truth["outputs"]],
        "usage": usage and [usage[key] for key in USAGE], "error": canonical(truth["error"]),
        "metadata": truth["metadata"], "times": [truth["created_at"], truth["completed_at"]],
    }


def response_seen(seen):
    return {
        "status": seen["status"], "model": seen["model"], "output": [canonical(item) for item in seen["output"]],
        "usage": seen["usage"] and counts(seen["usage"]),
        "error": canonical(seen.get("error") or seen.get("incomplete_details")),
        "metadata": seen["metadata"], "times": [seen["created_at"], seen.get("completed_at")],
    }


USAGE = ["input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"]


def counts(usage):
    """The counts of either API's usage."""
    of = "input_tokens" in usage
    names = ("input_tokens", "output_tokens") if of else ("prompt_tokens", "completion_tokens")
    return [
        usage[names[0]], usage[f"{names[0]}_details"]["cached_tokens"],
        usage[names[1]], usage[f"{names[1]}_details"]["reasoning_tokens"],
    ]


def chat_usage(usage):
    names = ["prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens"]
    return usage and [usage[name] for name in names]


def completion_truth(truth):
    return {
        "model": truth["model"], "created": truth["created_at"], "usage": chat_usage(truth["usage"]),
        # That nothing was said is told in one way by whole answers and in another by streams.
        "choices": [{name: value or None for name, value in choice.items() if name != "index"} for choice in truth["choices"]],
    }


def completion_seen(seen):
    return {
        "model": seen["model"], "created": seen["created"], "usage": seen["usage"] and counts(seen["usage"]),
        "choices": [
            {name: choice[name] or None for name in CHOICE} for choice in seen["choices"]
        ],
    }


CHOICE = ["content", "refusal", "reasoning", "transcript", "tool_calls", "function_call", "finish_reason"]


def check_records(checks, api, records, truths, attribution):
    """Waits for a record of every turn, and holds each against the truth."""
    over = {
        truth_id(truth): truth for truth in truths
        if api == "chat" or truth["status"] in ENDS and not truth["refused"]
    }
    deadline = time.monotonic() + RECORD_SECS
    while True:
        found = [row["interaction"] for row in records() if row["interaction"].get("api") == api]
        if over.keys() <= {api_id(record["run"]) for record in found} or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    strays = [record["run"] for record in found if api_id(record["run"]) not in over]
    checks.check(f"{api}: no record is about what was refused, goes on, or is unknown", not strays, strays)
    joined = joined_completions(checks, over, found) if api == "chat" else {}
    for id, truth in over.items():
        name = f"record of {id} ({truth['model']})"
        mine = [record for record in found if api_id(record["run"]) == id]
        checks.check(f"{name}: there is one", len(mine) == 1, f"there are {len(mine)}")
        for record in mine[:1]:
            try:
                expected = expected_response(truth) if api == "responses" else expected_completion(truth, joined, over)
                got = in_short(record)
                if truth["abandoned"] or told_error(truth):
                    check_beginning(checks, name, truth, expected, got)
                else:
                    checks.equal(f"{name}: as it happened", expected, got)
                check_attribution(checks, name, record, attribution)
                encoded = "iVBORw0KGgo" in canonical(record)
                checks.check(f"{name}: no file is in it", not encoded, "a picture is")
            except (KeyError, TypeError, ValueError) as error:
                checks.check(f"{name}: its shape", False, f"{error!r} in {record}")


def joined_completions(checks, truths, records):
    """The completions that go on with one whose conversation their request repeats, and that one.

    Which one that is, the requests say: it must be joined if there is only one, and to none that says something else.
    """
    records = {api_id(record["run"]): record for record in records}
    joined = {}
    for id, truth in truths.items():
        record, said = records.get(id), talk(known_messages(truth))
        if record is None or not said or truth["continues"]:
            continue
        before = [
            other for other, of in truths.items()
            if said in [talk(of["request"]["messages"]) + answer for answer in answers(of)] and other in records
        ]
        whose = [record["attribution"].get(name) for name in ("app", "user", "session")]
        before = [
            other for other in before
            if whose == [records[other]["attribution"].get(name) for name in ("app", "user", "session")]
        ]
        if record["pairing"] == "history":
            parent = api_id(record["parent_id"])
            checks.check(f"record of {id}: it repeats what it goes on with", parent in before, [parent, before])
            joined[id] = parent
        else:
            checks.check(f"record of {id}: nothing else says what it repeats", len(before) != 1, before)
    return joined


def known_messages(truth):
    messages = truth["request"]["messages"]
    return messages[:len(messages) - len(truth["inputs"])]


def talk(messages):
    """What was said, but for what instructs the assistant."""
    return [
        [chat_role(message), readable(message), [call["id"] for call in message.get("tool_calls") or []]]
        for message in messages if chat_role(message) != "system"
    ]


def answers(truth):
    for choice in truth["choices"]:
        yield [["assistant", choice["content"] or "", [call["id"] for call in choice["tool_calls"]]]]


def check_beginning(checks, name, truth, expected, got):
    """Of a stream that was left or told an error, the record has what passed: the beginning of what was said."""
    text = "".join(text for _, text in got.pop("outputs"))
    expected.pop("outputs")
    checks.check(f"{name}: it has the beginning", text and said(truth).startswith(text), text)
    checks.equal(f"{name}: as it happened", expected, got)


def check_attribution(checks, name, record, attribution):
    user = record["attribution"].get("user")
    expected = attribution.get((user or {}).get("userId"), (None, None))
    checks.equal(f"{name}: its user and session", list(expected), [user, record["attribution"].get("session")])


def expected_response(truth):
    usage = truth["usage"]
    left = truth["abandoned"]
    return {
        "conversation": truth["conversation"] or truth["root"],
        "turn": truth["turn"],
        "parent": truth["previous"] or truth["continues"] or truth["follows"],
        "status": response_status(truth),
        "model": truth["model"],
        "instructions": truth["instructions"],
        "inputs": [[role_of(item), readable(item["object"])] for item in truth["inputs"]],
        "outputs": [[item["id"], readable(item["object"])] for item in truth["outputs"] if item["kind"] == "message"],
        "calls": [call_truth(item["object"]) for item in truth["outputs"] if item["kind"] in CALLS],
        "reasoning": [item["text"] for item in truth["outputs"] if item["kind"] == "reasoning"],
        "tokens": None if left or told_error(truth) else usage and token_list(usage[key] for key in USAGE),
        "usage_absent": response_usage_absent(truth),
        "error": truth["error"]["code"] if told_error(truth) else canonical(None if left else truth["error"]),
        "metadata": canonical(truth["metadata"] or None),
        "times": [truth["created_at"], None if left else truth["completed_at"]],
    }


CALLS = ("function_call", "mcp_call", "web_search_call")


def response_status(truth):
    if truth["abandoned"]:
        return "client_disconnected"
    return "failed" if told_error(truth) else truth["status"]


def response_usage_absent(truth):
    if truth["abandoned"]:
        return "client_disconnected"
    return None if truth["usage"] and not told_error(truth) else "not_reported"


def told_error(truth):
    """Whether the stream told an error, and nothing after it: the response's own word was never told."""
    return truth["model"].startswith("fake-error")


def is_error_event(error):
    return (error or {}).get("type") == "error"


def call_truth(item):
    if item["type"] == "function_call":
        return [item["call_id"], "function", item["name"], canonical(json.loads(item["arguments"]))]
    arguments = json.dumps(item["action"]) if item["type"] == "web_search_call" else item["arguments"]
    return [item["id"], item["type"].removesuffix("_call"), item.get("name"), canonical(json.loads(arguments))]


def role_of(item):
    return "tool" if item["kind"] == "function_call_output" else "system" if item["role"] == "developer" else item["role"]


def expected_completion(truth, joined, truths):
    root = truth["turn"]
    while root in joined:
        root = truths[joined[root]]["turn"]
    left, failed = truth["abandoned"], truth["error"] is not None
    cut = all(choice["finish_reason"] in ("length", "content_filter") for choice in truth["choices"])
    # Nobody can look at a completion again: what its stream told is the last word of it.
    status = "client_disconnected" if left else "failed" if failed else "incomplete" if cut else "completed"
    usage = chat_usage(truth["usage"])
    error = truth["error"]
    if status == "incomplete":
        error = {"reason": truth["choices"][0]["finish_reason"]}
    calls = []
    for choice in truth["choices"]:
        place = len(choice["tool_calls"])
        calls += [call_of(call["id"], call) for call in choice["tool_calls"]]
        if choice["function_call"]:
            calls.append(call_of(f"{truth['completion']}#{choice['index']}#{place}", choice["function_call"]))
    return {
        "conversation": root,
        "turn": truth["turn"],
        "parent": truth["continues"] or joined.get(truth["completion"]),
        "status": status,
        "model": truth["model"],
        "instructions": truth["instructions"],
        "inputs": [[chat_role(message), readable(message)] for message in truth["inputs"]],
        "outputs": [
            [f"{truth['completion']}#{choice['index']}", text] for choice in truth["choices"]
            for text in [choice_text(choice)] if text
        ],
        "calls": calls,
        "reasoning": [choice["reasoning"] for choice in truth["choices"] if choice["reasoning"]],
        "tokens": usage and token_list(usage),
        "usage_absent": None if usage else absent(truth),
        "error": canonical(error),
        "metadata": canonical(truth["metadata"] or None),
        "times": [truth["created_at"], None],
    }


def call_of(id, call):
    return [id, "function", call["name"], canonical(json.loads(call["arguments"]))]


def absent(truth):
    return "stream_without_include_usage" if truth["streamed"] and not truth["usage_asked"] else "not_reported"


def chat_role(message):
    return {"function": "tool", "developer": "system"}.get(message["role"], message["role"])


def choice_text(choice):
    texts = [choice["content"], choice["refusal"] and f"[refusal: {choice['refusal']}]"]
    spoken = "[audio]" if choice["transcript"] else None
    return "\n".join(text for text in [*texts, spoken] if text)


def readable(message):
    """What a person would read of a message or an item of either API or of a record."""
    content = message["output"] if message.get("type") == "function_call_output" else message.get("content")
    if isinstance(content, str):
        return content
    return "\n".join(part_text(part) for part in content or [])


def part_text(part):
    if "text" in part:
        return part["text"] if isinstance(part["text"], str) else part["text"]["value"]
    kind = {"input_image": "image_url", "input_file": "file"}.get(part["type"], part["type"])
    return f"[refusal: {part['refusal']}]" if kind == "refusal" else f"[{kind}]"


def token_list(tokens):
    read, cached, written, thought = tokens
    return {"input": read, "output": written, "total": read + written, "cached": cached, "reasoning": thought}


def in_short(record):
    times = record["times"]
    return {
        "conversation": api_id(record["conversation"]["id"]),
        "turn": api_id(record.get("turn_id") or record["run"]),
        "parent": api_id(record.get("parent_id")),
        "status": record["status"],
        "model": record["model"],
        "instructions": record.get("instructions"),
        "inputs": [[message["role"], readable(message["object"])] for message in record["inputs"]],
        "outputs": [[message["id"], readable(message["object"])] for message in record["outputs"]],
        "calls": [
            [call["id"], call["kind"], call.get("name"), canonical(json.loads(call.get("arguments") or "null"))]
            for call in record["tool_calls"]
        ],
        "reasoning": [item["text"] for item in record.get("reasoning", [])],
        "tokens": record.get("tokens"),
        "usage_absent": record["usage_absent"],
        "error": record["error"]["code"] if is_error_event(record["error"]) else canonical(record["error"]),
        "metadata": canonical(record["metadata"]),
        "times": [times["created_at"], times["ended_at"]],
    }
