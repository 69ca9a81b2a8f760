//! The second half of a tap: the response.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use threadtap_core::budget::{Charge, OverBudget};
use threadtap_core::exchange::{Capture, End, Ending, ExchangeId, Segment, Start};
use threadtap_core::sse::{self, Beginning};
use threadtap_core::time::UnixMillis;
use threadtap_http::head::ResponseHead;

use super::buffer::Buffer;
use super::{Lost, Shared};
use crate::metrics::DropReason;

/// A tap on an exchange whose response head has arrived. Wrap the body with it at once: only the
/// [`ResponseTee`] reports the end.
#[must_use]
pub struct ResponseTap {
    shared: Arc<Shared>,
    exchange: ExchangeId,
    /// Held until the first bytes of the body arrive.
    start: Option<Box<Start>>,
    /// The budget charge of `start` and of a segment about to be handed over.
    charge: Charge,
    buffer: Buffer,
    /// Segments made so far, lost ones included.
    segments: u32,
    handed_at: UnixMillis,
    last_at: UnixMillis,
    /// How many more bytes may be copied; `None` for an event stream.
    room: Option<usize>,
    /// The first bytes, kept while they may still reveal an event stream that the head does not
    /// announce.
    beginning: Option<Vec<u8>>,
    state: TapState,
}

enum TapState {
    /// Frames are copied.
    Copying,
    /// Nothing more is copied, but the end is still reported.
    Full,
    /// An event stream continues after a gap; the frames in the gap count as one segment.
    Hole,
    /// The pipeline does not know of this exchange.
    Quiet,
}

impl ResponseTap {
    pub(super) fn new(
        shared: Arc<Shared>,
        exchange: ExchangeId,
        head: &ResponseHead,
        start: Box<Start>,
        charge: Charge,
    ) -> Self {
        let now = start.response_at;
        let succeeded = head.status.is_success();
        let room = match head.fields.get("content-type") {
            _ if !succeeded => Some(shared.config.max_prefix_bytes),
            Some(kind) if is_event_stream(kind) => None,
            _ => Some(shared.config.max_body_bytes),
        };
        Self {
            exchange,
            start: Some(start),
            charge,
            buffer: Buffer::new(shared.budget.clone()),
            segments: 0,
            handed_at: now,
            last_at: now,
            beginning: (succeeded && room.is_some() && !is_coded(head)).then(Vec::new),
            room,
            state: TapState::Copying,
            shared,
        }
    }

    /// Wraps the response body so that it is copied as it passes.
    pub fn body<B: Body>(mut self, body: B) -> ResponseTee<B> {
        if body.is_end_stream() {
            self.end(Ending::Complete);
            return ResponseTee { body, tap: None };
        }
        if let Some(room) = &mut self.room {
            *room = (*room).min(self.shared.copy_limit(body.size_hint().exact()));
        }
        ResponseTee { body, tap: Some(self) }
    }

    /// Copies a frame. The data of the `last` frame is handed over with the end.
    fn record(&mut self, data: &[u8], last: bool) {
        if !matches!(self.state, TapState::Copying | TapState::Hole) {
            return;
        }
        if let Some(beginning) = &mut self.beginning {
            let data = if beginning.is_empty() { sse::behind_blanks(data) } else { data };
            beginning.extend_from_slice(&data[..data.len().min(BEGINNING_BYTES)]);
            match sse::begins(beginning) {
                Beginning::Unsure if beginning.len() <= BEGINNING_BYTES => {}
                begins => {
                    self.beginning = None;
                    if begins == Beginning::Events {
                        self.room = None;
                    }
                }
            }
        }
        let copied = match &mut self.room {
            Some(room) => {
                let copied = &data[..data.len().min(*room)];
                *room -= copied.len();
                copied
            }
            None => data,
        };
        self.last_at = self.shared.clock.now();
        if let Err(OverBudget) = self.buffer.push(copied) {
            self.lose(DropReason::byte_budget);
        } else if copied.len() < data.len() {
            self.lose(DropReason::body_too_large);
        } else {
            self.state = TapState::Copying;
            let config = &self.shared.config;
            let due = self.start.is_some()
                || self.buffer.len() >= config.segment_bytes
                || self.last_at.since(self.handed_at) >= config.segment_age;
            if due && !last {
                self.hand_over_segment();
            }
        }
    }

