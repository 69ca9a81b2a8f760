//! What is measured: the steps between a frame that passes and a payload that is sent, each by itself, on one streamed run; and
//! a polled turn, of small exchanges of which most tell nothing new.
//!
//! Shared by the micro-benchmarks (time) and `tests/instructions.rs` (instruction counts).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::hint::black_box;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Version};
use http_body::{Body, Frame};
use threadtap::capture::{self, Receiver, Recorder};
use threadtap::clock::Clock;
use threadtap::metrics::Metrics;
use threadtap::store::{self, Op, Store};
use threadtap_core::correlator::{self, Correlator, Effect};
use threadtap_core::dialect::{self, Observed, Observer};
use threadtap_core::event::{Event, Record};
use threadtap_core::exchange::{End, Ending, ExchangeId, RequestBody, Segment, Start};
use threadtap_core::observation::Observation;
use threadtap_core::payload::Payload;
use threadtap_core::settings::Secret;
use threadtap_core::sink::Sink;
use threadtap_core::sink::reconify::{self, Reconify};
use threadtap_core::sse;
use threadtap_core::time::UnixMillis;
use threadtap_http::head::{Fields, RequestHead, ResponseHead};

/// A streamed run of [`DELTAS`] deltas, prepared for every step.
pub(crate) struct Work {
    body: Vec<u8>,
    observations: Vec<Observation>,
    /// Copies of them to be given away, so that what is measured is not copying.
    copies: RefCell<Vec<Vec<Observation>>>,
    record: Record,
    sink: Sink,
    recorder: Recorder,
    receiver: Receiver,
    /// A polled turn: a created message, a created run, a poll, the last poll, and a list.
    exchanges: [(Ask, String); 5],
    /// What the store is asked to keep of it.
    ops: Vec<Op>,
    store: Store,
    /// How often it was.
    stored: Cell<u64>,
}

impl Work {
    /// Prepares it.
    pub(crate) fn new() -> Self {
        let body = stream();
        let created = read(&post(MESSAGES, MESSAGE), message("user", "u", LONG).as_bytes());
        let observations = [created, read(&stream_run(), &body)].concat();
        let event = pair(observations.clone()).pop().expect("the run is whole");
        let record = Record { event, first_message: Some(1) };
        let keys = || Secret::from("bench");
        let sink = Reconify::new(reconify::Config::new(keys(), keys())).expect("the keys are not empty");
        let (recorder, receiver) = capture::new(capture::Config::default(), Metrics::new().0, Clock::start());
        let created = message("user", "u", SHORT);
        let listed = message("assistant", "a", SHORT);
        let list = format!(r#"{{"object":"list","data":[{listed},{created}],"has_more":false}}"#);
        let exchanges = [
            (post(MESSAGES, MESSAGE), created),
            (post(RUNS, RUN), run("queued")),
            (get(POLL), run("in_progress")),
            (get(POLL), run("completed")),
            (get(MESSAGES), list),
        ];
        let told = exchanges.iter().flat_map(|(ask, answer)| read(ask, answer.as_bytes()));
        let ops = keep(&mut Correlator::new(correlator::Config::default()), told.collect());
        let (store, _) =
            Store::open(store::Config::default(), Metrics::new().0, Clock::start()).expect("there is memory");
        Self {
            body,
            copies: RefCell::new(vec![observations.clone(); COPIES]),
            observations,
            record,
            sink: Sink::Reconify(sink),
            recorder,
            receiver,
            exchanges,
            ops,
            store,
            stored: Cell::new(0),
        }
    }

    /// Finds the events of the stream.
    pub(crate) fn sse(&self) -> usize {
        let mut decoder = sse::Decoder::new(sse::Config::default());
        let mut events = 0;
        for mut segment in self.body.chunks(SEGMENT_BYTES) {
            while decoder.next_event(&mut segment).is_some() {
                events += 1;
            }
        }
        events
    }

    /// Reads the stream as the Assistants API's, which includes finding its events.
    pub(crate) fn dialect(&self) -> usize {
        read(&stream_run(), &self.body).len()
    }

    /// Pairs what a created message and the stream told.
    pub(crate) fn correlator(&self) -> usize {
        let copy = self.copies.borrow_mut().pop();
        pair(copy.unwrap_or_else(|| self.observations.clone())).len()
    }

    /// Reads a created message, and keeps what it tells.
    pub(crate) fn message(&self) -> usize {
        self.turn(&[0])
    }

    /// Looks ten times at a run that goes on, which tells something new but once.
    pub(crate) fn polls(&self) -> usize {
        self.turn(&[&[1][..], &[2; POLLS]].concat())
    }

    /// Takes a polled turn from its exchanges to what is written and sent: a created message and run, polls, and a list.
    pub(crate) fn polled_turn(&self) -> usize {
        self.turn(&[&[0, 1][..], &[2; POLLS - 1], &[3, 4]].concat())
    }

    /// Takes exchanges of a turn, by their places, and gives the number of records.
    fn turn(&self, exchanges: &[usize]) -> usize {
        let mut correlator = Correlator::new(correlator::Config::default());
        let mut records = 0;
        for exchange in exchanges {
            let (ask, answer) = &self.exchanges[*exchange];
            for op in keep(&mut correlator, read(ask, answer.as_bytes())) {
                if let Op::Event(new) = &op {
                    records += 1;
                    let event = serde_json::from_str(&new.body).expect("it was written as one");
                    black_box(self.sink.encode(&[Record { event, first_message: Some(1) }]));
                }
                black_box(op);
            }
        }
        records
    }

    /// Writes a polled turn, as it comes: the journal, the record it is let go for, and that it was delivered.
    pub(crate) fn store(&self) {
        let count = self.stored.get() + 1;
        self.stored.set(count);
        let mut ops = self.ops.clone();
        for op in &mut ops {
            match op {
                Op::Event(new) => new.key = count.to_string(),
                Op::Journal { conversation, .. } | Op::Settle { conversation, .. } => {
                    conversation.id = count.to_string().into();
                }
                other => panic!("not of a turn: {other:?}"),
            }
        }
        let journal = ops.iter().take_while(|op| matches!(op, Op::Journal { .. })).count();
        let settlement = ops.split_off(journal);
        for ops in [ops, settlement, vec![Op::Delivered { id: count }]] {
            self.store.commit(ops, Duration::from_secs(9)).expect("there is room");
            self.store.flush(Duration::from_secs(10)).expect("it is open");
        }
    }

    /// Encodes the record for a backend.
    pub(crate) fn sink(&self) -> Payload {
        self.sink.encode(std::slice::from_ref(&self.record)).expect("an interaction")
    }

    /// Copies the stream as it passes, a frame for each event, and hands the copy over.
    pub(crate) fn tee(&self) -> usize {
        let request = RequestHead {
            method: Method::POST,
            target: RUNS.to_owned(),
            version: Version::HTTP_11,
            fields: Fields::default(),
        };
        let mut response = ResponseHead::new(StatusCode::OK);
        response.fields.push("content-type", "text/event-stream");
        let frames = Frames(self.body.split_inclusive(|byte| *byte == b'}').collect());
        let tap = self.recorder.tap_request(Arc::from("bench"), &request);
        let mut body = tap.tap_response(&response).expect("a whole tap").body(frames);
        let mut context = Context::from_waker(Waker::noop());
        let mut passed = 0;
        while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut context) {
            passed += frame.data_ref().map_or(0, Bytes::len);
        }
        drop(body);
        while self.receiver.try_recv().is_ok() {}
        passed
    }
}

