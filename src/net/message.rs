//! What passes between a connection and the handler of its requests, for any HTTP version.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use thiserror::Error;
use threadtap_http::head::{RequestHead, ResponseHead};
use threadtap_http::http1;

use super::incoming_body::IncomingBody;
use super::io::ClientStream;
use super::link::Link;

/// A request.
#[derive(Debug)]
pub struct Request {
    /// Its head.
    pub head: RequestHead,
    /// Its body.
    pub body: RequestBody,
}

/// A response to a request.
pub struct Response<B> {
    /// Its head. If it does not define where the body ends, the connection adds that.
    pub head: ResponseHead,
    /// Its body.
    pub body: B,
    /// Takes the connection over after the head. If `None`, the connection continues with HTTP; on
    /// HTTP/2 a takeover is not possible.
    pub takeover: Option<Takeover>,
}

/// Takes over a connection that no longer speaks HTTP.
pub type Takeover = Box<dyn FnOnce(ClientStream) + Send>;

impl<B: fmt::Debug> fmt::Debug for Response<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("head", &self.head).field("body", &self.body).finish_non_exhaustive()
    }
}

/// The body of a request, as it arrives.
#[derive(Debug)]
pub struct RequestBody(Source);

#[derive(Debug)]
enum Source {
    Empty,
    /// The whole body came with the head.
    Whole(Bytes),
    Http1(Box<IncomingBody>),
    Http2(Incoming),
}

/// Why a request's body cannot be read to its end.
#[derive(Debug, Error)]
pub enum RequestBodyError {
    /// On HTTP/1.
    #[error("HTTP/1")]
    Http1(#[source] http1::BodyError),
    /// On HTTP/2.
    #[error("HTTP/2")]
    Http2(#[source] hyper::Error),
}

impl RequestBody {
    pub(super) fn empty() -> Self {
        Self(Source::Empty)
    }

    /// The connection the body comes over, if that connection is occupied until the body is over.
    #[must_use]
    pub fn link(&self) -> Option<&Arc<Link>> {
        match &self.0 {
            Source::Http1(body) => body.link(),
            Source::Empty | Source::Whole(_) | Source::Http2(_) => None,
        }
    }

    /// Stops inviting the client to send the body. A response has begun, and an invitation would
    /// land in the middle of it.
    pub fn withdraw_invitation(&mut self) {
        if let Source::Http1(body) = &mut self.0 {
            body.withdraw_invitation();
        }
    }

    pub(super) fn whole(bytes: Bytes) -> Self {
        Self(if bytes.is_empty() { Source::Empty } else { Source::Whole(bytes) })
    }

    pub(super) fn http1(incoming: IncomingBody) -> Self {
        Self(Source::Http1(Box::new(incoming)))
    }

    pub(super) fn http2(body: Incoming) -> Self {
        Self(if body.is_end_stream() { Source::Empty } else { Source::Http2(body) })
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        match &mut self.0 {
            Source::Empty => Poll::Ready(None),
            Source::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Source::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Source::Http1(body) => body.poll_frame(cx).map_err(RequestBodyError::Http1),
            Source::Http2(body) => Pin::new(body).poll_frame(cx).map_err(RequestBodyError::Http2),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Empty => true,
            Source::Whole(_) => false,
            Source::Http1(body) => body.is_over(),
            Source::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Empty => SizeHint::with_exact(0),
            Source::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Http1(body) => body.length().map_or_else(SizeHint::default, SizeHint::with_exact),
            Source::Http2(body) => body.size_hint(),
        }
    }
}
