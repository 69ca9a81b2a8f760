"""Plays every flow of Azure AI Foundry's classic agents with their official SDK and prints what the app saw, as JSON.

usage: azure_flows.py BASE_URL WIRE

What surprises who knows OpenAI's SDKs:

- A bearer token goes over TLS alone, unless each request says otherwise (`Bearer`).
- The event handler takes two line feeds and nothing else for the end of an event, and raises at an event without a
  name. So it reads neither CRLF nor comments: on the hostile wire the app tidies the stream first (`Tidying`).
- At `requires_action` the handler posts the tools' outputs while the stream it reads is still open, and reads on in
  both, one after the other.
- When functions fail too often it cancels the run and tells the app a `thread.run.cancelled` that no server sent; the
  run in it is `cancelling`.
- `create_and_process` sleeps before its first poll, knows no status `incomplete`, and takes `cancelling` for an end.
- Lists are paged by `last_id` until it is null, whatever `has_more` says: a list always costs a request more.
- Only 200 is a success: a 201, as some servers answer a creation, is raised as an error.
"""

import json
import logging
import sys

from azure.ai.agents import AgentsClient
from azure.ai.agents import _version
from azure.ai.agents.models import (
    AgentEventHandler, AgentThreadCreationOptions, FunctionTool, ListSortOrder, MessageRole, ThreadMessageOptions,
    ToolOutput, ToolSet,
)
from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.policies import BearerTokenCredentialPolicy

BASE_URL, WIRE = sys.argv[1:]
ATTRIBUTION = {
    "x-threadtap-session": "session-azure",
    "x-threadtap-session-timeout": "15",
    "x-threadtap-user": "user-azure",
}
QUESTION = "What are the störe hours? 🕘"
NEVER = 4_102_444_800  # 2100-01-01


class Credential:
    """A token that never ages."""

    def get_token(self, *_scopes, **_options):
        return AccessToken("static-token", NEVER)


class Bearer(BearerTokenCredentialPolicy):
    """Sends the token over plain HTTP too, which is right on loopback alone."""

    def on_request(self, request):
        request.context["enforce_https"] = False
        super().on_request(request)


class Tidying(AgentEventHandler):
    """Hands the SDK line feeds for CRLF, and no comments."""

    def initialize(self, response_iterator, submit_tool_outputs):
        super().initialize(self.tidy(response_iterator), submit_tool_outputs)

    @staticmethod
    def tidy(chunks):
        waiting = b""
        for chunk in chunks:
            # A line end that is cut in two is still one: a CR waits for what follows it.
            *events, waiting = (waiting + chunk).split(b"\r\n\r\n")
            yield from (event.replace(b"\r\n", b"\n") + b"\n\n" for event in events if not event.startswith(b":"))
        if waiting:
            yield waiting.replace(b"\r\n", b"\n")


def get_weather(city: str) -> str:
    """Tells the weather.

    :param city: Where.
    """
    return f"sunny in {city}"


def get_time(zone: str) -> str:
    """Tells the time.

    :param zone: Where.
    """
    return f"noon in {zone}"


def broken_weather(city: str) -> str:
    """Tells nothing.

    :param city: Where.
    """
    raise ValueError(f"no weather in {city}")


broken_weather.__name__ = "get_weather"
FUNCTIONS = {get_weather, get_time}


def client_of(functions=frozenset(), max_retry=10):
    """A client that calls these functions by itself."""
    client = AgentsClient(
        f"{BASE_URL}/api/projects/shop", Credential(), headers=ATTRIBUTION, retry_total=0, read_timeout=30,
        authentication_policy=Bearer(Credential(), "https://ai.azure.com/.default"),
    )
    if functions:
        client.enable_auto_function_calls(set(functions), max_retry=max_retry)
    return client


client = client_of()
agent = client.create_agent(
    model="gpt-4o", name="clerk", instructions="Be brief.", tools=FunctionTool(FUNCTIONS).definitions
).id


def behaving(behaviour):
    """What tells the fake server what a run does."""
    return {"agent_id": agent, "metadata": {"behaviour": behaviour}}


def dump(value):
    """The JSON of an SDK object, with every field the server sent."""
    return value.as_dict() if hasattr(value, "as_dict") else value


def asked(text=QUESTION):
    """A new thread's id; the thread has one user message."""
    thread = client.threads.create()
    client.messages.create(thread.id, role=MessageRole.USER, content=text)
    return thread.id


def listed(thread, run):
    return [dump(message) for message in client.messages.list(thread, run_id=run, order=ListSortOrder.ASCENDING)]


def processed(thread, behaviour, client=client, **options):
    return client.runs.create_and_process(thread, **behaving(behaviour), polling_interval=0, **options)


def polled(run):
    """The run at its end."""
    while run.status in ("queued", "in_progress", "cancelling"):
        run = client.runs.get(run.thread_id, run.id)
    return run


