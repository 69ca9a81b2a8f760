"""Plays the flows of Responses or Chat Completions with the official Python SDK and prints what the app saw, as JSON.

usage: turn_flows.py URL openai | azure-dated | azure-v1 responses | chat

The second word says which client plays, and so below which paths of the server at URL. Works with openai 2.x and 3.x alike, and
with 1.43 as far as that knows the API. The flows are those of turn_flows.mjs.
"""

import json
import sys

import openai
from pydantic import BaseModel

from openai_client import QUESTION, client_of

PICTURE = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
NAMES = ["get_weather", "get_time"]
RESPONSE_TOOLS = [{"type": "function", "name": name, "parameters": PARAMETERS, "strict": False} for name in NAMES]
CHAT_TOOLS = [{"type": "function", "function": {"name": name, "parameters": PARAMETERS}} for name in NAMES]


class Answer(BaseModel):
    answer: str

client = client_of(*sys.argv[1:3], api_version="2025-04-01-preview")


def dump(value):
    """The JSON of an SDK object, with every field the server sent."""
    # A parsed answer is the SDK's own, and no field of the server's.
    return value.model_dump(mode="json", warnings=False, exclude_unset=True)


def raised(attempt):
    """What the SDK says of a request that fails."""
    try:
        attempt()
    except openai.APIStatusError as error:
        return {"status": error.status_code, "kind": type(error).__name__, "body": error.body}
    except openai.APIError as error:
        return {"kind": type(error).__name__, "message": error.message, "code": error.code}
    raise AssertionError("nothing was raised")


# ---- Responses


def respond(model="gpt-5", text=QUESTION, **fields):
    return client.responses.create(model=model, input=text, **fields)


def watched(model="gpt-5", text=QUESTION, **fields):
    """What a stream helper told: every event and what it made of them."""
    with client.responses.stream(model=model, input=text, **fields) as stream:
        events = [dump(event) for event in stream]
        return {"events": events, "response": dump(stream.get_final_response())}


def outputs(response):
    return [
        {"type": "function_call_output", "call_id": item.call_id, "output": item.name + " says fine"}
        for item in response.output if item.type == "function_call"
    ]


def create():
    fields = {"safety_identifier": "ada", "prompt_cache_key": "shop"}
    return dump(respond(instructions="Be brief.", metadata={"k": "v"}, **fields))


def create_with_parts():
    parts = [{"type": "input_text", "text": QUESTION}, {"type": "input_image", "image_url": PICTURE, "detail": "auto"}]
    items = [{"role": "developer", "content": "Be kind."}, {"role": "user", "content": parts}]
    return dump(respond(text=items))


def stream_without_helper():
    return [dump(event) for event in respond("fake-messages", stream=True)]


def stream():
    return watched()


def stream_without_obfuscation():
    return [dump(event) for event in respond(stream=True, stream_options={"include_obfuscation": False})]


def parsed():
    response = client.responses.parse(model="gpt-5", input=QUESTION, text_format=Answer)
    assert response.output_parsed == Answer(answer=f"You said: {QUESTION}"), response.output_parsed
    return dump(response)


def chain():
    first = respond(text="one")
    second = respond(text="two", previous_response_id=first.id)
    third = watched(text="three", previous_response_id=second.id)
    return [dump(first), dump(second), third]


def history_sent_again():
    first = respond(text="one", store=False)
    said = [{"role": "user", "content": "one"}] + [dump(item) for item in first.output]
    second = respond(text=said + [{"role": "user", "content": "two"}], store=False)
    return [dump(first), dump(second)]


