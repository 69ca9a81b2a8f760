//! What conversations take in memory: as much as is counted, give or take a little, and so little that the limits keep their word.
//!
//! Each measurement is a process of its own, which prints what it counted and how far its resident memory grew.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;

use serde_json::{Value, json};
use threadtap_core::attribution::Attribution;
use threadtap_core::correlator::{Config, ConversationState, Correlator, Effect, Limits, Remembered};
use threadtap_core::dialect::{self, Observed, Observer};
use threadtap_core::exchange::{End, Ending, ExchangeId, RequestBody, Segment, Start};
use threadtap_core::message::{Message, MessageStatus, Role};
use threadtap_core::observation::{ConversationKey, Fact, MessageOrigin, Observation, Said, Step};
use threadtap_core::time::UnixMillis;

#[test]
fn a_live_conversation_takes_less_than_3500_bytes() {
    let Measured { conversations, counted, taken } = measure("live 8000");
    assert_eq!(conversations, 8000);
    let each = taken / conversations;
    assert!(each < 3500, "{each} bytes, {counted} counted of {taken}");
    assert!(taken * most_counted() / counted < 512_000_000, "{taken} bytes are taken, {counted} counted");
}

/// With the default limits: `cargo test --release --test edges -- --ignored --nocapture memory`.
#[test]
#[ignore = "takes long in a debug build; the one above is a twelfth of it"]
fn a_hundred_thousand_live_conversations_take_less_than_350_mb() {
    let Measured { conversations, counted, taken } = measure("live 100000");
    eprintln!("{conversations} live conversations: {taken} bytes, {counted} of them counted");
    assert_eq!(conversations, 100_000, "none had to go");
    assert!(taken < 350_000_000, "{taken} bytes");
}

/// What is counted is bounded; so whatever is held, it must take little more than what is counted.
#[test]
fn what_conversations_take_is_counted_whatever_they_hold() {
    for mix in ["chains", "long_texts", "many_steps", "responses", "settled", "short_texts"] {
        let Measured { counted, taken, .. } = measure(mix);
        assert!(counted > FULL_BYTES as u64 * 9 / 10, "{mix}: {counted} bytes do not say much");
        assert!(
            taken * most_counted() / counted < 512_000_000,
            "{mix}: {taken} bytes are taken, {counted} counted"
        );
    }
}

/// As the settings say.
#[test]
fn a_remembered_turn_takes_less_than_200_bytes() {
    let Measured { conversations: turns, taken, .. } = measure("remembered 50000");
    assert_eq!(turns, 50_000);
    let each = taken / turns;
    assert!(each < 200, "{each} bytes");
}

/// What the default limits let be counted.
fn most_counted() -> u64 {
    Limits::default().text_bytes as u64
}

struct Measured {
    conversations: u64,
    counted: u64,
    taken: u64,
}

/// Measures in a process of its own.
fn measure(what: &str) -> Measured {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "memory::measures_for_the_other_tests", "--ignored", "--nocapture"])
        .env("MEASURE", what)
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stdout);
    let line =
        output.lines().find_map(|line| line.split_once("measured ")).unwrap_or_else(|| panic!("{child:?}"));
    let numbers: Vec<u64> = line.1.split(' ').map(|number| number.parse().unwrap()).collect();
    Measured { conversations: numbers[0], counted: numbers[1], taken: numbers[2] }
}

#[test]
#[ignore = "the other tests run it"]
fn measures_for_the_other_tests() {
    let Ok(what) = std::env::var("MEASURE") else { return };
    let mut config = Config::default();
    if let Some((_, turns)) = what.split_once("remembered ") {
        let (turns, taken) = remember(turns.parse().unwrap());
        println!("\nmeasured {turns} 0 {taken}");
        return;
    }
    if !what.starts_with("live") {
        config.limits.text_bytes = FULL_BYTES;
    }
    let mut correlator = Correlator::new(config);
    let before = resident_bytes();
    match what.split_once(' ') {
        Some((_, conversations)) => {
            (0..conversations.parse().unwrap()).for_each(|n| live(&mut correlator, n))
        }
        None => {
            let mut n = 0;
            while !fill(&mut correlator, &what, n) {
                n += 1;
            }
        }
    }
    let taken = resident_bytes() - before;
    println!("\nmeasured {} {} {taken}", correlator.conversations(), correlator.text_bytes());
}

