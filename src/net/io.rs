//! The socket of a client connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::link::Link;

/// A socket that tells when its client has begun to speak, and closes with a reset if the link says so.
pub(super) struct ClientStream {
    stream: TcpStream,
    link: Arc<Link>,
    greeting: Greeting,
}

/// How far a client has come.
enum Greeting {
    Over,
    /// This many bytes of the preface of HTTP/2 have come, and nothing else.
    Preface(usize),
}

impl ClientStream {
    pub(super) fn new(stream: TcpStream, link: Arc<Link>) -> Self {
        Self { stream, link, greeting: Greeting::Preface(0) }
    }
}

impl Greeting {
    /// The state after `bytes` more.
    fn after(self, bytes: &[u8]) -> Self {
        let Self::Preface(seen) = self else { return Self::Over };
        match PREFACE.get(seen..seen + bytes.len()) {
            Some(expected) if expected == bytes && seen + bytes.len() < PREFACE.len() => {
                Self::Preface(seen + bytes.len())
            }
            _ => Self::Over,
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        if let Greeting::Preface(seen) = this.greeting {
            this.greeting = Greeting::Preface(seen).after(&buf.filled()[before..]);
            if matches!(this.greeting, Greeting::Over) {
                this.link.greet();
            }
        }
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
            // Fails only if the socket is gone already.
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Asserts that a greeting is over at the same byte however it is cut, and that nothing but the start of the preface leaves it
/// open. The first byte of `data` says how long the parts are.
#[cfg(any(test, fuzzing))]
pub fn assert_greetings_are_told(data: &[u8]) {
    let Some((&size, bytes)) = data.split_first() else { return };
    let start = Greeting::Preface(0);
    let parts = bytes.chunks(usize::from(size) + 1);
    let end = parts.fold(start, |greeting, part| greeting.after(part));
    let is_open = bytes.len() < PREFACE.len() && PREFACE.starts_with(bytes);
    assert_eq!(matches!(end, Greeting::Preface(seen) if seen == bytes.len()), is_open);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_greeting_is_told(size: u8, prefix in 0..=PREFACE.len(), rest: Vec<u8>) {
            assert_greetings_are_told(&[&[size], &PREFACE[..prefix], &rest].concat());
        }
    }

    #[test]
    fn half_a_preface_is_no_greeting_and_anything_else_is() {
        let is_over = |parts: &[&[u8]]| {
            let end = parts.iter().fold(Greeting::Preface(0), |greeting, part| greeting.after(part));
            matches!(end, Greeting::Over)
        };
        assert!(!is_over(&[]));
        assert!(!is_over(&[b"P", b"RI * HT"]));
        assert!(!is_over(&[&PREFACE[..23]]));
        assert!(is_over(&[PREFACE]));
        assert!(is_over(&[&PREFACE[..20], &PREFACE[20..]]));
        assert!(is_over(&[b"G"]));
        assert!(is_over(&[b"P", b"OST / HTTP/1.1"]));
        assert!(is_over(&[PREFACE, b"more"]));
    }
}
