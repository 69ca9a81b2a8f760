"""Holds what threadtap tells Align against the vendor's own SDK and schema.

usage: align.py    (with a Python that has python/align.txt)

Apps talk through threadtap to the fake server, by Assistants, Responses, Conversations and Chat Completions; a reference
Connect server (node/align_server.mjs), built from the descriptors inside the vendor's Python SDK, refuses some requests and
takes the rest. It checks that

- the server, which is shown to be strict, takes every request, and a refused one comes again as it was;
- every field the vendor marks as required is there, ids fit and are told once, and times are of the test;
- users come before their sessions, these before their messages, these numbered from 1 also over a restart, and the end last;
- what is told is, field by field, what the SDK tells when the same apps use it, and the SDK's own checks pass.

Ends with `N passed, N failed`; exit status 1 when anything failed.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path

from alignai import AlignAI
from alignai.config import Config
from alignai.proto.ingestion.v1alpha.ingestion_pb2 import DESCRIPTOR, CollectEventsRequest
from alignai.validate import ValidationError, validate_custom_properties_or_raise
from google.api import field_behavior_pb2
from google.protobuf import descriptor_pb2, json_format

from align_apps import CROWD, JANE, NAMED, TOLD, TOLD_MORE, UNFIT, go_on, play, post
from runner import EXIT_SECS, HERE, Checks, Fakes, Threadtap, build, fetch

METHOD = "/ingestion.v1alpha.IngestionService/CollectEvents"
KEY = "key-1"
PROJECT = "project-1"
# Connect's codes by which a request is refused for now, and their statuses.
FAILURES = {"Unavailable": 503, "ResourceExhausted": 429, "Internal": 500, "Aborted": 409}
KINDS = {"feedback_create", "message_create", "session_close", "session_open", "user_recognize"}
MAX_ID = 64
MAX_VALUE = 256
MAX_EVENTS = 50
# How often apps said something new of a user.
USERS_TOLD = 8
DELIVERY_SECS = 45


class AlignServer:
    """The reference server, as a process of its own."""

    def __init__(self, descriptors):
        self.process = subprocess.Popen(
            ["node", HERE / "node/align_server.mjs", descriptors, KEY],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        self.url = json.loads(self.process.stdout.readline())["url"]

    def received(self):
        return fetch(f"{self.url}/received")

    def accepted(self):
        """Every event of the requests that were taken, in order."""
        return [event for taken in self.received() if taken["answer"] == "ok" for event in taken["request"]["events"]]

    def statuses(self):
        return Counter(fetch(f"{self.url}/statuses"))

    def fail(self, codes):
        post(f"{self.url}/failures", list(codes))

    def stop(self):
        self.process.stdin.close()
        self.process.wait(EXIT_SECS)


def descriptor_set():
    """The vendor's schema with all it needs, as a `FileDescriptorSet`."""
    files = {}

    def add(file):
        for needed in file.dependencies:
            add(needed)
        files[file.name] = file.serialized_pb

    add(DESCRIPTOR)
    descriptors = descriptor_pb2.FileDescriptorSet()
    for serialized in files.values():
        descriptors.file.add().ParseFromString(serialized)
    return descriptors.SerializeToString()


def check_strict(checks, server):
    """The server refuses what the schema does not have; else its word would prove nothing. How often it answered what."""
    bearer = {"authorization": f"Bearer {KEY}"}
    url = server.url + METHOD
    event = {"id": "e", "type": "session_close", "properties": {"sessionProperties": {"sessionId": "s"}}}
    two = event["properties"] | {"userProperties": {"userId": "u"}}
    wrong = [
        {"requestId": "r", "events": [event | {"colour": "red"}]},
        {"requestId": "r", "events": [event | {"properties": two}]},
        {"requestId": "r", "events": [event | {"createTime": 1}]},
    ]
    for body in wrong:
        status, answer = post(url, body, **bearer)
        checks.equal(f"the server refuses {body}", [400, "invalid_argument"], [status, answer["code"]])
    status, answer = post(url, {"requestId": "r", "events": [event]}, authorization="Bearer other")
    checks.equal("the server refuses another key", [401, "unauthenticated"], [status, answer["code"]])
    return Counter({400: len(wrong), 401: 1})


