//! The body of an HTTP/1 request that was incomplete when its head was read.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;
use threadtap_http::http1::{BodyError, Decoder, Input};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::oneshot;

use super::link::Link;

/// The reading side of a connection.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) half: OwnedReadHalf,
    pub(super) input: Input,
    /// Keeps the connection counted as open wherever its reading side is.
    pub(super) link: Arc<Link>,
}

/// A body that is read from its connection on demand. It owns the reading side meanwhile, and sends
/// it back when the body is over. If it is dropped earlier, or fails, nothing more can be read from
/// the connection.
#[derive(Debug)]
pub(super) struct IncomingBody {
    /// `None` when the body is over, or has failed.
    source: Option<(Reader, oneshot::Sender<Reader>)>,
    decoder: Decoder,
    /// What is still to be written of the invitation (`100 Continue`) to the client.
    invitation: &'static [u8],
}

impl IncomingBody {
    /// Reads a body with `decoder`. If the client expects an invitation, it is invited before the
    /// body is awaited.
    pub(super) fn new(
        reader: Reader,
        decoder: Decoder,
        wants_invitation: bool,
    ) -> (Self, oneshot::Receiver<Reader>) {
        let (home, returned) = oneshot::channel();
        let invitation = if wants_invitation { CONTINUE } else { b"" };
        (Self { source: Some((reader, home)), decoder, invitation }, returned)
    }

    /// The connection the body comes over, as long as more may arrive.
    pub(super) fn link(&self) -> Option<&Arc<Link>> {
        self.source.as_ref().map(|(reader, _)| &reader.link)
    }

    /// Stops inviting the client, because a response has begun. Half an invitation cannot be taken
    /// back; in that case nothing more is read.
    pub(super) fn withdraw_invitation(&mut self) {
        if !self.invitation.is_empty() && self.invitation.len() < CONTINUE.len() {
            self.source = None;
        }
        self.invitation = b"";
    }

    pub(super) fn is_over(&self) -> bool {
        self.decoder.is_over() && !self.decoder.has_trailers()
    }

    /// How much is still to arrive, if known.
    pub(super) fn length(&self) -> Option<u64> {
        self.decoder.length()
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { source, decoder, invitation } = self;
        let Some((Reader { half, input, .. }, _)) = source else { return Poll::Ready(decoder.rest()) };
        let polled = ready!(decoder.poll_frame(input, cx, |input, cx| {
            ready!(poll_invite(half.as_ref(), invitation, cx))?;
            input.poll_fill(half, cx)
        }));
        if matches!(polled, Some(Err(_))) {
            *source = None;
        } else if decoder.is_over()
            && let Some((reader, home)) = source.take()
        {
            // Fails if the connection is gone.
            let _ = home.send(reader);
        }
        Poll::Ready(polled)
    }
}

/// Writes the rest of an invitation. Nothing else writes meanwhile: the response has not begun.
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::gauge::Gauge;
    use threadtap_http::http1::Framing;
    use tokio::net::TcpListener;
    use tokio::sync::watch;

    use super::super::link::Phase;
    use super::super::places::Places;
    use super::*;

    #[tokio::test]
    async fn a_body_whose_invitation_was_cut_is_not_whole() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let place = Places::new(1, Counter::default()).take().await;
        let link = Arc::new(Link::new(peer, Gauge::default(), place, watch::channel(Phase::Serving).1));
        let (half, _write) = stream.into_split();
        let reader = Reader { half, input: Input::default(), link };
        let (mut body, returned) = IncomingBody::new(reader, Decoder::of_request(Framing::Chunked), true);
        body.invitation = &CONTINUE[5..];
        body.withdraw_invitation();
        assert!(matches!(poll_fn(|cx| body.poll_frame(cx)).await, Some(Err(BodyError::Truncated))));
        assert!(returned.await.is_err(), "nothing more can be read of the connection");
    }
}
