//! The wire APIs that threadtap understands: bytes of an exchange in, observations out.
//!
//! A dialect decides which requests matter ([`interest`]) and reads their responses ([`Observer`]).
//! It never fails: invalid input becomes a [`Problem`], and everything else is still observed. It
//! sees a copy, so it cannot affect a client. The dialects are listed in `registry`, and each has
//! its own file under `dialect/`.
//! and each has its own file under `dialect/`.

mod assistants;
mod attribution;
mod body;
pub mod chat;
mod clean;
mod credentials;
mod directory;
mod field;
mod history;
mod inline;
mod object;
mod path;
mod problem;
mod registry;
mod request;
mod responses;
mod sunset;
mod uncaptured;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::Value;

use crate::budget::{Budget, Charge, OverBudget};
use crate::content;
use crate::exchange::{End, ExchangeId, Segment, Start};
use crate::observation::Observation;
use crate::sse;
use crate::time::UnixMillis;
pub use attribution::{Order, ParseSourceError, Source};
use body::{Body, FirstBytes};
pub use credentials::Credentials;
pub use problem::Problem;
use registry::{Dialect, Observe, Opening};
use request::Request;
pub use sunset::SunsetCall;
pub use uncaptured::Uncaptured;

/// Settings of the dialects.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to look for session, user and app.
    pub attribution: Arc<Order>,
    /// Settings for Chat Completions.
    pub chat: chat::Config,
    /// What is masked in bodies.
    pub credentials: Credentials,
    /// How much of a body, or of one event of a stream, is read, in decoded bytes.
    pub max_body_bytes: usize,
    /// The memory budget for everything that is held or allocated while reading.
    pub budget: Budget,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            attribution: Arc::default(),
            chat: chat::Config::default(),
            credentials: Credentials::default(),
            max_body_bytes: 16 << 20,
            budget: Budget::default(),
        }
    }
}

/// How much of an exchange is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// The beginning of the request, and the head of the response: the exchange may use an API that
    /// no dialect reads.
    Glance,
    /// None of it.
    None,
    /// All of it.
    Whole,
}

/// Decides how much of an exchange is copied. Reads only the request line, and must be cheap.
#[must_use]
pub fn interest(method: &Method, path: &str) -> Interest {
    if Dialect::find(method, path).is_some() {
        Interest::Whole
    } else if uncaptured::is_worth_a_glance(method, path) {
        Interest::Glance
    } else {
        Interest::None
    }
}

/// The output of one step of an observer.
#[derive(Debug, Default)]
pub struct Observed {
    /// Facts, in the order they happened.
    pub observations: Vec<Observation>,
    /// The names of assistants.
    pub assistants: Vec<NamedAssistant>,
    /// Invalid input.
    pub problems: Vec<Problem>,
    /// A call to an API that was shut down.
    pub sunset: Option<SunsetCall>,
    /// The API whose response began.
    pub responded: Option<Responded>,
    /// An exchange of an API that no dialect reads.
    pub uncaptured: Option<Uncaptured>,
    /// Whether something was dropped for lack of memory.
    pub over_budget: bool,
}

impl Observed {
    fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }
}

/// An assistant and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedAssistant {
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// The API's id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// A response of a known API, whether or not it contains anything of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Responded {
    /// The API's name in metrics.
    pub api: &'static str,
    /// The status code.
    pub status: StatusCode,
}

/// Observes one exchange of any dialect.
#[derive(Debug)]
pub struct Observer {
    dialect: Box<dyn Observe>,
    coding: Coding,
    body: Body,
    next_seq: u32,
    charge: Charge,
}

/// The coding of a response's content.
#[derive(Debug)]
enum Coding {
    /// As the header says.
    Coded(content::Decoder),
    /// No coding.
    Identity,
    /// The header names a coding, but the first bytes must confirm it: servers send `none`, or name
    /// a coding that a proxy in front of them has already undone. Holds the bytes seen so far, and
    /// the decoder if the coding is known.
    Unproven(Vec<u8>, Option<content::Decoder>),
}

