//! The wire APIs threadtap understands: bytes of an exchange in, observations out.
//!
//! A dialect says which requests matter ([`interest`]) and reads their answers ([`Observer`]). It never fails: odd input is a
//! [`Problem`] beside whatever could be observed. What it sees is a copy, so nothing it does can reach a client. The dialects
//! there are stand in `registry`, each in a file of its own under `dialect/`.

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
    /// Where session, user and app are looked for.
    pub attribution: Arc<Order>,
    /// Of Chat Completions.
    pub chat: chat::Config,
    /// What is masked in bodies.
    pub credentials: Credentials,
    /// How much of a body, or of one event of a stream, is read, decoded.
    pub max_body_bytes: usize,
    /// What everything that is held or made while reading is charged to.
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
    if Dialect::find(method, path).is_some() {
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
    /// What assistants are called.
    pub assistants: Vec<NamedAssistant>,
    /// Odd input met.
    pub problems: Vec<Problem>,
    /// A call of an API that was shut down.
    pub sunset: Option<SunsetCall>,
    /// The API whose response began.
    pub responded: Option<Responded>,
    /// An exchange of an API that no dialect reads.
    pub uncaptured: Option<Uncaptured>,
    /// Whether something was given up because there was no memory for it.
    pub over_budget: bool,
}

impl Observed {
    fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }
}

/// An assistant, and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedAssistant {
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// The API's id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// A response of an API that is understood, whether or not it can tell anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Responded {
    /// The API's name in metrics.
    pub api: &'static str,
    /// The status code.
    pub status: StatusCode,
}

/// Watches one exchange of whichever dialect.
#[derive(Debug)]
pub struct Observer {
    dialect: Box<dyn Observe>,
    coding: Coding,
    body: Body,
    next_seq: u32,
    charge: Charge,
}

/// How a response's content is coded.
#[derive(Debug)]
enum Coding {
    /// As the header says.
    Coded(content::Decoder),
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

    /// Takes the next piece of the response body. A gap in the numbers is a piece that was lost.
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
            (_, Some(decoder)) => Coding::Coded(decoder),
            (_, None) => return self.cannot_decode(out),
        };
        self.decode(&held, at, out);
    }

    fn decode(&mut self, bytes: &[u8], at: UnixMillis, out: &mut Observed) {
        let Self { dialect, coding, body, charge, .. } = self;
        let Coding::Coded(decoder) = coding else {
            let mut pieces = bytes.chunks(MAX_PIECE_BYTES);
            // It stops where nothing more is of use.
            let _ = pieces.try_for_each(|piece| take_piece(piece, 0, body, &mut **dialect, charge, at, out));
            return;
        };
        let (before, most) = (decoder.held_bytes(), decoder.most_held_bytes());
        let mut decoded_bytes = 0;
        let result = decoder.decode(bytes, &mut |piece| {
            decoded_bytes += piece.len();
            // The windows of several codings fill with what is decoded.
            let windows = most.min(before + content::MAX_CODINGS * decoded_bytes);
            take_piece(piece, windows, body, &mut **dialect, charge, at, out)
        });
        match result {
            Ok(()) => {}
            // What there is of the body was given up, or is all that is of use.
            Err(content::DecodeError::Stopped) => self.coding = Coding::Identity,
            Err(_) => self.cannot_decode(out),
        }
    }

    /// The body is over.
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
            // Coded bytes behind a hole cannot be read.
            let resumable = matches!(self.coding, Coding::Identity);
            self.body.lose(resumable, &mut *self.dialect, out);
        }
    }

    fn cannot_decode(&mut self, out: &mut Observed) {
        out.problem(Problem::ContentEncoding);
        self.coding = Coding::Identity;
        self.body.give_up(&mut *self.dialect);
    }

    /// Charges what is held, now that nothing is being read.
    fn settle(&mut self) {
        let coding = match &self.coding {
            Coding::Coded(decoder) => decoder.held_bytes(),
            Coding::Identity => 0,
            Coding::Unproven(held, decoder) => {
                held.capacity() + decoder.as_ref().map_or(0, content::Decoder::held_bytes)
            }
        };
        let held = OBSERVER_BYTES + coding + self.body.held_bytes() + self.dialect.held_bytes();
        // It is what was granted before, or less; a little more is held already, and will be asked for with the next piece.
        self.charge.resize(held).ok();
    }

    /// Puts together, in what was told since, halves of characters that came in two events.
    fn join_halves(&self, told: usize, out: &mut Observed) {
        if self.body.has_marks() {
            out.observations[told..].iter_mut().for_each(join_halves);
        }
    }
}

/// Reads a decoded piece of the body, if there is memory for it beside what decoders hold.
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

/// Stops reading, and drops what is held of the response. What was observed stays, and the end will tell that part of it was missed.
fn give_up(body: &mut Body, dialect: &mut dyn Observe, out: &mut Observed) {
    out.over_budget = true;
    body.give_up(dialect);
    dialect.let_go();
}

/// An observation is written and read: its texts are many and in many places, and this is rare.
fn join_halves(observation: &mut Observation) {
    let json = serde_json::to_string(observation).ok();
    let joined = json.as_deref().and_then(clean::join_halves);
    if let Some(joined) = joined.and_then(|json| serde_json::from_str(&json).ok()) {
        *observation = joined;
    }
}

/// A decoder of a response; none if the coding is not known.
fn decoder(names: &str) -> Option<content::Decoder> {
    content::Decoder::new(Some(names), content::Limit::BurstBytes(MAX_BURST_BYTES)).ok()
}

/// Asserts that the JSON of bodies is cleaned whatever it is.
#[cfg(any(test, fuzzing))]
pub fn assert_any_json_is_cleaned(json: &[u8]) {
    clean::assert_that_parsers_take_it(json);
}

/// How often a stream that goes on is told to do so: often enough for whoever waits, and no more.
const GOES_ON_EVERY: Duration = Duration::from_secs(20);
/// What a piece of a coded response may decode to at one time. More is no text: see [`content::REFILL_PER_BYTE`].
const MAX_BURST_BYTES: usize = 64 << 20;
/// What is read at one time, and asked for before.
const MAX_PIECE_BYTES: usize = 16 << 10;
/// What an observer takes beside what it holds of bodies.
const OBSERVER_BYTES: usize = 2 << 10;

#[cfg(test)]
mod tests;
