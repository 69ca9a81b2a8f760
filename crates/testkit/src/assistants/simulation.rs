//! The server as a value: requests and the time in, answers as bytes out; no sockets, tasks or clock.

use http::Method;
use serde_json::Value;
use threadtap_core::observation::Api;

use super::expected::{ExpectedMessage, ExpectedRun};
use super::play::Played;
use super::routes::route;
use super::state::State;
use crate::call::{Call, Routed, Source};
use crate::encoding::Encoder;
use crate::fault::Fault;
use crate::random::Random;
use crate::script::Script;
use crate::stream::{Event, Writer};
use crate::vendor::Vendor;

/// A server that does something only when it is asked to.
///
/// Of its script, `pace`, `poll_after`, `keep_requests` and the wire's `split` and `cut` concern whoever passes the bytes on.
/// Runs that time would drive go on by [`Simulation::advance`] alone.
pub struct Simulation {
    state: State,
    script: Script,
    random: Random,
}

/// An answer.
#[derive(Debug)]
pub struct Answered {
    /// The status code.
    pub status: u16,
    /// The coding of the body, if there is one.
    pub content_encoding: Option<&'static str>,
    /// The body.
    pub payload: Payload,
}

/// The body of an answer.
#[derive(Debug)]
pub enum Payload {
    /// `application/json`: what it says, and its bytes.
    Json(Value, Vec<u8>),
    /// `text/event-stream`, as the run plays.
    Stream(Box<EventStream>),
}

/// A stream of a run.
pub struct EventStream {
    run: String,
    /// What it begins with.
    first: Vec<Event>,
    writer: Writer,
    over: bool,
}

/// One event of a stream, or its end.
#[derive(Clone, Debug)]
pub struct Piece {
    /// What it says: an object of the API, or an error under `error`; null at the end.
    pub data: Value,
    /// It on the wire.
    pub bytes: Vec<u8>,
}

impl Simulation {
    /// A server nobody has talked to.
    #[must_use]
    pub fn new(script: Script) -> Self {
        let mut state = State::new(&script);
        let random = state.random.split();
        Self { state, script, random }
    }

    /// Answers a request for `target` at `now`, in seconds since the epoch.
    ///
    /// # Panics
    ///
    /// When compressing fails, which it does not in memory.
    pub fn answer(
        &mut self,
        method: &Method,
        target: &str,
        body: &Value,
        accept_encoding: &str,
        now: u64,
    ) -> Answered {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let call = Call { method: method.as_str(), path, query, body, now };
        let routed = route(&mut self.state, &call);
        self.state.released.clear();
        let encoder = match self.script.wire.compress {
            true => Encoder::accepted(accept_encoding).expect("memory does not fail"),
            false => Encoder::identity(),
        };
        let content_encoding = encoder.name();
        let (status, object) = match routed {
            Ok(Routed::Created(object)) => (self.script.created_status, object),
            Ok(Routed::Found(object)) => (200, object),
            Ok(Routed::Stream(Source::Run { run, first })) => {
                let writer =
                    Writer::new(Api::Assistants, self.script.wire.clone(), self.random.split(), encoder);
                let stream = EventStream { run, first, writer, over: false };
                return Answered {
                    status: 200,
                    content_encoding,
                    payload: Payload::Stream(Box::new(stream)),
                };
            }
            Ok(Routed::Never | Routed::Stream(_)) => {
                unreachable!("Assistants streams runs, and answers everything")
            }
            Err(fault) => (fault.status, Vendor::of(path).refusal(&fault)),
        };
        Answered { status, content_encoding, payload: json(object, encoder) }
    }

    /// Answers a request with a failure, without serving it.
    ///
    /// # Panics
    ///
    /// When compressing fails, which it does not in memory.
    #[must_use]
    pub fn refuse(&self, status: u16) -> Answered {
        let object = Vendor::OpenAi.refusal(&Fault::trouble(status));
        Answered { status, content_encoding: None, payload: json(object, Encoder::identity()) }
    }

    /// Lets the run of a stream do one act, and tells what the stream shows of it; nothing when the run stalls, or the stream is
    /// over.
    ///
    /// # Panics
    ///
    /// When compressing fails, which it does not in memory.
    pub fn play(&mut self, stream: &mut EventStream, now: u64) -> Vec<Piece> {
        if stream.over {
            return Vec::new();
        }
        let mut events = std::mem::take(&mut stream.first);
        let mut done = false;
        if events.is_empty() {
            match self.state.advance(&stream.run, now) {
                Played::Act { events: told, .. } => events = told,
                Played::Over => done = true,
                Played::Stalled => return Vec::new(),
            }
        }
        let broken = events.iter().any(Event::is_error);
        if broken {
            self.state.stop_driving(&stream.run);
        }
        let mut pieces: Vec<Piece> = Vec::new();
        for Event { name, data } in events {
            let event = Event { name, data };
            let bytes = stream.writer.event(&event).expect("memory does not fail");
            pieces.push(Piece { data: event.data, bytes });
        }
        if broken || done || self.state.rests(&stream.run) {
            self.state.stop_driving(&stream.run);
            stream.over = true;
            let bytes = stream.writer.finish(!broken).expect("memory does not fail");
            pieces.push(Piece { data: Value::Null, bytes });
        }
        pieces
    }

    /// Tells that nobody reads a stream any more: its run is left to polls.
    pub fn leave(&mut self, stream: &EventStream) {
        if !stream.over {
            self.state.stop_driving(&stream.run);
        }
    }

    /// Lets a run do one act that no stream shows; false when it rests.
    pub fn advance(&mut self, run: &str, now: u64) -> bool {
        matches!(self.state.advance(run, now), Played::Act { .. })
    }

    /// Lets a run's time be over: it expires with its next act, unless it is terminal.
    pub fn expire(&mut self, run: &str) {
        self.state.expire_run(run);
    }

    /// Every run there ever was, oldest first, as it is now: what the records should say.
    #[must_use]
    pub fn snapshot(&self) -> Vec<ExpectedRun> {
        self.state.snapshot()
    }

    /// The messages of a thread, in its order; none when it was deleted.
    #[must_use]
    pub fn messages(&self, thread: &str) -> Vec<ExpectedMessage> {
        let messages = self.state.thread(thread).map(|thread| thread.messages.as_slice()).unwrap_or_default();
        messages.iter().map(super::objects::Message::truth).collect()
    }
}

impl EventStream {
    /// The run it shows.
    #[must_use]
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Whether its end was told.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }
}

impl std::fmt::Debug for Simulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulation").field("script", &self.script).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for EventStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EventStream({})", self.run)
    }
}

fn json(object: Value, mut encoder: Encoder) -> Payload {
    let mut bytes = encoder.write(object.to_string().as_bytes()).expect("memory does not fail");
    bytes.extend(encoder.finish().expect("memory does not fail"));
    Payload::Json(object, bytes)
}
