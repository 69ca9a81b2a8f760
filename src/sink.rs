//! Turns events into the requests one analytics backend understands, and reads its answers.
//!
//! Pure: values in, values out. A sink sends nothing, keeps nothing and knows no clock; delivery does the rest. Each backend
//! is one file below `sink/` and one variant of [`Sink`].
//!
//! **Invariant.** The same event always encodes to the same bytes, so that a repeated delivery is recognisable as such.

pub mod reconify;
pub mod verdict;

use std::sync::Arc;

use http::StatusCode;

use crate::event::Event;
use crate::payload::Payload;

use self::reconify::Reconify;
use self::verdict::Verdict;

/// A configured backend.
#[derive(Debug)]
pub enum Sink {
    /// Reconify's `/track`.
    Reconify(Reconify),
}

impl Sink {
    /// The configured name: in metrics, logs and the store. Deliveries that wait belong to the name, so renaming a sink
    /// leaves them waiting for the old one.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::Reconify(sink) => sink.name(),
        }
    }

    /// Whether this backend is to be sent the event at all.
    #[must_use]
    pub fn accepts(&self, event: &Event) -> bool {
        match self {
            Self::Reconify(sink) => sink.accepts(event),
        }
    }

    /// The request that tells the backend of the event. Does not ask [`accepts`](Self::accepts).
    #[must_use]
    pub fn encode(&self, event: &Event) -> Payload {
        match self {
            Self::Reconify(sink) => sink.encode(event),
        }
    }

    /// What the backend's answer means for the payload. `body` may be cut short.
    #[must_use]
    pub fn judge(&self, status: StatusCode, body: &[u8]) -> Verdict {
        match self {
            Self::Reconify(sink) => sink.judge(status, body),
        }
    }
}
