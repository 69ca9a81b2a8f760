//! Converts events into requests for an analytics backend, and interprets its responses.
//!
//! Pure: values in, values out. A sink sends nothing, keeps no state and reads no clock; delivery
//! does these. Each backend is one file below `sink/` and one variant of [`Sink`].
//!
//! **Invariant.** The same event always encodes to the same bytes, so that a repeated delivery can
//! be recognised.

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

/// How events are grouped into one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The maximum number of events, as the backend counts them. A single record may exceed it. At
    /// least 1.
    pub events: usize,
    /// How long the first event waits for others.
    pub linger: Duration,
}

impl Batch {
    /// Sends each event alone and immediately.
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
    /// The configured name: in metrics, logs and the store. Pending deliveries belong to the name,
    /// so after a sink is renamed they keep waiting for the old name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::Align(sink) => sink.name(),
            Self::Reconify(sink) => sink.name(),
        }
    }

    /// Whether to send the event to this backend.
    #[must_use]
    pub fn accepts(&self, event: &Event) -> bool {
        match self {
            Self::Align(sink) => sink.accepts(event),
            Self::Reconify(sink) => sink.accepts(event),
        }
    }

    /// How many events one request may contain, and how long to wait for them.
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

    /// The request that delivers the events, in order. Pass at least one event and at most as many
    /// as [`batch`](Self::batch) allows. None if the events contain nothing for the backend. Does
    /// not check [`accepts`](Self::accepts).
    #[must_use]
    pub fn encode(&self, records: &[Record]) -> Option<Payload> {
        match self {
            Self::Align(sink) => sink.encode(records),
            Self::Reconify(sink) => sink.encode(records),
        }
    }

    /// Interprets the backend's response to the payload. `body` may be truncated.
    #[must_use]
    pub fn judge(&self, status: StatusCode, body: &[u8]) -> Verdict {
        match self {
            Self::Align(sink) => sink.judge(status, body),
            Self::Reconify(sink) => sink.judge(status, body),
        }
    }
}

/// The names of the sinks that must receive an event: those that accept it.
#[must_use]
pub fn accepting(sinks: &[Arc<Sink>], event: &Event) -> Vec<Arc<str>> {
    sinks.iter().filter(|sink| sink.accepts(event)).map(|sink| sink.name().clone()).collect()
}
