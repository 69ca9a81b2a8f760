//! Whole exchanges in, facts out, at every cut of the body.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use serde_json::json;

use super::*;
use crate::exchange::Ending;
use crate::observation::Fact;

/// An exchange, as plain text.
struct Case {
    request: &'static str,
    request_body: String,
    headers: Vec<(&'static str, &'static str)>,
    status: u16,
    content_type: &'static str,
    body: Vec<u8>,
    ending: Ending,
}

impl Case {
    fn new(request: &'static str, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            request,
            request_body: String::new(),
            headers: Vec::new(),
            status: 200,
            content_type,
            body: body.into(),
            ending: Ending::Complete,
        }
    }

    fn json(request: &'static str, body: &Value) -> Self {
        Self::new(request, "application/json", body.to_string())
    }

    fn start(&self) -> Start {
        let (method, target) = self.request.split_once(' ').unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let content_type =
            (!self.content_type.is_empty()).then(|| HeaderValue::from_static(self.content_type));
        let header = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        Start {
            upstream: Arc::from("api"),
            caller: None,
            method: method.parse().unwrap(),
            path: path.to_owned(),
            query: query.to_owned(),
            request_headers: self.headers.iter().map(header).collect(),
            request_body: RequestBody { bytes: self.request_body.clone().into_bytes(), complete: true },
            request_at: UnixMillis(1000),
            status: self.status,
            content_type,
            content_encoding: None,
            response_at: UnixMillis(1001),
        }
    }

    /// Feeds the body in the given pieces; a missing piece is a hole.
    fn observe(&self, pieces: &[Option<&[u8]>]) -> Observed {
        let mut out = Observed::default();
        let Some(mut observer) = Observer::start(ExchangeId(1), &self.start(), &Config::default(), &mut out)
        else {
            return out;
        };
        for (seq, bytes) in pieces.iter().enumerate() {
            let Some(bytes) = bytes else { continue };
            let seq = u32::try_from(seq).unwrap();
            let bytes = bytes.to_vec();
            observer.feed(&Segment { seq, at: UnixMillis(1002), bytes }, &mut out);
        }
        let segments = u32::try_from(pieces.len()).unwrap();
        let end = End { segments, at: UnixMillis(1003), ending: self.ending };
        observer.end(&end, &mut out);
        out
    }

    /// The facts, which must not depend on how the body was cut.
    fn facts(&self) -> Vec<Fact> {
        let whole = self.observe(&[Some(&self.body)]);
        let expected = format!("{:?} {:?}", whole.observations, whole.problems);
        for cut in 0..=self.body.len() {
            let (a, b) = self.body.split_at(cut);
            let cut_up = self.observe(&[Some(a), Some(b)]);
            assert_eq!(format!("{:?} {:?}", cut_up.observations, cut_up.problems), expected, "cut at {cut}");
        }
        whole.observations.into_iter().map(|observation| observation.fact).collect()
    }

    fn problems(&self) -> Vec<Problem> {
        self.observe(&[Some(&self.body)]).problems
    }
}

/// Names of the facts, with what tells them apart.
fn outline(facts: &[Fact]) -> Vec<String> {
    facts
        .iter()
        .map(|fact| match fact {
            Fact::RunSeen { run, origin, first_token_at, .. } => {
                let origin = format!("{origin:?}");
                let origin = origin.split([' ', '{']).next().unwrap().to_owned();
                let token = if first_token_at.is_some() { " after text" } else { "" };
                format!("run {:?} {origin}{token}", run.status)
            }
            Fact::MessageSeen { message, origin, .. } => {
                format!("message {:?} {origin:?} {:?}", message.status, message.text())
            }
            Fact::StreamEnded { ending, error, .. } => format!("end {ending:?} {:?}", error.is_some()),
            Fact::StepSeen(step) => format!("step {:?}", step.message),
            other => format!("{other:?}").split([' ', '{', '(']).next().unwrap().to_owned(),
        })
        .collect()
}

fn run(status: &str) -> Value {
    json!({"id": "run_1", "object": "thread.run", "thread_id": "thread_1", "status": status, "created_at": 1})
}