def handler():
    return Tidying() if WIRE == "hostile" else AgentEventHandler()


def told(thread, behaviour, client=client):
    """What an event handler told."""
    with client.runs.stream(thread, **behaving(behaviour), event_handler=handler()) as events:
        return [{"event": name, "data": dump(data)} for name, data, _ in events]


def outputs(run):
    calls = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    return [ToolOutput(tool_call_id=call["id"], output=call["function"]["name"] + " says fine") for call in calls]


def status_of(events):
    """The last status of the run that a stream told."""
    told = (event["data"] for event in events if isinstance(event["data"], dict))
    return [data["status"] for data in told if data["object"] == "thread.run"][-1]


def expect(status, wanted):
    assert status == wanted, status


def agents():
    made = client.create_agent(model="gpt-4o-mini", name="temp", instructions="Be brief.")
    changed = client.update_agent(made.id, name="changed")
    seen = [dump(made), dump(changed), dump(client.get_agent(made.id)), dump(next(iter(client.list_agents(limit=1))))]
    client.delete_agent(made.id)
    return seen


def create_and_process():
    thread = asked()
    run = processed(thread, "echo")
    return {"run": dump(run), "messages": listed(thread, run.id)}


def last_message_by_role():
    thread = asked()
    run = processed(thread, "messages")
    last = client.messages.get_last_message_text_by_role(thread, MessageRole.AGENT)
    return {"run": dump(run), "last": dump(last)}


def pages():
    thread = asked()
    run = processed(thread, "messages")
    return {"run": dump(run), "messages": [dump(message) for message in client.messages.list(thread, limit=1)]}


def create_and_poll_by_hand():
    thread = asked()
    created = client.runs.create(thread, **behaving("code"))
    run = polled(created)
    steps = [dump(step) for step in client.run_steps.list(thread, run.id)]
    one = client.run_steps.get(thread, run.id, steps[0]["id"])
    messages = listed(thread, run.id)
    return {"created": dump(created), "run": dump(run), "steps": steps, "step": dump(one), "messages": messages}


def stream():
    return told(asked(), "echo")


def stream_code_interpreter():
    return told(asked(), "code")


def searches_of_azure():
    thread = asked()
    run = processed(thread, "search")
    steps = [dump(step) for step in client.run_steps.list(thread, run.id)]
    return {"run": dump(run), "steps": steps, "messages": listed(thread, run.id)}


def stream_searches_of_azure():
    return told(asked(), "search")


def create_thread_and_run():
    thread = AgentThreadCreationOptions(messages=[ThreadMessageOptions(role="user", content=QUESTION)])
    created = client.create_thread_and_run(**behaving("echo"), thread=thread)
    run = polled(created)
    return {"created": dump(created), "run": dump(run), "messages": listed(run.thread_id, run.id)}


def create_thread_and_process_run():
    messages = [ThreadMessageOptions(role="user", content=text) for text in ("one", "two")]
    thread = AgentThreadCreationOptions(messages=messages)
    run = client.create_thread_and_process_run(**behaving("messages"), thread=thread, polling_interval=0)
    return {"run": dump(run), "messages": listed(run.thread_id, run.id)}


def tools_by_hand():
    thread = asked()
    first = polled(client.runs.create(thread, **behaving("tools")))
    expect(first.status, "requires_action")
    second = client.runs.submit_tool_outputs(thread, first.id, tool_outputs=outputs(dump(first)))
    run = polled(second)
    steps = [dump(step) for step in client.run_steps.list(thread, run.id)]
    runs = [dump(run) for run in (first, second, run)]
    return {"runs": runs, "steps": steps, "messages": listed(thread, first.id)}


def tools_automatic():
    thread = asked()
    toolset = ToolSet()
    toolset.add(FunctionTool(FUNCTIONS))
    run = processed(thread, "tool_twice", client_of(FUNCTIONS), toolset=toolset)
    expect(run.status, "completed")
    steps = [dump(step) for step in client.run_steps.list(thread, run.id, order=ListSortOrder.ASCENDING)]
    return {"run": dump(run), "messages": listed(thread, run.id), "steps": steps}


def tools_streamed_by_hand():
    thread = asked()
    streams = [told(thread, "tool_twice")]
    while status_of(streams[-1]) == "requires_action":
        run = next(event["data"] for event in streams[-1] if event["event"] == "thread.run.requires_action")
        events = handler()
        client.runs.submit_tool_outputs_stream(
            thread, run["id"], tool_outputs=outputs(run), event_handler=events
        )
        streams.append([{"event": name, "data": dump(data)} for name, data, _ in events])
    assert len(streams) == 3, len(streams)
    return streams


def tools_streamed_automatic():
    events = told(asked(), "tool_twice", client_of(FUNCTIONS))
    expect(status_of(events), "completed")
    return events


