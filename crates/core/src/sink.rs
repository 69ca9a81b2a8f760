//! Turns events into the requests one analytics backend understands, and reads its answers.
//!
//! Pure: values in, values out. A sink sends nothing, keeps nothing and knows no clock; delivery does the rest. Each backend
//! is one file below `sink/` and one variant of [`Sink`].
//!
//! **Invariant.** The same event always encodes to the same bytes, so that a repeated delivery is recognisable as such.

pub mod align;
pub mod filter;
pub mod reconify;
mod settings;
pub mod verdict;

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

pub use self::settings::SinkSettings;

use crate::event::{Event, Record};
use crate::payload::Payload;

use self::align::Align;
use self::reconify::Reconify;
use self::verdict::Verdict;

/// How events are gathered into one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// At most so many events as the backend counts them, unless a single record makes more; at least 1.
    pub events: usize,
    /// So long the first one waits for others.
    pub linger: Duration,
}

impl Batch {
    /// Each event by itself and at once.
    pub const ONE: Self = Self { events: 1, linger: Duration::ZERO };
}

/// A configured backend.
#[derive(Debug, PartialEq)]
pub enum Sink {
    /// Align's `CollectEvents`.
    Align(Align),
    /// Reconify's `/track`.
    Reconify(Reconify),
}

impl Sink {
    /// The configured name: in metrics, logs and the store. Deliveries that wait belong to the name, so renaming a sink
    /// leaves them waiting for the old one.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::Align(sink) => sink.name(),
            Self::Reconify(sink) => sink.name(),
        }
    }

    /// Whether this backend is to be sent the event at all.
    #[must_use]
    pub fn accepts(&self, event: &Event) -> bool {
        match self {
            Self::Align(sink) => sink.accepts(event),
            Self::Reconify(sink) => sink.accepts(event),
        }
    }

    /// How many events one request may tell, and how long it is waited for them.
    #[must_use]
    pub fn batch(&self) -> Batch {
        match self {
            Self::Align(sink) => sink.batch(),
            Self::Reconify(_) => Batch::ONE,
        }
    }

    /// How many of [`Batch::events`] a record counts for.
    #[must_use]
    pub fn weight(&self, record: &Record) -> usize {
        match self {
            Self::Align(_) => Align::weight(record),
            Self::Reconify(_) => 1,
        }
    }

    /// The request that tells the backend of events, at least one and at most [`batch`](Self::batch) allows, in order. None
    /// when there is nothing in them the backend could be told. Does not ask [`accepts`](Self::accepts).
    #[must_use]
    pub fn encode(&self, records: &[Record]) -> Option<Payload> {
        match self {
            Self::Align(sink) => sink.encode(records),
            Self::Reconify(sink) => sink.encode(records),
        }
    }

    /// What the backend's answer means for the payload. `body` may be cut short.
    #[must_use]
    pub fn judge(&self, status: StatusCode, body: &[u8]) -> Verdict {
        match self {
            Self::Align(sink) => sink.judge(status, body),
            Self::Reconify(sink) => sink.judge(status, body),
        }
    }
}

/// The names of the sinks an event is due at: those that accept it.
#[must_use]
pub fn accepting(sinks: &[Arc<Sink>], event: &Event) -> Vec<Arc<str>> {
    sinks.iter().filter(|sink| sink.accepts(event)).map(|sink| sink.name().clone()).collect()
}
