//! The body of an HTTP/1 request that was not whole when its head was read.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::oneshot;

use super::link::Link;
use crate::http1::{BodyError, Decoder, Input};

/// The reading side of a connection.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) half: OwnedReadHalf,
    pub(super) input: Input,
    /// The connection counts as open wherever its reading side is.
    pub(super) link: Arc<Link>,
}

/// A body that is read from its connection as it is asked for. It has the reading side meanwhile, and sends it back when it is
/// over; when it is dropped before, or fails, nothing more can be read of the connection.
#[derive(Debug)]
pub(super) struct Arriving {
    /// `None` when the body is over, or has failed.
    source: Option<(Reader, oneshot::Sender<Reader>)>,
    decoder: Decoder,
    /// What is still to be written to invite the client.
    invitation: &'static [u8],
}

impl Arriving {
    /// Reads a body by `decoder`. The client is invited to send it before it is waited for, if it wants to be.
    pub(super) fn new(
        reader: Reader,
        decoder: Decoder,
        wants_invitation: bool,
    ) -> (Self, oneshot::Receiver<Reader>) {
        let (home, returned) = oneshot::channel();
        let invitation = if wants_invitation { CONTINUE } else { b"" };
        (Self { source: Some((reader, home)), decoder, invitation }, returned)
    }

    /// The connection it comes over, as long as something may come.
    pub(super) fn link(&self) -> Option<&Arc<Link>> {
        self.source.as_ref().map(|(reader, _)| &reader.link)
    }

    /// Does not invite the client any more, because an answer has begun. Half an invitation cannot be taken back; then nothing more
    /// is read.
    pub(super) fn withdraw_invitation(&mut self) {
        if !self.invitation.is_empty() && self.invitation.len() < CONTINUE.len() {
            self.source = None;
        }
        self.invitation = b"";
    }

    pub(super) fn is_over(&self) -> bool {
        self.decoder.is_over() && !self.decoder.has_trailers()
    }

    /// How much is to come, where that is known.
    pub(super) fn length(&self) -> Option<u64> {
        self.decoder.length()
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = ready!(self.poll_data(cx));
        if matches!(polled, Ok(None) | Err(_)) {
            self.source = None;
        }
        Poll::Ready(match polled {
            Ok(Some(data)) => Some(Ok(Frame::data(data))),
            Ok(None) => self.decoder.trailers().map(|trailers| Ok(Frame::trailers(trailers))),
            Err(error) => Some(Err(error)),
        })
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BodyError>> {
        loop {
            let Some((reader, _)) = &mut self.source else { return Poll::Ready(Ok(None)) };
            let data = self.decoder.data(&mut reader.input)?;
            if self.decoder.is_over() {
                if let Some((reader, home)) = self.source.take() {
                    // Fails when the connection is gone.
                    let _ = home.send(reader);
                }
                return Poll::Ready(Ok(data));
            }
            if data.is_some() {
                return Poll::Ready(Ok(data));
            }
            ready!(poll_invite(reader.half.as_ref(), &mut self.invitation, cx))?;
            if ready!(reader.input.poll_fill(&mut reader.half, cx))? == 0 {
                self.decoder.close()?;
            }
        }
    }
}

/// Writes what is left of an invitation. Nobody else writes meanwhile: the answer has not begun.
fn poll_invite(
    stream: &TcpStream,
    invitation: &mut &'static [u8],
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while !invitation.is_empty() {
        match stream.try_write(invitation) {
            Ok(written) => *invitation = &invitation[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(stream.poll_write_ready(cx))?,
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
    Poll::Ready(Ok(()))
}

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
