//! A connection to upstream, driven by the exchange that has it.
//!
//! Hyper's connections are made for a task of their own, and then every part of a body costs two changes of task. Here the task of
//! the client's connection polls both: nothing is woken, and what has arrived together leaves together, with one system call.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;

use super::body::Upload;
use super::connect::Stream;
use super::error::Error;
use crate::capture::RequestTee;

/// The body of a request to upstream. Boxed: hyper keeps room for 32 requests in the queue of each connection.
pub(super) type RequestBody = Pin<Box<RequestTee<Upload>>>;

/// A connection to upstream that carries one exchange at a time. It makes progress only while it is polled, and dropping it
/// closes it.
pub(super) struct Connection {
    sender: http1::SendRequest<RequestBody>,
    /// `None` when it is over.
    driver: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Whether it has carried an exchange before.
    used: bool,
}

/// A request that got no answer.
pub(super) struct SendError {
    pub(super) error: Error,
    /// The request, if nothing of it was sent.
    pub(super) unsent: Option<Box<Request<RequestBody>>>,
    /// Whether the connection had carried another exchange before, so that upstream may just have been about to close it.
    pub(super) was_used: bool,
}

impl SendError {
    /// There is no connection.
    pub(super) fn unconnected(error: Error) -> Self {
        Self { error, unsent: None, was_used: false }
    }
}

impl Connection {
    /// Speaks HTTP/1 on a stream.
    pub(super) async fn new(protocol: &http1::Builder, stream: Stream) -> hyper::Result<Self> {
        let (sender, driver) = protocol.handshake(stream).await?;
        let driver = Box::pin(async move {
            if let Err(error) = driver.with_upgrades().await {
                tracing::debug!(%error, "a connection to upstream failed");
            }
        });
        Ok(Self { sender, driver: Some(driver), used: false })
    }

    /// Sends a request and waits for the head of the answer. The request's body goes on to be sent while the connection is polled.
    pub(super) async fn send(
        mut self,
        request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Self), SendError> {
        let mut answer = pin!(self.sender.try_send_request(request));
        let answered = poll_fn(|cx| {
            // An answer that is there already came with the end of the connection.
            let _ = self.poll(cx);
            answer.as_mut().poll(cx)
        });
        match answered.await {
            Ok(response) => Ok((response, Self { used: true, ..self })),
            Err(mut error) => Err(SendError {
                unsent: error.take_message().map(Box::new),
                error: Error::of_exchange(error.into_error()),
                was_used: self.used,
            }),
        }
    }

    /// Makes what progress there is: sends, receives, and hands parts of the answer to its body. Ready when the connection is over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(driver) = &mut self.driver else { return Poll::Ready(()) };
        ready!(driver.as_mut().poll(cx));
        self.driver = None;
        Poll::Ready(())
    }

    /// Makes what progress there is, and tells whether it can carry another exchange then.
    pub(super) fn poll_is_idle(&mut self, cx: &mut Context<'_>) -> bool {
        self.poll(cx).is_pending() && self.sender.is_ready()
    }

    /// Leaves it to a task of its own, until its exchange is over. It carries no other.
    pub(super) fn detach(self) {
        // That there is no sender is what makes it end.
        let Self { driver: Some(driver), .. } = self else { return };
        tokio::spawn(driver);
    }
}
