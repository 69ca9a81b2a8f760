//! Whole exchanges in, facts out, at every cut of the body.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use http::{HeaderName, HeaderValue};
use serde_json::json;

use super::*;
use crate::budget::Pool;
use crate::exchange::{Ending, RequestBody};
use crate::observation::Fact;

/// An exchange, as plain text.
struct Case {
    request: &'static str,
    request_body: String,
    headers: Vec<(&'static str, &'static str)>,
    status: u16,
    content_type: &'static str,
    content_encoding: Option<&'static str>,
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
            content_encoding: None,
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
            content_encoding: self.content_encoding.map(HeaderValue::from_static),
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
        let request = format!("GET /v1/threads/thread_1/{path}").leak();
        let case = Case::new(request, "application/json", broken.replace("\"BROKEN\"", "1e999"));
        assert_eq!(case.facts().len(), 1, "a number is no item, whatever it is");
        let case = Case::new(request, "application/json", broken.replace("\"BROKEN\"", "nope"));
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
        ("application/json", b"Nan", Problem::InvalidJson),
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
fn first_bytes_say_what_a_body_is_where_the_header_does_not() {
    let stream = frames(&simple_stream(), "\n");
    let marked = format!("\u{feff}{stream}");
    for content_type in
        ["", "text/plain", "application/json", "application/x-ndjson", "application/octet-stream"]
    {
        for body in [&stream, &marked, &format!("\n\n{stream}"), &format!(": hi\n\n{stream}")] {
            let case = Case::new("POST /v1/threads/thread_1/runs", content_type, body.as_str());
            assert_eq!(outline(&case.facts()), SIMPLE, "{content_type}");
            assert_eq!(case.problems(), []);
        }
    }
    for content_type in [STREAM, "text/plain", ""] {
        for body in [run("completed").to_string(), format!("\u{feff} {}", run("completed"))] {
            let case = Case::new("GET /v1/threads/thread_1/runs/run_1", content_type, body);
            assert_eq!(outline(&case.facts()), ["run Completed Seen"], "{content_type}");
        }
    }
}

#[test]
fn a_coding_that_was_not_applied_is_not_undone() {
    for coding in ["none", "gzip", "br", "zstd", "aws-chunked", "x, y"] {
        let stream = ("POST /v1/threads/thread_1/runs", STREAM, frames(&simple_stream(), "\n"));
        let poll = ("GET /v1/threads/thread_1/runs/run_1", "application/json", run("completed").to_string());
        for (request, content_type, body) in [stream, poll] {
            let mut case = Case::new(request, content_type, body);
            case.content_encoding = Some(coding);
            assert!(
                outline(&case.facts()).iter().any(|fact| fact.starts_with("run Completed Seen")),
                "{coding}"
            );
            assert_eq!(case.problems(), [], "{coding}");
        }
    }
    for coding in ["none", "gzip", "br"] {
        let mut case =
            Case::new("GET /v1/threads/thread_1/runs/run_1", "application/json", "\x07\x07 no text");
        case.content_encoding = Some(coding);
        assert!(case.facts().is_empty());
        assert_eq!(case.problems(), [Problem::ContentEncoding], "{coding}");
    }
}

#[test]
fn several_events_in_one_are_read_and_what_cannot_be_read_is_a_gap() {
    let [created, completed] = [run("queued"), run("completed")];
    let observe = |data: String| {
        let body = format!("event: thread.run.created\ndata: {created}\n\n{data}\n\ndata: [DONE]\n\n");
        let case = Case::new("POST /v1/threads/thread_1/runs", STREAM, body);
        (outline(&case.facts()).pop().unwrap(), case.problems())
    };
    let glued = message("completed", "a");
    for data in [
        format!("data: {glued}\ndata: {completed}"),
        format!("data: {glued}{completed}"),
        format!("data: {glued}\ndata: data: {completed}"),
        format!("data: {glued}\ndata: {completed}\ndata: [DONE]"),
    ] {
        assert_eq!(observe(data), ("end Complete false".to_owned(), vec![]));
    }
    for (data, problems) in [
        (format!("data: {{\"id\": \"msg\ndata: {completed}"), 1),
        (format!("data: {completed}{{"), 1),
        (format!("data: {{\"a\ndata: [1,\ndata: {completed}"), 2),
    ] {
        assert_eq!(observe(data), ("end Truncated false".to_owned(), vec![Problem::InvalidJson; problems]));
    }
    let words = format!("data: keep-alive\n\ndata: {completed}");
    assert_eq!(observe(words), ("end Complete false".to_owned(), vec![Problem::InvalidJson]));
}

#[test]
fn bytes_that_are_not_text_cost_a_document_nothing_else() {
    let mut body = message("completed", "so ??").to_string().into_bytes();
    let at = body.windows(2).position(|two| two == b"??").unwrap();
    body[at..at + 2].copy_from_slice(b"\xf0\x9f");
    let case = Case::new("POST /v1/threads/thread_1/messages", "application/json", body);
    assert_eq!(outline(&case.facts()), ["message Completed Created \"so \u{fffd}\""]);
    assert_eq!(case.problems(), [Problem::HalfCharacter]);
    let marks = format!("\u{feff}\u{feff} {}", run("completed"));
    let case = Case::new("GET /v1/threads/thread_1/runs/run_1", "", marks);
    assert_eq!(outline(&case.facts()), ["run Completed Seen"]);
}

#[test]
fn lines_without_anything_around_them_are_events_of_unknown_times() {
    let chunk = |text: &str, reason: Value| {
        json!({"id": "c1", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": reason}]})
            .to_string()
    };
    let turn = |body: String| {
        let case = Case::new("POST /v1/chat/completions", "application/x-ndjson", body);
        let mut turns = case.facts().into_iter().filter_map(|fact| match fact {
            Fact::TurnSeen(turn) => Some(turn),
            _ => None,
        });
        (turns.next_back().unwrap(), case.problems())
    };
    let (whole, problems) = turn(format!("{}\n{}\n", chunk("a", Value::Null), chunk("b", json!("stop"))));
    assert!(whole.whole && whole.first_token_at.is_none() && problems.is_empty());
    assert_eq!(whole.outputs[0].text(), "ab");
    let torn = [chunk("aHIGH", Value::Null), chunk("LOWb", json!("stop"))].join("\n");
    let (torn, problems) = turn(torn.replace("HIGH", r"\ud83d").replace("LOW", r"\ude00"));
    assert!(torn.whole && problems == [Problem::HalfCharacter; 2], "{problems:?}");
    assert_eq!(torn.outputs[0].text(), "a😀b");
}

#[test]
fn a_stream_whose_first_piece_was_lost_is_not_whole() {
    let text = frames(&simple_stream(), "\n");
    let case = Case::new("POST /v1/threads/thread_1/runs", STREAM, text.clone());
    let seen = case.observe(&[None, Some(text.as_bytes())]);
    let told = |fact: &Fact| matches!(fact, Fact::RunSeen { streamed: true, .. });
    assert!(!seen.observations.iter().any(|observation| told(&observation.fact)));
    assert_eq!(outline(&[seen.observations.into_iter().last().unwrap().fact]), ["end Truncated false"]);
}

#[test]
fn an_event_of_lines_that_cannot_be_read_is_given_up() {
    let lines = "data: [\n".repeat(100_000);
    let case =
        Case::new("POST /v1/threads/thread_1/runs", STREAM, format!("{lines}\ndata: {}\n\n", run("queued")));
    let seen = case.observe(&[Some(&case.body)]);
    assert_eq!(seen.problems, [Problem::InvalidJson; 8]);
    let facts: Vec<Fact> = seen.observations.into_iter().map(|observation| observation.fact).collect();
    assert_eq!(outline(&facts), ["run Active(\"queued\") Created", "end Truncated false"]);
}

#[test]
fn half_a_character_costs_neither_a_run_nor_a_question() {
    let text = message("completed", "HALF").to_string().replace("HALF", r"\ud83d!");
    let mut case = Case::new("POST /v1/threads/thread_1/messages", "application/json", text);
    assert_eq!(outline(&case.facts()), ["message Completed Created \"\u{fffd}!\""]);
    assert_eq!(case.problems(), [Problem::HalfCharacter]);

    case = Case::json("POST /v1/threads/thread_1/runs", &run("queued"));
    case.request_body = r#"{"additional_messages": [{"role": "user", "content": "so \udc00"}]}"#.to_owned();
    let Some(Fact::RunSeen {
        origin: crate::observation::RunOrigin::Created { messages, messages_lost, .. },
        ..
    }) = case.facts().pop()
    else {
        panic!("no run");
    };
    assert_eq!((messages[0].text().as_str(), messages_lost), ("so \u{fffd}", false));

    let torn = frames(&simple_stream(), "\n").replace("Hél", r"H\ud83d").replace("lo", r"\ude00lo");
    let case = Case::new("POST /v1/threads/thread_1/runs", STREAM, torn.clone());
    assert_eq!(outline(&case.facts()).pop().unwrap(), "end Complete false", "it was put together");
    let case = Case::new("POST /v1/threads/thread_1/runs", STREAM, torn.replace(r"\ude00", ""));
    assert_eq!(outline(&case.facts()).pop().unwrap(), "end Truncated false", "a character was lost");
}

#[test]
fn a_state_behind_a_gap_is_not_said_to_end_a_whole_stream() {
    let told = |gap: &str| {
        let body = format!("{gap}data: {}\n\n", run("completed"));
        let case = Case::new("POST /v1/threads/thread_1/runs", STREAM, body);
        case.facts().into_iter().any(|fact| matches!(fact, Fact::RunSeen { streamed: true, .. }))
    };
    assert!(told("data: x\n\n") && !told("data: {\"id\n\n"));
}

#[test]
fn nothing_follows_an_empty_page_whatever_it_says() {
    let more = |data: Value| {
        let case = Case::json(
            "GET /v1/threads/thread_1/messages?after=msg_0",
            &json!({"data": data, "has_more": true}),
        );
        match &case.facts()[0] {
            Fact::MessagesListed(page) => page.has_more,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((more(json!([])), more(json!([message("completed", "a")]))), (Some(false), Some(true)));
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
        case.observe(&[]).responded.map(|Responded { api, status }| (api, status.as_u16()))
    };
    for status in [200, 404, 500] {
        assert_eq!(answered("POST /v1/chat/completions", status), Some(("chat", status)));
        assert_eq!(answered("GET /v1/threads/t", status), Some(("assistants", status)));
    }
    assert_eq!(answered("POST /v1/embeddings", 200), None);
}

/// Memory of which so much may be taken; how much is taken now, and was at most.
#[derive(Debug, Default)]
struct Memory {
    most: usize,
    taken: AtomicUsize,
    peak: AtomicUsize,
}

impl Pool for Memory {
    fn take(&self, more: usize, _: usize) -> bool {
        let taken = self.taken.load(Relaxed) + more;
        if taken <= self.most {
            self.taken.store(taken, Relaxed);
            self.peak.fetch_max(taken, Relaxed);
        }
        taken <= self.most
    }

    fn give_back(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Relaxed);
    }
}

/// Observes a case with so much memory, in pieces. Tells what was taken at most.
fn observe_within(most: usize, case: &Case, piece_bytes: usize) -> (Observed, usize) {
    let memory = Arc::new(Memory { most, ..Memory::default() });
    let config = Config { budget: Budget::of(memory.clone()), ..Config::default() };
    let mut out = Observed::default();
    if let Some(mut observer) = Observer::start(ExchangeId(1), &case.start(), &config, &mut out) {
        let pieces: Vec<&[u8]> = case.body.chunks(piece_bytes).collect();
        for (seq, bytes) in (0..).zip(&pieces) {
            observer.feed(&Segment { seq, at: UnixMillis(1002), bytes: bytes.to_vec() }, &mut out);
        }
        let segments = u32::try_from(pieces.len()).unwrap();
        observer.end(&End { segments, at: UnixMillis(1003), ending: case.ending }, &mut out);
    }
    assert_eq!(memory.taken.load(Relaxed), 0, "all of it was given back");
    (out, memory.peak.load(Relaxed))
}

#[test]
fn what_there_is_no_memory_for_is_given_up_and_told() {
    let chunk = json!({"id": "c1", "choices": [{"index": 0, "delta": {"content": "a".repeat(10_000)}}]});
    let mut stream =
        Case::new("POST /v1/chat/completions", "text/event-stream", format!("data: {chunk}\n\n").repeat(100));
    stream.request_body = json!({"messages": [{"role": "user", "content": "hi"}]}).to_string();
    let (plenty, needed) = observe_within(usize::MAX, &stream, 4096);
    assert!(!plenty.over_budget && (1_000_000..3_000_000).contains(&needed), "{needed}");
    let (scarce, taken) = observe_within(needed / 2, &stream, 4096);
    assert!(scarce.over_budget && taken <= needed / 2);
    let last = scarce.observations.iter().rev().find_map(|observation| match &observation.fact {
        Fact::TurnSeen(turn) => Some(turn),
        _ => None,
    });
    let last = last.unwrap();
    assert!(!last.whole && last.outputs.is_empty() && !last.run.status.is_terminal());
}

#[test]
fn a_request_there_is_no_memory_for_is_lost_and_the_response_is_not() {
    let mut case = Case::json(
        "POST /v1/chat/completions",
        &json!({"id": "c1", "choices": [{"index": 0, "message": {"content": "hello"}, "finish_reason": "stop"}]}),
    );
    case.request_body = json!({"messages": [{"role": "user", "content": "x".repeat(1_000_000)}]}).to_string();
    let (out, taken) = observe_within(1_000_000, &case, 100);
    assert!(out.over_budget && out.problems == [Problem::RequestIncomplete] && taken <= 1_000_000);
    let Fact::TurnSeen(turn) = &out.observations[0].fact else { panic!("{out:?}") };
    assert!(matches!(turn.origin, crate::observation::RunOrigin::Created { messages_lost: true, .. }));
    assert_eq!(turn.outputs[0].text(), "hello");
}

#[test]
fn only_what_may_tell_something_is_of_interest() {
    for (request, expected) in [
        ("POST /v1/chat/completions", Interest::Whole),
        ("GET /v1/threads/t", Interest::Whole),
        ("POST /v1/completions", Interest::Glance),
        ("POST /anything", Interest::Glance),
        ("GET /v1/realtime", Interest::Glance),
        ("GET /v1/organization/usage/completions", Interest::None),
        ("DELETE /v1/files/f", Interest::None),
    ] {
        let (method, path) = request.split_once(' ').unwrap();
        assert_eq!(interest(&method.parse().unwrap(), path), expected, "{request}");
    }
}
