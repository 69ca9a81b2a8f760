//! Counts the frames of a WebSocket as its bytes pass (RFC 6455 §5.2). Nothing is copied, and no
//! payload is inspected.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The position of one direction's bytes within a frame.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Frames {
    /// The head of the current frame, as far as it has arrived.
    head: [u8; MAX_HEAD_BYTES],
    head_bytes: usize,
    /// How much of the payload is still to arrive.
    payload: u64,
}

impl Frames {
    /// Processes the next bytes, and returns how many frame heads they completed.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> u64 {
        let mut frames = 0;
        while !bytes.is_empty() {
            let skipped = usize::try_from(self.payload).unwrap_or(usize::MAX).min(bytes.len());
            bytes = &bytes[skipped..];
            self.payload -= skipped as u64;
            let Some((&byte, rest)) = bytes.split_first() else { break };
            bytes = rest;
            self.head[self.head_bytes] = byte;
            self.head_bytes += 1;
            if let Some(payload) = self.payload_of_head() {
                (self.payload, self.head_bytes) = (payload, 0);
                frames += 1;
            }
        }
        frames
    }

    /// The length of the payload, once the head is complete.
    fn payload_of_head(&self) -> Option<u64> {
        let head = &self.head[..self.head_bytes];
        let second = *head.get(1)?;
        let mask_bytes = if second & 0x80 == 0 { 0 } else { 4 };
        let (length_bytes, short) = match second & 0x7f {
            126 => (2, None),
            127 => (8, None),
            length => (0, Some(u64::from(length))),
        };
        if head.len() < 2 + length_bytes + mask_bytes {
            return None;
        }
        let length = head[2..2 + length_bytes].iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
        Some(short.unwrap_or(length))
    }
}

/// The client's side of a WebSocket, with both directions counted: reads come from the client,
/// writes come from upstream.
pub(super) struct Counted<S> {
    stream: S,
    from_client: (Frames, Counter),
    from_upstream: (Frames, Counter),
}

impl<S> Counted<S> {
    pub(super) fn new(stream: S, from_client: Counter, from_upstream: Counter) -> Self {
        Self {
            stream,
            from_client: (Frames::default(), from_client),
            from_upstream: (Frames::default(), from_upstream),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        let (frames, counter) = &mut this.from_client;
        counter.inc_by(frames.take(&buf.filled()[before..]));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, buf))?;
        let (frames, counter) = &mut this.from_upstream;
        counter.inc_by(frames.take(&buf[..written]));
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Flags, length, long length, mask.
const MAX_HEAD_BYTES: usize = 2 + 8 + 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(masked: bool, length: usize) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = vec![0x81];
        match length {
            0..126 => frame.push(mask | length as u8),
            126..65_536 => {
                frame.push(mask | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(vec![0xff; if masked { 4 } else { 0 }]);
        frame.extend(vec![0x7e; length]);
        frame
    }

    proptest! {
        #[test]
        fn frames_are_counted_however_they_are_cut(
            lengths in prop::collection::vec(prop_oneof![0..200_usize, 65_500..65_600_usize], 0..6),
            masked: bool,
            part in 1..5_000_usize,
        ) {
            let bytes: Vec<u8> = lengths.iter().flat_map(|length| frame(masked, *length)).collect();
            let mut frames = Frames::default();
            let counted: u64 = bytes.chunks(part).map(|part| frames.take(part)).sum();
            prop_assert_eq!(counted, lengths.len() as u64);
            prop_assert_eq!(frames.payload, 0);
            prop_assert_eq!(frames.head_bytes, 0);
        }

        #[test]
        fn no_bytes_are_too_odd(bytes: Vec<u8>) {
            Frames::default().take(&bytes);
        }
    }

    #[test]
    fn a_length_beyond_all_bounds_is_waited_for() {
        let mut frames = Frames::default();
        let head = [&[0x82, 127][..], &u64::MAX.to_be_bytes()].concat();
        assert_eq!(frames.take(&[&head[..], &[0; 100]].concat()), 1);
        assert_eq!(frames.take(&[0; 100]), 0);
        assert_eq!(frames.payload, u64::MAX - 200);
    }
}
