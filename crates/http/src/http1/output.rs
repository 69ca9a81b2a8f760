//! The write buffer of a connection.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

/// Data waiting to be written to a connection. Small parts are copied into one buffer, so that a
/// head and its body leave with one system call. A large part is not copied: it is written after
/// the small parts, from its own memory.
#[derive(Debug, Default)]
pub struct Output {
    small: Vec<u8>,
    large: Bytes,
    /// The data to write after the large part.
    tail: Vec<u8>,
    /// Whether the connection may still buffer data that was written. TLS does until it is flushed.
    unflushed: bool,
}

impl Output {
    /// The buffer for heads and small parts. Its contents are written after everything added
    /// before.
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

    /// Whether nothing is left to write, neither here nor in the connection's own buffer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.is_written() && !self.unflushed
    }

    fn is_written(&self) -> bool {
        self.small.is_empty() && self.large.is_empty() && self.tail.is_empty()
    }

    /// Whether the buffer should be written before more is added.
    #[must_use]
    pub fn is_full(&self) -> bool {
        !self.large.is_empty() || self.small.len() >= FULL_BYTES
    }

    /// Writes and flushes everything.
    ///
    /// # Errors
    /// Returns the connection's errors, and `WriteZero` if the connection accepts no more data.
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

    /// Discards the bytes that were written, even after a partial write. Otherwise a peer that
    /// reads slowly would make the buffer grow without limit.
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

/// A part of this size or more is not worth copying to save a system call.
const LARGE_BYTES: usize = 8 << 10;
/// When this much data is buffered, it is written before more is added. For a peer that does not
/// read, each request holds up to this much memory.
const FULL_BYTES: usize = 8 << 10;
/// How much capacity is kept for the next message.
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
        // Accepts only what fits, so that writes can stop at any byte.
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

    /// A connection that accepts this many bytes, and then no more for now.
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

    /// A connection that accepts everything, and flushes on the second call.
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