fn message(status: &str, text: &str) -> Value {
    let content = if text.is_empty() {
        json!([])
    } else {
        json!([{"type": "text", "text": {"value": text, "annotations": []}}])
    };
    json!({"id": "msg_1", "object": "thread.message", "thread_id": "thread_1", "run_id": "run_1",
           "role": "assistant", "status": status, "content": content})
}

fn delta(text: &str) -> Value {
    json!({"id": "msg_1", "object": "thread.message.delta",
           "delta": {"content": [{"index": 0, "type": "text", "text": {"value": text}}]}})
}

fn frames(events: &[(&str, Value)], line_end: &str) -> String {
    let frame = |(name, data): &(&str, Value)| {
        let data = data.as_str().map_or_else(|| data.to_string(), str::to_owned);
        format!("event: {name}{line_end}data: {data}{line_end}{line_end}")
    };
    events.iter().map(frame).collect()
}

fn simple_stream() -> Vec<(&'static str, Value)> {
    vec![
        ("thread.run.created", run("queued")),
        ("thread.run.in_progress", run("in_progress")),
        ("thread.message.created", message("in_progress", "")),
        ("thread.message.delta", delta("Hél")),
        ("thread.message.delta", delta("lo")),
        ("thread.message.completed", message("completed", "Héllo")),
        ("thread.run.completed", run("completed")),
        ("done", json!("[DONE]")),
    ]
}

const STREAM: &str = "text/event-stream; charset=utf-8";
const SIMPLE: [&str; 6] = [
    "run Active(\"queued\") Created",
    "run Active(\"in_progress\") Seen",
    "message InProgress Streamed \"\"",
    "message Completed Streamed \"Héllo\"",
    "run Completed Seen after text",
    "end Complete false",
];

#[test]
fn a_stream_tells_its_run_whatever_its_line_ends_and_cuts() {
    for line_end in ["\n", "\r\n", "\r"] {
        let case = Case::new("POST /v1/threads/thread_1/runs", STREAM, frames(&simple_stream(), line_end));
        assert_eq!(outline(&case.facts()), SIMPLE);
        assert_eq!(case.problems(), []);
    }
}