struct Frames<'a>(VecDeque<&'a [u8]>);

impl Body for Frames<'_> {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.pop_front().map(|part| Ok(Frame::data(Bytes::copy_from_slice(part)))))
    }
}

/// A request, and what kind of answer it gets.
struct Ask {
    method: Method,
    path: &'static str,
    body: &'static str,
    content_type: &'static str,
}

fn post(path: &'static str, body: &'static str) -> Ask {
    Ask { method: Method::POST, path, body, content_type: "application/json" }
}

fn get(path: &'static str) -> Ask {
    Ask { method: Method::GET, ..post(path, "") }
}

fn stream_run() -> Ask {
    Ask { content_type: "text/event-stream", ..post(RUNS, RUN) }
}

/// What an exchange tells.
fn read(ask: &Ask, body: &[u8]) -> Vec<Observation> {
    let start = Start {
        caller: None,
        upstream: Arc::from("bench"),
        method: ask.method.clone(),
        path: ask.path.to_owned(),
        query: String::new(),
        request_headers: Vec::new(),
        request_body: RequestBody { bytes: ask.body.as_bytes().to_vec(), complete: true },
        request_at: AT,
        status: 200,
        content_type: Some(HeaderValue::from_static(ask.content_type)),
        content_encoding: None,
        response_at: AT,
    };
    let mut observed = Observed::default();
    let mut observer =
        Observer::start(ExchangeId(1), &start, &CONFIG, &mut observed).expect("it is one of the API's");
    let mut segments = 0;
    for bytes in body.chunks(SEGMENT_BYTES) {
        let segment = Segment { seq: segments, at: AT, bytes: bytes.to_vec() };
        observer.feed(&segment, &mut observed);
        segments += 1;
    }
    observer.end(&End { segments, at: AT, ending: Ending::Complete }, &mut observed);
    assert_eq!(observed.problems, []);
    observed.observations
}

