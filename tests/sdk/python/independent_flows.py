"""Plays runs with the official Python SDK against openai-responses' server and prints what the app saw of each, as JSON.

usage: independent_flows.py URL
"""

import json
import sys

import openai

from openai_client import QUESTION, client_of

client = client_of(sys.argv[1], "openai", None)
threads = client.beta.threads
TOOLS = [{"type": "function", "function": {"name": name, "parameters": {}}} for name in ("weather", "time")]
NAMES = ["brief", "echo", "expire", "fail", "stall", "steps", "tools", "twice"]
# How often a run is looked at; the server takes it a step further each time.
POLL_MS = 20

assistants = {
    name: client.beta.assistants.create(
        model="gpt-4o", name=name, instructions="Be kind.", tools=TOOLS if name == "tools" else []
    ).id
    for name in NAMES
}


def dump(value):
    """The JSON of an SDK object, with every field the server sent."""
    return value.model_dump(mode="json")


def asked(*texts):
    """A new thread's id; the thread has these user messages."""
    thread = threads.create()
    for text in texts or [QUESTION]:
        threads.messages.create(thread.id, role="user", content=text)
    return thread.id


def created(thread, name, **more):
    """A run of the assistant of this name that is just created."""
    return threads.runs.create(thread, assistant_id=assistants[name], **more)


def polled(thread, name, **more):
    """A run of the assistant of this name when it is over."""
    return threads.runs.create_and_poll(
        thread_id=thread, assistant_id=assistants[name], poll_interval_ms=POLL_MS, **more
    )


def seen(run, messages, *texts, calls=(), proved=True):
    """What the app saw of a run: its end, what was asked, what it answered and called.

    `proved` says whether what the app was shown proves that there are no more answers.
    """
    answers = [dump(message) for message in messages if message.run_id == run.id and message.role == "assistant"]
    return {
        "run": dump(run), "asked": list(texts or [QUESTION]), "answers": answers, "calls": list(calls), "proved": proved,
    }


def listed(thread, **how):
    """Every message of a thread, oldest first; by default listed newest first."""
    messages = list(threads.messages.list(thread, **how))
    return messages if how.get("order") == "asc" else messages[::-1]


def until_over(run):
    while run.status in ("queued", "in_progress", "cancelling"):
        run = threads.runs.retrieve(run.id, thread_id=run.thread_id)
    return run


def polled_by_hand():
    turns = []
    for name in ("echo", "twice", "steps"):
        thread = asked()
        run = until_over(created(thread, name, metadata={"k": "v"}))
        turns.append(seen(run, reversed(threads.messages.list(thread).data)))
    return turns


def create_and_poll():
    turns = []
    for name in ("echo", "twice", "steps"):
        thread = asked("one", "two")
        run = polled(thread, name)
        turns.append(seen(run, listed(thread), "one", "two"))
    return turns


def listed_oldest_first():
    thread = asked()
    run = polled(thread, "twice")
    return [seen(run, listed(thread, order="asc"))]


def listed_in_pages():
    """Newest first, which goes beyond the answers to the question."""
    turns = []
    for limit in (1, 2):
        thread = asked()
        run = polled(thread, "twice")
        turns.append(seen(run, listed(thread, limit=limit)))
    return turns


def listed_in_pages_oldest_first():
    """The last page is an empty one, which says that there is more."""
    thread = asked()
    run = polled(thread, "twice")
    return [seen(run, listed(thread, limit=2, order="asc"))]


def listed_by_run():
    """Likewise: the server says so of every list of a run's messages."""
    turns = []
    for order in ("asc", "desc"):
        thread = asked()
        run = polled(thread, "twice")
        turns.append(seen(run, listed(thread, run_id=run.id, order=order)))
    return turns


def many_messages():
    texts = [f"question {i}" for i in range(25)]
    thread = asked(*texts)
    run = polled(thread, "echo")
    return [seen(run, listed(thread), *texts)]


def polled_by_list():
    """The run is looked at in the list of runs alone."""
    turns = []
    for name in ("echo", "twice"):
        thread = asked()
        run = created(thread, name)
        while run.status != "completed":
            run = threads.runs.list(thread).data[0]
        turns.append(seen(run, listed(thread)))
    return turns


def steps_listed():
    """The answers are fetched one by one, as the steps name them."""
    thread = asked()
    run = polled(thread, "steps")
    steps = list(threads.runs.steps.list(run.id, thread_id=thread))
    ids = [step.step_details.message_creation.message_id for step in steps]
    return [seen(run, [threads.messages.retrieve(id, thread_id=thread) for id in ids])]


def create_and_run():
    turns = []
    for name in ("echo", "twice"):
        thread = {"messages": [{"role": "user", "content": "one"}, {"role": "user", "content": "two"}]}
        run = until_over(threads.create_and_run(assistant_id=assistants[name], thread=thread))
        turns.append(seen(run, listed(run.thread_id), "one", "two"))
    thread = {"messages": [{"role": "user", "content": QUESTION}]}
    run = threads.create_and_run_poll(assistant_id=assistants["steps"], thread=thread, poll_interval_ms=POLL_MS)
    return [*turns, seen(run, listed(run.thread_id))]


def parts():
    """A message in parts."""
    thread = threads.create()
    content = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    threads.messages.create(thread.id, role="user", content=content)
    run = polled(thread.id, "echo")
    return [seen(run, listed(thread.id), "one\ntwo")]


