"""Plays every flow with the official Python SDK and prints what the app saw, as JSON.

usage: flows.py URL openai | azure-dated | azure-v1

The second word says which client plays, and so below which paths of the server at URL. Works with openai 1.43 and 3.x
alike. The flows are those of flows.mjs.
"""

import json
import sys

import openai

from openai_client import QUESTION, client_of


threads = client_of(*sys.argv[1:], api_version="2025-03-01-preview").beta.threads


def dump(value):
    """The JSON of an SDK object, with every field the server sent."""
    return value.model_dump(mode="json")


def asked(text=QUESTION):
    """A new thread's id; the thread has one user message."""
    thread = threads.create()
    threads.messages.create(thread.id, role="user", content=text)
    return thread.id


def listed(thread, run):
    return [dump(message) for message in threads.messages.list(thread, run_id=run, order="asc")]


def told(manager):
    """What a stream helper told: every event and what it made of them."""
    with manager as stream:
        events = [{"event": event.event, "data": dump(event.data)} for event in stream]
        try:
            messages = [dump(message) for message in stream.get_final_messages()]
        except RuntimeError:  # by which the SDK says that there are none
            messages = []
        return {"events": events, "run": dump(stream.current_run), "messages": messages}


def outputs(run):
    calls = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    return [{"tool_call_id": call["id"], "output": call["function"]["name"] + " says fine"} for call in calls]


def create_and_poll():
    thread = asked()
    run = threads.runs.create_and_poll(thread_id=thread, assistant_id="asst_echo")
    return {"run": dump(run), "messages": listed(thread, run.id)}


def create_and_poll_limit_1():
    thread = asked()
    run = threads.runs.create_and_poll(thread_id=thread, assistant_id="asst_echo")
    page = threads.messages.list(thread, run_id=run.id, limit=1)
    return {"run": dump(run), "messages": [dump(message) for message in page.data]}


def stream():
    return told(threads.runs.stream(thread_id=asked(), assistant_id="asst_echo"))


def stream_without_helper():
    events = threads.runs.create(thread_id=asked(), assistant_id="asst_messages", stream=True)
    return [{"event": event.event, "data": dump(event.data)} for event in events]


def create_and_run():
    run = threads.create_and_run(
        assistant_id="asst_echo", thread={"messages": [{"role": "user", "content": QUESTION}]}
    )
    done = threads.runs.poll(run.id, thread_id=run.thread_id)
    return {"created": dump(run), "run": dump(done), "messages": listed(run.thread_id, run.id)}


def create_and_run_poll():
    messages = [{"role": "user", "content": "one"}, {"role": "user", "content": "two"}]
    run = threads.create_and_run_poll(assistant_id="asst_messages", thread={"messages": messages})
    return {"run": dump(run), "messages": listed(run.thread_id, run.id)}


def create_and_run_stream():
    thread = {"messages": [{"role": "user", "content": QUESTION}]}
    return told(threads.create_and_run_stream(assistant_id="asst_echo", thread=thread))


def tools_polled():
    thread = asked()
    first = threads.runs.create_and_poll(thread_id=thread, assistant_id="asst_tools")
    assert first.status == "requires_action", first.status
    run = threads.runs.submit_tool_outputs_and_poll(
        thread_id=thread, run_id=first.id, tool_outputs=outputs(dump(first))
    )
    steps = [dump(step) for step in threads.runs.steps.list(run.id, thread_id=thread)]
    return {"first": dump(first), "run": dump(run), "messages": listed(thread, run.id), "steps": steps}


def tools_streamed():
    thread = asked()
    streams = [told(threads.runs.stream(thread_id=thread, assistant_id="asst_tool_twice"))]
    while streams[-1]["run"]["status"] == "requires_action":
        run = streams[-1]["run"]
        streams.append(told(threads.runs.submit_tool_outputs_stream(
            thread_id=thread, run_id=run["id"], tool_outputs=outputs(run)
        )))
    assert len(streams) == 3, len(streams)
    return streams


def additional_messages():
    thread = asked("first")
    run = threads.runs.create_and_poll(
        thread_id=thread, assistant_id="asst_echo", metadata={"k": "v"},
        additional_messages=[{"role": "user", "content": "second"}, {"role": "user", "content": "third"}],
    )
    return {"run": dump(run), "messages": listed(thread, run.id)}


def second_run():
    thread = asked("first")
    told(threads.runs.stream(thread_id=thread, assistant_id="asst_echo"))
    threads.messages.create(thread, role="user", content="second")
    return told(threads.runs.stream(thread_id=thread, assistant_id="asst_echo"))


def failing_streamed():
    seen = told(threads.runs.stream(thread_id=asked(), assistant_id="asst_fail"))
    assert seen["run"]["status"] == "failed", seen["run"]["status"]
    return seen


def failing_polled():
    thread = asked()
    seen = []
    for kind, status in [("fail_early", "failed"), ("expire", "expired"), ("incomplete", "incomplete")]:
        run = threads.runs.create_and_poll(thread_id=thread, assistant_id="asst_" + kind)
        assert run.status == status, run.status
        seen.append({"run": dump(run), "messages": listed(thread, run.id)})
    return seen


def cancelled():
    thread = asked()
    run = threads.runs.create(thread_id=thread, assistant_id="asst_stall")
    cancelling = threads.runs.cancel(run.id, thread_id=thread)
    run = threads.runs.poll(run.id, thread_id=thread)
    assert run.status == "cancelled", run.status
    return {"cancelling": dump(cancelling), "run": dump(run)}


def refused():
    thread = asked()
    threads.runs.create(thread_id=thread, assistant_id="asst_stall")
    seen = []
    for attempt in [
        lambda: threads.messages.create(thread, role="user", content="too early"),
        lambda: threads.retrieve("thread_missing"),
        lambda: threads.create_and_run(assistant_id="asst_missing"),
    ]:
        try:
            attempt()
        except openai.APIStatusError as error:
            seen.append({"status": error.status_code, "kind": type(error).__name__, "body": error.body})
    assert [refusal["status"] for refusal in seen] == [400, 404, 404], seen
    return seen


def error_in_stream():
    try:
        told(threads.runs.stream(thread_id=asked(), assistant_id="asst_error"))
    except openai.APIError as error:
        return {"kind": type(error).__name__, "message": error.message, "code": error.code}
    raise AssertionError("the stream's error was not raised")


FLOWS = [
    create_and_poll, create_and_poll_limit_1, stream, stream_without_helper, create_and_run, create_and_run_poll,
    create_and_run_stream, tools_polled, tools_streamed, additional_messages, second_run, failing_streamed,
    failing_polled, cancelled, refused, error_in_stream,
]

report = {}
for flow in FLOWS:
    try:
        report[flow.__name__] = {"seen": flow()}
    except Exception as error:  # reported, and judged by the runner
        report[flow.__name__] = {"error": f"{type(error).__name__}: {error}"}
print(json.dumps({"sdk": f"openai-python {openai.__version__}", "flows": report}))
