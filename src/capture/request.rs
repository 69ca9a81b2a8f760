//! The first half of a tap: the request.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use http_body::{Body, Frame, SizeHint};
use threadtap_core::budget::{Charge, OverBudget};
use threadtap_core::exchange::{CAPTURED_HEADERS, Capture, End, Ending, ExchangeId, RequestBody, Start};
use threadtap_core::time::UnixMillis;
use threadtap_http::head::{Fields, RequestHead, ResponseHead, is};

use super::Shared;
use super::buffer::Buffer;
use super::response::ResponseTap;
use crate::metrics::DropReason;

/// A tap on an exchange that has no response yet. Dropping it records nothing: an exchange without
/// a response is not recorded.
#[must_use]
pub struct RequestTap {
    shared: Arc<Shared>,
    exchange: ExchangeId,
    upstream: Arc<str>,
    method: Method,
    path: String,
    query: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    caller: Option<String>,
    at: UnixMillis,
    copy: Arc<Mutex<BodyCopy>>,
    /// What is copied of the head; `None` if there was no room for it.
    charge: Option<Charge>,
}

impl RequestTap {
    pub(super) fn new(
        shared: Arc<Shared>,
        exchange: ExchangeId,
        upstream: Arc<str>,
        head: &RequestHead,
    ) -> Self {
        let extra = &shared.config.extra_headers;
        let captured = head.fields.iter().filter(|(name, _)| {
            CAPTURED_HEADERS.iter().any(|captured| is(name, captured))
                || extra.iter().any(|extra| is(name, extra))
        });
        let captured = captured.filter_map(|(name, value)| {
            HeaderName::from_bytes(name).ok().zip(HeaderValue::from_bytes(value).ok())
        });
        let headers: Vec<_> = captured.collect();
        let buffer = Buffer::new(shared.budget.clone());
        let mut charge = Charge::new(shared.budget.clone());
        let headers_bytes =
            headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>();
        let fits = charge.resize(HEAD_BYTES + head.path().len() + head.query().len() + headers_bytes).is_ok();
        let copy = BodyCopy {
            shared: Arc::clone(&shared),
            buffer,
            room: 0,
            state: CopyState::Copying,
            glance: false,
        };
        Self {
            at: shared.clock.now(),
            exchange,
            upstream,
            method: head.method.clone(),
            path: head.path().to_owned(),
            query: head.query().to_owned(),
            caller: None,
            headers,
            charge: fits.then_some(charge),
            copy: Arc::new(Mutex::new(copy)),
            shared,
        }
    }

    /// Records which credential was used, as a keyed hash, never the credential itself.
    pub fn with_caller(self, caller: String) -> Self {
        Self { caller: Some(caller), ..self }
    }

    /// Limits copying to the beginning of the request and the head of the response.
    pub fn glancing(self) -> Self {
        lock(&self.copy).glance = true;
        self
    }

    /// Wraps the request body so that it is copied as it passes.
    pub fn body<B: Body>(&self, body: B) -> RequestTee<B> {
        let mut copy = lock(&self.copy);
        copy.room = if copy.glance {
            copy.shared.config.max_prefix_bytes
        } else {
            copy.shared.copy_limit(body.size_hint().exact())
        };
        if body.is_end_stream() {
            copy.state = CopyState::Complete;
        }
        drop(copy);
        RequestTee { body, copy: Some(Arc::clone(&self.copy)) }
    }

