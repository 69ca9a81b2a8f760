//! One request and its response, as capture sees them.
//!
//! A tap reports an exchange in order: one [`Start`], any number of [`Segment`]s while the response
//! body passes, one [`End`]. Parts that are known at the same time share one [`Capture`], so a
//! short exchange is a single one. All of it is a copy: nothing here is ever sent on. Credentials
//! are not part of it.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};

use crate::budget::Charge;
use crate::time::UnixMillis;

/// Identifies an exchange within one process. Counts from 1 and is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExchangeId(pub u64);

/// What a tap hands over at one time about one exchange. At least one part is present.
#[derive(Debug)]
pub struct Capture {
    /// The exchange that this belongs to.
    pub exchange: ExchangeId,
    /// The request and the response head. Comes with the first bytes of the body, or with its end.
    pub start: Option<Box<Start>>,
    /// Bytes of the response body.
    pub segment: Option<Segment>,
    /// The end of the response body. Nothing follows for this exchange.
    pub end: Option<End>,
    /// The share of the capture memory budget that this uses while it exists.
    pub charge: Charge,
}

/// The whole request, and the head of its response.
#[derive(Debug)]
pub struct Start {
    /// The upstream's name. It scopes conversations, keys and metrics.
    pub upstream: Arc<str>,
    /// Which credential was used, as a keyed hash, if the configuration distinguishes callers by
    /// credential.
    pub caller: Option<String>,
    /// The request method.
    pub method: Method,
    /// The request target's path as the client sent it, still percent-encoded.
    pub path: String,
    /// The request target's query without `?`, as sent. Empty if there is none.
    pub query: String,
    /// The request headers that capture may read ([`CAPTURED_HEADERS`]), in the order they arrived.
    pub request_headers: Vec<(HeaderName, HeaderValue)>,
    /// The copy of the request body, still encoded as sent.
    pub request_body: RequestBody,
    /// When the request head arrived.
    pub request_at: UnixMillis,
    /// The response status code.
    pub status: u16,
    /// The response's `Content-Type`.
    pub content_type: Option<HeaderValue>,
    /// The response's `Content-Encoding`. Several header lines are joined with a comma.
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

/// The copy of a request body.
#[derive(Debug, Default)]
pub struct RequestBody {
    /// The copied bytes: a prefix of the body.
    pub bytes: Vec<u8>,
    /// Whether `bytes` is the whole body. False if the body exceeded the size cap or the memory
    /// budget, or if upstream responded early.
    pub complete: bool,
}

/// A consecutive part of the response body.
#[derive(Debug)]
pub struct Segment {
    /// Counts the segments of the exchange from 0. A gap means that a segment was lost.
    pub seq: u32,
    /// When its last byte passed.
    pub at: UnixMillis,
    /// The bytes, still encoded as sent.
    pub bytes: Vec<u8>,
}

/// How the response body ended.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// The number of segments that the tap made, including lost ones.
    pub segments: u32,
    /// When it ended.
    pub at: UnixMillis,
    /// Who ended it.
    pub ending: Ending,
}

/// Who ended a response body. This describes the transport only: the dialect decides whether a run
/// is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The client went away before upstream was done.
    ClientGone,
    /// Upstream finished the body.
    Complete,
    /// Upstream failed in the middle of the body.
    UpstreamFailed,
}

/// The request headers that a tap copies, in lower case. Never list a header that carries a
/// credential.
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
