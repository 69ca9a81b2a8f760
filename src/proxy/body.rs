//! The bodies that pass through the proxy.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use prometheus_client::metrics::gauge::Gauge;
use threadtap_http::http1::BodyError;
use tokio::time::Sleep;

use super::error::ClientBodyError;
use super::finish_after_disconnect::Reader;
use super::headers;
use super::upstream_body::UpstreamBody;
use crate::capture::ResponseTee;
use crate::net::RequestBody;

/// How much of a request body is still read, and for how long, when upstream no longer wants it.
///
/// An upstream may respond before it has read the request. If the rest of the upload were not read,
/// the client's system would see a reset, and the client could lose the response.
#[derive(Clone, Copy, Debug)]
pub(super) struct Linger {
    pub(super) bytes: usize,
    pub(super) time: Duration,
}

/// A client's body on its way to upstream.
#[derive(Debug)]
pub(super) struct Upload {
    /// `None` when it is over.
    body: Option<RequestBody>,
    gate: Gate,
    /// `None` on HTTP/2, which can give up one direction of a stream.
    linger: Option<Linger>,
}

/// Holds back the body of a request with `Expect: 100-continue`: the client is invited to send the
/// body as soon as it is read.
#[derive(Debug)]
enum Gate {
    Open,
    /// Opens when upstream sends 100. Also opens when upstream is silent for so long that it may
    /// not support the expectation (RFC 9110 §10.1.1).
    Waiting(Pin<Box<Sleep>>),
}

impl Upload {
    pub(super) fn new(body: RequestBody, linger: Option<Linger>) -> Self {
        let body = if body.is_end_stream() { None } else { Some(body) };
        Self { body, gate: Gate::Open, linger }
    }

    /// The upload of a request without a body.
    pub(super) fn empty() -> Self {
        Self { body: None, gate: Gate::Open, linger: None }
    }

    /// Holds the body back until upstream asks for it, or `patience` is over. If the upload is
    /// dropped before that, the body is left unread.
    pub(super) fn hold_back(&mut self, patience: Duration) {
        self.gate = Gate::Waiting(Box::pin(tokio::time::sleep(patience)));
    }

    /// Upstream wants the body.
    pub(super) fn invite(&mut self) {
        self.gate = Gate::Open;
    }

    /// A response has begun: the client is no longer invited.
    pub(super) fn withdraw_invitation(&mut self) {
        if let Some(body) = &mut self.body {
            body.withdraw_invitation();
        }
    }

    /// Whether upstream has not yet asked for the body.
    pub(super) fn is_held_back(&self) -> bool {
        matches!(self.gate, Gate::Waiting(_))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = ClientBodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientBodyError>>> {
        let this = self.get_mut();
        if let Gate::Waiting(patience) = &mut this.gate {
            ready!(patience.as_mut().poll(cx));
            this.gate = Gate::Open;
        }
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        let polled = ready!(Pin::new(&mut *body).poll_frame(cx));
        if !matches!(&polled, Some(Ok(_))) || body.is_end_stream() {
            this.body = None;
        }
        Poll::Ready(polled.map(|frame| {
            let mut frame = frame.map_err(ClientBodyError)?;
            if let Some(trailers) = frame.trailers_mut() {
                headers::trailers_to_upstream(trailers);
            }
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let (Some(mut body), Some(linger), Gate::Open) = (self.body.take(), self.linger, &self.gate) else {
            return;
        };
        body.withdraw_invitation();
        let Some(link) = body.link().cloned() else { return };
        // Without a runtime the client is gone too. The task ends with the connection it reads
        // from.
        if tokio::runtime::Handle::try_current().is_ok() {
            link.spawn(drain(body, linger));
        }
    }
}

async fn drain(mut body: RequestBody, linger: Linger) {
    let mut left = linger.bytes;
    // When the time is over the body is dropped, which closes the connection for reading.
    let _ = tokio::time::timeout(linger.time, async {
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            let Some(rest) = left.checked_sub(length) else { break };
            left = rest;
        }
    })
    .await;
}

/// The body of a response to a client: upstream's, or one of our own.
#[derive(Debug)]
pub struct ResponseBody {
    source: Source,
    /// Reads the rest when the client disconnects.
    reader: Option<Reader>,
    /// Dropped with the body, which ends the exchange.
    _progress: Progress,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly every response is upstream's")]
enum Source {
    Own(Option<Bytes>),
    Upstream {
        body: ResponseTee<UpstreamBody>,
        /// The end of a failed body, delayed by one poll.
        failed: Option<BodyError>,
    },
}

impl ResponseBody {
    pub(super) fn own(bytes: Bytes, progress: Progress) -> Self {
        let source = Source::Own(Some(bytes).filter(|bytes| !bytes.is_empty()));
        Self { source, reader: None, _progress: progress }
    }

    /// Upstream's body. If the client disconnects before its end, `reader` reads the rest.
    pub(super) fn upstream(
        body: ResponseTee<UpstreamBody>,
        reader: Option<Reader>,
        progress: Progress,
    ) -> Self {
        Self { source: Source::Upstream { body, failed: None }, reader, _progress: progress }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.get_mut().source {
            Source::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::Upstream { body, failed } => {
                if let Some(error) = failed.take() {
                    return Poll::Ready(Some(Err(error)));
                }
                let polled = ready!(Pin::new(body).poll_frame(cx));
                let Some(Err(error)) = polled else { return Poll::Ready(polled) };
                // On HTTP/2, hyper discards unwritten data when a body fails. While the body is
                // pending hyper writes, so the client gets everything that upstream sent before the
                // failure.
                *failed = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Own(bytes) => bytes.is_none(),
            Source::Upstream { body, failed, .. } => failed.is_none() && body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Source::Upstream { body, .. } => body.size_hint(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        let Some(reader) = self.reader.take() else { return };
        if let Source::Upstream { body, .. } = std::mem::replace(&mut self.source, Source::Own(None)) {
            reader.take(body);
        }
    }
}

/// Counts an exchange as in progress while this lives.
#[derive(Debug)]
pub(super) struct Progress(Gauge);

impl Progress {
    pub(super) fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.dec();
    }
}
