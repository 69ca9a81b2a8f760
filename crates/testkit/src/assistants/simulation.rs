//! The server as a value: it takes requests and the time, and returns responses as bytes. It has no
//! sockets, tasks or clock.

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

/// A server that acts only when a method is called.
///
/// The script's `pace`, `poll_after` and `keep_requests`, and the wire's `split` and `cut`, have no
/// effect here: they are up to the caller that transmits the bytes. Runs that time would drive
/// advance only by [`Simulation::advance`].
pub struct Simulation {
    state: State,
    script: Script,
    random: Random,
}

/// A response.
#[derive(Debug)]
pub struct Answered {
    /// The status code.
    pub status: u16,
    /// The coding of the body, if there is one.
    pub content_encoding: Option<&'static str>,
    /// The body.
    pub payload: Payload,
}

/// The body of a response.
#[derive(Debug)]
pub enum Payload {
    /// `application/json`: the value and its bytes.
    Json(Value, Vec<u8>),
    /// `text/event-stream`, produced while the run plays.
    Stream(Box<EventStream>),
}

/// The event stream of a run.
pub struct EventStream {
    run: String,
    /// The first events of the stream.
    first: Vec<Event>,
    writer: Writer,
    over: bool,
}

/// One event of a stream, or its end.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The content: an object of the API, or an error under `error`. Null at the end.
    pub data: Value,
    /// The bytes on the wire.
    pub bytes: Vec<u8>,
}

impl Simulation {
    /// Creates an empty server.
    #[must_use]
    pub fn new(script: Script) -> Self {
        let mut state = State::new(&script);
        let random = state.random.split();
        Self { state, script, random }
    }

    /// Handles a request for `target` at `now`, in seconds since the epoch.
    ///
    /// # Panics
    ///
    /// If compression fails. It cannot fail in memory.
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

    /// Responds to a request with an error status, without serving it.
    ///
    /// # Panics
    ///
    /// If compression fails. It cannot fail in memory.
    #[must_use]
    pub fn refuse(&self, status: u16) -> Answered {
        let object = Vendor::OpenAi.refusal(&Fault::trouble(status));
        Answered { status, content_encoding: None, payload: json(object, Encoder::identity()) }
    }

    /// Makes the run of a stream do one act, and returns what the stream shows of it. Empty when
    /// the run stalls, or the stream is over.
    ///
    /// # Panics
    ///
    /// If compression fails. It cannot fail in memory.
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

    /// Records that nobody reads a stream any more. From then on only polls advance its run.
    pub fn leave(&mut self, stream: &EventStream) {
        if !stream.over {
            self.state.stop_driving(&stream.run);
        }
    }

    /// Makes a run do one act that no stream shows. Returns false if the run has nothing to do.
    pub fn advance(&mut self, run: &str, now: u64) -> bool {
        matches!(self.state.advance(run, now), Played::Act { .. })
    }

    /// Makes a run expire with its next act, unless it is terminal.
    pub fn expire(&mut self, run: &str) {
        self.state.expire_run(run);
    }

    /// The current state of every run, including finished ones, oldest first. This is what the
    /// records should contain.
    #[must_use]
    pub fn snapshot(&self) -> Vec<ExpectedRun> {
        self.state.snapshot()
    }

    /// The messages of a thread, in order. Empty if the thread was deleted.
    #[must_use]
    pub fn messages(&self, thread: &str) -> Vec<ExpectedMessage> {
        let messages = self.state.thread(thread).map(|thread| thread.messages.as_slice()).unwrap_or_default();
        messages.iter().map(super::objects::Message::truth).collect()
    }
}

impl EventStream {
    /// The id of its run.
    #[must_use]
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Whether the end was already returned.
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
