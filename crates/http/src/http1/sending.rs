//! Sends one message.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use thiserror::Error;
use tokio::io::AsyncWrite;

use super::encoder::{Encoder, WrongLength};
use super::output::Output;

/// Sends one message. Parts of the body that are ready together are written together, the first
/// ones with the head. No part is delayed to wait for a later one.
#[derive(Debug)]
pub struct Sending<B> {
    output: Output,
    body: B,
    /// `None` once the end of the body was written to the output.
    encoder: Option<Encoder>,
}

/// Why a message could not be sent completely.
#[derive(Debug, Error)]
pub enum SendError<E> {
    /// The body failed. Data that came before the failure may not be written yet.
    #[error("the body failed")]
    Body(#[source] E),
    /// The connection failed.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// The length of the body differs from the announced length.
    #[error("the length of the body differs from its Content-Length")]
    WrongLength,
}

impl<E> From<WrongLength> for SendError<E> {
    fn from(_: WrongLength) -> Self {
        Self::WrongLength
    }
}

impl<B: Body<Data = Bytes> + Unpin> Sending<B> {
    /// Sends `output`, which contains the head, and then `body`.
    pub fn new(output: Output, body: B, encoder: Encoder) -> Self {
        Self { output, body, encoder: Some(encoder) }
    }

    /// Whether the whole message was sent.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        self.encoder.is_none() && self.output.is_empty()
    }

    /// The body, of which some parts may not be sent yet.
    pub fn body(&self) -> &B {
        &self.body
    }

    /// The body, to call methods that change it.
    pub fn body_mut(&mut self) -> &mut B {
        &mut self.body
    }

    /// Sends what is ready, and completes when the whole message was sent. A long body pauses now
    /// and then, so that other connections of the same thread get their turn.
    ///
    /// # Errors
    /// If the body or the connection fails.
    pub fn poll<W: AsyncWrite + Unpin>(
        &mut self,
        io: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError<B::Error>>> {
        let mut taken = 0;
        loop {
            while !self.output.is_full()
                && let Some(encoder) = &mut self.encoder
            {
                let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else { break };
                match frame.transpose().map_err(SendError::Body)?.map(|frame| frame.into_data()) {
                    None => self.end(None)?,
                    Some(Err(frame)) => self.end(frame.into_trailers().ok().as_ref())?,
                    Some(Ok(data)) => {
                        taken += data.len();
                        encoder.data(data, &mut self.output)?;
                        if self.body.is_end_stream() {
                            self.end(None)?;
                        }
                    }
                }
            }
            if self.output.is_empty() {
                return if self.encoder.is_none() { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            ready!(self.poll_flush(io, cx))?;
            if taken >= TURN_BYTES && !self.is_sent() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    /// Sends what was already taken from the body, and takes no more.
    ///
    /// # Errors
    /// Returns the connection's errors.
    pub fn poll_flush<W: AsyncWrite + Unpin>(
        &mut self,
        io: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.output.poll_flush(io, cx)
    }

    /// The buffers, for the next message.
    pub fn into_output(self) -> Output {
        self.output
    }

    fn end(&mut self, trailers: Option<&HeaderMap>) -> Result<(), WrongLength> {
        match self.encoder.take() {
            Some(encoder) => encoder.end(trailers, &mut self.output),
            None => Ok(()),
        }
    }
}

/// How much of a body is sent in one turn. Socket buffers may hold many times as much, and a thread
/// serves many connections.
const TURN_BYTES: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use http::{Method, StatusCode, Version};
    use http_body::{Frame, SizeHint};

    use super::*;
    use crate::head::ResponseHead;

    const PART: usize = 64 << 10;
    const PARTS: usize = 64;

    /// A body of this many parts, all ready at once.
    struct Parts(usize);

    impl Body for Parts {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
            let left = self.0.checked_sub(1);
            self.0 = left.unwrap_or_default();
            Poll::Ready(left.map(|_| Ok(Frame::data(vec![b'x'; PART].into()))))
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::default()
        }
    }

    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_long_body_that_is_all_there_gives_others_a_turn() {
        let mut head = ResponseHead::new(StatusCode::OK);
        let encoder = Encoder::of_response(&Method::GET, Version::HTTP_11, &mut head).unwrap();
        let mut sending = Sending::new(Output::default(), Parts(PARTS), encoder);
        let woken = Arc::new(Woken(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        let mut sent = Vec::new();
        let mut turns = 1;
        while sending.poll(&mut sent, &mut cx).map(Result::unwrap).is_pending() {
            assert!(sent.len() <= turns * (TURN_BYTES + 2 * PART), "{} bytes in {turns} turns", sent.len());
            assert_eq!(woken.0.load(Ordering::Relaxed), turns, "it asks for its next turn");
            turns += 1;
        }
        assert!(
            turns >= PARTS * PART / (TURN_BYTES + 2 * PART) && sent.len() > PARTS * PART,
            "{turns} turns"
        );
    }
}