def check_requests(checks, received, statuses, strict):
    """Holds each request, and the order of attempts."""
    taken = [request for request in received if request["answer"] == "ok"]
    refused = [request for request in received if request["answer"] != "ok"]
    expected = strict + Counter(FAILURES.values()) + Counter({200: len(taken)})
    checks.equal("every request is decoded, and only those are refused that should be", as_list(expected), as_list(statuses))
    checks.equal("refusals", list(FAILURES), [request["answer"] for request in refused])
    for at, request in enumerate(received):
        again = [later for later in received[at + 1:] if later["request"] == request["request"]]
        wanted = request["answer"] != "ok"
        name = f"request {at} ({request['answer']})"
        checks.check(f"{name}: comes again as it was if it was refused", bool(again) == wanted, f"{len(again)} times")
        if wanted:
            checks.check(f"{name}: is taken in the end", any(later["answer"] == "ok" for later in again))
        headers = request["headers"]
        checks.equal(
            f"{name}: its headers", [f"Bearer {KEY}", "application/json", "1"],
            [headers.get(key) for key in ("authorization", "content-type", "connect-protocol-version")],
        )
        count = len(request["request"]["events"])
        # One record's messages stay together.
        limit = CROWD + 1 if {event["type"] for event in request["request"]["events"]} == {"message_create"} else MAX_EVENTS
        checks.check(f"{name}: holds at most {limit} events", 0 < count <= limit, count)
        message = json_format.ParseDict(request["request"], CollectEventsRequest())
        # That a session is over is told without its user by the vendor's SDKs too.
        over = sum(event.type == "session_close" for event in message.events)
        missing = Counter(unset(message)) - Counter({"SessionProperties.user_id": over})
        checks.check(f"{name}: all that is required is there", not missing, missing)
    for name, ids in {
        "requests": [request["request"]["requestId"] for request in taken],
        "events": [event["id"] for request in taken for event in request["request"]["events"]],
    }.items():
        doubled = [id for id, count in Counter(ids).items() if count > 1]
        checks.check(f"no two {name} have the same id", not doubled, doubled)


def as_list(counter):
    return [list(item) for item in sorted(counter.items())]


def unset(message):
    """The names of fields that the vendor requires and that say nothing."""
    known = {field.name for field, _ in message.ListFields()}
    for field in message.DESCRIPTOR.fields:
        behaviour = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
        if field_behavior_pb2.REQUIRED in behaviour and field.name not in known:
            yield f"{message.DESCRIPTOR.name}.{field.name}"
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            inner = value.values()
        else:
            inner = value if field.label == field.LABEL_REPEATED else [value]
        for part in inner:
            yield from unset(part)


def parts(event):
    """The one member of the one-of."""
    (name,) = event["properties"].keys() - {"customProperties"}
    return event["properties"][name]


