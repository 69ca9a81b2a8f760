//! The bodies on their way through.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::oneshot;
use tokio::time::Sleep;

use super::download::Download;
use super::error::ClientBodyError;
use super::read_on::Reader;
use crate::capture::ResponseTee;
use crate::net::Link;

/// How much of a body nobody wants any more is still read, and for how long.
///
/// An upstream may answer before it has read the request. Were the rest of the upload not read, the client's system would meet a
/// reset and could lose the answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Linger {
    pub(super) bytes: usize,
    pub(super) time: Duration,
}

/// A client's body on its way to upstream.
#[derive(Debug)]
pub(super) struct Upload {
    /// What was read of it ahead, and the size before: a body that turned out to be empty keeps its framing.
    first: Option<(Polled, SizeHint)>,
    /// `None` when it is over.
    body: Option<Incoming>,
    /// Set when it is over, for whoever asked.
    ended: Option<Arc<AtomicBool>>,
    gate: Gate,
    /// `None` on HTTP/2, which can give up one direction of a stream.
    linger: Option<Linger>,
}

/// A frame of a body, or its end.
pub(super) type Polled = Option<Result<Frame<Bytes>, hyper::Error>>;

/// Tells whether all of an [`Upload`] was taken.
#[derive(Debug)]
pub(super) enum UploadEnd {
    Reached,
    Watched(Arc<AtomicBool>),
}

impl UploadEnd {
    pub(super) fn is_reached(&self) -> bool {
        match self {
            Self::Reached => true,
            Self::Watched(ended) => ended.load(Ordering::Relaxed),
        }
    }
}

/// Holds back the body of a request with `Expect: 100-continue`: hyper invites the client to send it as soon as it is read.
#[derive(Debug)]
enum Gate {
    Open,
    /// Upstream has answered; an invitation now would come between.
    Shut,
    /// Opens when upstream sends 100, or is silent for so long that it may not know of the expectation (RFC 9110 §10.1.1).
    Waiting {
        invited: oneshot::Receiver<()>,
        patience: Pin<Box<Sleep>>,
    },
}

impl Upload {
    pub(super) fn new(body: Incoming, linger: Option<Linger>) -> Self {
        let body = if body.is_end_stream() { None } else { Some(body) };
        Self { first: None, body, ended: None, gate: Gate::Open, linger }
    }

    /// The body of a request that has none.
    pub(super) fn empty() -> Self {
        Self { first: None, body: None, ended: None, gate: Gate::Open, linger: None }
    }

