"""Usual requests and responses of each API, which bombs are put into.

The functions named after a request or a response return a talk with a bomb in that place, in which
everything else is usual. Ids are new for each bomb, because a record is kept once.
"""

import json
import re

from bomb import Exchange, Part
from shapes import around

EVENTS = "text/event-stream"
DONE = "data: [DONE]\n\n"
NO_BODY = Part([])


def text(value):
    """A part with this text, or this value as JSON."""
    data = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return Part([data.encode()])


def event(name, data):
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


def stream(before, inner, after="", coding="", **more):
    """A part that is an event stream with a shape in the middle."""
    return Part(around(before + "@" + after, inner), coding, EVENTS, True, **more)


def label(name):
    """A bomb's name as part of an id."""
    return re.sub(r"\W+", "_", name)


# Chat Completions


def chunk(delta, finish=None):
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    data = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return f"data: {json.dumps(data | {'choices': [choice]})}\n\n"


CHAT = "POST /v1/chat/completions"
QUESTION = {"model": "m", "messages": [{"role": "user", "content": "a question"}]}
CHAT_REQUEST = text(QUESTION)
CHAT_STREAM_REQUEST = text(QUESTION | {"stream": True})
CHAT_RESPONSE = text({
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{
        "index": 0, "message": {"role": "assistant", "content": "an answer"}, "finish_reason": "stop",
    }],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
})
CHAT_BEGIN = chunk({"role": "assistant", "content": "an answer"})
CHAT_END = chunk({}, "stop") + DONE
CHAT_STREAM = stream(CHAT_BEGIN, "", CHAT_END)


def chat_request(request):
    return [Exchange(CHAT, request, CHAT_RESPONSE)]


def chat_response(response):
    streamed = response.type == EVENTS
    return [Exchange(CHAT, CHAT_STREAM_REQUEST if streamed else CHAT_REQUEST, response)]


# Responses and Conversations


def response_object(ident, **more):
    content = [{"type": "output_text", "text": "an answer", "annotations": []}]
    return {
        "id": f"resp_{ident}", "object": "response", "created_at": 1, "status": "completed", "model": "m",
        "output": [{"type": "message", "role": "assistant", "content": content}],
        "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2},
    } | more


def response_begin(ident):
    begun = response_object(ident, status="in_progress", output=[])
    return event("response.created", {"type": "response.created", "response": begun})


def response_end(ident):
    ended = {"type": "response.completed", "response": response_object(ident)}
    return event("response.completed", ended)


RESPONSES = "POST /v1/responses"
INPUT = {"model": "m", "input": "a question"}


def responses_request(request, ident):
    return [Exchange(RESPONSES, request, text(response_object(ident)))]


def responses_response(response):
    asked = text(INPUT | {"stream": True} if response.type == EVENTS else INPUT)
    return [Exchange(RESPONSES, asked, response)]


def items_request(request, ident):
    """Items added to a conversation, then a response that takes them."""
    added = text({"object": "list", "data": [], "has_more": False})
    conversation = f"conv_{ident}"
    answer = text(response_object(ident, conversation={"id": conversation}))
    return [
        Exchange(f"POST /v1/conversations/{conversation}/items", request, added),
        Exchange(RESPONSES, text(INPUT | {"conversation": conversation}), answer),
    ]


# Assistants: a thread is named by an id, and its only run by the same.


def run_object(ident, status, **more):
    return {
        "id": f"run_{ident}", "object": "thread.run", "thread_id": f"thread_{ident}", "assistant_id": "asst_1",
        "status": status, "created_at": 1, "model": "m",
    } | more


def message_object(ident, role, **more):
    return {
        "id": f"msg_{role}_{ident}", "object": "thread.message", "thread_id": f"thread_{ident}", "role": role,
        "content": [{"type": "text", "text": {"value": "a text", "annotations": []}}], "created_at": 1,
        "run_id": f"run_{ident}" if role == "assistant" else None,
    }


def run_begin(ident):
    return event("thread.run.created", run_object(ident, "queued"))


def run_end(ident):
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    ended = run_object(ident, "completed", completed_at=2, usage=usage)
    message = event("thread.message.completed", message_object(ident, "assistant"))
    return f"{message}{event('thread.run.completed', ended)}event: done\n{DONE}"


RUN = {"assistant_id": "asst_1"}
RUN_REQUEST = text(RUN)
RUN_STREAM_REQUEST = text(RUN | {"stream": True})


def streamed_run(ident, request=RUN_STREAM_REQUEST, path="/v1/threads/thread_{}/runs"):
    return Exchange("POST " + path.format(ident), request, stream(run_begin(ident), "", run_end(ident)))


def thread_request(request, ident):
    created = text({"id": f"thread_{ident}", "object": "thread", "created_at": 1, "metadata": {}})
    return [Exchange("POST /v1/threads", request, created), streamed_run(ident)]


def message_request(request, ident):
    created = text(message_object(ident, "user"))
    return [Exchange(f"POST /v1/threads/thread_{ident}/messages", request, created), streamed_run(ident)]


def run_request(request, ident):
    return [streamed_run(ident, request)]


def thread_run_request(request, ident):
    return [streamed_run(ident, request, "/v1/threads/runs")]


def run_response(response, ident):
    asked = RUN_STREAM_REQUEST if response.type == EVENTS else RUN_REQUEST
    return [Exchange(f"POST /v1/threads/thread_{ident}/runs", asked, response)]


def poll_response(response, ident):
    """A run, and a bomb where it is polled."""
    queued = run_response(text(run_object(ident, "queued")), ident)
    return queued + [Exchange(f"GET /v1/threads/thread_{ident}/runs/run_{ident}", NO_BODY, response)]


def list_response(response, ident, what):
    """A run that is polled to its end, and then a bomb in a list of its thread."""
    polled = poll_response(text(run_object(ident, "completed", completed_at=2)), ident)
    return polled + [Exchange(f"GET /v1/threads/thread_{ident}/{what}", NO_BODY, response)]