def additional_messages():
    """The server keeps them in the run alone."""
    thread = asked("first")
    run = polled(thread, "echo", additional_messages=[{"role": "user", "content": "second"}])
    return [seen(run, listed(thread), "first", "second")]


def two_runs():
    thread = asked("first")
    first = polled(thread, "echo")
    turns = [seen(first, listed(thread), "first")]
    threads.messages.create(thread, role="user", content="second")
    second = polled(thread, "twice")
    turns.append(seen(second, listed(thread), "second"))
    list(threads.runs.list(thread))
    return turns


def two_runs_of_which_one_is_listed_in_part():
    """One page of what the server says is more; then the next run begins."""
    thread = asked("first")
    first = polled(thread, "echo")
    turns = [seen(first, threads.messages.list(thread, run_id=first.id).data, "first", proved=False)]
    threads.messages.create(thread, role="user", content="second")
    second = polled(thread, "echo")
    turns.append(seen(second, listed(thread), "second"))
    return turns


def ended_otherwise():
    turns = []
    for name, status in (("fail", "failed"), ("expire", "expired")):
        thread = asked()
        run = polled(thread, name)
        assert run.status == status, run.status
        turns.append(seen(run, listed(thread)))
    return turns


def cancelled():
    thread = asked()
    run = created(thread, "stall")
    assert until_in_progress(run).status == "in_progress"
    assert threads.runs.cancel(run.id, thread_id=thread).status == "cancelling"
    run = until_over(run)
    assert run.status == "cancelled", run.status
    return [seen(run, listed(thread))]


def until_in_progress(run):
    while run.status == "queued":
        run = threads.runs.retrieve(run.id, thread_id=run.thread_id)
    return run


def outputs(run):
    """What the app's tools return, and the calls with it."""
    assert run.status == "requires_action", run.status
    calls = run.required_action.submit_tool_outputs.tool_calls
    returned = [{"tool_call_id": call.id, "output": f"{call.function.name} is fine"} for call in calls]
    called = [
        {"id": call.id, "name": call.function.name, "arguments": call.function.arguments, "output": output["output"]}
        for call, output in zip(calls, returned)
    ]
    return returned, called


def tools():
    turns = []
    for _ in range(2):
        thread = asked()
        run = polled(thread, "tools")
        returned, called = outputs(run)
        run = threads.runs.submit_tool_outputs_and_poll(
            thread_id=thread, run_id=run.id, tool_outputs=returned, poll_interval_ms=POLL_MS
        )
        list(threads.runs.steps.list(run.id, thread_id=thread))
        turns.append(seen(run, listed(thread), calls=called))
    return turns


def tools_by_hand():
    thread = asked()
    run = until_over(created(thread, "tools"))
    returned, called = outputs(run)
    run = threads.runs.submit_tool_outputs(run.id, thread_id=thread, tool_outputs=returned)
    # By the server's word in this answer the run still waits.
    while run.status != "completed":
        run = threads.runs.retrieve(run.id, thread_id=thread)
    return [seen(run, listed(thread), calls=called)]


def told(manager):
    """The run and the messages that a stream helper made of its events."""
    with manager as stream:
        stream.until_done()
        try:
            messages = stream.get_final_messages()
        except RuntimeError:  # by which the SDK says that there are none
            messages = []
        return stream.current_run, messages


def stream():
    turns = []
    for name in ("echo", "twice", "fail"):
        turns.append(seen(*told(threads.runs.stream(thread_id=asked(), assistant_id=assistants[name]))))
    return turns


def stream_brief():
    """As the package's own example streams: the message is told once, when it is created."""
    run, answers = None, []
    for event in created(asked(), "brief", stream=True):
        if event.event == "thread.message.created":
            answers.append(event.data)
        elif event.event.startswith("thread.run."):
            run = event.data
    return [seen(run, answers)]


def create_and_run_stream():
    thread = {"messages": [{"role": "user", "content": QUESTION}]}
    return [seen(*told(threads.create_and_run_stream(assistant_id=assistants["echo"], thread=thread)))]


def tools_streamed():
    thread = asked()
    run, _ = told(threads.runs.stream(thread_id=thread, assistant_id=assistants["tools"]))
    returned, called = outputs(run)
    again = threads.runs.submit_tool_outputs_stream(thread_id=thread, run_id=run.id, tool_outputs=returned)
    return [seen(*told(again), calls=called)]


def refused():
    """The server refuses with an empty body, and nothing comes of it."""
    for attempt in [
        lambda: threads.retrieve("thread_missing"),
        lambda: threads.messages.list("thread_missing"),
        lambda: created(asked(), "echo", extra_body={"assistant_id": "asst_missing"}),
    ]:
        try:
            attempt()
        except openai.NotFoundError:
            continue
        raise AssertionError("was not refused")
    return []


FLOWS = [
    polled_by_hand, create_and_poll, listed_oldest_first, listed_in_pages, listed_in_pages_oldest_first, listed_by_run,
    many_messages, polled_by_list, steps_listed, create_and_run, parts, additional_messages, two_runs,
    two_runs_of_which_one_is_listed_in_part, ended_otherwise, cancelled, tools, tools_by_hand, stream, stream_brief,
    create_and_run_stream, tools_streamed, refused,
]

report = {}
for flow in FLOWS:
    try:
        report[flow.__name__] = {"seen": flow()}
    except Exception as error:  # reported, and judged by the runner
        report[flow.__name__] = {"error": f"{type(error).__name__}: {error}"}
print(json.dumps({"sdk": f"openai-python {openai.__version__}", "flows": report}))
