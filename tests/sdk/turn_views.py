"""What apps saw of responses and chat completions, put together from whatever the SDKs gave them."""

from reports import everything

# What the API itself calls an end.
ENDS = {"cancelled", "completed", "failed", "incomplete"}
# What an SDK adds of its own.
OWN = {"output_text", "parsed", "parsed_arguments", "parsed_output"}


class TurnViews:
    """The last that the apps saw of each response and completion."""

    def __init__(self):
        self.responses = {}
        self.completions = {}
        # The text of responses and completions whose stream was left, as far as it was read.
        self.heard = {}

    def take(self, report):
        """Takes everything of the APIs out of a report, wherever it is."""
        for value in everything(report):
            if isinstance(value, dict):
                self.take_object(value)
            elif are_chunks(value):
                self.take_chunks(value)
            else:
                self.take_deltas(value)

    def take_object(self, value):
        if value.get("object") == "response" and value.get("status") in ENDS:
            self.responses[value["id"]] = without_own(value)
        elif value.get("object") == "chat.completion" and value.get("choices"):
            self.completions[value["id"]] = completion_in_short(value)

    def take_deltas(self, events):
        response = None
        for event in filter(lambda event: isinstance(event, dict), events):
            if event.get("type") == "response.created":
                response = event["response"]["id"]
            elif event.get("type") == "response.output_text.delta" and response:
                self.heard[response] = self.heard.get(response, "") + event["delta"]

    def take_chunks(self, chunks):
        merged = completion_in_short(added_up(chunks))
        self.completions[merged["id"]] = merged
        self.heard[merged["id"]] = "".join(choice["content"] or "" for choice in merged["choices"])


def are_chunks(items):
    return bool(items) and all(map(is_chunk, items))


def is_chunk(value):
    # Azure's first chunk has an empty id and no object.
    return isinstance(value, dict) and "choices" in value and (
        value.get("object") in ("chat.completion.chunk", "") and "message" not in (value["choices"] or [{}])[0]
    )


def without_own(value):
    if isinstance(value, dict):
        # The helpers that parse tell of calls also where there are none; the API never does.
        kept = {name: item for name, item in value.items() if name not in OWN and (name != "tool_calls" or item)}
        return {name: without_own(item) for name, item in kept.items()}
    return [without_own(item) for item in value] if isinstance(value, list) else value


def completion_in_short(completion):
    """A completion in the words of the fake server's truth."""
    choices = []
    for choice in completion["choices"]:
        message = choice["message"]
        function = message.get("function_call")
        choices.append({
            "index": choice["index"],
            "content": message.get("content"),
            "refusal": message.get("refusal"),
            "reasoning": message.get("reasoning_content"),
            "transcript": (message.get("audio") or {}).get("transcript"),
            "function_call": function and {"id": "", "name": function["name"], "arguments": function["arguments"]},
            "tool_calls": [
                {"id": call["id"], **{name: call["function"][name] for name in ("name", "arguments")}}
                for call in message.get("tool_calls") or []
            ],
            "finish_reason": choice["finish_reason"] or "",
        })
    return {
        "id": completion["id"], "model": completion["model"], "created": completion["created"],
        "choices": choices, "usage": completion.get("usage"),
    }


# What each chunk has of its own, or is told in another way.
OF_EACH_CHUNK = {
    "choices", "created", "id", "model", "obfuscation", "object", "service_tier", "system_fingerprint", "usage",
}


def added_up(chunks):
    """The completion that chunks add up to."""
    whole, choices = {"object": "chat.completion"}, {}
    for chunk in chunks:
        if chunk["id"]:
            whole |= {name: chunk[name] for name in ("id", "created", "model", "service_tier", "system_fingerprint")}
        # A vendor's own members are in the whole as well: Azure's results of filters, for one.
        whole |= {name: value for name, value in chunk.items() if name not in OF_EACH_CHUNK and value is not None}
        if chunk.get("usage"):
            whole["usage"] = chunk["usage"]
        for told in chunk["choices"]:
            choice = choices.setdefault(told["index"], {"index": told["index"], "message": {}})
            add(choice["message"], told.get("delta") or {})
            choice["finish_reason"] = told.get("finish_reason") or choice.get("finish_reason")
    return whole | {"choices": [choices[index] for index in sorted(choices)]}


def add(whole, delta):
    """Texts go on, lists by the index of their items; a role is told once."""
    for name, more in delta.items():
        if isinstance(more, dict):
            add(whole.setdefault(name, {}), more)
        elif isinstance(more, list):
            for item in more:
                items = whole.setdefault(name, [])
                while len(items) <= item["index"]:
                    items.append({})
                add(items[item["index"]], item)
        elif isinstance(more, str) and name not in ("role", "id", "type"):
            whole[name] = (whole.get(name) or "") + more
        elif more is not None or name not in whole:
            whole[name] = more
