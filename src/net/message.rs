//! What passes between a connection and who answers its requests, whatever the version of HTTP.

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
    /// Its head. Where it does not tell the end of the body, the connection sees to that.
    pub head: ResponseHead,
    /// Its body.
    pub body: B,
    /// Who takes the connection over after the head. None goes on with it; on HTTP/2 nobody can.
    pub takeover: Option<Takeover>,
}

/// Takes a connection over that no longer speaks HTTP.
pub type Takeover = Box<dyn FnOnce(ClientStream) + Send>;

impl<B: fmt::Debug> fmt::Debug for Response<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("head", &self.head).field("body", &self.body).finish_non_exhaustive()
    }
}

/// The body of a request, as it comes.
#[derive(Debug)]
pub struct RequestBody(Source);

#[derive(Debug)]
enum Source {
    Empty,
    /// All of it came with the head.
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

    /// The connection it comes over, where that is not free for anything else before the body is over.
    #[must_use]
    pub fn link(&self) -> Option<&Arc<Link>> {
        match &self.0 {
            Source::Http1(body) => body.link(),
            Source::Empty | Source::Whole(_) | Source::Http2(_) => None,
        }
    }

    /// Does not invite the client to send it any more: a response has begun, and an invitation would come in the middle of it.
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