def conversation():
    items = [{"type": "message", "role": "user", "content": "one"}]
    conversation = client.conversations.create(metadata={"k": "v"}, items=items)
    first = respond(text="two", conversation=conversation.id)
    client.conversations.items.create(conversation.id, items=[{"type": "message", "role": "user", "content": "three"}])
    second = watched(text="four", conversation={"id": conversation.id})
    listed = [dump(item) for item in client.conversations.items.list(conversation.id, limit=3, order="asc")]
    assert len(listed) == 6, len(listed)
    client.conversations.update(conversation.id, metadata={"k": "w"})
    deleted = client.conversations.delete(conversation.id)
    return [dump(conversation), dump(first), second, listed, dump(deleted)]


def polled(model, **fields):
    """The states of a response in the background, until it is over."""
    states = [respond(model, background=True, **fields)]
    while states[-1].status in ("queued", "in_progress"):
        states.append(client.responses.retrieve(states[-1].id))
    return [dump(state) for state in states]


def background():
    return [polled("gpt-5"), polled("fake-incomplete"), polled("fake-fail"), polled("fake-messages")]


def background_cancelled():
    response = respond("fake-stall", background=True)
    running = client.responses.retrieve(response.id)
    cancelled = client.responses.cancel(response.id)
    assert cancelled.status == "cancelled", cancelled.status
    return [dump(running), dump(cancelled)]


def background_resumed():
    first = []
    with respond("fake-long", background=True, stream=True) as stream:
        for event in stream:
            first.append(dump(event))
            if len(first) == 20:
                break
    after = first[-1]["sequence_number"]
    rest = client.responses.retrieve(first[0]["response"]["id"], stream=True, starting_after=after)
    return [first, [dump(event) for event in rest]]


def tools():
    first = respond("fake-tools", tools=RESPONSE_TOOLS)
    second = respond("fake-tools", outputs(first), tools=RESPONSE_TOOLS, previous_response_id=first.id)
    return [dump(first), dump(second)]


def tools_sent_again():
    options = {"tools": RESPONSE_TOOLS, "store": False, "include": ["reasoning.encrypted_content"]}
    first = respond("fake-reason_tool", **options)
    said = [{"role": "user", "content": QUESTION}] + [dump(item) for item in first.output]
    second = respond("fake-reason_tool", said + outputs(first), **options)
    return [dump(first), dump(second)]


def tools_streamed():
    told, previous, text = [], None, QUESTION
    while True:
        fields = {"previous_response_id": previous} if previous else {}
        with client.responses.stream(
            model="fake-tool_twice", input=text, tools=RESPONSE_TOOLS, **fields
        ) as stream:
            events = [dump(event) for event in stream]
            response = stream.get_final_response()
        told.append({"events": events, "response": dump(response)})
        text, previous = outputs(response), response.id
        if not text:
            assert len(told) == 3, len(told)
            return told


def kinds_of_items():
    return [
        dump(respond(model)) for model in
        ["fake-search", "fake-mcp", "fake-reason", "fake-refuse", "fake-messages", "fake-talk_tool", "fake-empty"]
    ]


def kinds_of_items_streamed():
    models = ["fake-search", "fake-mcp", "fake-reason", "fake-refuse", "fake-talk_tool", "fake-empty"]
    return [[dump(event) for event in respond(model, stream=True)] for model in models]


def other_ends():
    models = ["fake-incomplete", "fake-filter", "fake-fail", "fake-fail_early"]
    return [[dump(respond(model)), [dump(event) for event in respond(model, stream=True)]] for model in models]


def error_in_stream():
    # To the SDK it is an event like any other.
    events = [dump(event) for event in respond("fake-error", stream=True)]
    assert events[-1]["type"] == "error", events[-1]
    return events


def left():
    events = []
    with respond("fake-stall", stream=True) as stream:
        for event in stream:
            events.append(dump(event))
            if event.type == "response.output_text.delta":
                return events


def looked_at_again():
    response = respond()
    seen = [
        dump(client.responses.retrieve(response.id)),
        [dump(item) for item in client.responses.input_items.list(response.id)],
    ]
    client.responses.delete(response.id)
    return [dump(response), seen, raised(lambda: client.responses.retrieve(response.id))]


