"""Apps that talk through threadtap to the fake server by the official SDK of OpenAI, and what they saw."""

import json
import urllib.error
import urllib.request
import warnings

import openai
from alignai.constants import DEFAULT_ASSISTANT_ID

warnings.simplefilter("ignore", DeprecationWarning)

JANE = {
    "userId": "user-streamed", "displayName": "Jane Störe 🌍", "email": "j@example.com", "countryCode": "KR",
    "createdAt": 1_704_164_645_678, "properties": {"plan": "pro"},
}
# No field of it is admitted by Align as it is.
UNFIT = {
    "userId": "u" * 200, "displayName": "🌍" * 40, "email": "e" * 300, "countryCode": "é",
    "properties": {"no-key": "v", "ok": "🌍" * 200, "n": 7} | {f"p{number}": "v" for number in range(12)},
}
TOLD = {
    "id": "user-told", "display_name": "Told", "email": "t@example.com", "ip": "192.0.2.1", "country": "us",
    "created_at": "2024-01-02T03:04:05.678Z", "properties": {"plan": "pro"},
}
TOLD_MORE = {"id": "user-told", "properties": {"plan": "free"}}
NAMED = "session-named"
TOOL = {"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {}}, "strict": False}
# More messages at once than one request to Align may have events.
CROWD = 60


def post(url, body, **headers):
    """The status of the answer, and its JSON."""
    headers = {"content-type": "application/json"} | headers
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


class Session:
    """What happened in one session, as its app saw it."""

    def __init__(self, name, user, assistant):
        self.name = name
        # An id, an object of the user's fields, or none.
        self.user = user
        # Of the first answer.
        self.assistant = assistant
        self.said = []
        # Number of the message or none, rating, and properties.
        self.feedback = []
        self.closed = False

    def user_id(self):
        return self.user["userId"] if isinstance(self.user, dict) else self.user


class App:
    """An app that uses the official SDK of OpenAI."""

    def __init__(self, url, user=None, session=None):
        user_text = json.dumps(user) if isinstance(user, dict) else user
        headers = {"x-threadtap-user": user_text, "x-threadtap-session": session}
        self.url = url
        self.user = user
        self.session = session
        self.client = openai.OpenAI(
            base_url=f"{url}/v1", api_key="sk-test-123", max_retries=0, timeout=30,
            default_headers={name: value for name, value in headers.items() if value is not None},
        )
        self.threads = self.client.beta.threads

    def begin(self, conversation, assistant=DEFAULT_ASSISTANT_ID):
        """The session of a thread, a conversation, or the first response of a chain; only runs have an assistant."""
        return Session(self.session or conversation, self.user, assistant)

    def ask(self, thread, *questions):
        for question in questions:
            self.threads.messages.create(thread, role="user", content=question)

    def stream(self, thread, assistant):
        """The messages of a streamed answer."""
        with self.threads.runs.stream(thread_id=thread, assistant_id=assistant) as stream:
            return stream.get_final_messages()

    def poll(self, thread, assistant, **options):
        """The messages of a polled answer."""
        run = self.threads.runs.create_and_poll(
            thread_id=thread, assistant_id=assistant, poll_interval_ms=10, **options
        )
        return list(self.threads.messages.list(thread, run_id=run.id, order="asc"))

    def respond(self, text, model="gpt-5", **fields):
        return self.client.responses.create(model=model, input=text, **fields)

    def respond_streamed(self, text, model="gpt-5", **fields):
        with self.client.responses.stream(model=model, input=text, **fields) as stream:
            return stream.get_final_response()

    def chat(self, messages, model="gpt-5", **fields):
        return self.client.chat.completions.create(model=model, messages=messages, **fields)

    def chat_streamed(self, messages, model="gpt-5", **fields):
        with self.client.chat.completions.stream(model=model, messages=messages, **fields) as stream:
            return stream.get_final_completion()

    def judge(self, **feedback):
        return post(f"{self.url}/_threadtap/feedback", feedback)[0]


def asked(*texts):
    return [("user", text) for text in texts]


def answered(messages):
    return [("assistant", "\n".join(map(part_text, message.content))) for message in messages]


def responded(response):
    messages = [item for item in response.output if item.type == "message"]
    return [("assistant", "\n".join(map(part_text, message.content))) for message in messages]


def completed(completion):
    """What each choice says; one that only calls tools says nothing."""
    messages = [choice.message for choice in completion.choices if not choice.message.tool_calls]
    return [("assistant", message.content or f"[refusal: {message.refusal}]") for message in messages]


def part_text(part):
    if part.type == "refusal":
        return f"[refusal: {part.refusal}]"
    return part.text if isinstance(part.text, str) else part.text.value


def streamed(checks, url):
    """A conversation in two turns, judged and deleted."""
    app = App(url, JANE)
    thread = app.threads.create().id
    session = app.begin(thread, "asst_echo")
    odd = 'störe "hours"?\t🕘\u2028\\n </script>\r\n' + "long 🌍 " * 2_000
    app.ask(thread, odd)
    first = app.stream(thread, "asst_echo")
    session.said += asked(odd) + answered(first)
    app.ask(thread, "again", "and again")
    session.said += asked("again", "and again") + answered(app.stream(thread, "asst_messages"))
    status = app.judge(message_id=first[0].id, rating="thumbs_up", comment="good", score=0.5)
    checks.equal("feedback on a message is recorded", 200, status)
    session.feedback.append((2, "thumbs_up", {"comment": "good", "score": "0.5"}))
    checks.equal("feedback on a thread is recorded", 200, app.judge(thread_id=thread, rating="thumbs_down"))
    session.feedback.append((None, "thumbs_down", {}))
    app.threads.delete(thread)
    session.closed = True
    return session


def polled(checks, url):
    """A conversation with messages in the run's request and one in the assistant's name, judged by its last message."""
    app = App(url, "user-polled")
    thread = app.threads.create().id
    session = app.begin(thread, "asst_0123")
    app.ask(thread, "first")
    additional = [{"role": "assistant", "content": "by the app"}, {"role": "user", "content": "second"}]
    outputs = app.poll(thread, "asst_0123", additional_messages=additional)
    session.said += asked("first") + [("assistant", "by the app")] + asked("second") + answered(outputs)
    app.ask(thread, "no?")
    refusal = app.poll(thread, "asst_refuse")
    session.said += asked("no?") + answered(refusal)
    status = app.judge(message_id=refusal[-1].id, rating="thumbs_down")
    checks.equal("feedback on a refusal is recorded", 200, status)
    session.feedback.append((len(session.said), "thumbs_down", {}))
    app.threads.delete(thread)
    session.closed = True
    return session


def named(_checks, url):
    """A named session over two threads by turns; that one of them is deleted does not end it."""
    app = App(url, "user-named", NAMED)
    threads = [app.threads.create().id for _ in range(2)]
    session = app.begin(threads[0], "asst_echo")
    for turn in range(4):
        thread = threads[turn % 2]
        app.ask(thread, f"turn {turn}")
        answer = app.stream(thread, "asst_echo") if turn % 3 else app.poll(thread, "asst_echo")
        session.said += asked(f"turn {turn}") + answered(answer)
    app.threads.delete(threads[0])
    return session


def go_on(url, session):
    """A named session goes on in another thread."""
    app = App(url, session.user, session.name)
    thread = app.threads.create().id
    app.ask(thread, "later")
    session.said += asked("later") + answered(app.stream(thread, "asst_messages"))


def crowded(_checks, url):
    """More messages at once than one request may have events."""
    app = App(url)
    texts = [f"message {number}" for number in range(CROWD)]
    thread = app.threads.create(messages=[{"role": "user", "content": text} for text in texts]).id
    session = app.begin(thread, "asst_echo")
    session.said += asked(*texts) + answered(app.stream(thread, "asst_echo"))
    return session


def unfit(_checks, url, name):
    """Ids and fields beyond what the SDK admits."""
    app = App(url, UNFIT, name)
    thread = app.threads.create().id
    session = app.begin(thread, "asst_" + "a" * 80)
    app.ask(thread, "hello")
    session.said += asked("hello") + answered(app.stream(thread, session.assistant))
    return session


def told(checks, url):
    """A user the app tells about itself, twice."""
    checks.equal("a user is taken", 200, post(f"{url}/_threadtap/users", TOLD)[0])
    app = App(url, "user-told")
    thread = app.threads.create().id
    session = app.begin(thread, "asst_echo")
    app.ask(thread, "hello")
    session.said += asked("hello") + answered(app.stream(thread, "asst_echo"))
    checks.equal("more of a user is taken", 200, post(f"{url}/_threadtap/users", TOLD_MORE)[0])
    return session


def chained(checks, url):
    """A chain of responses with tools in between; its session is known by the first of them."""
    app = App(url, "user-chained")
    first = app.respond("one", instructions="Be brief.")
    session = app.begin(first.id)
    session.said += asked("one") + responded(first)
    second = app.respond_streamed("two", "fake-messages", previous_response_id=first.id)
    session.said += asked("two") + responded(second)
    calling = app.respond_streamed("three", "fake-tool_twice", previous_response_id=second.id, tools=[TOOL])
    session.said += asked("three")
    for _ in range(2):
        checks.equal("a response that calls a tool says nothing", [], responded(calling))
        calling = app.respond(outputs(calling), "fake-tool_twice", previous_response_id=calling.id, tools=[TOOL])
    session.said += responded(calling)
    judged = calling.output[-1].id
    checks.equal("feedback on a response's message is recorded", 200, app.judge(message_id=judged, rating="thumbs_up"))
    session.feedback.append((len(session.said), "thumbs_up", {}))
    return session


def outputs(response):
    calls = [item for item in response.output if item.type == "function_call"]
    return [{"type": "function_call_output", "call_id": call.call_id, "output": "fine"} for call in calls]


def conversed(_checks, url):
    """Responses of a conversation whose items come by other requests too; its deletion ends the session."""
    app = App(url)
    conversations = app.client.conversations
    said = [{"type": "message", "role": role, "content": role} for role in ("developer", "user")]
    conversation = conversations.create(items=said).id
    session = app.begin(conversation)
    first = app.respond_streamed("two", conversation=conversation)
    session.said += asked("user", "two") + responded(first)
    conversations.items.create(conversation, items=[{"type": "message", "role": "user", "content": "three"}])
    refusal = app.respond("four", "fake-refuse", conversation={"id": conversation})
    session.said += asked("three", "four") + responded(refusal)
    conversations.delete(conversation)
    session.closed = True
    return session


def chatted(checks, url):
    """A named session of chat completions, each of which is sent all that was said before."""
    app = App(url, "user-chatted", "session-chatted")
    session = app.begin(None)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "one"}]
    first = app.chat(messages, n=2)
    session.said += asked("one") + completed(first)
    checks.equal("both choices are told", 3, len(session.said))
    messages += [{"role": "assistant", "content": first.choices[0].message.content}]
    messages += [{"role": "user", "content": "two"}, {"role": "user", "content": "three"}]
    second = app.chat_streamed(messages, "fake-refuse")
    session.said += asked("two", "three") + completed(second)
    messages += [{"role": "assistant", "content": second.choices[0].message.refusal}, {"role": "user", "content": "four"}]
    session.said += asked("four")
    tool = {"type": "function", "function": {"name": TOOL["name"], "parameters": TOOL["parameters"]}}
    calling = app.chat(messages, "fake-tool", tools=[tool])
    checks.equal("a completion that calls a tool says nothing", [], completed(calling))
    message = calling.choices[0].message
    messages += [{"role": "assistant", "content": None, "tool_calls": [call.model_dump() for call in message.tool_calls]}]
    messages += [{"role": "tool", "tool_call_id": call.id, "content": "fine"} for call in message.tool_calls]
    session.said += completed(app.chat_streamed(messages, "fake-tool", tools=[tool]))
    return session


def play(checks, url):
    """Every conversation; what their apps saw."""
    # Two that differ only beyond what fits.
    long = "s" * 100
    return [
        streamed(checks, url), polled(checks, url), named(checks, url), crowded(checks, url), crowded(checks, url),
        unfit(checks, url, long + "1"), unfit(checks, url, long + "2"), told(checks, url),
        chained(checks, url), conversed(checks, url), chatted(checks, url),
    ]