/// What the store is asked to keep of observations, and of what follows from them.
fn keep(correlator: &mut Correlator, observations: Vec<Observation>) -> Vec<Op> {
    let mut ops = Vec::new();
    for observation in observations {
        correlator.handle(observation, AT);
        while let Some(output) = correlator.poll() {
            match output {
                Effect::Interaction(interaction) => {
                    let sinks = vec![Arc::from("bench")];
                    ops.push(Op::event(&Event::Interaction(interaction), AT, sinks));
                }
                Effect::Journal(placed) => {
                    let body = serde_json::to_string(&placed).expect("an observation is JSON");
                    ops.push(Op::Journal {
                        conversation: placed.conversation().clone(),
                        at: placed.at(),
                        body,
                    });
                }
                Effect::Note(note) => panic!("nothing is to be left out: {note:?}"),
                Effect::Remembered(remembered) => {
                    let body = serde_json::to_string(&remembered).expect("what is remembered is JSON");
                    let (conversation, at) = (remembered.conversation, remembered.at);
                    ops.push(Op::Remember { conversation, at, body });
                }
                Effect::Settled(conversation, state) => {
                    let state = state.map(|state| serde_json::to_string(&state).expect("a state is JSON"));
                    ops.push(Op::Settle { conversation, state });
                }
            }
        }
    }
    ops
}

/// The records that follow.
fn pair(observations: Vec<Observation>) -> Vec<Event> {
    let mut correlator = Correlator::new(correlator::Config::default());
    for observation in observations {
        correlator.handle(observation, AT);
    }
    std::iter::from_fn(|| correlator.poll())
        .filter_map(|output| match output {
            Effect::Interaction(interaction) => Some(Event::Interaction(interaction)),
            Effect::Journal(_) | Effect::Note(_) | Effect::Remembered(_) | Effect::Settled(..) => None,
        })
        .collect()
}

fn stream() -> Vec<u8> {
    let mut stream = String::new();
    let mut tell = |name: &str, json: &str| stream.push_str(&format!("event: {name}\ndata: {json}\n\n"));
    tell("thread.run.created", &run("queued"));
    tell("thread.run.in_progress", &run("in_progress"));
    tell("thread.message.created", &message("assistant", "a", LONG).replace("completed", "in_progress"));
    for _ in 0..DELTAS {
        tell(
            "thread.message.delta",
            r#"{"id":"msg_a","object":"thread.message.delta","delta":{"content":[{"index":0,"type":"text","text":{"value":" words"}}]}}"#,
        );
    }
    tell("thread.message.completed", &message("assistant", "a", LONG));
    tell("thread.run.completed", &run("completed"));
    tell("done", "[DONE]");
    stream.into_bytes()
}

fn run(status: &str) -> String {
    let (ended_at, usage) = match status {
        "completed" => {
            ("1790000003", r#"{"prompt_tokens":1200,"completion_tokens":200,"total_tokens":1400}"#)
        }
        _ => ("null", "null"),
    };
    format!(
        r#"{{"id":"run_1","object":"thread.run","created_at":1790000000,"assistant_id":"asst_1","thread_id":"thread_1","status":"{status}","started_at":null,"expires_at":1790000600,"cancelled_at":null,"failed_at":null,"completed_at":{ended_at},"required_action":null,"last_error":null,"model":"gpt-4o","instructions":"Answer briefly.","tools":[],"tool_resources":{{}},"metadata":{{}},"temperature":1.0,"top_p":1.0,"max_completion_tokens":null,"max_prompt_tokens":null,"truncation_strategy":{{"type":"auto","last_messages":null}},"incomplete_details":null,"usage":{usage},"response_format":"auto","tool_choice":"auto","parallel_tool_calls":true}}"#
    )
}

fn message(role: &str, id: &str, words: usize) -> String {
    let run = if role == "assistant" { "\"run_1\"" } else { "null" };
    let text = " words".repeat(words);
    format!(
        r#"{{"id":"msg_{id}","object":"thread.message","created_at":1790000000,"thread_id":"thread_1","run_id":{run},"status":"completed","role":"{role}","content":[{{"type":"text","text":{{"value":"{text}","annotations":[]}}}}],"attachments":[],"metadata":{{}}}}"#
    )
}

static CONFIG: LazyLock<dialect::Config> = LazyLock::new(dialect::Config::default);
const DELTAS: usize = 200;
/// Enough for what counts instructions.
const COPIES: usize = 8;
/// Words of a message that a stream brings.
const LONG: usize = DELTAS;
/// Words of one in a polled turn.
const SHORT: usize = 8;
const POLLS: usize = 10;
const SEGMENT_BYTES: usize = 16 << 10;
const AT: UnixMillis = UnixMillis(1_790_000_001_000);
const MESSAGES: &str = "/v1/threads/thread_1/messages";
const RUNS: &str = "/v1/threads/thread_1/runs";
const POLL: &str = "/v1/threads/thread_1/runs/run_1";
const MESSAGE: &str = r#"{"role":"user","content":"How fast?"}"#;
const RUN: &str = r#"{"assistant_id":"asst_1","stream":true}"#;