    /// Reads ahead what has arrived with the head, so that both leave together. What has not arrived is not waited for: hyper
    /// reads a body only when it is asked for, and has it one turn of the task later if it is there.
    pub(super) async fn read_ahead(&mut self) {
        let Gate::Open = self.gate else { return };
        let mut asked = false;
        poll_fn(|cx| {
            let Some(body) = &self.body else { return Poll::Ready(()) };
            let size = body.size_hint();
            match self.poll_body(cx) {
                Poll::Ready(first) => self.first = Some((first, size)),
                Poll::Pending if asked => {}
                Poll::Pending => {
                    asked = true;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
            Poll::Ready(())
        })
        .await;
    }

    /// A way to learn whether all of it was taken, after it was handed to who takes it.
    pub(super) fn watch_end(&mut self) -> UploadEnd {
        if self.body.is_none() {
            return UploadEnd::Reached;
        }
        UploadEnd::Watched(Arc::clone(self.ended.get_or_insert_default()))
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Polled> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = ready!(Pin::new(&mut *body).poll_frame(cx));
        if !matches!(&polled, Some(Ok(_)) if !body.is_end_stream()) {
            self.body = None;
            if let Some(ended) = &self.ended {
                ended.store(true, Ordering::Relaxed);
            }
        }
        Poll::Ready(polled)
    }

    /// Holds the body back until the returned sender is used, or `patience` is over. Dropping the sender means that there is an
    /// answer, and the body stays where it is.
    pub(super) fn hold_back(&mut self, patience: Duration) -> oneshot::Sender<()> {
        let (invite, invited) = oneshot::channel();
        self.gate = Gate::Waiting { invited, patience: Box::pin(tokio::time::sleep(patience)) };
        invite
    }

    fn poll_gate(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Gate::Waiting { invited, patience } = &mut self.gate {
            self.gate = match Pin::new(invited).poll(cx) {
                Poll::Ready(Ok(())) => Gate::Open,
                Poll::Ready(Err(_)) => Gate::Shut,
                Poll::Pending => {
                    ready!(patience.as_mut().poll(cx));
                    Gate::Open
                }
            };
        }
        // Shut for good: whoever waits here is dropped with the exchange.
        if let Gate::Shut = self.gate { Poll::Pending } else { Poll::Ready(()) }
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
        ready!(this.poll_gate(cx));
        let polled = match this.first.take() {
            Some((first, _)) => first,
            None => ready!(this.poll_body(cx)),
        };
        Poll::Ready(polled.map(|frame| frame.map_err(ClientBodyError)))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.first, &self.body) {
            (Some((_, size)), _) => *size,
            (None, Some(body)) => body.size_hint(),
            (None, None) => SizeHint::with_exact(0),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let (Some(body), Some(linger), Gate::Open) = (self.body.take(), self.linger, &self.gate) else {
            return;
        };
        // Without a runtime there is no client any more either. The task ends with the connection it reads from.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(drain(body, linger));
        }
    }
}

async fn drain(mut body: Incoming, linger: Linger) {
    let mut left = linger.bytes;
    // At the end of the time the body is dropped, which closes the connection for reading.
    let _ = tokio::time::timeout(linger.time, async {
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            let Some(rest) = left.checked_sub(length) else { break };
            left = rest;
        }
    })
    .await;
}

/// The body of what a client is answered: upstream's, or one of our own.
#[derive(Debug)]
pub struct AnswerBody {
    source: Source,
    /// Who reads on when the client leaves.
    reader: Option<Reader>,
    /// Dropped with the body: then the exchange is over.
    _progress: Progress,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly every answer is upstream's")]
enum Source {
    Own(Option<Bytes>),
    Upstream {
        body: ResponseTee<Download>,
        /// The end of a body that failed, kept back for a moment.
        failed: Option<hyper::Error>,
        /// The connection to reset when the body fails.
        delimited_by: Option<Arc<Link>>,
    },
}

impl AnswerBody {
    pub(super) fn own(bytes: Bytes, progress: Progress) -> Self {
        let source = Source::Own(Some(bytes).filter(|bytes| !bytes.is_empty()));
        Self { source, reader: None, _progress: progress }
    }

    /// Upstream's body, read on by `reader` if the client leaves before its end. `delimited_by` is the client's connection if only
    /// its close tells where the body ends.
    pub(super) fn upstream(
        body: ResponseTee<Download>,
        delimited_by: Option<Arc<Link>>,
        reader: Option<Reader>,
        progress: Progress,
    ) -> Self {
        Self { source: Source::Upstream { body, failed: None, delimited_by }, reader, _progress: progress }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.get_mut().source {
            Source::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::Upstream { body, failed, delimited_by } => {
                if let Some(error) = failed.take() {
                    return Poll::Ready(Some(Err(error)));
                }
                let polled = ready!(Pin::new(body).poll_frame(cx));
                let Some(Err(error)) = polled else { return Poll::Ready(polled) };
                if let Some(link) = delimited_by {
                    link.reset_on_close();
                }
                // Hyper throws away what it has not written yet when a body fails. While the body is pending it writes, so that
                // the client gets all that upstream sent before the failure.
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

impl Drop for AnswerBody {
    fn drop(&mut self) {
        let Some(reader) = self.reader.take() else { return };
        if let Source::Upstream { body, .. } = std::mem::replace(&mut self.source, Source::Own(None)) {
            reader.take(body);
        }
    }
}

/// Counts an exchange as in progress for as long as it lives.
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