def tools_that_fail_are_tried_again():
    thread = asked()
    run = processed(thread, "tool", client_of({broken_weather}))
    return {"run": dump(run), "messages": listed(thread, run.id)}


def tools_that_fail_too_often_cancel():
    thread = asked()
    cancelling = processed(thread, "tool", client_of({broken_weather}, max_retry=0))
    expect(cancelling.status, "cancelling")
    return {"cancelling": dump(cancelling), "run": dump(polled(cancelling))}


def tools_that_fail_too_often_cancel_the_stream():
    thread = asked()
    events = told(thread, "tool", client_of({broken_weather}, max_retry=0))
    expect(status_of(events), "cancelling")
    run = next(event["data"] for event in events if event["event"] == "thread.run.requires_action")
    return {"events": events, "run": dump(polled(client.runs.get(thread, run["id"])))}


def additional_messages():
    thread = asked("first")
    more = [ThreadMessageOptions(role="user", content=text) for text in ("second", "third")]
    run = processed(
        thread, "echo", additional_messages=more, additional_instructions="Rhyme.", instructions="Be long."
    )
    return {"run": dump(run), "messages": listed(thread, run.id)}


def second_run():
    thread = asked("first")
    first = told(thread, "echo")
    client.messages.create(thread, role="user", content="second")
    return [first, told(thread, "echo")]


def refusing():
    return told(asked(), "refuse")


def failing_streamed():
    events = told(asked(), "fail")
    expect(status_of(events), "failed")
    return events


def failing_polled():
    thread = asked()
    seen = []
    for behaviour, status in [("fail_early", "failed"), ("expire", "expired"), ("incomplete", "incomplete")]:
        run = processed(thread, behaviour)
        expect(run.status, status)
        seen.append({"run": dump(run), "messages": listed(thread, run.id)})
    return seen


def cancelled():
    thread = asked()
    created = client.runs.create(thread, **behaving("stall"))
    cancelling = client.runs.cancel(thread, created.id)
    run = polled(cancelling)
    expect(run.status, "cancelled")
    return {"cancelling": dump(cancelling), "run": dump(run), "runs": [dump(run) for run in client.runs.list(thread)]}


def deleted_after_the_run():
    thread = asked()
    run = processed(thread, "echo")
    messages = listed(thread, run.id)
    client.threads.delete(thread)
    return {"run": dump(run), "messages": messages, "gone": refusal(lambda: client.threads.get(thread))}


def deleted_with_a_run_going_on():
    thread = asked()
    created = client.runs.create(thread, **behaving("stall"))
    client.threads.delete(thread)
    return {"created": dump(created), "gone": refusal(lambda: client.runs.get(thread, created.id))}


def listed_threads():
    thread = client.threads.create(metadata={"k": "v"})
    changed = client.threads.update(thread.id, metadata={"k": "w"})
    return {"changed": dump(changed), "first": dump(next(iter(client.threads.list(limit=1))))}


def refusal(attempt):
    """How the SDK raises what the server refuses."""
    try:
        attempt()
    except HttpResponseError as error:
        told = error.error
        return {
            "status": error.status_code, "kind": type(error).__name__, "code": told and told.code,
            "message": told and told.message,
        }
    raise AssertionError("it was not refused")


def refused():
    thread = asked()
    client.runs.create(thread, **behaving("stall"))
    seen = [
        refusal(lambda: client.messages.create(thread, role="user", content="too early")),
        refusal(lambda: client.threads.get("thread_missing")),
        refusal(lambda: client.runs.create(thread, agent_id="asst_missing")),
    ]
    assert [refusal["status"] for refusal in seen] == [400, 404, 400], seen
    return seen


def error_in_stream():
    events = told(asked(), "error")
    expect(events[-1]["event"], "error")
    return events


FLOWS = [
    agents, create_and_process, last_message_by_role, pages, create_and_poll_by_hand, stream, stream_code_interpreter,
    searches_of_azure, stream_searches_of_azure,
    create_thread_and_run, create_thread_and_process_run, tools_by_hand, tools_automatic, tools_streamed_by_hand,
    tools_streamed_automatic, tools_that_fail_are_tried_again, tools_that_fail_too_often_cancel,
    tools_that_fail_too_often_cancel_the_stream, additional_messages, second_run, refusing, failing_streamed,
    failing_polled, cancelled, deleted_after_the_run, deleted_with_a_run_going_on, listed_threads, refused,
    error_in_stream,
]

# The SDK logs what the flows provoke.
logging.disable(logging.CRITICAL)
report = {}
for flow in FLOWS:
    try:
        report[flow.__name__] = {"seen": flow()}
    except Exception as error:  # reported, and judged by the runner
        report[flow.__name__] = {"error": f"{type(error).__name__}: {error}"}
print(json.dumps({"sdk": f"azure-ai-agents {_version.VERSION}", "flows": report}))
