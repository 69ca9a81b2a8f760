"""Holds what Reconify was sent of responses and chat completions against what the apps asked and saw.

A chat goes as the vendor's SDK sends it: what `chat.completions.create` was given, and what it gave; of a stream, what its SDK
made of it, or what its chunks add up to. A response goes as the message in and the message out of an assistant, or with the
setting as lists of messages. Files become descriptions. Nothing here is taken from threadtap's records.
"""

import hashlib
import time
from collections import Counter

from reports import everything
from turn_records import api_id, truth_id
from turn_views import added_up, are_chunks, without_own

DELIVERY_SECS = 120
ENVELOPE = ["reconify", "request", "response", "user", "session", "sessionTimeout", "timestamps"]
# The sinks by their keys: as what a response is told, and what it must have come to.
SINKS = {
    "assistant": ("assistant", ["completed"]),
    "universal": ("universal", ["completed", "incomplete"]),
}


def settings(collector):
    """Threadtap's settings with both sinks."""
    sinks = "".join(
        f"""
        [[sinks]]
        type = "reconify"
        name = "{key}"
        app_key = "{key}"
        api_key = "api-key"
        url = "{collector}"
        responses = "{shape}"
        filter = {{ statuses = [{", ".join(f'"{status}"' for status in statuses)}] }}
        """
        for key, (shape, statuses) in SINKS.items()
    )
    return sinks.replace("        ", "")


class Answers:
    """What `create` gave each app, as a whole."""

    def __init__(self):
        self.by_id = {}

    def take(self, report):
        """Takes the first that was seen of each answer out of a report; later looks at it may show changes."""
        for value in everything(report):
            if isinstance(value, list):
                whole = added_up(value) if are_chunks(value) else None
            else:
                over = value.get("object") == "response" and value.get("status") in ("completed", "incomplete")
                whole = without_own(value) if over or value.get("object") == "chat.completion" else None
            if whole:
                self.by_id.setdefault(whole["id"], whole)


def expected_payloads(truths):
    """The turns that each sink is to be told of, by the sink's key and the turn's id."""
    return {
        (key, truth_id(truth)): truth
        for key, (_, statuses) in SINKS.items() for truth in truths if is_told(truth, statuses)
    }


def is_told(truth, statuses):
    """Whether a turn came to an end that is to be told, and somebody said something in it."""
    if "completion" in truth:
        # One that was cut short is to the vendor's SDK like any other.
        over = truth["error"] is None and not truth["abandoned"]
        spoken = any(choice["content"] or choice["refusal"] or choice["transcript"] for choice in truth["choices"])
        return over and (spoken or any(message["role"] == "user" for message in truth["inputs"]))
    said = [item["role"] for item in truth["inputs"] + truth["outputs"] if item["kind"] == "message"]
    return truth["status"] in statuses and not {"assistant", "user"}.isdisjoint(said)


def wait_delivered(received, expected):
    deadline = time.monotonic() + DELIVERY_SECS
    while expected.keys() - {identity(payload) for payload in received()} and time.monotonic() < deadline:
        time.sleep(0.5)


def check_payloads(checks, payloads, truths, answers, attribution):
    """Holds what the backend received against what happened: of every turn once what is to be told, and nothing else."""
    expected = expected_payloads(truths)
    counts = Counter(map(identity, payloads))
    for key in SINKS:
        for truth in truths:
            id = truth_id(truth)
            wanted, got = int((key, id) in expected), counts.pop((key, id), 0)
            name = f"payload of {id} ({truth['model']}) for {key}"
            checks.check(f"{name}: {wanted} received", got == wanted, f"{got} were")
    checks.check("payloads: none is about something that did not pass threadtap", not counts, counts)
    for payload in payloads:
        key, id = identity(payload)
        truth = expected.get((key, id))
        if truth is None:
            continue
        name = f"payload of {id} ({truth['model']}) for {key}"
        try:
            check_payload(checks, name, payload, truth, answers.by_id.get(id), attribution)
        except (KeyError, TypeError, IndexError) as error:
            checks.check(f"{name}: its shape", False, f"{error!r} in {payload}")


def identity(payload):
    """The sink it came from, by its key, and what it is about."""
    answer = payload["response"] or {}
    return payload["reconify"]["appKey"], api_id(answer.get("run_id") or answer.get("id"))


def check_payload(checks, name, payload, truth, answer, attribution):
    key = payload["reconify"]["appKey"]
    checks.check(f"{name}: the app saw the answer", answer is not None)
    if answer is None:
        return
    chat = "completion" in truth
    shape = "chat" if chat else SINKS[key][0]
    form = {"chat": ("openai", "chat"), "assistant": ("openai", "assistant"), "universal": ("universal", "chat")}[shape]
    checks.equal(f"{name}: order of its fields", ENVELOPE, list(payload))
    envelope = {"format": form[0], "appKey": key, "apiKey": "api-key", "type": form[1], "version": "3.1.0"}
    checks.equal(f"{name}: its envelope", envelope, payload["reconify"])
    expected = attribution.get((payload["user"] or {}).get("userId"))
    checks.equal(f"{name}: its user and session", list(expected or ()), [payload["user"], payload["session"]])
    checks.equal(f"{name}: its session's timeout", 15, payload["sessionTimeout"])
    asked, answered = payload["timestamps"]["request"], payload["timestamps"]["response"]
    # The API counts whole seconds.
    between = asked // 1000 <= truth["created_at"] <= answered // 1000 <= time.time()
    checks.check(f"{name}: its times", between, f"{asked}, {truth['created_at']}, {answered}")
    request, response = EXPECTED[shape](truth, answer, payload["session"])
    checks.equal(f"{name}: what was asked", in_order(request), in_order(asked_of(payload, shape, truth)))
    told = payload["response"]
    if chat and truth["streamed"]:
        response, told = bare(response), bare(told)
    checks.equal(f"{name}: what was answered", in_order(response), in_order(told))