    /// Hands over what was gathered and leaves a gap after it: one more segment number that is
    /// never delivered.
    fn lose(&mut self, reason: DropReason) {
        if matches!(self.state, TapState::Hole) {
            return;
        }
        self.hand_over_segment();
        self.segments = self.segments.saturating_add(1);
        self.shared.count_drop(reason);
        // After a gap an event stream can be read again from its next event; a document cannot.
        self.state = if self.room.is_none() { TapState::Hole } else { TapState::Full };
    }

    fn hand_over_segment(&mut self) {
        if self.buffer.len() == 0 {
            return;
        }
        let segment = self.take_segment();
        self.handed_at = self.last_at;
        let start = self.start.take();
        let capture =
            Capture { exchange: self.exchange, start, segment, end: None, charge: self.charge.take() };
        let begins = capture.start.is_some();
        match self.shared.hand_over(capture) {
            Ok(()) if begins => {
                self.shared.metrics.captured.inc();
            }
            Ok(()) => {}
            Err(Lost) if begins => self.state = TapState::Quiet,
            Err(Lost) if self.room.is_some() => self.state = TapState::Full,
            Err(Lost) => {}
        }
    }

    fn take_segment(&mut self) -> Option<Segment> {
        if self.buffer.len() == 0 {
            return None;
        }
        let (bytes, charge) = self.buffer.take();
        self.charge.absorb(charge);
        let segment = Segment { seq: self.segments, at: self.last_at, bytes };
        self.segments = self.segments.saturating_add(1);
        Some(segment)
    }

    fn end(mut self, ending: Ending) {
        if matches!(self.state, TapState::Quiet) {
            return;
        }
        let segment = self.take_segment();
        let at = self.shared.clock.now();
        let end = End { segments: self.segments, at, ending };
        let start = self.start.take();
        let begins = start.is_some();
        let handed_over = self.shared.hand_over_end(self.exchange, start, segment, end, self.charge.take());
        if begins && handed_over.is_ok() {
            self.shared.metrics.captured.inc();
        }
    }
}

impl std::fmt::Debug for ResponseTap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseTap").field("exchange", &self.exchange).finish_non_exhaustive()
    }
}

/// A response body that may be copied as it passes. In all other respects it is the inner body.
#[derive(Debug)]
pub struct ResponseTee<B> {
    body: B,
    tap: Option<ResponseTap>,
}

impl<B> ResponseTee<B> {
    /// A body that is not copied.
    pub fn untapped(body: B) -> Self {
        Self { body, tap: None }
    }

    /// Whether the body is copied and has not ended.
    pub fn is_tapped(&self) -> bool {
        self.tap.is_some()
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for ResponseTee<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let polled = ready!(Pin::new(&mut this.body).poll_frame(cx));
        let Some(tap) = &mut this.tap else { return Poll::Ready(polled) };
        let ending = match &polled {
            Some(Ok(frame)) => {
                // Nothing can follow trailers, and the reader stops asking once the length is
                // reached.
                let last = frame.is_trailers() || this.body.is_end_stream();
                if let Some(data) = frame.data_ref() {
                    tap.record(data, last);
                }
                last.then_some(Ending::Complete)
            }
            Some(Err(_)) => Some(Ending::UpstreamFailed),
            None => Some(Ending::Complete),
        };
        if let Some(ending) = ending
            && let Some(tap) = this.tap.take()
        {
            tap.end(ending);
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

impl<B> Drop for ResponseTee<B> {
    fn drop(&mut self) {
        if let Some(tap) = self.tap.take() {
            tap.end(Ending::ClientGone);
        }
    }
}

/// Whether the body is encoded, so that its bytes are not its content.
fn is_coded(head: &ResponseHead) -> bool {
    let identity =
        |coding: &[u8]| [&b"identity"[..], b"none"].iter().any(|name| coding.eq_ignore_ascii_case(name));
    head.fields.get("content-encoding").is_some_and(|coding| !identity(coding.trim_ascii()))
}

/// Longer than the longest field name of an event.
const BEGINNING_BYTES: usize = 16;

/// Whether a `Content-Type` is `text/event-stream`, ignoring case and parameters.
fn is_event_stream(content_type: &[u8]) -> bool {
    let kind = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    kind.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
}