/// Completions of conversations of ten turns.
fn remember(turns: u64) -> (usize, u64) {
    let mut correlator = Correlator::new(Config::default());
    let before = resident_bytes();
    let turn = |n: u64| {
        let id = |n: u64| Arc::from(format!("chatcmpl-{n:029}~19ac3f5d2b7.{n:x}"));
        let said = Said { exchange: n, pair: None, whole: n };
        let conversation = ConversationKey { upstream: "api.openai.com:443".into(), id: id(n / 10 * 10) };
        Remembered { conversation, run: id(n), said, at: UnixMillis(1_800_000_000_000 + n) }
    };
    correlator.restore_histories((0..turns).map(turn));
    (correlator.remembered_turns(), resident_bytes() - before)
}

/// A question of 400 characters and a run that goes on.
fn live(correlator: &mut Correlator, n: u64) {
    let upstream: Arc<str> = Arc::from("api.openai.com:443");
    let question = "What are the opening hours of the shop in Bern on public holidays? ".repeat(6);
    let (thread, run) = (format!("thread_{n:024}"), format!("run_{n:024}"));
    let at = UnixMillis(1_800_000_000_000 + n);
    let mut tell = |path: String, request: Value, answer: Value| {
        let start = Start {
            upstream: upstream.clone(),
            caller: None,
            method: http::Method::POST,
            path,
            query: String::new(),
            request_headers: Vec::new(),
            request_body: RequestBody { bytes: request.to_string().into_bytes(), complete: true },
            request_at: at,
            status: 200,
            content_type: Some(http::HeaderValue::from_static("application/json")),
            content_encoding: None,
            response_at: at,
        };
        let mut observed = Observed::default();
        let mut observer =
            Observer::start(ExchangeId(1), &start, &dialect::Config::default(), &mut observed).unwrap();
        observer.feed(&Segment { seq: 0, at, bytes: answer.to_string().into_bytes() }, &mut observed);
        observer.end(&End { segments: 1, at, ending: Ending::Complete }, &mut observed);
        for observation in observed.observations {
            correlator.handle(observation, at);
        }
    };
    let user = json!({"user_id": format!("user_{n}")});
    tell(
        format!("/v1/threads/{thread}/messages"),
        json!({"role": "user", "content": question}),
        json!({"id": format!("msg_{n:024}"), "object": "thread.message", "created_at": 1_800_000_000, "thread_id": thread,
               "role": "user", "content": [{"type": "text", "text": {"value": question, "annotations": []}}],
               "assistant_id": null, "run_id": null, "attachments": [], "metadata": {}}),
    );
    tell(
        format!("/v1/threads/{thread}/runs"),
        json!({"assistant_id": "asst_abcdefghijklmnopqrstuvwx", "metadata": user}),
        json!({"id": run, "object": "thread.run", "created_at": 1_800_000_001, "thread_id": thread, "status": "queued",
               "assistant_id": "asst_abcdefghijklmnopqrstuvwx", "model": "gpt-4o-mini", "expires_at": 1_800_000_601,
               "metadata": user, "usage": null}),
    );
    while correlator.poll().is_some() {}
}

