//! One request and its response, as capture sees them.
//!
//! A tap tells an exchange in order: one [`Start`], any number of [`Segment`]s while the response body passes, one [`End`]. What
//! is known at the same time goes in the same [`Capture`], so a short exchange is a single one. All of it is a copy; nothing here
//! is ever sent on. Credentials are not part of it.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};

use crate::budget::Charge;
use crate::time::UnixMillis;

/// Names an exchange within one process; counts from 1 and is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExchangeId(pub u64);

/// What a tap hands over at one time, about one exchange; at least one part is there.
#[derive(Debug)]
pub struct Capture {
    /// The exchange it tells.
    pub exchange: ExchangeId,
    /// The request and the response head; comes with the first bytes of the body, or with its end.
    pub start: Option<Box<Start>>,
    /// Bytes of the response body.
    pub segment: Option<Segment>,
    /// The response body is over; nothing follows for this exchange.
    pub end: Option<End>,
    /// What it takes of the memory that capture may use, as long as it is held.
    pub charge: Charge,
}

/// The request, whole, and the head of its response.
#[derive(Debug)]
pub struct Start {
    /// The upstream's name: what conversations, keys and metrics are scoped by.
    pub upstream: Arc<str>,
    /// Which credential was used, as a keyed hash, where the configuration wants callers told apart by it.
    pub caller: Option<String>,
    /// The request method.
    pub method: Method,
    /// The request target's path as the client sent it, still percent-encoded.
    pub path: String,
    /// The request target's query without `?`, as sent; empty when there is none.
    pub query: String,
    /// The request headers capture may know ([`CAPTURED_HEADERS`]), in the order they came.
    pub request_headers: Vec<(HeaderName, HeaderValue)>,
    /// The copy of the request body, still encoded as sent.
    pub request_body: RequestBody,
    /// When the request head arrived.
    pub request_at: UnixMillis,
    /// The response status code.
    pub status: u16,
    /// The response's `Content-Type`.
    pub content_type: Option<HeaderValue>,
    /// The response's `Content-Encoding`; several lines are joined with a comma.
    pub content_encoding: Option<HeaderValue>,
    /// When the response head arrived.
    pub response_at: UnixMillis,
}

impl Start {
    /// The first value of a captured request header, if it is text.
    #[must_use]
    pub fn request_header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.request_headers.iter().find(|(candidate, _)| candidate == name)?;
        std::str::from_utf8(value.as_bytes()).ok()
    }
}

/// What was copied of a request body.
#[derive(Debug, Default)]
pub struct RequestBody {
    /// The copied bytes: a prefix of the body.
    pub bytes: Vec<u8>,
    /// Whether `bytes` is the whole body. False beyond the cap, without budget, or when upstream answered early.
    pub complete: bool,
}

/// A run of response body bytes.
#[derive(Debug)]
pub struct Segment {
    /// Counts the segments of the exchange from 0; a gap is a segment that was lost.
    pub seq: u32,
    /// When its last byte passed.
    pub at: UnixMillis,
    /// The bytes, still encoded as sent.
    pub bytes: Vec<u8>,
}

/// How the response body ended.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// The number of segments the tap made, lost ones included.
    pub segments: u32,
    /// When it ended.
    pub at: UnixMillis,
    /// Who ended it.
    pub ending: Ending,
}

/// Who ended a response body. A fact about the transport only: whether a run is over is the dialect's to judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The client went away before upstream was done.
    ClientGone,
    /// Upstream finished the body.
    Complete,
    /// Upstream failed in the middle of the body.
    UpstreamFailed,
}

/// The request headers a tap copies, lower case. Whatever carries a credential must never be listed.
pub const CAPTURED_HEADERS: [&str; 17] = [
    "agent-session-id",
    "baggage",
    "content-encoding",
    "content-type",
    "helicone-session-id",
    "helicone-user-id",
    "traceparent",
    "x-litellm-end-user-id",
    "x-litellm-session-id",
    "x-portkey-trace-id",
    "x-stainless-lang",
    "x-stainless-package-version",
    "x-threadtap-app",
    "x-threadtap-capture",
    "x-threadtap-session",
    "x-threadtap-session-timeout",
    "x-threadtap-user",
];
