//! The wire APIs threadtap understands: bytes of an exchange in, observations out.
//!
//! A dialect says which requests matter ([`interest`]) and reads their answers ([`Observer`]). It never fails: odd input is a
//! [`Problem`] beside whatever could be observed. What it sees is a copy, so nothing it does can reach a client. The dialects
//! there are stand in `kind`, each in a file of its own under `dialect/`.

mod assistants;
mod attribution;
mod body;
pub mod chat;
mod field;
mod inline;
mod kind;
mod path;
mod prefix;
mod repair;
mod responses;
mod sunset;
mod uncaptured;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::Value;

use crate::content;
use crate::exchange::{End, ExchangeId, RequestBody, Segment, Start};
use crate::observation::Observation;
use crate::sse;
use crate::time::UnixMillis;
pub use attribution::{Order, ParseSourceError, Source};
use body::{Body, FirstBytes};
use kind::{Dialect, Kind, Opening};
use repair::Repaired;
pub use sunset::SunsetCall;
pub use uncaptured::Uncaptured;

/// Settings of the dialects.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Where session, user and app are looked for.
    pub attribution: Arc<Order>,
    /// Of Chat Completions.
    pub chat: chat::Config,
}

/// How much of an exchange is of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// The beginning of the request, and the head of the response: it may be of an API that no dialect reads.
    Glance,
    /// Nothing.
    None,
    /// All of it.
    Whole,
}

/// Tells how much of an exchange is worth a copy. Looks at the request line only, and is meant to be cheap.
#[must_use]
pub fn interest(method: &Method, path: &str) -> Interest {
    if Dialect::of(method, path).is_some() {
        Interest::Whole
    } else if uncaptured::is_worth_a_glance(method, path) {
        Interest::Glance
    } else {
        Interest::None
    }
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
    /// The API whose response began.
    pub answered: Option<Answered>,
    /// An exchange of an API that no dialect reads.
    pub uncaptured: Option<Uncaptured>,
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
    /// Half a character: an escape of half a UTF-16 pair, or bytes that are not UTF-8. It is read as U+FFFD.
    HalfCharacter,
    /// Part of the copy was lost on the way.
    Incomplete,
    /// A body or an event is not JSON.
    InvalidJson,
    /// `NaN` or `Infinity` where a number should stand; it is read as null.
    NoNumber,
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
            Self::HalfCharacter => "half_character",
            Self::Incomplete => "incomplete",
            Self::InvalidJson => "invalid_json",
            Self::NoNumber => "no_number",
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
    coding: Coding,
    body: Body,
    next_seq: u32,
}

/// How a response's content is coded.
#[derive(Debug)]
enum Coding {
    /// As the header says; the buffer holds what one piece decodes to.
    Coded(content::Decoder, Vec<u8>),
    /// Not at all.
    Identity,
    /// The header names a coding, and the first bytes have to agree: servers say `none`, or name a coding that a proxy before them has
    /// undone. The bytes that were seen, and the decoder if the coding is known.
    Unproven(Vec<u8>, Option<content::Decoder>),
}

impl Observer {
    /// Begins an exchange. None when it can tell nothing: a response other than 2xx changes no state anywhere; at most it says
    /// that a known run goes on.
    pub fn start(exchange: ExchangeId, start: &Start, config: &Config, out: &mut Observed) -> Option<Self> {
        let Some(dialect) = Dialect::of(&start.method, &start.path) else {
            out.uncaptured = Uncaptured::of(start);
            return None;
        };
        let status = StatusCode::from_u16(start.status).ok()?;
        out.answered = Some(Answered { api: dialect.as_str(), status });
        let body = Body::new(start.content_type.as_ref().map(http::HeaderValue::as_bytes));
        if !status.is_success() {
            if dialect == Dialect::Assistants {
                let app = config.attribution.of_request(start, &Value::Null).app;
                out.sunset = SunsetCall::of(start, app);
            }
            let refused = status == StatusCode::BAD_REQUEST && start.method == Method::POST;
            if !dialect.hears_refusals() || !refused || !body.is_declared_json() {
                return None;
            }
        }
        let coding = match &start.content_encoding {
            None => Coding::Identity,
            Some(names) => Coding::Unproven(Vec::new(), decoder(names.to_str().unwrap_or("?"))),
        };
        let request = if status.is_success() { request_json(start, out) } else { Request::default() };
        let kind = dialect.start(Opening { exchange, start, request, config })?;
        Some(Self { kind, coding, body, next_seq: 0 })
    }

