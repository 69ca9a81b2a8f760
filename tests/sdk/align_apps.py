"""Apps that talk through threadtap to the fake Assistants server by the official SDK of OpenAI, and what they saw."""

import json
import urllib.error
import urllib.request
import warnings

import openai

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
        self.threads = openai.OpenAI(
            base_url=f"{url}/v1", api_key="sk-test-123", max_retries=0, timeout=30,
            default_headers={name: value for name, value in headers.items() if value is not None},
        ).beta.threads

    def begin(self, thread, assistant):
        return Session(self.session or thread, self.user, assistant)

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

    def judge(self, **feedback):
        return post(f"{self.url}/_threadtap/feedback", feedback)[0]


def asked(*texts):
    return [("user", text) for text in texts]


def answered(messages):
    return [("assistant", "\n".join(map(part_text, message.content))) for message in messages]


def part_text(part):
    return part.text.value if part.type == "text" else f"[refusal: {part.refusal}]"


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


def play(checks, url):
    """Every conversation; what their apps saw."""
    # Two that differ only beyond what fits.
    long = "s" * 100
    return [
        streamed(checks, url), polled(checks, url), named(checks, url), crowded(checks, url), crowded(checks, url),
        unfit(checks, url, long + "1"), unfit(checks, url, long + "2"), told(checks, url),
    ]
