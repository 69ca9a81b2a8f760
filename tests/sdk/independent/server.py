"""An Assistants server that nobody of this project wrote: PyPI's openai-responses, a mock of the API, over real HTTP.

Every body is made by that package's own routes. Two things are added, by the means its documentation gives to tests (`response`
of a route, the state store, its builders and event streams): a run goes on whenever it is looked at, as its assistant's name
says, and a stream is answered where one is asked for.
"""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from openai.types.beta import assistant_stream_event as events
from openai.types.beta.threads import MessageDeltaEvent
from openai_responses import OpenAIMock
from openai_responses.ext.httpx import Request, Response
from openai_responses.helpers.builders.messages import build_message
from openai_responses.helpers.builders.run_steps import build_run_step
from openai_responses.helpers.mergers.runs import merge_run_with_partial
from openai_responses.streaming import EventStream

# What assistants of these names do. Others answer once.
ANSWERS = {"twice": ["First: {}", "Second: {} 🕘"], "tools": ["The tools say {}"]}
CALLS = [("weather", '{"city": "Łódź"}'), ("time", "{}")]
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
ERROR = {"code": "rate_limit_exceeded", "message": "You are out of quöta."}


class Work:
    """What the package leaves to the test: what runs come to."""

    def __init__(self, mock):
        self.state = mock.state
        self.runs = mock.state.beta.threads.runs
        self.messages = mock.state.beta.threads.messages
        # Every run there was.
        self.created = []
        # What the app handed in, by the run.
        self.returned = {}
        threads = mock.beta.threads
        for route in (threads.create_and_run, threads.runs.create):
            route.response = self.begins(route.response)
        threads.runs.retrieve.response = self.looked_at(threads.runs.retrieve.response)
        threads.runs.list.response = self.looked_at(threads.runs.list.response)
        threads.runs.submit_tool_outputs.response = self.goes_on(threads.runs.submit_tool_outputs.response)

    def begins(self, default):
        """The answer to a request for a run; `default` is the package's own."""
        def response(request, route, **path):
            answer = default(request, route, **path)
            if answer.is_success:
                self.created.append(answer.json()["id"])
                return self.streamed(request, answer)
            return answer
        return response

    def looked_at(self, default):
        def response(request, route, **path):
            known = self.runs.list(path["thread_id"])
            for run in known:
                if run.id == path.get("run_id", run.id):
                    self.step(run.id)
            return default(request, route, **path)
        return response

    def goes_on(self, default):
        def response(request, route, **path):
            answer = default(request, route, **path)
            handed_in = json.loads(request.content)["tool_outputs"]
            self.returned[path["run_id"]] = {output["tool_call_id"]: output["output"] for output in handed_in}
            self.set(path["run_id"], status="in_progress", required_action=None)
            return self.streamed(request, answer)
        return response

    def streamed(self, request, answer):
        """The answer, as a stream if one was asked for."""
        if json.loads(request.content).get("stream"):
            return Response(answer.status_code, content=Told(self, answer.json()["id"]))
        return answer

    def set(self, id, **partial):
        run = merge_run_with_partial(self.runs.get(id), partial)
        self.runs.put(run)
        return run

    def name(self, run):
        return self.state.beta.assistants.get(run.assistant_id).name

    def step(self, id):
        """Takes a run one step further."""
        run = self.runs.get(id)
        name = self.name(run)
        if run.status == "queued":
            self.set(id, status="in_progress", started_at=int(time.time()))
        elif run.status != "in_progress" or name == "stall":
            return
        elif name == "fail":
            self.set(id, status="failed", failed_at=int(time.time()), last_error=ERROR)
        elif name == "expire":
            self.set(id, status="expired", expires_at=int(time.time()))
        elif name == "tools" and id not in self.returned:
            self.call_tools(run)
        else:
            self.complete(run)

    def call_tools(self, run):
        calls = [
            {"id": f"call_{at}{run.id[5:]}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for at, (name, arguments) in enumerate(CALLS)
        ]
        action = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": calls}}
        return self.set(run.id, status="requires_action", required_action=action)

    def complete(self, run):
        if self.name(run) == "tools":
            self.put_step(run, {"type": "tool_calls", "tool_calls": [
                {"id": id, "type": "function", "function": {"name": name, "arguments": arguments, "output": output}}
                for (name, arguments), (id, output) in zip(CALLS, self.returned[run.id].items())
            ]})
        for text in self.texts(run):
            message = self.put_message(run, text)
            # Mostly there are none: the package has no steps of its own.
            if self.name(run) in ("steps", "tools"):
                self.put_step(run, message_creation(message))
        return self.set_completed(run)

    def set_completed(self, run):
        usage = None if self.name(run) == "twice" else USAGE
        return self.set(run.id, status="completed", completed_at=int(time.time()), usage=usage)

    def texts(self, run):
        """What the assistant has to say."""
        said = [message for message in self.messages.list(run.thread_id) if message.role == "user"]
        asked = said[0].content[0].text.value if said else "nothing"
        if run.id in self.returned:
            asked = ", ".join(self.returned[run.id].values())
        return [text.format(asked) for text in ANSWERS.get(self.name(run), ["You said: {}"])]

    def put_message(self, run, text, **partial):
        content = [] if text is None else [{"type": "text", "text": {"annotations": [], "value": text}}]
        message = build_message({
            "assistant_id": run.assistant_id, "content": content, "role": "assistant", "run_id": run.id,
            "status": "completed", "thread_id": run.thread_id, **partial,
        })
        self.messages.put(message)
        return message

    def put_step(self, run, details, **partial):
        step = build_run_step({
            "assistant_id": run.assistant_id, "run_id": run.id, "status": "completed", "step_details": details,
            "thread_id": run.thread_id, "type": details["type"], **partial,
        })
        self.runs.steps.put(step)
        return step


def message_creation(message):
    return {"type": "message_creation", "message_creation": {"message_id": message.id}}


class Told(EventStream):
    """The events of a run from where it is: all there are, or as few as in the package's own example."""

    def __init__(self, work, id):
        self.work = work
        self.id = id

    def generate(self):
        work, run = self.work, self.work.runs.get(self.id)
        name = work.name(run)
        if run.status == "queued":
            yield events.ThreadRunCreated(event="thread.run.created", data=run)
            if name != "brief":
                yield events.ThreadRunQueued(event="thread.run.queued", data=run)
            work.step(self.id)
        run = work.runs.get(self.id)
        yield events.ThreadRunInProgress(event="thread.run.in_progress", data=run)
        if name == "fail" or (name == "tools" and self.id not in work.returned):
            work.step(self.id)
            run = work.runs.get(self.id)
            if name == "fail":
                yield events.ThreadRunFailed(event="thread.run.failed", data=run)
            else:
                yield events.ThreadRunRequiresAction(event="thread.run.requires_action", data=run)
            return
        for text in work.texts(run):
            yield from self.brief(run, text) if name == "brief" else self.message(run, text)
        yield events.ThreadRunCompleted(event="thread.run.completed", data=work.set_completed(run))

    def brief(self, run, text):
        message = self.work.put_message(run, text)
        yield events.ThreadMessageCreated(event="thread.message.created", data=message)

    def message(self, run, text):
        put_message, put_step = self.work.put_message, self.work.put_step
        begun = put_message(run, None, status="in_progress")
        step = put_step(run, message_creation(begun), status="in_progress")
        yield events.ThreadRunStepCreated(event="thread.run.step.created", data=step)
        yield events.ThreadMessageCreated(event="thread.message.created", data=begun)
        for piece in (text[:5], text[5:]):
            content = [{"index": 0, "type": "text", "text": {"value": piece}}]
            delta = {"id": begun.id, "object": "thread.message.delta", "delta": {"content": content}}
            data = MessageDeltaEvent.model_validate(delta)
            yield events.ThreadMessageDelta(event="thread.message.delta", data=data)
        message = put_message(run, text, id=begun.id, created_at=begun.created_at)
        yield events.ThreadMessageCompleted(event="thread.message.completed", data=message)
        step = put_step(run, message_creation(begun), id=step.id, created_at=step.created_at)
        yield events.ThreadRunStepCompleted(event="thread.run.step.completed", data=step)


class Bridge(BaseHTTPRequestHandler):
    """Hands each request to the package's router, and its response back as it is."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def bridge(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        try:
            with self.server.lock:
                request = Request(self.command, self.server.origin + self.path, headers=self.headers.items(), content=body)
                response = self.server.mock.router.handler(request)
            self.answer(response)
        except Exception as error:  # judged by the runner
            self.server.errors.append(f"{self.command} {self.path}: {error!r}")
            self.close_connection = True

    do_DELETE = do_GET = do_POST = bridge

    def answer(self, response):
        self.send_response_only(response.status_code)
        for name, value in response.headers.multi_items():
            self.send_header(name, value)
        chunked = "transfer-encoding" in response.headers
        if not chunked and "content-length" not in response.headers:
            self.send_header("content-length", "0")
        self.end_headers()
        for piece in response.iter_raw() if chunked else [response.content]:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            self.wfile.flush()
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        pass


class Listener(ThreadingHTTPServer):
    """An HTTP server on a free port, in threads of its own."""

    daemon_threads = True

    def __init__(self, handler):
        super().__init__(("127.0.0.1", 0), handler)
        self.origin = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        """A connection was reset between two requests, as an end of the other side may do."""

    def stop(self):
        self.shutdown()
        self.server_close()


class Server(Listener):
    """The Assistants server."""

    def __init__(self):
        super().__init__(Bridge)
        # By the name that `Threadtap` knows.
        self.assistants = self.origin
        self.mock = OpenAIMock(base_url=f"{self.origin}/v1")
        self.work = Work(self.mock)
        self.lock = threading.Lock()
        # What went wrong here, and not in what is tested.
        self.errors = []