    /// Takes the head of the response. The head is handed over with the first bytes of the body or
    /// with its end. Request body bytes that pass from now on are not copied. Returns `None` if
    /// only the head is of interest: then it is handed over at once.
    pub fn tap_response(self, head: &ResponseHead) -> Option<ResponseTap> {
        let ((bytes, body_charge), complete, glance) = {
            let mut copy = lock(&self.copy);
            let complete = matches!(copy.state, CopyState::Complete);
            copy.state = CopyState::Cut;
            (copy.buffer.take(), complete, copy.glance)
        };
        let Some(mut charge) = self.charge else {
            self.shared.count_drop(DropReason::byte_budget);
            return None;
        };
        charge.absorb(body_charge);
        let start = Start {
            upstream: self.upstream,
            caller: self.caller,
            method: self.method,
            path: self.path,
            query: self.query,
            request_headers: self.headers,
            request_body: RequestBody { bytes, complete },
            request_at: self.at,
            status: head.status.as_u16(),
            content_type: head.fields.get("content-type").and_then(|kind| HeaderValue::from_bytes(kind).ok()),
            content_encoding: joined(&head.fields, "content-encoding"),
            response_at: self.shared.clock.now(),
        };
        let start = Box::new(start);
        if glance {
            let end = End { segments: 0, at: start.response_at, ending: Ending::Complete };
            let capture = Capture {
                exchange: self.exchange,
                start: Some(start),
                segment: None,
                end: Some(end),
                charge,
            };
            // If the queue is full, nothing is lost that would have been recorded.
            drop(self.shared.offer(capture));
            return None;
        }
        Some(ResponseTap::new(self.shared, self.exchange, head, start, charge))
    }
}

/// A request body that may be copied as it passes. In all other respects it is the inner body.
#[derive(Debug)]
pub struct RequestTee<B> {
    body: B,
    copy: Option<Arc<Mutex<BodyCopy>>>,
}

impl<B> RequestTee<B> {
    /// A body that is not copied.
    pub fn untapped(body: B) -> Self {
        Self { body, copy: None }
    }

    /// The inner body.
    pub fn get_ref(&self) -> &B {
        &self.body
    }

    /// The inner body, mutably.
    pub fn get_mut(&mut self) -> &mut B {
        &mut self.body
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for RequestTee<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Self { body, copy } = self.get_mut();
        let polled = ready!(Pin::new(&mut *body).poll_frame(cx));
        if let Some(copy) = copy {
            let mut copy = lock(copy);
            match &polled {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        copy.record(data);
                    }
                    if frame.is_trailers() || body.is_end_stream() {
                        copy.complete();
                    }
                }
                Some(Err(_)) => copy.state = CopyState::Cut,
                None => copy.complete(),
            }
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// State shared by a tee and its tap: the tap may need the bytes while the body is still passing.
struct BodyCopy {
    shared: Arc<Shared>,
    buffer: Buffer,
    /// How many more bytes may be copied.
    room: usize,
    state: CopyState,
    /// Whether only the beginning of the request and the head of the response are of interest. Then
    /// a shorter copy is not a loss.
    glance: bool,
}

enum CopyState {
    Complete,
    Copying,
    /// The copy is, or will be, only a prefix.
    Cut,
}

impl BodyCopy {
    fn record(&mut self, data: &[u8]) {
        if !matches!(self.state, CopyState::Copying) {
            return;
        }
        let copied = &data[..data.len().min(self.room)];
        self.room -= copied.len();
        let reason = match self.buffer.push(copied) {
            Err(OverBudget) => DropReason::byte_budget,
            Ok(()) if copied.len() < data.len() => DropReason::body_too_large,
            Ok(()) => return,
        };
        self.state = CopyState::Cut;
        if !self.glance {
            self.shared.count_drop(reason);
        }
    }

    fn complete(&mut self) {
        if matches!(self.state, CopyState::Copying) {
            self.state = CopyState::Complete;
        }
    }
}

impl std::fmt::Debug for BodyCopy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BodyCopy").field("bytes", &self.buffer.len()).finish_non_exhaustive()
    }
}

/// The memory a tap takes in addition to what it copies.
const HEAD_BYTES: usize = 1 << 10;

/// A panic while the lock was held can at worst shorten the copy, so a poisoned lock can be
/// ignored.
fn lock(copy: &Mutex<BodyCopy>) -> MutexGuard<'_, BodyCopy> {
    copy.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The values of all lines of a header, joined with commas as RFC 9110 §5.3 allows.
fn joined(fields: &Fields, name: &str) -> Option<HeaderValue> {
    fields.get(name)?;
    let all = fields.get_all(name).collect::<Vec<_>>().join(&b", "[..]);
    HeaderValue::from_bytes(&all).ok()
}
