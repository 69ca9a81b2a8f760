//! What is measured: the steps between a frame that passes and a payload that is sent, each by itself, on one streamed run.
//!
//! Shared by the micro-benchmarks (time) and `tests/instructions.rs` (instruction counts).

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Version};
use http_body::{Body, Frame};
use secrecy::SecretString;
use threadtap::capture::{self, Receiver, Recorder};
use threadtap::clock::Clock;
use threadtap::correlator::{self, Correlator, Output};
use threadtap::dialect::{self, Observed, Observer};
use threadtap::event::{Event, Record};
use threadtap::exchange::{End, Ending, ExchangeId, RequestBody, Segment, Start};
use threadtap::head::{Fields, RequestHead, ResponseHead};
use threadtap::metrics::Metrics;
use threadtap::observation::Observation;
use threadtap::payload::Payload;
use threadtap::sink::Sink;
use threadtap::sink::reconify::{self, Reconify};
use threadtap::sse;
use threadtap::time::UnixMillis;

/// A streamed run of [`DELTAS`] deltas, prepared for every step.
pub(crate) struct Work {
    body: Vec<u8>,
    observations: Vec<Observation>,
    record: Record,
    sink: Sink,
    recorder: Recorder,
    receiver: Receiver,
}

impl Work {
    /// Prepares it.
    pub(crate) fn new() -> Self {
        let body = stream();
        let observations = [read(MESSAGES, MESSAGE, "application/json", message("user", "u").as_bytes()), {
            read(RUNS, RUN, "text/event-stream", &body)
        }]
        .concat();
        let event = pair(&observations).pop().expect("the run is whole");
        let record = Record { event, first_message: Some(1) };
        let keys = || SecretString::from("bench");
        let sink = Reconify::new(reconify::Config::new(keys(), keys())).expect("the keys are not empty");
        let (recorder, receiver) = capture::new(capture::Config::default(), Metrics::new().0, Clock::start());
        Self { body, observations, record, sink: Sink::Reconify(sink), recorder, receiver }
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
        read(RUNS, RUN, "text/event-stream", &self.body).len()
    }

    /// Pairs what a created message and the stream told.
    pub(crate) fn correlator(&self) -> usize {
        pair(&self.observations).len()
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
        let mut body = tap.tap_response(&response).body(frames);
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

/// What an exchange tells.
fn read(path: &str, request: &str, content_type: &'static str, body: &[u8]) -> Vec<Observation> {
    let start = Start {
        caller: None,
        upstream: Arc::from("bench"),
        method: Method::POST,
        path: path.to_owned(),
        query: String::new(),
        request_headers: Vec::new(),
        request_body: RequestBody { bytes: request.as_bytes().to_vec(), complete: true },
        request_at: AT,
        status: 200,
        content_type: Some(HeaderValue::from_static(content_type)),
        content_encoding: None,
        response_at: AT,
    };
    let mut observed = Observed::default();
    let mut observer = Observer::start(ExchangeId(1), &start, &dialect::Config::default(), &mut observed)
        .expect("it is one of the API's");
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

/// The records that follow.
fn pair(observations: &[Observation]) -> Vec<Event> {
    let mut correlator = Correlator::new(correlator::Config::default());
    for observation in observations {
        correlator.handle(observation);
    }
    std::iter::from_fn(|| correlator.poll())
        .filter_map(|output| match output {
            Output::Interaction(interaction) => Some(Event::Interaction(interaction)),
            Output::Note(_) | Output::Settled(..) => None,
        })
        .collect()
}

fn stream() -> Vec<u8> {
    let mut stream = String::new();
    let mut tell = |name: &str, json: &str| stream.push_str(&format!("event: {name}\ndata: {json}\n\n"));
    tell("thread.run.created", &run("queued"));
    tell("thread.run.in_progress", &run("in_progress"));
    tell("thread.message.created", &message("assistant", "a").replace("completed", "in_progress"));
    for _ in 0..DELTAS {
        tell(
            "thread.message.delta",
            r#"{"id":"msg_a","object":"thread.message.delta","delta":{"content":[{"index":0,"type":"text","text":{"value":" words"}}]}}"#,
        );
    }
    tell("thread.message.completed", &message("assistant", "a"));
    tell("thread.run.completed", &run("completed"));
    tell("done", "[DONE]");
    stream.into_bytes()
}

fn run(status: &str) -> String {
    let usage = match status {
        "completed" => r#"{"prompt_tokens":1200,"completion_tokens":200,"total_tokens":1400}"#,
        _ => "null",
    };
    format!(
        r#"{{"id":"run_1","object":"thread.run","created_at":1790000000,"assistant_id":"asst_1","thread_id":"thread_1","status":"{status}","started_at":null,"expires_at":1790000600,"required_action":null,"last_error":null,"model":"gpt-4o","instructions":"Answer briefly.","tools":[],"metadata":{{}},"usage":{usage}}}"#
    )
}

fn message(role: &str, id: &str) -> String {
    let run = if role == "assistant" { "\"run_1\"" } else { "null" };
    let text = " words".repeat(DELTAS);
    format!(
        r#"{{"id":"msg_{id}","object":"thread.message","created_at":1790000000,"thread_id":"thread_1","run_id":{run},"status":"completed","role":"{role}","content":[{{"type":"text","text":{{"value":"{text}","annotations":[]}}}}],"attachments":[],"metadata":{{}}}}"#
    )
}

const DELTAS: usize = 200;
const SEGMENT_BYTES: usize = 16 << 10;
const AT: UnixMillis = UnixMillis(1_790_000_001_000);
const MESSAGES: &str = "/v1/threads/thread_1/messages";
const RUNS: &str = "/v1/threads/thread_1/runs";
const MESSAGE: &str = r#"{"role":"user","content":"How fast?"}"#;
const RUN: &str = r#"{"assistant_id":"asst_1","stream":true}"#;
