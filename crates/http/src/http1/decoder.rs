//! Body decoding.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;

use super::chunked::{Chunks, Next, Rigour};
use super::{BodyError, Framing, Input, Malformed};

/// Extracts the data of one body from the input, for every kind of framing.
#[derive(Debug)]
pub struct Decoder(DecoderState);

#[derive(Debug)]
enum DecoderState {
    /// This many bytes are left to read.
    Length(u64),
    Chunked(Chunks),
    UntilClose,
    Over,
}

impl Decoder {
    /// Creates a decoder for a request body with this framing.
    #[must_use]
    pub fn of_request(framing: Framing) -> Self {
        Self::new(framing, Rigour::Strict)
    }

    /// Creates a decoder for a response body with this framing.
    #[must_use]
    pub fn of_response(framing: Framing) -> Self {
        Self::new(framing, Rigour::Tolerant)
    }

    fn new(framing: Framing, rigour: Rigour) -> Self {
        Self(match framing {
            Framing::Empty | Framing::Length(0) => DecoderState::Over,
            Framing::Length(length) => DecoderState::Length(length),
            Framing::Chunked => DecoderState::Chunked(Chunks::new(rigour)),
            Framing::UntilClose => DecoderState::UntilClose,
        })
    }

    /// Whether the end of the body was reached. Trailers may still be waiting to be taken.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match &self.0 {
            DecoderState::Over => true,
            DecoderState::Chunked(chunks) => chunks.is_over(),
            DecoderState::Length(_) | DecoderState::UntilClose => false,
        }
    }

    /// How many bytes of data are left, if that is known.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        match self.0 {
            DecoderState::Over => Some(0),
            DecoderState::Length(length) => Some(length),
            DecoderState::Chunked(_) | DecoderState::UntilClose => None,
        }
    }

    /// Returns the next part of the body. Calls `fill` to read more if no data is buffered.
    pub fn poll_frame(
        &mut self,
        input: &mut Input,
        cx: &mut Context<'_>,
        mut fill: impl FnMut(&mut Input, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match self.data(input) {
                Ok(Some(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(None) if self.is_over() => return Poll::Ready(self.rest()),
                Ok(None) => {}
                Err(malformed) => return Poll::Ready(Some(Err(malformed.into()))),
            }
            let filled = ready!(fill(input, cx)).map_err(BodyError::Io);
            let filled = filled.and_then(|length| if length == 0 { self.close() } else { Ok(()) });
            if let Err(error) = filled {
                return Poll::Ready(Some(Err(error)));
            }
        }
    }

    /// What to return when no more can be read: trailers, or an error if the body is incomplete.
    pub fn rest(&mut self) -> Option<Result<Frame<Bytes>, BodyError>> {
        if self.is_over() {
            return self.trailers().map(|trailers| Ok(Frame::trailers(trailers)));
        }
        Some(Err(BodyError::Truncated))
    }

    /// Takes all data that was read. Returns `None` when more must be read first, or at the end of
    /// the body. Chunks that arrived together are returned as one part.
    ///
    /// # Errors
    /// If the chunks cannot be parsed. Data before the fault is returned first.
    pub fn data(&mut self, input: &mut Input) -> Result<Option<Bytes>, Malformed> {
        let data = match &mut self.0 {
            DecoderState::Over => return Ok(None),
            DecoderState::UntilClose => input.take_all(),
            DecoderState::Length(left) => {
                let data = input.take(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= data.len() as u64;
                if *left == 0 {
                    self.0 = DecoderState::Over;
                }
                data
            }
            DecoderState::Chunked(chunks) => gathered(chunks, input)?,
        };
        Ok(Some(data).filter(|data| !data.is_empty()))
    }

    /// Whether there are trailers that were not taken yet.
    #[must_use]
    pub fn has_trailers(&self) -> bool {
        matches!(&self.0, DecoderState::Chunked(chunks) if chunks.has_trailers())
    }

    /// Whether decoding stopped before the whole body was read, so that the connection cannot be
    /// used again.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        matches!(&self.0, DecoderState::Chunked(chunks) if chunks.is_cut())
    }

    /// Takes the trailers after the end of the body.
    pub(super) fn trailers(&mut self) -> Option<HeaderMap> {
        match &mut self.0 {
            DecoderState::Chunked(chunks) => chunks.take_trailers(),
            _ => None,
        }
    }

    /// Handles the end of the connection.
    ///
    /// # Errors
    /// If the body was not complete.
    pub(super) fn close(&mut self) -> Result<(), BodyError> {
        if !self.is_over() && !matches!(self.0, DecoderState::UntilClose) {
            return Err(BodyError::Truncated);
        }
        self.0 = DecoderState::Over;
        Ok(())
    }
}

/// The data of all chunks that were read. A single chunk is not copied.
fn gathered(chunks: &mut Chunks, input: &mut Input) -> Result<Bytes, Malformed> {
    let (mut first, mut all) = (Bytes::new(), BytesMut::new());
    while !input.is_empty() && !chunks.is_over() {
        match chunks.next(input.bytes()) {
            Ok(Next::Framing(length)) => input.consume(length),
            Ok(Next::Data(length)) if first.is_empty() => first = input.take(length),
            Ok(Next::Data(length)) => {
                if all.is_empty() {
                    all.reserve(first.len() + input.bytes().len());
                    all.extend_from_slice(&first);
                }
                all.extend_from_slice(&input.bytes()[..length]);
                input.consume(length);
            }
            // The next call fails as well.
            Err(_) if !first.is_empty() => break,
            Err(malformed) => return Err(malformed),
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}