def asked_of(payload, shape, truth):
    """What was asked. A message that was born in a request has an id that no answer ever told."""
    asked = payload["request"]
    ids = [item["id"] for item in truth.get("inputs", []) if item.get("role") == "user"] if shape == "assistant" else []
    return {name: value for name, value in asked.items() if name != "id" or value not in ids[-1:]}


def in_order(value):
    """With keys in one order: the SDK of Python puts them into its own."""
    if isinstance(value, dict):
        return {name: in_order(value[name]) for name in sorted(value)}
    return [in_order(item) for item in value] if isinstance(value, list) else value


def bare(value, key=""):
    """Without what is empty and what only a stream has: an SDK shows an absent field as it likes."""
    if isinstance(value, dict):
        kept = {name: bare(item, name) for name, item in value.items() if name not in ONLY_STREAMED}
        # No call has an index but a streamed one.
        return {name: item for name, item in kept.items() if item not in (None, "", [], {}) and (name, key) != ("index", "tool_calls")}
    return [bare(item, key) for item in value] if isinstance(value, list) else value


ONLY_STREAMED = {"expires_at", "obfuscation"}


def expected_chat(truth, answer, _session):
    response = answer
    if truth["streamed"]:
        response = with_audio_described(answer)
    request = truth["request"]
    return request | {"messages": without_files(request["messages"])}, response


def with_audio_described(answer):
    choices = []
    for choice in answer["choices"]:
        message = dict(choice["message"])
        if message.get("audio"):
            message["audio"] = message["audio"] | {"data": f"[{described(message['audio']['data'])}]"}
        choices.append(choice | {"message": message})
    return answer | {"choices": choices}


def without_files(value):
    """With a description in the place of each `data:` URL."""
    if isinstance(value, dict):
        return {name: without_files(item) for name, item in value.items()}
    if isinstance(value, list):
        return [without_files(item) for item in value]
    if isinstance(value, str) and value.startswith("data:"):
        head, _, data = value.partition(",")
        return f"{head},[{described(data)}]"
    return value


def described(data):
    return f"{len(data)} characters, sha256 {hashlib.sha256(data.encode()).hexdigest()[:16]}"


def expected_as_assistant(truth, answer, session):
    """A message in, a message out."""
    asked = [item["object"] for item in truth["inputs"] if item["role"] == "user"]
    request = {"object": "thread.message", "role": "user", "content": parts_of(asked), "thread_id": session}
    said = [item for item in answer["output"] if item["type"] == "message"]
    response = {"object": "thread.message", "role": "assistant"}
    for item in said[-1:]:
        response |= {name: value for name, value in item.items() if name != "type"}
    response |= {
        "content": parts_of(said), "thread_id": session, "run_id": answer["id"], "usage": usage_of(answer),
    }
    return request | {"model": answer["model"]}, response


def parts_of(items):
    """The content of messages as an assistant's messages have it."""
    return [part_of(part) for item in items for part in item["content"]]


def part_of(part):
    if part["type"] in ("input_text", "output_text"):
        return {"type": "text", "text": {"value": part["text"], "annotations": part.get("annotations", [])}}
    if part["type"] == "input_image":
        image = {"url": without_files(part["image_url"]), "detail": part["detail"]}
        return {"type": "image_url", "image_url": image}
    return part


def usage_of(answer):
    usage = answer["usage"]
    return {
        "prompt_tokens": usage["input_tokens"], "completion_tokens": usage["output_tokens"],
        "total_tokens": usage["total_tokens"],
    }


def expected_as_universal(truth, answer, session):
    """Lists of messages."""
    asked = [item for item in truth["inputs"] if item["role"] in ("assistant", "user")]
    said = [item for item in answer["output"] if item["type"] == "message"]
    request = {
        "model": answer["model"], "thread_id": session,
        "messages": [{"role": item["role"], "content": text_of(item["object"])} for item in asked],
    }
    lines = [{"role": "assistant", "content": text_of(item)} for item in said]
    response = {
        "id": answer["id"], "model": answer["model"],
        "choices": [{"index": index, "message": line} for index, line in enumerate(lines)], "usage": usage_of(answer),
    }
    return request, response


def text_of(item):
    """What a person would read of a message."""
    return "\n".join(map(line_of, item["content"]))


def line_of(part):
    if part["type"] == "input_image":
        return f"[image_url {without_files(part['image_url'])}]"
    return f"[refusal: {part['refusal']}]" if part["type"] == "refusal" else part["text"]


EXPECTED = {"assistant": expected_as_assistant, "chat": expected_chat, "universal": expected_as_universal}