def check_events(checks, events, started):
    """Holds what is true of every event."""
    checks.equal("all kinds of events were told", sorted(KINDS), sorted({event["type"] for event in events}))
    targets = {parts(event)["feedbackTarget"] for event in events if event["type"] == "feedback_create"}
    checks.equal("feedback is of messages and of sessions", ["TARGET_MESSAGE", "TARGET_SESSION"], sorted(targets))
    now = datetime.now(timezone.utc)
    for event in events:
        name = f"{event['type']} {event['id']}"
        ids = [event["id"]] + [parts(event)[key] for key in ("sessionId", "userId", "assistantId") if key in parts(event)]
        long = [id for id in ids if not 0 < len(id.encode("utf-16-le")) // 2 <= MAX_ID]
        checks.check(f"{name}: ids fit", not long, long)
        checks.equal(f"{name}: the project", PROJECT, event["projectId"])
        times = [event["createTime"], parts(event).get("sessionStartTime", event["createTime"])]
        of_the_test = all(started <= moment(time) <= now for time in times)
        checks.check(f"{name}: times are of the test", of_the_test, times)


def moment(text):
    # Python before 3.11 reads no `Z`.
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def of_session(events, id):
    return [event for event in events if parts(event).get("sessionId") == id]


def of_user(events, id):
    return [event for event in events if event["type"] == "user_recognize" and parts(event)["userId"] == id]


def check_order(checks, events, session, tells_user):
    """Holds the order of a session's events, and of its user's if it was the first to tell of one."""
    name = f"session {session.name}"
    mine = of_session(events, fitting(session.name))
    kinds = [event["type"] for event in mine]
    opened = [at for at, kind in enumerate(kinds) if kind == "session_open"]
    checks.equal(f"{name}: opened once, before all else", [0], opened)
    numbers = [parts(event)["messageIndexHint"] for event in mine if event["type"] == "message_create"]
    checks.equal(f"{name}: messages are numbered in order", list(range(1, len(numbers) + 1)), numbers)
    closed = [at for at, kind in enumerate(kinds) if kind == "session_close"]
    checks.check(f"{name}: closed at most once, after all else", closed in ([], [len(mine) - 1]), closed)
    if tells_user:
        user = of_user(events, parts(mine[0]).get("userId"))[:1] if mine else []
        checks.check(f"{name}: its user was told before", user and events.index(user[0]) < events.index(mine[0]))


def tell(sdk, session, id, user):
    """Tells a session by the vendor's SDK, by what its app saw."""
    sdk.open_session(id, user, fitting(session.assistant))
    for number, (role, text) in enumerate(session.said, 1):
        sdk.create_message(id, number, role, text)
    for number, rating, _ in session.feedback:
        if number is None:
            sdk.create_session_feedback(id, rating)
        else:
            sdk.create_message_feedback(id, number, rating)
    if session.closed:
        sdk.close_session(id)


def fitting(id):
    """An id as threadtap makes it fit: its beginning, and a hash of the whole as `key_of` makes it."""
    if len(id) <= MAX_ID:
        return id
    hashed = hashlib.sha256()
    for part in (b"id", id.encode()):
        hashed.update(len(part).to_bytes(8, "little") + part)
    return f"{id[:MAX_ID - 33]}-{hashed.hexdigest()[:32]}"


def tell_users(sdk):
    """Tells the users by the vendor's SDK: what their apps said, and where that does not fit, what is left of it."""
    sdk.identify_user(
        JANE["userId"], JANE["displayName"], JANE["email"], country_code=JANE["countryCode"],
        create_time=datetime.fromtimestamp(JANE["createdAt"] / 1000, timezone.utc), custom_properties=JANE["properties"],
    )
    sdk.identify_user("user-polled")
    sdk.identify_user("user-named")
    sdk.identify_user("user-chained")
    sdk.identify_user("user-chatted")
    left = {"ok": UNFIT["properties"]["ok"][:MAX_VALUE // 2]} | {f"p{number}": "v" for number in range(9)}
    sdk.identify_user(
        fitting(UNFIT["userId"]), UNFIT["displayName"][:MAX_ID // 2], UNFIT["email"][:MAX_VALUE], custom_properties=left
    )
    for said in (TOLD, TOLD | TOLD_MORE):
        sdk.identify_user(
            said["id"], said["display_name"], said["email"], said["ip"], said["country"].upper(),
            moment(said["created_at"]), said["properties"],
        )


def check_limits(checks, sdk):
    """The vendor's SDK refuses what threadtap made to fit; else that would be a loss for nothing."""
    for field, value in {
        "user_id": UNFIT["userId"], "display_name": "x" * (MAX_ID + 1), "email": UNFIT["email"],
        "country_code": UNFIT["countryCode"], "custom_properties": {"ok": UNFIT["properties"]["ok"] * 2},
    }.items():
        try:
            sdk.identify_user(**({"user_id": "user"} | {field: value}))
            checks.check(f"the SDK refuses this {field}", False, "it was taken")
        except ValidationError:
            checks.check(f"the SDK refuses this {field}", True)


def comparable(events):
    """Events without what is of the moment and what the SDK of this language has no argument for."""
    kept = []
    for event in events:
        event = json.loads(json.dumps(event, sort_keys=True))
        del event["id"], event["createTime"]
        properties = event["properties"]
        if event["type"] == "session_open":
            # Told by the vendor's Node and Edge SDKs alone.
            properties["sessionProperties"].pop("sessionStartTime", None)
        if event["type"] == "feedback_create":
            # The schema has properties for feedback; no SDK has.
            properties.pop("customProperties", None)
        kept.append(event)
    # Feedback goes its own way: its place among the messages is not settled.
    return sorted(kept, key=lambda event: event["type"] == "feedback_create")


def check_feedback(checks, session, events):
    """Holds the words and scores of feedback, which the SDK cannot tell, to the vendor's rules for properties."""
    told = [event["properties"] for event in events if event["type"] == "feedback_create"]
    custom = [
        {key: value["stringValue"] for key, value in properties.get("customProperties", {}).items()}
        for properties in told
    ]
    said = [properties for _, _, properties in session.feedback]
    checks.equal(f"session {session.name}: what was said with feedback", said, custom)
    for properties in custom:
        validate_custom_properties_or_raise(properties)


def check_against_sdk(checks, server, sessions, ours):
    """Lets the vendor's SDK tell the same, and compares what the server decoded."""
    start = len(server.accepted())
    sdk = AlignAI(PROJECT, KEY, server.url, Config(flush_interval_ms=10))
    check_limits(checks, sdk)
    tell_users(sdk)
    nobodies = []
    for session in sessions:
        user = session.user_id()
        if user is None:
            opened = [parts(event) for event in of_session(ours, session.name) if event["type"] == "session_open"]
            user = opened[0]["userId"] if opened else "none"
            checks.check(f"session {session.name}: its user is a pseudonym", user.startswith("anonymous-"), user)
            nobodies.append(user)
        tell(sdk, session, fitting(session.name), fitting(user))
    checks.equal("pseudonyms are of one session", len(nobodies), len(set(nobodies)))
    # What is left when it is closed, the SDK sends beside what it is sending already.
    wait_accepted(server, start + len(ours))
    sdk.close()
    theirs = server.accepted()[start:]
    for session in sessions:
        id = fitting(session.name)
        expected = comparable(of_session(theirs, id))
        checks.equal(f"session {session.name}: told as by the SDK", expected, comparable(of_session(ours, id)))
        check_feedback(checks, session, of_session(ours, id))
    users = sorted({parts(event)["userId"] for event in theirs + ours if event["type"] == "user_recognize"})
    for user in users:
        expected = comparable(of_user(theirs, user))
        checks.equal(f"user {user}: told as by the SDK", expected, comparable(of_user(ours, user)))
    checks.equal("as many events as the SDK's", len(theirs), len(ours))


def expected_count(sessions):
    told = sum(1 + len(session.said) + len(session.feedback) + session.closed for session in sessions)
    return told + USERS_TOLD


def wait_accepted(server, count):
    deadline = time.monotonic() + DELIVERY_SECS
    while len(server.accepted()) < count and time.monotonic() < deadline:
        time.sleep(0.1)


def main():
    if sys.argv[1:]:
        sys.exit(__doc__)
    build(False)
    checks = Checks()
    with tempfile.TemporaryDirectory() as directory:
        descriptors = Path(directory) / "descriptors.binpb"
        descriptors.write_bytes(descriptor_set())
        fakes, server = Fakes(), AlignServer(descriptors)
        try:
            check_align(checks, fakes, server, directory)
        finally:
            fakes.stop()
            server.stop()
    print(f"{checks.passed} passed, {len(checks.failures)} failed")
    sys.exit(1 if checks.failures else 0)


def check_align(checks, fakes, server, directory):
    strict = check_strict(checks, server)
    server.fail(FAILURES)
    started = datetime.now(timezone.utc)
    sink = {"ALIGNAI_API_KEY": KEY, "ALIGNAI_PROJECT_ID": PROJECT, "ALIGNAI_HOST": server.url}
    proxy = Threadtap(fakes, directory, sink)
    sessions = play(checks, proxy.base_url)
    wait_accepted(server, expected_count(sessions))
    checks.equal("threadtap drains and exits 0", 0, proxy.stop())
    proxy = Threadtap(fakes, directory, sink)
    go_on(proxy.base_url, next(session for session in sessions if session.name == NAMED))
    wait_accepted(server, expected_count(sessions))
    checks.equal("threadtap drains and exits 0 again", 0, proxy.stop())
    received = server.received()
    events = server.accepted()
    check_requests(checks, received, server.statuses(), strict)
    check_events(checks, events, started)
    # Nobody, and who was told apart from any session.
    known = {None, TOLD["id"]}
    for session in sessions:
        check_order(checks, events, session, session.user_id() not in known)
        known.add(session.user_id())
    check_against_sdk(checks, server, sessions, events)
    if checks.failures:
        print(f"--- threadtap's log, its end ---\n{proxy.log_path.read_text()[-4000:]}")


if __name__ == "__main__":
    main()