impl Observer {
    /// Starts observing an exchange. None if there is nothing to observe: a response other than 2xx
    /// changes no state. At most it shows that a known run is still active.
    pub fn start(exchange: ExchangeId, start: &Start, config: &Config, out: &mut Observed) -> Option<Self> {
        let Some(dialect) = Dialect::find(&start.method, &start.path) else {
            out.uncaptured = Uncaptured::of(start);
            return None;
        };
        let status = StatusCode::from_u16(start.status).ok()?;
        out.responded = Some(Responded { api: dialect.api.as_str(), status });
        let content_type = start.content_type.as_ref().map(http::HeaderValue::as_bytes);
        let body = Body::new(content_type, config.max_body_bytes, &config.credentials);
        if !status.is_success() {
            if dialect.is_sunset {
                let app = config.attribution.of_request(start, &Value::Null).app;
                out.sunset = SunsetCall::of(start, app);
            }
            let refused = status == StatusCode::BAD_REQUEST && start.method == Method::POST;
            if !dialect.hears_refusals || !refused || !body.is_declared_json() {
                return None;
            }
        }
        let coding = match &start.content_encoding {
            None => Coding::Identity,
            Some(names) => Coding::Unproven(Vec::new(), decoder(names.to_str().unwrap_or("?"))),
        };
        let mut charge = Charge::new(config.budget.clone());
        let request = match status.is_success() {
            true => Request::read(start, dialect.read_by_item, config, &mut charge, out),
            false => Request::default(),
        };
        let dialect = (dialect.start)(Opening { exchange, start, request, config })?;
        if dialect.has_cut_request() {
            out.problem(Problem::TooManyValues);
        }
        let mut observer = Self { dialect, coding, body, next_seq: 0, charge };
        observer.settle();
        Some(observer)
    }

    /// Handles the next piece of the response body. A gap in the numbers means that a piece was
    /// lost.
    pub fn feed(&mut self, segment: &Segment, out: &mut Observed) {
        let told = out.observations.len();
        self.notice_gap(segment.seq, out);
        self.next_seq = segment.seq.saturating_add(1);
        self.take(&segment.bytes, segment.at, out);
        self.settle();
        self.join_halves(told, out);
    }

