//! The wire APIs threadtap understands: bytes of an exchange in, observations out.
//!
//! A dialect says which requests matter ([`interest`]) and reads their answers ([`Observer`]). It never fails: odd input is a
//! [`Problem`] beside whatever could be observed. What it sees is a copy, so nothing it does can reach a client. The dialects
//! there are stand in `kind`, each in a file of its own under `dialect/`.

mod assistants;
mod attribution;
pub mod chat;
mod field;
mod inline;
mod kind;
mod path;
mod prefix;
mod responses;
mod sunset;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::Value;

use crate::content;
use crate::exchange::{End, Ending, ExchangeId, RequestBody, Segment, Start};
use crate::observation::Observation;
use crate::sse;
use crate::time::UnixMillis;
pub use attribution::{Order, ParseSourceError, Source};
use kind::{Dialect, Kind, Opening};
pub use sunset::SunsetCall;

/// Settings of the dialects.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Where session, user and app are looked for.
    pub attribution: Arc<Order>,
    /// Of Chat Completions.
    pub chat: chat::Config,
}

/// Whether an exchange is worth a tap. Looks at the request line only, and is meant to be cheap.
#[must_use]
pub fn interest(method: &Method, path: &str) -> bool {
    Dialect::of(method, path).is_some()
}

/// The name in metrics of an API that is known and not captured: its exchanges are counted. Looks at the request line only.
#[must_use]
pub fn uncaptured(method: &Method, path: &str) -> Option<&'static str> {
    let last = path.trim_end_matches('/').rsplit('/').next()?;
    UNCAPTURED.into_iter().find(|known| *method == Method::POST && last == *known && !interest(method, path))
}

/// What a step of an observer told.
#[derive(Debug, Default)]
pub struct Observed {
    /// Facts, in the order they happened.
    pub observations: Vec<Observation>,
    /// Odd input met.
    pub problems: Vec<Problem>,
    /// A call of an API that was shut down.
    pub sunset: Option<SunsetCall>,
    /// The API whose answer began.
    pub answered: Option<Answered>,
}

impl Observed {
    fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }
}

/// An answer of an API that is understood, whether or not it can tell anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The API's name in metrics.
    pub api: &'static str,
    /// The status code.
    pub status: StatusCode,
}

/// Odd input. It costs capture, never forwarding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A body is compressed in a way that is not known, or its compression is broken.
    ContentEncoding,
    /// An event was longer than what is kept.
    EventTooLarge,
    /// Part of the copy was lost on the way.
    Incomplete,
    /// A body or an event is not JSON.
    InvalidJson,
    /// The request's body was not copied as a whole, so its messages are not known.
    RequestIncomplete,
    /// JSON, but not what the endpoint answers.
    UnexpectedShape,
    /// Neither JSON nor an event stream.
    UnexpectedType,
}

impl Problem {
    /// The name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ContentEncoding => "content_encoding",
            Self::EventTooLarge => "event_too_large",
            Self::Incomplete => "incomplete",
            Self::InvalidJson => "invalid_json",
            Self::RequestIncomplete => "request_incomplete",
            Self::UnexpectedShape => "unexpected_shape",
            Self::UnexpectedType => "unexpected_type",
        }
    }
}

/// Watches one exchange of whichever dialect.
#[derive(Debug)]
pub struct Observer {
    kind: Kind,
    /// What undoes the content's coding, if it has one, and what that gave.
    decoder: Option<(content::Decoder, Vec<u8>)>,
    body: Body,
    next_seq: u32,
    missed: bool,
}

