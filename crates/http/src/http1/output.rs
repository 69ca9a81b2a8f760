//! What is to be written to a connection.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

/// What is to be written to a connection. Small parts are copied together, so that a head and its body leave with one system
/// call; a large one is written from where it is, after them.
#[derive(Debug, Default)]
pub struct Output {
    small: Vec<u8>,
    large: Bytes,
    /// What goes after the large part.
    tail: Vec<u8>,
    /// Whether the connection may hold what was written: TLS does, until it is told to write it.
    unflushed: bool,
}

impl Output {
    /// Where heads and small parts are put; they go out after all that was put before.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        if self.large.is_empty() { &mut self.small } else { &mut self.tail }
    }

    /// Adds a part of a body.
    pub fn push(&mut self, part: Bytes) {
        if part.len() < LARGE_BYTES || !self.large.is_empty() {
            self.buffer().extend_from_slice(&part);
        } else {
            self.large = part;
        }
    }

    /// Whether nothing is left to be written, here or in the connection.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.is_written() && !self.unflushed
    }

    fn is_written(&self) -> bool {
        self.small.is_empty() && self.large.is_empty() && self.tail.is_empty()
    }

    /// Whether there is so much that it should be written before anything is added.
    #[must_use]
    pub fn is_full(&self) -> bool {
        !self.large.is_empty() || self.small.len() >= FULL_BYTES
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// Those of the connection; `WriteZero` if it takes nothing more.
    pub fn poll_flush<W: AsyncWrite + Unpin>(
        &mut self,
        io: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_written() {
            let written = if self.large.is_empty() && self.tail.is_empty() {
                ready!(Pin::new(&mut *io).poll_write(cx, &self.small))?
            } else {
                let parts = [&*self.small, &self.large, &self.tail].map(IoSlice::new);
                ready!(Pin::new(&mut *io).poll_write_vectored(cx, &parts))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Lets go of what was written, also where that is not all: a peer that reads less than is sent would make it grow for ever.
    fn advance(&mut self, written: usize) {
        let small = written.min(self.small.len());
        self.small.drain(..small);
        let large = (written - small).min(self.large.len());
        self.large.advance(large);
        self.tail.drain(..written - small - large);
        if self.large.is_empty() && self.small.is_empty() {
            self.large = Bytes::new();
            if self.small.capacity() > KEPT_BYTES {
                self.small = Vec::new();
            }
            if !self.tail.is_empty() {
                self.small = std::mem::take(&mut self.tail);
            }
        }
    }
}

/// A part of this size is not worth copying to save a system call.
const LARGE_BYTES: usize = 8 << 10;
/// So much is written before more is gathered: a peer that does not read makes each request hold it.
const FULL_BYTES: usize = 8 << 10;
/// How much room is kept for the next message.
const KEPT_BYTES: usize = 2 << 10;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn parts_leave_in_their_order_and_no_room_is_kept_for_large_ones() {
        let mut output = Output::default();
        let large = Bytes::from(vec![b'l'; LARGE_BYTES]);
        output.buffer().extend_from_slice(b"head ");
        output.push(Bytes::from_static(b"small "));
        assert!(!output.is_full());
        output.push(large.clone());
        assert!(output.is_full());
        output.push(large.clone());
        output.buffer().extend_from_slice(b" end");
        let expected = [b"head small ", &*large, &*large, b" end"].concat();
        // It takes no more than fits, so that writes break off anywhere.
        let (mut near, mut far) = tokio::io::duplex(7);
        let mut written = Vec::new();
        let read = tokio::io::AsyncReadExt::read_to_end(&mut far, &mut written);
        let write = async {
            poll_fn(|cx| output.poll_flush(&mut near, cx)).await.unwrap();
            drop(near);
        };
        let (read, ()) = tokio::join!(read, write);
        assert_eq!((read.unwrap(), written == expected), (expected.len(), true));
        assert!(output.is_empty() && output.small.capacity() <= KEPT_BYTES && output.tail.capacity() == 0);
    }

    /// A connection that takes so much, and then no more for now.
    struct Slow {
        room: usize,
    }

    impl AsyncWrite for Slow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            match std::mem::take(&mut self.room).min(bytes.len()) {
                0 => Poll::Pending,
                taken => Poll::Ready(Ok(taken)),
            }
        }

        fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn nothing_is_held_of_what_was_written_to_a_peer_that_never_takes_all() {
        let (mut output, mut added) = (Output::default(), 0);
        for _ in 0..10_000 {
            while !output.is_full() {
                output.push(Bytes::from_static(&[b'x'; 100]));
                added += 100;
            }
            let mut cx = Context::from_waker(std::task::Waker::noop());
            assert!(output.poll_flush(&mut Slow { room: 100 }, &mut cx).is_pending());
        }
        assert!(added > 900_000 && output.small.capacity() <= 2 * FULL_BYTES, "{}", output.small.capacity());
    }

    /// A connection that takes everything, and writes it when it is told for the second time.
    #[derive(Default)]
    struct Holding {
        told: usize,
    }

    impl AsyncWrite for Holding {
        fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.told += 1;
            if self.told == 2 { Poll::Ready(Ok(())) } else { Poll::Pending }
        }

        fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn what_the_connection_still_holds_is_not_written() {
        let (mut output, mut io) = (Output::default(), Holding::default());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        output.push(Bytes::from_static(b"tail"));
        assert!(output.poll_flush(&mut io, &mut cx).is_pending());
        assert!(!output.is_empty());
        assert!(output.poll_flush(&mut io, &mut cx).is_ready());
        assert!(output.is_empty());
        assert!(output.poll_flush(&mut io, &mut cx).is_ready());
        assert_eq!(io.told, 2);
    }
}