#[test]
fn events_in_a_wrapper_or_without_a_name_tell_the_same() {
    let wrapped: String = simple_stream()
        .iter()
        .map(|(name, data)| format!("data: {}\n\n", json!({"data": data, "event": name})))
        .collect();
    let unnamed: String =
        simple_stream().iter().map(|(_, data)| format!(": ping\n\ndata: {data}\n\n")).collect();
    for body in [
        wrapped.replace(r#"{"data":"[DONE]","event":"done"}"#, "[DONE]"),
        unnamed.replace("\"[DONE]\"", "[DONE]"),
    ] {
        let case = Case::new("POST /v1/threads/thread_1/runs", STREAM, body);
        assert_eq!(outline(&case.facts()), SIMPLE);
        assert_eq!(case.problems(), []);
    }
}

#[test]
fn the_object_counts_and_not_the_events_name() {
    let body = frames(&[("thread.run.completed", run("requires_action"))], "\n");
    let case = Case::new("POST /v1/threads/thread_1/runs", STREAM, body);
    assert_eq!(outline(&case.facts()), ["run RequiresAction Created", "end Complete false"]);
}

#[test]
fn pieces_of_text_stand_in_where_no_whole_message_came() {
    let mut events = simple_stream();
    events.retain(|(name, _)| !name.starts_with("thread.message.c"));
    let case = Case::new("POST /v1/threads/thread_1/runs", STREAM, frames(&events, "\n"));
    let facts = outline(&case.facts());
    assert_eq!(
        facts[2..],
        ["message Completed Streamed \"Héllo\"", "run Completed Seen after text", "end Complete false"]
    );
    let mut broken = Case::new("POST /v1/threads/thread_1/runs", STREAM, frames(&events[..4], "\n"));
    broken.ending = Ending::UpstreamFailed;
    let facts = outline(&broken.facts());
    assert_eq!(facts[2..], ["message InProgress Streamed \"Héllo\"", "end Truncated false"]);
}

#[test]
fn a_hole_in_a_stream_costs_what_was_in_it_and_is_told() {
    let text = frames(&simple_stream(), "\n");
    let case = Case::new("POST /v1/threads/thread_1/runs", STREAM, text.clone());
    let hole = text.find("Hél").unwrap();
    let seen = case.observe(&[Some(&text.as_bytes()[..hole]), None, Some(&text.as_bytes()[hole + 20..])]);
    let facts: Vec<Fact> = seen.observations.into_iter().map(|observation| observation.fact).collect();
    assert_eq!(
        outline(&facts)[3..],
        ["message Completed Streamed \"Héllo\"", "run Completed Seen", "end Truncated false"]
    );
    assert_eq!(seen.problems, [Problem::Incomplete]);
}

#[test]
fn an_error_event_is_kept_for_when_no_run_ends() {
    for error in [json!({"message": "m", "code": "server_error"}), json!({"error": {"message": "m"}})] {
        let events = [("thread.run.created", run("queued")), ("error", error)];
        let case = Case::new("POST /v1/threads/thread_1/runs", STREAM, frames(&events, "\n"));
        assert_eq!(outline(&case.facts()), ["run Active(\"queued\") Created", "end Complete true"]);
    }
}

#[test]
fn a_wrapped_event_is_what_is_in_it_and_is_unwrapped_once() {
    let wrapped = |name: &str, data: Value| ("", json!({ "event": name, "data": data }));
    let observe = |event| {
        let events = [wrapped("thread.run.created", run("queued")), event];
        let case = Case::new("POST /v1/threads/thread_1/runs", STREAM, frames(&events, "\n"));
        (outline(&case.facts()), case.problems())
    };
    let error = json!({"message": "m"});
    let noted = ["run Active(\"queued\") Created", "end Complete true"];
    for event in [
        wrapped("error", error.clone()),
        ("error", json!({"event": "x", "data": error})),
        wrapped("x", json!({"error": error})),
    ] {
        let (facts, problems) = observe(event);
        assert_eq!((facts, problems), (noted.map(str::to_owned).to_vec(), Vec::new()));
    }
    let (facts, problems) = observe(wrapped("thread.run.completed", run("completed")));
    assert_eq!((facts[1].as_str(), problems), ("run Completed Seen", Vec::new()));
    let twice = wrapped("x", json!({"event": "thread.run.completed", "data": run("completed")}));
    let (facts, problems) = observe(twice);
    assert_eq!((facts.len(), problems), (2, vec![Problem::UnexpectedShape]), "{facts:?}");
}

#[test]
fn all_four_routes_of_user_text_are_seen() {
    let object = json!({"id": "msg_1", "object": "thread.message", "thread_id": "thread_1", "role": "user",
                        "content": [{"type": "text", "text": {"value": "hi", "annotations": []}}]});
    let case = Case::json("POST /v1/threads/thread_1/messages", &object);
    assert_eq!(outline(&case.facts()), ["message Completed Created \"hi\""]);

    let carried = |request, request_body: Value, body: &Value| {
        let mut case = Case::json(request, body);
        case.request_body = request_body.to_string();
        let facts = case.facts();
        assert_eq!(facts.len(), 1);
        match &facts[0] {
            Fact::ConversationCreated { messages, .. } => messages[0].text(),
            Fact::RunSeen { origin: crate::observation::RunOrigin::Created { messages, .. }, .. } => {
                messages[0].text()
            }
            other => panic!("{other:?}"),
        }
    };
    let messages = json!([{"role": "user", "content": "hi"}]);
    let thread = json!({"id": "thread_1", "object": "thread"});
    assert_eq!(carried("POST /v1/threads", json!({ "messages": messages }), &thread), "hi");
    assert_eq!(
        carried("POST /v1/threads/runs", json!({"thread": {"messages": messages}}), &run("queued")),
        "hi"
    );
    let additional = json!({ "additional_messages": messages });
    assert_eq!(carried("POST /v1/threads/thread_1/runs", additional, &run("queued")), "hi");
}

#[test]
fn submitted_tool_outputs_are_told_before_the_run_goes_on() {
    let mut case = Case::json("POST /v1/threads/thread_1/runs/run_1/submit_tool_outputs", &run("queued"));
    case.request_body = json!({"tool_outputs": [{"tool_call_id": "call_1", "output": "sunny"}]}).to_string();
    assert_eq!(outline(&case.facts()), ["ToolOutputsSubmitted", "run Active(\"queued\") Continued"]);
}

#[test]
fn lists_are_told_by_what_they_hold() {
    let list = |data: Value| json!({"object": "list", "data": data, "has_more": false});
    let case = Case::json(
        "GET /v1/threads/thread_1/messages?limit=1&run_id=run_1",
        &list(json!([message("completed", "a")])),
    );
    assert_eq!(outline(&case.facts()), ["MessagesListed"]);
    let case = Case::json("GET /v1/threads/thread_1/runs", &list(json!([run("completed"), run("queued")])));
    assert_eq!(outline(&case.facts()), ["run Active(\"queued\") Seen", "run Completed Seen"]);
    let case = Case::json("GET /v1/threads/thread_1/runs/run_1/steps", &list(json!([])));
    assert_eq!(outline(&case.facts()), ["StepsListed"]);
    for path in ["messages", "runs", "runs/run_1/steps"] {
        let broken = list(json!([run("completed"), message("completed", "a"), "BROKEN"])).to_string();
        let broken = broken.replace("BROKEN", r"\ud800");
        let request = format!("GET /v1/threads/thread_1/{path}").leak();
        let case = Case::new(request, "application/json", broken);
        assert!(case.facts().is_empty(), "an item that is no JSON spoils the list");
        assert_eq!(case.problems(), [Problem::InvalidJson]);
    }
}

#[test]
fn headers_say_whose_exchange_it_is() {
    let mut case = Case::json("GET /v1/threads/thread_1/runs/run_1", &run("queued"));
    case.headers = vec![
        ("x-threadtap-session", "s1"),
        ("x-threadtap-session-timeout", "15"),
        ("x-threadtap-user", r#"{"userId":"u1","isAuthenticated":1}"#),
    ];
    let seen = case.observe(&[Some(&case.body)]);
    let attribution = &seen.observations[0].attribution;
    assert_eq!(attribution.session.as_deref(), Some("s1"));
    assert_eq!(attribution.session_timeout_minutes, Some(15));
    assert_eq!(attribution.user.as_ref().unwrap().id(), Some("u1"));
}

#[test]
fn answers_that_are_no_success_tell_nothing() {
    for status in [302, 400, 404, 429, 500, 502] {
        let mut case = Case::json("GET /v1/threads/thread_1/runs/run_1", &run("completed"));
        case.status = status;
        assert!(case.facts().is_empty() && case.problems().is_empty());
    }
}

#[test]
fn odd_bodies_are_problems_and_no_facts() {
    let deep = "[".repeat(100_000);
    for (content_type, body, problem) in [
        ("application/json", &b"{\"id\": \"run_1\", \"object\": "[..], Problem::InvalidJson),
        ("application/json", b"\xff\xfe", Problem::InvalidJson),
        ("application/json", b"NaN", Problem::InvalidJson),
        ("application/json", deep.as_bytes(), Problem::InvalidJson),
        ("application/json", b"{\"error\": {\"message\": \"m\"}}", Problem::UnexpectedShape),
        ("application/json", b"{\"thread_id\": \"t\", \"values\": {}}", Problem::UnexpectedShape),
        ("application/json", b"7", Problem::UnexpectedShape),
        ("application/json", b"{\"object\":\"thread.run\",\"id\":7}", Problem::UnexpectedShape),
        ("text/html", b"<html>", Problem::UnexpectedType),
        ("", b"<html>", Problem::UnexpectedType),
        (STREAM, b"data: {\n\n", Problem::InvalidJson),
        (STREAM, b"data: 7\n\n", Problem::UnexpectedShape),
    ] {
        let case = Case::new("GET /v1/threads/thread_1/runs/run_1", content_type, body);
        let seen = case.observe(&[Some(body)]);
        assert_eq!(seen.problems, [problem], "{}", String::from_utf8_lossy(&body[..body.len().min(40)]));
        assert!(seen.observations.is_empty());
    }
}

#[test]
fn a_missing_content_type_is_made_up_for_by_the_first_byte() {
    let case = Case::new("GET /v1/threads/thread_1/runs/run_1", "", format!("\n {}", run("completed")));
    assert_eq!(outline(&case.facts()), ["run Completed Seen"]);
}

#[test]
fn a_client_may_leave_as_soon_as_the_stream_has_told_all() {
    let waiting =
        vec![("thread.run.created", run("queued")), ("thread.run.requires_action", run("requires_action"))];
    let mut done = waiting.clone();
    done.push(("done", json!("[DONE]")));
    for (events, ending) in [
        (simple_stream(), "end Complete false"),
        (done, "end Complete false"),
        (waiting, "end Complete false"),
        (simple_stream()[..4].to_vec(), "end ClientGone false"),
    ] {
        let mut case = Case::new("POST /v1/threads/thread_1/runs", STREAM, frames(&events, "\n"));
        case.ending = Ending::ClientGone;
        assert_eq!(outline(&case.facts()).last().unwrap(), ending);
    }
}

#[test]
fn answers_of_an_api_are_told_whatever_their_status() {
    let answered = |request, status| {
        let mut case = Case::json(request, &json!({}));
        case.status = status;
        case.observe(&[]).answered.map(|Answered { api, status }| (api, status.as_u16()))
    };
    for status in [200, 404, 500] {
        assert_eq!(answered("POST /v1/chat/completions", status), Some(("chat", status)));
        assert_eq!(answered("GET /v1/threads/t", status), Some(("assistants", status)));
    }
    assert_eq!(answered("POST /v1/embeddings", 200), None);
}

#[test]
fn what_is_held_of_a_chat_is_counted_and_can_be_let_go() {
    let chunk = |text: &str| json!({"id": "c1", "choices": [{"index": 0, "delta": {"content": text}}]});
    let case = Case::new("POST /v1/chat/completions", "text/event-stream", "");
    let mut out = Observed::default();
    let mut observer = Observer::start(ExchangeId(1), &case.start(), &Config::default(), &mut out).unwrap();
    assert_eq!(observer.gathered_bytes(), 0);
    let feed = |observer: &mut Observer, seq: u32, out: &mut Observed| {
        let bytes = format!("data: {}\n\n", chunk(&"a".repeat(1000))).into_bytes();
        observer.feed(&Segment { seq, at: UnixMillis(1002), bytes }, out);
    };
    feed(&mut observer, 0, &mut out);
    feed(&mut observer, 1, &mut out);
    assert_eq!(observer.gathered_bytes(), 2000);
    observer.give_up();
    feed(&mut observer, 2, &mut out);
    assert_eq!(observer.gathered_bytes(), 0);
    let end = End { segments: 3, at: UnixMillis(1003), ending: Ending::Complete };
    observer.end(&end, &mut out);
    let last = out.observations.iter().rev().find_map(|observation| match &observation.fact {
        Fact::TurnSeen(turn) => Some(turn),
        _ => None,
    });
    let last = last.unwrap();
    assert!(!last.whole && last.outputs.is_empty() && !last.run.status.is_terminal());
}

#[test]
fn what_is_known_and_not_captured_is_named() {
    for (request, expected) in [
        ("POST /v1/completions", Some("completions")),
        ("POST /openai/deployments/d/embeddings/", Some("embeddings")),
        ("POST /v1/chat/completions", None),
        ("GET /v1/organization/usage/completions", None),
        ("POST /v1/files", None),
        ("POST /", None),
    ] {
        let (method, path) = request.split_once(' ').unwrap();
        assert_eq!(uncaptured(&method.parse().unwrap(), path), expected, "{request}");
    }
}