    /// Takes the next piece of the response body. A gap in the numbers is a piece that was lost.
    pub fn feed(&mut self, segment: &Segment, out: &mut Observed) {
        self.notice_gap(segment.seq, out);
        self.next_seq = segment.seq.saturating_add(1);
        let Coding::Unproven(held, decoder) = &mut self.coding else {
            return self.decode(&segment.bytes, segment.at, out);
        };
        held.extend_from_slice(&segment.bytes);
        let first = match decoder {
            Some(_) => FirstBytes::despite_coding(held),
            None => {
                // However many blanks come first, they are not held.
                held.drain(..held.len() - sse::behind_blanks(held).len());
                FirstBytes::of(held)
            }
        };
        let (held, decoder) = match first {
            FirstBytes::Unsure => return,
            _ => (std::mem::take(held), decoder.take()),
        };
        self.coding = match (first, decoder) {
            (FirstBytes::Events | FirstBytes::Json, _) => Coding::Identity,
            (_, Some(decoder)) => Coding::Coded(decoder, Vec::new()),
            (_, None) => return self.cannot_decode(out),
        };
        self.decode(&held, segment.at, out);
    }

    fn decode(&mut self, bytes: &[u8], at: UnixMillis, out: &mut Observed) {
        let Self { kind, coding, body, .. } = self;
        let Coding::Coded(decoder, decoded) = coding else { return body.feed(bytes, kind, at, out) };
        decoded.clear();
        let result = decoder.decode(bytes, decoded);
        body.feed(decoded, kind, at, out);
        if result.is_err() {
            self.cannot_decode(out);
        }
    }

    /// The body is over.
    pub fn end(mut self, end: &End, out: &mut Observed) {
        self.notice_gap(end.segments, out);
        if let Coding::Unproven(held, decoder) = &mut self.coding
            && !held.is_empty()
        {
            let held = std::mem::take(held);
            self.coding =
                decoder.take().map_or(Coding::Identity, |decoder| Coding::Coded(decoder, Vec::new()));
            self.decode(&held, end.at, out);
        }
        let Self { mut kind, body, .. } = self;
        let missed = body.finish(&mut kind, end, out);
        kind.end(end, missed, out);
    }

    fn notice_gap(&mut self, seq: u32, out: &mut Observed) {
        if seq != self.next_seq {
            // Coded bytes behind a hole cannot be read.
            let resumable = matches!(self.coding, Coding::Identity);
            self.body.lose(resumable, &mut self.kind, out);
        }
    }

    fn cannot_decode(&mut self, out: &mut Observed) {
        out.problem(Problem::ContentEncoding);
        self.coding = Coding::Identity;
        self.body.give_up(&mut self.kind);
    }

    /// How many bytes of the response are held until its end.
    #[must_use]
    pub fn gathered_bytes(&self) -> usize {
        self.body.held_bytes() + self.kind.held_bytes()
    }

    /// Stops reading the body, and drops what is held of it. What was observed stays, and the end will tell that part of it was
    /// missed.
    pub fn give_up(&mut self) {
        self.body.give_up(&mut self.kind);
        self.kind.let_go();
    }
}

/// A decoder of a response; none if the coding is not known.
fn decoder(names: &str) -> Option<content::Decoder> {
    content::Decoder::new(Some(names), content::Limit::BurstBytes(MAX_DECODED_BYTES)).ok()
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
    let read = match decode(start.request_header("content-encoding"), bytes) {
        _ if !complete => Err(Problem::RequestIncomplete),
        None => Err(Problem::ContentEncoding),
        Some(json) => request_value(&json, out).ok_or(Problem::InvalidJson),
    };
    match read {
        Ok(body) => Request { body, lost: false },
        Err(problem) => {
            out.problem(problem);
            Request { body: Value::Null, lost: true }
        }
    }
}

fn request_value(json: &[u8], out: &mut Observed) -> Option<Value> {
    if let Ok(body) = serde_json::from_slice(json) {
        return Some(body);
    }
    let repaired = Repaired::of(json);
    let body = serde_json::from_str(&repaired.text).ok()?;
    out.problems.extend(repaired.problem);
    Some(body)
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
/// What a compressed body may decode to: four times the most that is copied of one.
const MAX_DECODED_BYTES: usize = 64 << 20;

#[cfg(test)]
mod tests;
