//! The read buffer of a connection.

use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

/// Data read from a connection and not used yet. An empty buffer holds no memory: reads go into a
/// buffer shared by the thread, and the data is copied from there. If so much arrives that copying
/// would cost more than a separate buffer, it is read in place instead.
#[derive(Debug, Default)]
pub struct Input {
    read: BytesMut,
    /// How many bytes were already searched for a complete head without success.
    looked_at: usize,
    /// Whether the last read filled the thread's buffer.
    bulk: bool,
    /// Whether reads are kept small, to limit how much memory a peer can hold by not taking its
    /// data.
    sips: bool,
}

impl Input {
    /// Creates a buffer with data that was read before.
    #[must_use]
    pub fn new(read: &[u8]) -> Self {
        Self { read: BytesMut::from(read), ..Self::default() }
    }

    /// Sets whether reads are kept small. Use this for one of many streams, because each holds its
    /// data until it is taken.
    pub fn set_sips(&mut self, sips: bool) {
        self.sips = sips;
        self.bulk &= !sips;
    }

    /// Reads the available data once. Returns 0 bytes at the end of the connection.
    ///
    /// # Errors
    /// Returns the connection's errors.
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

    /// The data in the buffer.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.read
    }

    /// Whether the buffer is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.read.is_empty()
    }

    /// Skips the first bytes.
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

    /// Skips the empty lines before a message (RFC 9112 §2.2).
    pub(super) fn skip_empty_lines(&mut self) {
        loop {
            match &*self.read {
                [b'\r', b'\n', ..] => self.consume(2),
                [b'\n', ..] => self.consume(1),
                _ => return,
            }
        }
    }

    /// Takes at most this many bytes.
    pub(super) fn take(&mut self, most: usize) -> Bytes {
        self.looked_at = 0;
        if most >= self.read.len() {
            let read = std::mem::take(&mut self.read);
            // Copies a part that fills little of its buffer, which would otherwise keep the whole
            // buffer allocated.
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

    /// Whether a head may have become complete, or invalid, since the last attempt to parse it.
    pub(super) fn is_promising(&self) -> bool {
        self.looked_at == 0 || memchr(b'\n', &self.read[self.looked_at..]).is_some()
    }

    /// Records that the buffer does not contain a complete head.
    pub(super) fn was_partial(&mut self) {
        self.looked_at = self.read.len();
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

/// The size of the thread's buffer. A read that fills it makes the next read go in place.
const SCRATCH_BYTES: usize = 16 << 10;
/// The size of a single read when reads are kept small.
const SIP_BYTES: usize = 8 << 10;
/// How much capacity is kept for the next message.
const KEPT_BYTES: usize = 1 << 10;
/// The size of a single read in place.
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