impl Observer {
    /// Begins an exchange. None when it can tell nothing: an answer other than 2xx changes no state anywhere; at most it says
    /// that a known run goes on.
    pub fn start(exchange: ExchangeId, start: &Start, config: &Config, out: &mut Observed) -> Option<Self> {
        let dialect = Dialect::of(&start.method, &start.path)?;
        let status = StatusCode::from_u16(start.status).ok()?;
        out.answered = Some(Answered { api: dialect.as_str(), status });
        let body = Body::of(start.content_type.as_ref().map(http::HeaderValue::as_bytes));
        if !status.is_success() {
            if dialect == Dialect::Assistants {
                let app = config.attribution.of_request(start, &Value::Null).app;
                out.sunset = SunsetCall::of(start, app);
            }
            let refused = status == StatusCode::BAD_REQUEST && start.method == Method::POST;
            if !dialect.hears_refusals() || !refused || !matches!(body, Body::Json(_)) {
                return None;
            }
        }
        let limit = match body {
            Body::Events(_) => content::Limit::BurstBytes(MAX_DECODED_BYTES),
            _ => content::Limit::TotalBytes(MAX_DECODED_BYTES),
        };
        let encoding = start.content_encoding.as_ref().map(|value| value.to_str().unwrap_or("?"));
        let decoder = encoding.map(|encoding| content::Decoder::new(Some(encoding), limit)).transpose();
        let Ok(decoder) = decoder else {
            out.problem(Problem::ContentEncoding);
            return None;
        };
        let request = if status.is_success() { request_json(start, out) } else { Request::default() };
        let streamed = matches!(body, Body::Events(_));
        let kind = dialect.start(Opening { exchange, start, request, config, streamed })?;
        let decoder = decoder.map(|decoder| (decoder, Vec::new()));
        Some(Self { kind, decoder, body, next_seq: 0, missed: false })
    }

    /// Takes the next piece of the response body. A gap in the numbers is a piece that was lost.
    pub fn feed(&mut self, segment: &Segment, out: &mut Observed) {
        self.notice_gap(segment.seq, out);
        self.next_seq = segment.seq.saturating_add(1);
        let Self { kind, decoder, body, .. } = self;
        let Some((decoder, decoded)) = decoder else {
            return body.feed(&segment.bytes, kind, segment.at, out);
        };
        decoded.clear();
        let result = decoder.decode(&segment.bytes, decoded);
        body.feed(decoded, kind, segment.at, out);
        if result.is_err() {
            out.problem(Problem::ContentEncoding);
            self.ignore_rest();
        }
    }

    /// The body is over.
    pub fn end(mut self, end: &End, out: &mut Observed) {
        self.notice_gap(end.segments, out);
        let Self { kind, body, missed, .. } = &mut self;
        body.finish(kind, *missed, end, out);
        kind.end(end, *missed, out);
    }

    fn notice_gap(&mut self, seq: u32, out: &mut Observed) {
        if seq == self.next_seq {
            return;
        }
        if !self.missed {
            out.problem(Problem::Incomplete);
        }
        self.missed = true;
        match &mut self.body {
            // Events begin anew at any blank line; compressed bytes after a hole cannot be read.
            Body::Events(events) if self.decoder.is_none() => events.resync(),
            // What came before the hole may say what it was.
            Body::Json(body) => self.body = Body::Prefix(std::mem::take(body)),
            Body::Prefix(_) => {}
            _ => self.ignore_rest(),
        }
    }

    /// How many bytes of the answer are held until its end.
    #[must_use]
    pub fn gathered_bytes(&self) -> usize {
        let body = match &self.body {
            Body::Json(body) | Body::Prefix(body) => body.capacity(),
            Body::Events(_) | Body::Ignored | Body::Unknown => 0,
        };
        body + self.kind.held_bytes()
    }

    /// Stops reading the body, and lets go of what is held of it. What was observed stays, and the end will tell that part of it was
    /// missed.
    pub fn give_up(&mut self) {
        self.ignore_rest();
        self.kind.let_go();
    }

    fn ignore_rest(&mut self) {
        self.missed = true;
        self.body = Body::Ignored;
    }
}

/// How a response body is read. Decided by its type, never by what the request asked for: servers answer `stream: true` with
/// plain JSON, and the SDKs accept `application/json` for streams.
#[derive(Debug)]
enum Body {
    /// `text/event-stream`.
    Events(sse::Decoder),
    /// Neither, or given up.
    Ignored,
    /// JSON, gathered until its end.
    Json(Vec<u8>),
    /// The beginning of JSON of which the rest is lost.
    Prefix(Vec<u8>),
    /// No type was given: the first byte tells.
    Unknown,
}

