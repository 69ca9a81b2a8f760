//! The socket of a client connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::link::Link;

/// A socket whose first bytes may already have been read. It closes with a reset if the link says
/// so.
#[derive(Debug)]
pub struct ClientStream {
    stream: TcpStream,
    link: Arc<Link>,
    /// Bytes that were read and are still to be delivered.
    beginning: Vec<u8>,
}

/// The protocol a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Anything that does not begin as HTTP/2 does.
    Http1,
    /// HTTP/2 with prior knowledge (RFC 9113 §3.3).
    Http2,
}

impl ClientStream {
    /// Continues with a stream whose first bytes, `beginning`, were already read.
    pub(super) fn new(stream: TcpStream, link: Arc<Link>, beginning: &[u8]) -> Self {
        Self { stream, link, beginning: beginning.to_vec() }
    }
}

impl Protocol {
    /// The protocol of a client that began with `bytes`; `None` while it is undecided.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(PREFACE) {
            Some(Self::Http2)
        } else if PREFACE.starts_with(bytes) {
            None
        } else {
            Some(Self::Http1)
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.beginning.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let fits = this.beginning.len().min(buf.remaining());
        buf.put_slice(&this.beginning[..fits]);
        this.beginning = this.beginning.split_off(fits);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        if self.link.resets_on_close() {
            // Fails only if the socket is already gone.
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

/// The preface of HTTP/2 (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Asserts that only the preface is recognized as HTTP/2, that anything else is recognized at the
/// first byte that differs, and that nothing is decided before.
#[cfg(any(test, fuzzing))]
pub fn assert_greetings_are_told(data: &[u8]) {
    let same = data.iter().zip(PREFACE).take_while(|(byte, expected)| byte == expected).count();
    for seen in 0..=data.len() {
        let expected = match seen {
            _ if same == PREFACE.len() && seen >= same => Some(Protocol::Http2),
            seen if seen > same => Some(Protocol::Http1),
            _ => None,
        };
        assert_eq!(Protocol::of(&data[..seen]), expected);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_greeting_is_told(prefix in 0..=PREFACE.len(), rest: Vec<u8>) {
            assert_greetings_are_told(&[&PREFACE[..prefix], &rest].concat());
        }
    }

    #[test]
    fn every_input_that_fuzzing_kept_is_sound() {
        threadtap_corpus::replay("greetings", assert_greetings_are_told);
    }

    #[test]
    fn half_a_preface_is_no_greeting_and_anything_else_is() {
        for open in [&b""[..], b"P", b"PRI * HT", &PREFACE[..23]] {
            assert_eq!(Protocol::of(open), None);
        }
        assert_eq!(Protocol::of(PREFACE), Some(Protocol::Http2));
        for other in [&b"G"[..], b"POST / HTTP/1.1", b"PRI * HTTP/1.1\r\n"] {
            assert_eq!(Protocol::of(other), Some(Protocol::Http1));
        }
    }
}
