//! A message on its way out.

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

/// A message on its way out. Parts of its body that are there together leave together, the first with the head; none is held
/// back for one that is not there.
#[derive(Debug)]
pub struct Sending<B> {
    output: Output,
    body: B,
    /// `None` when the end of the body was put out.
    encoder: Option<Encoder>,
}

/// Why a message cannot be sent to its end.
#[derive(Debug, Error)]
pub enum SendError<E> {
    /// Its body failed. What came of it before may not be written yet.
    #[error("the body failed")]
    Body(#[source] E),
    /// The connection failed.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// The body is not as long as the head said.
    #[error("the body is not as long as its head said")]
    WrongLength,
}

impl<E> From<WrongLength> for SendError<E> {
    fn from(_: WrongLength) -> Self {
        Self::WrongLength
    }
}

impl<B: Body<Data = Bytes> + Unpin> Sending<B> {
    /// Sends `output`, which has the head, and then `body`.
    pub fn new(output: Output, body: B, encoder: Encoder) -> Self {
        Self { output, body, encoder: Some(encoder) }
    }

    /// Whether all of it was sent.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        self.encoder.is_none() && self.output.is_empty()
    }

    /// The body, as far as it was not sent.
    pub fn body(&self) -> &B {
        &self.body
    }

    /// The body, to be told something.
    pub fn body_mut(&mut self) -> &mut B {
        &mut self.body
    }

    /// Sends what is there; ready when that was all.
    ///
    /// # Errors
    /// When the body or the connection fails.
    pub fn poll<W: AsyncWrite + Unpin>(
        &mut self,
        io: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError<B::Error>>> {
        loop {
            while !self.output.is_full()
                && let Some(encoder) = &mut self.encoder
            {
                let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else { break };
                match frame.transpose().map_err(SendError::Body)?.map(|frame| frame.into_data()) {
                    None => self.end(None)?,
                    Some(Err(frame)) => self.end(frame.into_trailers().ok().as_ref())?,
                    Some(Ok(data)) => {
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
        }
    }

    /// Sends what was taken from the body, and takes nothing more.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn poll_flush<W: AsyncWrite + Unpin>(
        &mut self,
        io: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.output.poll_flush(io, cx)
    }

    /// The buffers, for another message.
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