def counted_and_compacted():
    counted = client.responses.input_tokens.count(model="gpt-5", input=QUESTION)
    return [dump(counted), dump(client.responses.compact(model="gpt-5", input=QUESTION))]


def refused():
    return [
        raised(lambda: respond(previous_response_id="resp_none")),
        raised(lambda: respond(conversation="conv_none")),
        raised(lambda: respond("fake-error")),
    ]


# ---- Chat Completions


def said(*texts):
    return [{"role": "user", "content": text} for text in texts]


def complete(model="gpt-5", messages=None, **fields):
    return client.chat.completions.create(model=model, messages=messages or said(QUESTION), **fields)


def chunks(model="gpt-5", messages=None, **fields):
    return [dump(chunk) for chunk in complete(model, messages, stream=True, **fields)]


def helpers():
    """Where the helpers are, by the SDK's age."""
    completions = client.chat.completions
    return completions if hasattr(completions, "stream") else client.beta.chat.completions


def chat_watched(model="gpt-5", messages=None, **fields):
    with helpers().stream(model=model, messages=messages or said(QUESTION), **fields) as stream:
        events = [event.type for event in stream]
        return {"events": events, "completion": dump(stream.get_final_completion())}


def tool_messages(completion, index=0):
    message = completion.choices[index].message
    answer = {"role": "assistant", "content": message.content, "tool_calls": [
        {"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": call.function.arguments}}
        for call in message.tool_calls
    ]}
    return [answer] + [
        {"role": "tool", "tool_call_id": call.id, "content": call.function.name + " says fine"}
        for call in message.tool_calls
    ]


def chat_create():
    messages = [{"role": "system", "content": "Be brief."}] + said(QUESTION, "And today?")
    return dump(complete(messages=messages, user="ada"))


def chat_choices():
    return [dump(complete(n=3)), chunks(n=3), chunks(n=2, stream_options={"include_usage": True})]


def chat_streamed():
    return [chunks(), chunks(stream_options={"include_usage": True}), chunks("fake-long")]


def chat_stream_helper():
    return [chat_watched(), chat_watched("fake-refuse", stream_options={"include_usage": True})]


def chat_parsed():
    completion = helpers().parse(model="gpt-5", messages=said(QUESTION), response_format=Answer)
    assert completion.choices[0].message.parsed == Answer(answer=f"You said: {QUESTION}")
    return dump(completion)


def chat_history():
    first = complete(messages=said("one"))
    messages = said("one") + [{"role": "assistant", "content": first.choices[0].message.content}] + said("two")
    return [dump(first), dump(complete(messages=messages)), chunks(messages=messages)]


def chat_tools():
    first = complete("fake-tools", tools=CHAT_TOOLS)
    messages = said(QUESTION) + tool_messages(first)
    return [dump(first), dump(complete("fake-tools", messages, tools=CHAT_TOOLS))]


def chat_tools_streamed():
    told, messages = [], said(QUESTION)
    while True:
        with helpers().stream(model="fake-tool_twice", messages=messages, tools=CHAT_TOOLS) as stream:
            for _ in stream:
                pass
            completion = stream.get_final_completion()
        told.append(dump(completion))
        if not completion.choices[0].message.tool_calls:
            assert len(told) == 3, len(told)
            return told
        messages = messages + tool_messages(completion)


def chat_tools_of_two_choices():
    return [dump(complete("fake-tools", n=2, tools=CHAT_TOOLS)), chunks("fake-tools", n=2, tools=CHAT_TOOLS)]


def chat_function():
    functions = [{"name": name, "parameters": PARAMETERS} for name in NAMES]
    first = complete("fake-function", functions=functions)
    call = first.choices[0].message.function_call
    answer = {"role": "assistant", "content": None, "function_call": {"name": call.name, "arguments": call.arguments}}
    messages = said(QUESTION) + [answer, {"role": "function", "name": call.name, "content": "fine"}]
    second = complete("fake-function", messages, functions=functions)
    return [dump(first), dump(second), chunks("fake-function", functions=functions)]


