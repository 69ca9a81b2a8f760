//! Upstream's body on its way to the client.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::body::Polled;
use super::connection::Connection;
use super::pool::Pool;

/// The body of an answer, with the connection it comes over. When the body is over, the connection goes back to the pool; when it
/// is dropped before, the connection is closed.
///
/// Parts that have arrived together become one frame. A part is never held back for one that has not arrived.
pub(super) struct Download {
    body: Incoming,
    /// `None` when the body is over, or the connection is left to a task of its own.
    lease: Option<Lease>,
    /// What was found after the parts of the last frame, and the size before.
    next: Option<(Polled, SizeHint)>,
    over: bool,
}

/// A connection, and where it belongs.
struct Lease {
    connection: Connection,
    pool: Pool,
}

impl Download {
    /// The body of an answer that came over `connection`.
    pub(super) fn new(body: Incoming, connection: Connection, pool: Pool) -> Self {
        let mut download = Self { body, lease: Some(Lease { connection, pool }), next: None, over: false };
        if download.body.is_end_stream() {
            download.finish();
        }
        download
    }

    /// The body of an answer whose connection is driven elsewhere.
    pub(super) fn detached(body: Incoming) -> Self {
        Self { over: body.is_end_stream(), body, lease: None, next: None }
    }

    /// The next part, and what progress of the connection it takes.
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Polled> {
        if self.over {
            return Poll::Ready(None);
        }
        let mut polled = Pin::new(&mut self.body).poll_frame(cx);
        if let (Poll::Pending, Some(lease)) = (&polled, &mut self.lease) {
            // What the end of the connection means is for the body to say.
            let _ = lease.connection.poll(cx);
            polled = Pin::new(&mut self.body).poll_frame(cx);
        }
        let polled = ready!(polled);
        if !matches!(&polled, Some(Ok(_))) || self.body.is_end_stream() {
            self.finish();
        }
        Poll::Ready(polled)
    }

    fn finish(&mut self) {
        self.over = true;
        if let Some(Lease { connection, pool }) = self.lease.take() {
            pool.put(connection);
        }
    }

    /// Adds to a part those that have arrived with it.
    fn gather(&mut self, first: Bytes, cx: &mut Context<'_>) -> Bytes {
        let mut gathered = BytesMut::new();
        loop {
            let size = self.body.size_hint();
            match self.poll_part(cx) {
                Poll::Pending | Poll::Ready(None) => break,
                Poll::Ready(Some(Ok(frame)))
                    if frame.data_ref().is_some_and(|data| data.len() < LARGE_BYTES) =>
                {
                    if gathered.is_empty() {
                        gathered.reserve(FRAME_BYTES);
                        gathered.extend_from_slice(&first);
                    }
                    gathered.extend(frame.into_data());
                    if gathered.len() > FRAME_BYTES - LARGE_BYTES {
                        break;
                    }
                }
                Poll::Ready(other) => {
                    self.next = Some((other, size));
                    break;
                }
            }
        }
        if gathered.is_empty() { first } else { gathered.freeze() }
    }
}

impl std::fmt::Debug for Download {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Download").field("over", &self.over).finish_non_exhaustive()
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        if let Some((next, _)) = this.next.take() {
            return Poll::Ready(next);
        }
        Poll::Ready(match ready!(this.poll_part(cx)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if data.len() < LARGE_BYTES && !this.over => {
                    Some(Ok(Frame::data(this.gather(data, cx))))
                }
                Ok(data) => Some(Ok(Frame::data(data))),
                Err(frame) => Some(Ok(frame)),
            },
            other => other,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.over && self.next.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.next.as_ref().map_or_else(|| self.body.size_hint(), |(_, size)| *size)
    }
}

/// A part of this size is not worth copying to save a system call.
const LARGE_BYTES: usize = 4 << 10;
/// How long a frame of several parts may be.
const FRAME_BYTES: usize = 16 << 10;
