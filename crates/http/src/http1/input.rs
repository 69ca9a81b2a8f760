//! What was read of a connection and not yet used.

use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

/// What was read of a connection and not yet used. It holds no memory while there is nothing: what comes is read into a buffer
/// of the thread and copied from there, except where so much comes that the copy would cost more than room of one's own.
#[derive(Debug, Default)]
pub struct Input {
    read: BytesMut,
    /// How much of it was looked at for a head in vain.
    looked_at: usize,
    /// Whether the last read had as much as the thread's buffer holds.
    bulk: bool,
    /// Whether only so much is read at once as a peer that does not take it may hold.
    sips: bool,
}

impl Input {
    /// Begins with what was read before.
    #[must_use]
    pub fn new(read: &[u8]) -> Self {
        Self { read: BytesMut::from(read), ..Self::default() }
    }

    /// Whether little is read at once: for one of many streams, each of which holds what was read until it is taken.
    pub fn set_sips(&mut self, sips: bool) {
        self.sips = sips;
        self.bulk &= !sips;
    }

    /// Reads what has arrived, once; ready with no bytes at the end of the connection.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        io: &mut R,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.bulk {
            return self.poll_fill_in_place(io, cx);
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let most = if self.sips { SIP_BYTES } else { SCRATCH_BYTES };
            let mut scratch = ReadBuf::new(&mut scratch[..most]);
            ready!(Pin::new(io).poll_read(cx, &mut scratch))?;
            self.read.extend_from_slice(scratch.filled());
            self.bulk = scratch.remaining() == 0 && !self.sips;
            Poll::Ready(Ok(scratch.filled().len()))
        })
    }

    fn poll_fill_in_place<R: AsyncRead + Unpin>(
        &mut self,
        io: &mut R,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.read.reserve(BULK_BYTES);
        let polled = pin!(io.read_buf(&mut self.read)).poll(cx);
        if let Poll::Ready(Ok(length)) = polled {
            self.bulk = length >= SCRATCH_BYTES;
        }
        if self.read.is_empty() {
            self.read = BytesMut::new();
        }
        polled
    }

    /// What there is.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.read
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.read.is_empty()
    }

    /// Leaves out the first bytes.
    pub(super) fn consume(&mut self, length: usize) {
        self.looked_at = 0;
        if length < self.read.len() {
            self.read.advance(length);
        } else if self.read.capacity() > KEPT_BYTES {
            self.read = BytesMut::new();
        } else {
            self.read.clear();
        }
    }

    /// Leaves out the empty lines before a message (RFC 9112 §2.2).
    pub(super) fn skip_empty_lines(&mut self) {
        loop {
            match &*self.read {
                [b'\r', b'\n', ..] => self.consume(2),
                [b'\n', ..] => self.consume(1),
                _ => return,
            }
        }
    }

    /// Takes at most so many bytes.
    pub(super) fn take(&mut self, most: usize) -> Bytes {
        self.looked_at = 0;
        if most >= self.read.len() {
            let read = std::mem::take(&mut self.read);
            // A part that fills little of its room would hold all of it.
            if read.capacity() > 2 * read.len() { Bytes::copy_from_slice(&read) } else { read.freeze() }
        } else {
            self.read.split_to(most).freeze()
        }
    }

    /// Takes everything.
    #[must_use]
    pub fn take_all(&mut self) -> Bytes {
        self.take(usize::MAX)
    }

    /// Whether a head may have become whole, or unreadable, since the last look.
    pub(super) fn is_promising(&self) -> bool {
        self.looked_at == 0 || memchr(b'\n', &self.read[self.looked_at..]).is_some()
    }

    /// There was no whole head in it.
    pub(super) fn was_partial(&mut self) {
        self.looked_at = self.read.len();
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

/// More at once is read in place.
const SCRATCH_BYTES: usize = 16 << 10;
/// What is read at once if that is to be little.
const SIP_BYTES: usize = 8 << 10;
/// How much room is kept for the next message.
const KEPT_BYTES: usize = 1 << 10;
/// How much is read in place at once.
const BULK_BYTES: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn much_is_read_at_once_and_nothing_is_held_for_nothing() {
        let (mut near, mut far) = tokio::io::duplex(1 << 20);
        let sent: Vec<u8> = (0..500_000_u32).map(|n| n as u8).collect();
        far.write_all(&sent).await.unwrap();
        let (mut input, mut reads, mut got) = (Input::default(), Vec::new(), Vec::new());
        while got.len() < sent.len() {
            reads.push(poll_fn(|cx| input.poll_fill(&mut near, cx)).await.unwrap());
            got.extend_from_slice(&input.take_all());
        }
        assert_eq!(got, sent);
        assert!(reads[0] == SCRATCH_BYTES && reads[1] >= BULK_BYTES, "{reads:?}");
        for _ in 0..2 {
            let polled = input.poll_fill(&mut near, &mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending());
            assert_eq!(input.read.capacity(), 0);
        }
    }
}