/// Adds something of a kind. Tells whether something had to go for it.
fn fill(correlator: &mut Correlator, kind: &str, n: u64) -> bool {
    let key = |thread: u64| ConversationKey {
        upstream: "api.openai.com:443".into(),
        id: format!("thread_{thread:024}").into(),
    };
    let at = UnixMillis(1_800_000_000_000 + n);
    let mut tell = |thread: u64, fact: Fact| {
        let observation =
            Observation { conversation: key(thread), at, attribution: Attribution::default(), fact };
        correlator.handle(observation, at);
    };
    match kind {
        "long_texts" => tell(n, message(n, 100_000)),
        "many_steps" => {
            let run = json!({"id": "run_1", "status": {"active": "queued"}, "tool_calls": []});
            let run = Box::new(serde_json::from_value(run).unwrap());
            let origin = serde_json::from_value(json!("seen")).unwrap();
            tell(n, Fact::RunSeen { run, origin, first_token_at: None, streamed: false });
            for step in 0..200 {
                let call = json!({"id": format!("call_{step:024}"), "kind": "function", "name": "weather"});
                let step = Step {
                    id: format!("step_{step:024}"),
                    run: "run_1".to_owned(),
                    message: None,
                    tool_calls: vec![serde_json::from_value(call).unwrap()],
                };
                tell(n, Fact::StepSeen(Box::new(step)));
            }
        }
        "chains" => correlator.restore(key(n), full_chain(n)),
        "responses" => tell_turn(correlator, n, at),
        "settled" => correlator.restore(key(n), full_state()),
        // 50 to a conversation.
        "short_texts" => tell(n / 50, message(n, 1)),
        other => panic!("no kind {other}"),
    }
    let mut left = false;
    while let Some(output) = correlator.poll() {
        left |= matches!(output, Effect::Settled(_, None));
    }
    left
}

/// A response that calls a tool.
fn tell_turn(correlator: &mut Correlator, n: u64, at: UnixMillis) {
    let id = format!("resp_{n:040}");
    let run = json!({"id": id, "status": "completed", "tool_calls": [
        {"id": format!("call_{n:024}"), "kind": "function", "name": "weather"}]});
    let origin =
        json!({"created": {"messages": [], "request_at": 1, "streamed": false, "new_conversation": true}});
    let turn = json!({"api": "responses", "run": run, "origin": origin, "whole": true});
    let conversation = ConversationKey { upstream: "api.openai.com:443".into(), id: id.into() };
    let fact = serde_json::from_value(json!({ "turn_seen": turn })).unwrap();
    let observation = Observation { conversation, at, attribution: Attribution::default(), fact };
    correlator.handle(observation, at);
}

fn message(n: u64, text_bytes: usize) -> Fact {
    let id = format!("msg_{n:024}");
    let content = json!([{"type": "text", "text": {"value": "x".repeat(text_bytes), "annotations": []}}]);
    let object = json!({"id": id, "object": "thread.message", "role": "user", "content": content});
    let message = Message {
        id: Some(id),
        role: Role::User,
        status: MessageStatus::Completed,
        created_at: Some(1.0),
        run: None,
        object: serde_json::value::to_raw_value(&object).unwrap(),
    };
    Fact::MessageSeen { message, origin: MessageOrigin::Created, requested_at: None }
}

/// What remains of a conversation of hundreds of runs.
fn full_state() -> ConversationState {
    let ids: Vec<u64> = (0..128).collect();
    let fields: BTreeMap<&str, Value> = [
        ("attribution", json!({"user": {"userId": "user_1"}, "session": "session_1"})),
        ("runs", json!(ids)),
        ("learnt", json!(ids)),
        ("messages", json!(ids)),
        ("boundary", json!(1.0)),
        ("history_known", json!(true)),
        ("last_seen", json!(1_800_000_000_000_u64)),
    ]
    .into();
    serde_json::from_str(&serde_json::to_string(&fields).unwrap()).unwrap()
}

/// What remains of a long chain of responses that called tools; no other has the same links.
fn full_chain(n: u64) -> ConversationState {
    let links =
        |from: u64, count: u64| -> Vec<u64> { (from..from + count).map(|at| n * 1000 + at).collect() };
    let caller = |at: u64| {
        let run = format!("resp_{:040}", n * 1000 + at);
        json!({"run": run, "turn": run, "calls": links(100 + at * 32, 32)})
    };
    let callers: Vec<Value> = (0..8).map(caller).collect();
    let fields: BTreeMap<&str, Value> = [
        ("runs", json!(links(0, 128))),
        ("messages", json!(links(0, 128))),
        ("chain", json!({"runs": links(0, 64), "callers": callers})),
        ("history_known", json!(true)),
        ("last_seen", json!(1_800_000_000_000_u64)),
    ]
    .into();
    serde_json::from_str(&serde_json::to_string(&fields).unwrap()).unwrap()
}

/// Without the code, which the system reads in as it is first run.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Held before something has to go, where a measurement fills memory.
const FULL_BYTES: usize = 24 << 20;