impl Body {
    fn of(content_type: Option<&[u8]>) -> Self {
        let Some(content_type) = content_type else { return Self::Unknown };
        let mime = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
        let mime = mime.trim_ascii().to_ascii_lowercase();
        match mime.as_slice() {
            b"text/event-stream" => Self::Events(sse::Decoder::new(sse::Config::default())),
            b"" => Self::Unknown,
            mime if mime.ends_with(b"json") => Self::Json(Vec::new()),
            _ => Self::Ignored,
        }
    }

    fn feed(&mut self, bytes: &[u8], kind: &mut Kind, at: UnixMillis, out: &mut Observed) {
        if let Self::Unknown = self {
            match bytes.trim_ascii_start().first() {
                None => return,
                Some(b'{' | b'[') => *self = Self::Json(Vec::new()),
                Some(_) => *self = Self::Ignored,
            }
        }
        match self {
            Self::Events(decoder) => {
                let mut rest = bytes;
                while let Some(event) = decoder.next_event(&mut rest) {
                    kind.event(&event, at, out);
                }
            }
            Self::Json(body) => body.extend_from_slice(bytes),
            Self::Ignored | Self::Prefix(_) | Self::Unknown => {}
        }
    }

    fn finish(&mut self, kind: &mut Kind, missed: bool, end: &End, out: &mut Observed) {
        let (at, ending) = (end.at, end.ending);
        match self {
            Self::Events(decoder) => {
                if let Some(event) = decoder.finish() {
                    kind.event(&event, at, out);
                }
                for _ in 0..decoder.skipped() {
                    out.problem(Problem::EventTooLarge);
                }
            }
            Self::Json(body) if !missed && !body.is_empty() => match kind.document(body, at, out) {
                Ok(()) => {}
                Err(_) if ending == Ending::Complete || !kind.hears_broken_answers() => {
                    out.problem(Problem::InvalidJson);
                }
                Err(_) => kind.prefix(prefix::members(body), ending, at, out),
            },
            Self::Prefix(body) if body.len() <= MAX_PREFIX_BYTES => {
                kind.prefix(prefix::members(body), ending, at, out);
            }
            Self::Json(_) | Self::Prefix(_) | Self::Unknown => {}
            Self::Ignored if missed => {}
            Self::Ignored => out.problem(Problem::UnexpectedType),
        }
    }
}

/// A request's body.
#[derive(Debug, Default)]
struct Request {
    /// The body as JSON; null when there is none, or it cannot be read.
    body: Value,
    /// Whether there was a body, and it could not be read.
    lost: bool,
}

fn request_json(start: &Start, out: &mut Observed) -> Request {
    let RequestBody { bytes, complete } = &start.request_body;
    if start.method != Method::POST || bytes.is_empty() {
        return Request::default();
    }
    let problem = if *complete {
        match decode(start.request_header("content-encoding"), bytes)
            .map(|body| serde_json::from_slice(&body))
        {
            Some(Ok(body)) => return Request { body, lost: false },
            Some(Err(_)) => Problem::InvalidJson,
            None => Problem::ContentEncoding,
        }
    } else {
        Problem::RequestIncomplete
    };
    out.problem(problem);
    Request { body: Value::Null, lost: true }
}

fn decode<'a>(encoding: Option<&str>, bytes: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    let Some(encoding) = encoding else { return Some(Cow::Borrowed(bytes)) };
    let mut decoder =
        content::Decoder::new(Some(encoding), content::Limit::TotalBytes(MAX_DECODED_BYTES)).ok()?;
    let mut decoded = Vec::new();
    decoder.decode(bytes, &mut decoded).ok()?;
    Some(Cow::Owned(decoded))
}

/// How often a stream that goes on is told to do so: often enough for whoever waits, and no more.
const GOES_ON_EVERY: Duration = Duration::from_secs(20);
/// The endpoints of old, and those that answer nobody.
const UNCAPTURED: [&str; 2] = ["completions", "embeddings"];
/// Ids come early; of a longer beginning little more would be learnt than what it costs to read.
const MAX_PREFIX_BYTES: usize = 16 << 20;
/// What a compressed body may decode to: four times the most that is copied of one.
const MAX_DECODED_BYTES: usize = 64 << 20;

#[cfg(test)]
mod tests;