def chat_kinds():
    models = ["fake-refuse", "fake-incomplete", "fake-filter", "fake-reason", "fake-empty", "fake-talk_tool"]
    return [[dump(complete(model)), chunks(model)] for model in models]


def chat_media():
    parts = [
        {"type": "text", "text": QUESTION},
        {"type": "image_url", "image_url": {"url": PICTURE}},
        {"type": "input_audio", "input_audio": {"data": "UklGRiQAAABXQVZF", "format": "wav"}},
    ]
    spoken = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}
    messages = [{"role": "user", "content": parts}]
    # 1.43 does not know these fields.
    return [dump(complete(messages=messages)), dump(complete(extra_body=spoken)), chunks(extra_body=spoken)]


def chat_error_in_stream():
    seen = []
    try:
        for chunk in complete("fake-error", stream=True):
            seen.append(dump(chunk))
    except openai.APIError as error:
        return [seen, {"kind": type(error).__name__, "message": error.message, "code": error.code}]
    # The SDK does not see an error without the blank line after it.
    return [seen, None]


def chat_refused():
    return [
        raised(lambda: complete("fake-fail_early")),
        raised(lambda: complete("fake-error")),
        raised(lambda: complete(messages=[{"role": "cook", "content": "x"}])),
    ]


def chat_left():
    seen = []
    with complete("fake-stall", stream=True) as stream:
        for chunk in stream:
            seen.append(dump(chunk))
            if chunk.choices and getattr(chunk.choices[0], "delta", None) and chunk.choices[0].delta.content:
                return seen


def chat_stored():
    stored = complete(store=True, metadata={"k": "v"})
    completions = client.chat.completions
    seen = [
        dump(completions.retrieve(stored.id)),
        [dump(message) for message in completions.messages.list(stored.id)],
        dump(completions.update(stored.id, metadata={"k": "w"})),
    ]
    return [dump(stored), seen, dump(completions.delete(stored.id))]


def chat_legacy():
    completed = client.completions.create(model="gpt-3.5-turbo-instruct", prompt=QUESTION)
    embedded = client.embeddings.create(model="text-embedding-3-small", input=["a", "b"], encoding_format="float")
    return [dump(completed), dump(embedded)]


FLOWS = {
    "responses": [
        create, create_with_parts, stream_without_helper, stream, stream_without_obfuscation, parsed, chain,
        history_sent_again, conversation, background, background_cancelled, background_resumed, tools, tools_sent_again,
        tools_streamed, kinds_of_items, kinds_of_items_streamed, other_ends, error_in_stream, left, looked_at_again,
        counted_and_compacted, refused,
    ],
    "chat": [
        chat_create, chat_choices, chat_streamed, chat_stream_helper, chat_parsed, chat_history, chat_tools,
        chat_tools_streamed, chat_tools_of_two_choices, chat_function, chat_kinds, chat_media, chat_error_in_stream,
        chat_refused, chat_left, chat_stored, chat_legacy,
    ],
}
# What an SDK or a kind of server does not have.
WITHOUT = set()
if not hasattr(client.chat.completions, "list"):
    WITHOUT.add(chat_stored)
if sys.argv[2] != "openai":
    # Azure's asynchronous filter breaks the helpers, and a deployment has no legacy endpoints of that name.
    WITHOUT |= {chat_stream_helper, chat_tools_streamed, chat_stored, chat_legacy}

report = {}
for flow in FLOWS[sys.argv[3]]:
    if flow in WITHOUT:
        continue
    try:
        report[flow.__name__] = {"seen": flow()}
    except Exception as error:  # reported, and judged by the runner
        report[flow.__name__] = {"error": f"{type(error).__name__}: {error}"}
print(json.dumps({"sdk": f"openai-python {openai.__version__}", "flows": report}))
