"""What apps saw of responses and chat completions, put together from whatever the SDKs gave them."""

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

    def take(self, value):
        """Takes everything of the APIs out of a report, wherever it is."""
        if isinstance(value, list):
            if value and all(is_chunk(item) for item in value):
                self.take_chunks(value)
                return
            self.take_deltas(value)
            for item in value:
                self.take(item)
        elif isinstance(value, dict):
            for item in value.values():
                self.take(item)
            self.take_object(value)

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
        merged = merge(chunks)
        self.completions[merged["id"]] = merged
        self.heard[merged["id"]] = "".join(choice["content"] or "" for choice in merged["choices"])


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


def new_choice(index):
    names = ["content", "refusal", "reasoning", "transcript", "function_call"]
    return {"index": index} | dict.fromkeys(names) | {"tool_calls": [], "finish_reason": ""}


def completion_in_short(completion):
    """A completion in the words of the fake server's truth."""
    choices = []
    for choice in completion["choices"]:
        message = choice["message"]
        function = message.get("function_call")
        choices.append(new_choice(choice["index"]) | {
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


def merge(chunks):
    """What the chunks of a stream add up to, in the words of the fake server's truth."""
    whole = {"usage": None, "choices": []}
    for chunk in chunks:
        if chunk["id"]:
            whole |= {"id": chunk["id"], "model": chunk["model"], "created": chunk["created"]}
        whole["usage"] = chunk.get("usage") or whole["usage"]
        for told in chunk["choices"]:
            while len(whole["choices"]) <= told["index"]:
                whole["choices"].append(new_choice(len(whole["choices"])))
            choice, delta = whole["choices"][told["index"]], told.get("delta") or {}
            add(choice, "content", delta.get("content"))
            add(choice, "refusal", delta.get("refusal"))
            add(choice, "reasoning", delta.get("reasoning_content"))
            add(choice, "transcript", (delta.get("audio") or {}).get("transcript"))
            add(choice, "finish_reason", told.get("finish_reason"))
            if delta.get("function_call"):
                choice["function_call"] = choice["function_call"] or {"id": "", "name": "", "arguments": ""}
                add(choice["function_call"], "name", delta["function_call"].get("name"))
                add(choice["function_call"], "arguments", delta["function_call"].get("arguments"))
            for part in delta.get("tool_calls") or []:
                while len(choice["tool_calls"]) <= part["index"]:
                    choice["tool_calls"].append({"id": "", "name": "", "arguments": ""})
                call, function = choice["tool_calls"][part["index"]], part.get("function") or {}
                add(call, "id", part.get("id"))
                add(call, "name", function.get("name"))
                add(call, "arguments", function.get("arguments"))
    return whole


def add(fields, name, more):
    if more is not None:
        fields[name] = (fields[name] or "") + more