    fn take(&mut self, bytes: &[u8], at: UnixMillis, out: &mut Observed) {
        let Coding::Unproven(held, decoder) = &mut self.coding else {
            return self.decode(bytes, at, out);
        };
        held.extend_from_slice(bytes);
        let first = match decoder {
            Some(_) => FirstBytes::despite_coding(held),
            None => {
                // Leading blanks are not kept, however many there are.
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
            (_, Some(decoder)) => Coding::Coded(decoder),
            (_, None) => return self.cannot_decode(out),
        };
        self.decode(&held, at, out);
    }

    fn decode(&mut self, bytes: &[u8], at: UnixMillis, out: &mut Observed) {
        let Self { dialect, coding, body, charge, .. } = self;
        let Coding::Coded(decoder) = coding else {
            let mut pieces = bytes.chunks(MAX_PIECE_BYTES);
            // Stop when the rest is not needed.
            let _ = pieces.try_for_each(|piece| take_piece(piece, 0, body, &mut **dialect, charge, at, out));
            return;
        };
        let (before, most) = (decoder.held_bytes(), decoder.most_held_bytes());
        let mut decoded_bytes = 0;
        let result = decoder.decode(bytes, &mut |piece| {
            decoded_bytes += piece.len();
            // The windows of several codings fill with decoded data.
            let windows = most.min(before + content::MAX_CODINGS * decoded_bytes);
            take_piece(piece, windows, body, &mut **dialect, charge, at, out)
        });
        match result {
            Ok(()) => {}
            // The body was dropped, or nothing more of it is needed.
            Err(content::DecodeError::Stopped) => self.coding = Coding::Identity,
            Err(_) => self.cannot_decode(out),
        }
    }

    /// Handles the end of the body.
    pub fn end(mut self, end: &End, out: &mut Observed) {
        let told = out.observations.len();
        self.notice_gap(end.segments, out);
        if let Coding::Unproven(held, decoder) = &mut self.coding
            && !held.is_empty()
        {
            let held = std::mem::take(held);
            self.coding = decoder.take().map_or(Coding::Identity, Coding::Coded);
            self.decode(&held, end.at, out);
        }
        self.coding = Coding::Identity;
        let Self { dialect, body, charge, .. } = &mut self;
        let wanted = OBSERVER_BYTES + dialect.held_bytes() + body.held_bytes() + body.workspace_bytes();
        if charge.resize(wanted) == Err(OverBudget) {
            give_up(body, &mut **dialect, out);
        }
        let missed = body.finish(&mut **dialect, end, out);
        dialect.end(end.ending, missed, end.at, out);
        self.join_halves(told, out);
    }

    fn notice_gap(&mut self, seq: u32, out: &mut Observed) {
        if seq != self.next_seq {
            // Encoded bytes after a gap cannot be decoded.
            let resumable = matches!(self.coding, Coding::Identity);
            self.body.lose(resumable, &mut *self.dialect, out);
        }
    }

    fn cannot_decode(&mut self, out: &mut Observed) {
        out.problem(Problem::ContentEncoding);
        self.coding = Coding::Identity;
        self.body.give_up(&mut *self.dialect);
    }

    /// Updates the memory charge after a read.
    fn settle(&mut self) {
        let coding = match &self.coding {
            Coding::Coded(decoder) => decoder.held_bytes(),
            Coding::Identity => 0,
            Coding::Unproven(held, decoder) => {
                held.capacity() + decoder.as_ref().map_or(0, content::Decoder::held_bytes)
            }
        };
        let held = OBSERVER_BYTES + coding + self.body.held_bytes() + self.dialect.held_bytes();
        // This is at most what was granted before. A little more may be held already, and is
        // requested with the next piece.
        self.charge.resize(held).ok();
    }

    /// Joins the halves of characters that were split across two events.
    fn join_halves(&self, told: usize, out: &mut Observed) {
        if self.body.has_marks() {
            out.observations[told..].iter_mut().for_each(join_halves);
        }
    }
}

/// Reads a decoded piece of the body, if the budget allows it in addition to the decoders.
fn take_piece(
    piece: &[u8],
    decoders_bytes: usize,
    body: &mut Body,
    dialect: &mut dyn Observe,
    charge: &mut Charge,
    at: UnixMillis,
    out: &mut Observed,
) -> ControlFlow<()> {
    let held = OBSERVER_BYTES + decoders_bytes + dialect.held_bytes() + body.held_bytes();
    let wanted = held + body.wanted_bytes(piece);
    match charge.resize(wanted) {
        Ok(()) => body.feed(piece, dialect, at, out),
        Err(OverBudget) => give_up(body, dialect, out),
    }
    if body.is_ignored() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// Stops reading, and drops the response data. Observations so far are kept, and the end reports
/// that part of the response was missed.
fn give_up(body: &mut Body, dialect: &mut dyn Observe, out: &mut Observed) {
    out.over_budget = true;
    body.give_up(dialect);
    dialect.let_go();
}

/// Serialises and parses the observation: it has many texts in many places, and this case is rare.
fn join_halves(observation: &mut Observation) {
    let json = serde_json::to_string(observation).ok();
    let joined = json.as_deref().and_then(clean::join_halves);
    if let Some(joined) = joined.and_then(|json| serde_json::from_str(&json).ok()) {
        *observation = joined;
    }
}

/// The decoder for a response. None if the coding is unknown.
fn decoder(names: &str) -> Option<content::Decoder> {
    content::Decoder::new(Some(names), content::Limit::BurstBytes(MAX_BURST_BYTES)).ok()
}

/// Asserts that JSON bodies of any content are cleaned.
#[cfg(any(test, fuzzing))]
pub fn assert_any_json_is_cleaned(json: &[u8]) {
    clean::assert_that_parsers_take_it(json);
}

/// How often an active stream is reported: often enough for waiting runs, and no more.
const GOES_ON_EVERY: Duration = Duration::from_secs(20);
/// How much one piece of an encoded response may decode to at a time. More is not text: see
/// [`content::REFILL_PER_BYTE`].
const MAX_BURST_BYTES: usize = 64 << 20;
/// How much is read at a time. The memory is requested first.
const MAX_PIECE_BYTES: usize = 16 << 10;
/// What an observer uses besides the body data that it holds.
const OBSERVER_BYTES: usize = 2 << 10;

#[cfg(test)]
mod tests;
