//! Upstream's body on its way to the client.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use threadtap_http::http1::{BodyError, Decoder, Framing, Input, Sending};
use tokio::io::ReadHalf;
use tokio::task::AbortHandle;

use super::connect::Stream;
use super::connection::{Connection, RequestBody, send_rest};
use super::pool::Pool;
use crate::net::Link;

/// The body of a response, with the connection it comes over. When the body is over, the connection
/// goes back to the pool. If the body is dropped earlier, the connection is closed.
///
/// Parts that have arrived together become one frame. A part is never delayed to wait for another.
pub(super) struct UpstreamBody {
    decoder: Decoder,
    source: Source,
}

/// Where the body comes from.
enum Source {
    /// The connection, and the pool it returns to after the body if it can carry another exchange.
    Connection(Connection, Option<Pool>),
    /// The reading side of a connection whose writing side is still sending the request.
    Half(Box<Half>),
    /// The body is over.
    Over,
}

/// Dropping it ends the upload if the response is not over, or if upstream reads no further. The
/// rest is then read from the client within the limits of a linger.
struct Half {
    io: ReadHalf<Stream>,
    input: Input,
    keeps_alive: bool,
    is_over: bool,
    upload: AbortHandle,
}

impl Drop for Half {
    fn drop(&mut self) {
        if !self.is_over {
            self.upload.abort();
        }
    }
}

impl Source {
    /// The body is over. It was read to its end unless it `is_cut`.
    fn finish(&mut self, is_cut: bool) {
        match std::mem::replace(self, Self::Over) {
            Self::Connection(connection, Some(pool)) if !is_cut => pool.put(connection),
            Self::Half(mut half) => half.is_over = half.keeps_alive && !is_cut,
            Self::Connection(..) | Self::Over => {}
        }
    }
}

impl UpstreamBody {
    /// The body of a response that comes over `connection`, which goes to `pool` afterwards.
    pub(super) fn new(framing: Framing, connection: Connection, pool: Option<Pool>) -> Self {
        let pool = pool.filter(|_| framing != Framing::UntilClose);
        Self { decoder: Decoder::of_response(framing), source: Source::Connection(connection, pool) }
            .settled()
    }

    /// The body of a response that began before upstream had the whole request. The rest of the
    /// request is sent whether or not the client reads the response. Sending also continues after
    /// the response is over, unless upstream has said that it will close then.
    pub(super) fn with_upload(
        framing: Framing,
        connection: Connection,
        keeps_alive: bool,
        rest: Sending<RequestBody>,
        link: &Link,
    ) -> Self {
        let (io, input) = connection.into_parts();
        let (read, write) = tokio::io::split(io);
        let upload = link.spawn(send_rest(rest, write));
        let source = Source::Half(Box::new(Half { io: read, input, keeps_alive, is_over: false, upload }));
        Self { decoder: Decoder::of_response(framing), source }.settled()
    }

    /// No body.
    pub(super) fn none() -> Self {
        Self { decoder: Decoder::of_response(Framing::Empty), source: Source::Over }
    }

    fn settled(mut self) -> Self {
        if self.decoder.is_over() {
            self.source.finish(self.decoder.is_cut());
        }
        self
    }
}

impl std::fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamBody").field("decoder", &self.decoder).finish_non_exhaustive()
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { decoder, source } = self.get_mut();
        let polled = match source {
            Source::Connection(connection, _) => connection.poll_frame(decoder, cx),
            Source::Half(half) => {
                let Half { io, input, .. } = &mut **half;
                decoder.poll_frame(input, cx, |input, cx| input.poll_fill(io, cx))
            }
            Source::Over => return Poll::Ready(decoder.rest()),
        };
        let polled = ready!(polled);
        if matches!(polled, Some(Err(_))) {
            // A failed connection carries nothing more.
            *source = Source::Over;
        } else if decoder.is_over() {
            source.finish(decoder.is_cut());
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.decoder.is_over() && !self.decoder.has_trailers()
    }

    fn size_hint(&self) -> SizeHint {
        self.decoder.length().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
