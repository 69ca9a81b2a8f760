//! Undoes the `Content-Encoding` of a captured copy, piece by piece.
//!
//! Supports gzip, deflate (in a zlib wrapper, as RFC 9110 §8.4.1.2 says, and raw, as some servers
//! send it), br, zstd, and stacks of them. Each piece of input yields everything that can be
//! decoded so far, so a compressed event stream can be read at every flush of the server. A
//! [`Limit`] bounds the decoded size. The formats' window sizes bound the decoders' own memory.
//!
//! Works on copies only: forwarded traffic never passes through here. Decoding cannot continue
//! after a gap in encoded bytes: everything after the gap is lost.

mod layer;

use std::ops::ControlFlow;

use thiserror::Error;

use self::layer::Layer;

/// How many bytes each coding of a body may produce. This guards against small inputs that decode
/// to huge outputs, including those that do so halfway through a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// For a stream of any length: an allowance of this many bytes. Decoded bytes use it up. Each
    /// byte of input restores [`REFILL_PER_BYTE`] of it, up to this size.
    BurstBytes(usize),
    /// For a body that is kept whole: this many bytes in total.
    TotalBytes(usize),
}

/// Decodes one body.
#[derive(Debug)]
pub struct Decoder {
    /// The coding that was applied last comes first.
    layers: Vec<Layer>,
    limit: Limit,
    /// How much may still be produced in total. Each layer also has a limit of its own.
    allowance: Allowance,
    failed: Option<DecodeError>,
}

/// Names a coding this program can undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// `br`, RFC 7932.
    Brotli,
    /// `deflate`, RFC 1950 or 1951.
    Deflate,
    /// `gzip`, RFC 1952; also as several members.
    Gzip,
    /// `zstd`, RFC 8878; also as several frames.
    Zstd,
}

/// A `Content-Encoding` that cannot be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UnsupportedEncoding {
    /// More than [`MAX_CODINGS`] codings are stacked.
    #[error("more than {MAX_CODINGS} content codings are stacked")]
    TooMany,
    /// An unknown coding.
    #[error("unknown content coding")]
    Unknown,
}

/// Why decoding stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The bytes do not match the header, or were damaged.
    #[error("the {0:?} data is corrupt")]
    Corrupt(Coding),
    /// The receiver of the decoded data wants no more of it.
    #[error("the reader stopped reading")]
    Stopped,
    /// The limit was reached.
    #[error("the decoded data exceeds its limit")]
    TooLarge,
    /// The input ended before the coding did.
    #[error("the {0:?} data is truncated")]
    Truncated(Coding),
}

impl Decoder {
    /// Makes a decoder for a body with this `Content-Encoding`. Several headers are joined by
    /// commas; none means not encoded.
    ///
    /// # Errors
    ///
    /// [`UnsupportedEncoding`] if the body cannot be decoded.
    pub fn new(content_encoding: Option<&str>, limit: Limit) -> Result<Self, UnsupportedEncoding> {
        let mut layers = Vec::new();
        for name in content_encoding.unwrap_or_default().split(',').rev() {
            let name = name.trim();
            if name.is_empty() || name.eq_ignore_ascii_case("identity") {
                continue;
            }
            let coding = Coding::from_name(name).ok_or(UnsupportedEncoding::Unknown)?;
            if layers.len() == MAX_CODINGS {
                return Err(UnsupportedEncoding::TooMany);
            }
            layers.push(Layer::new(coding, Allowance::new(limit)));
        }
        Ok(Self { layers, limit, allowance: Allowance::new(limit), failed: None })
    }

    /// Decodes the next piece and passes the output to `take`, in pieces of at most 8 KiB. Without
    /// a coding, the piece is passed on unchanged.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]. `take` has received everything before the error. An error is final: every
    /// later call returns it again.
    pub fn decode(
        &mut self,
        input: &[u8],
        take: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), DecodeError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if let Limit::BurstBytes(most_bytes) = self.limit {
            let refill_bytes = input.len().saturating_mul(REFILL_PER_BYTE);
            self.allowance.refill(refill_bytes, most_bytes);
            self.layers.iter_mut().for_each(|layer| layer.allowance.refill(refill_bytes, most_bytes));
        }
        let decoded = pump(&mut self.layers, input, take, &mut self.allowance);
        self.failed = decoded.err();
        decoded
    }

    /// How many bytes the decoders may hold now: their initial memory, and as much of their windows
    /// as was decoded.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.layers.iter().map(Layer::held_bytes).sum()
    }

    /// The most they may ever hold, for any input.
    #[must_use]
    pub fn most_held_bytes(&self) -> usize {
        self.layers.iter().map(Layer::most_held_bytes).sum()
    }

    /// Checks whether the input may end here. This decodes nothing, because
    /// [`decode`](Self::decode) has already returned everything.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`] if a coding is not complete, or the error that ended decoding. An
    /// empty input is complete.
    pub fn finish(&self) -> Result<(), DecodeError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        match self.layers.iter().find(|layer| !layer.is_complete()) {
            Some(layer) => Err(DecodeError::Truncated(layer.coding())),
            None => Ok(()),
        }
    }
}

impl Coding {
    fn from_name(name: &str) -> Option<Self> {
        let known = [
            ("br", Self::Brotli),
            ("deflate", Self::Deflate),
            ("gzip", Self::Gzip),
            // RFC 9110 §8.4.1.3 treats it as the same.
            ("x-gzip", Self::Gzip),
            ("zstd", Self::Zstd),
        ];
        known.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|&(_, coding)| coding)
    }
}

/// How many bytes may still be decoded.
#[derive(Debug)]
struct Allowance(usize);

impl Allowance {
    fn new(limit: Limit) -> Self {
        let (Limit::BurstBytes(bytes) | Limit::TotalBytes(bytes)) = limit;
        Self(bytes)
    }

    fn refill(&mut self, bytes: usize, most_bytes: usize) {
        self.0 = self.0.saturating_add(bytes).min(most_bytes);
    }

    /// Uses up the allowance for `piece`, and returns the part of it that was allowed.
    fn take<'a>(&mut self, piece: &'a [u8]) -> &'a [u8] {
        let allowed = &piece[..piece.len().min(self.0)];
        self.0 -= allowed.len();
        allowed
    }
}

/// Sends `input` through the layers in small steps, so that no layer's whole output is ever in
/// memory.
fn pump(
    layers: &mut [Layer],
    mut input: &[u8],
    take: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    allowance: &mut Allowance,
) -> Result<(), DecodeError> {
    if input.is_empty() {
        return Ok(());
    }
    let Some((layer, rest)) = layers.split_first_mut() else {
        let allowed = allowance.take(input);
        if take(allowed).is_break() {
            return Err(DecodeError::Stopped);
        }
        return if allowed.len() == input.len() { Ok(()) } else { Err(DecodeError::TooLarge) };
    };
    let mut chunk = [0; CHUNK_BYTES];
    loop {
        let step = layer.step(input, &mut chunk);
        input = &input[step.read..];
        let allowed = layer.allowance.take(&chunk[..step.written]);
        pump(rest, allowed, take, allowance)?;
        if allowed.len() < step.written {
            return Err(DecodeError::TooLarge);
        }
        if step.corrupt {
            return Err(DecodeError::Corrupt(layer.coding()));
        }
        // The chunk was not filled, so no output is left.
        if input.is_empty() && step.written < chunk.len() {
            return Ok(());
        }
    }
}

/// See [`Limit::BurstBytes`]. Text rarely compresses to a hundredth of its size, even events that
/// repeat their frame for each token.
pub const REFILL_PER_BYTE: usize = 100;
/// How many codings may be stacked. Servers use one, and proxies in front of them may add another.
pub const MAX_CODINGS: usize = 4;
const CHUNK_BYTES: usize = 8 * 1024;

/// Asserts that the decoded output does not depend on how a body is split. The first byte of `data`
/// selects the coding and the length of the parts. The rest is the body.
#[cfg(any(test, fuzzing))]
pub fn assert_cuts_do_not_matter(data: &[u8]) {
    let Some((&seed, body)) = data.split_first() else { return };
    let header = ["gzip", "deflate", "br", "zstd", "gzip, br", "zstd, deflate", "gzip, gzip", "identity"]
        [usize::from(seed & 7)];
    let decode = |part_bytes: usize| {
        let mut decoder =
            Decoder::new(Some(header), Limit::TotalBytes(1 << 20)).expect("the codings are known");
        let mut out = Vec::new();
        let decoded = body.chunks(part_bytes).try_for_each(|part| {
            decoder.decode(part, &mut |decoded| {
                out.extend_from_slice(decoded);
                ControlFlow::Continue(())
            })
        });
        assert!(out.len() <= 1 << 20);
        (decoded.and_then(|()| decoder.finish()), out)
    };
    let (whole, whole_out) = decode(body.len().max(1));
    for part_bytes in [1, usize::from(seed >> 3) + 2] {
        let (cut, cut_out) = decode(part_bytes);
        assert_eq!(cut.is_ok(), whole.is_ok());
        // How much a coding produces before it reports an error may differ.
        let common = cut_out.len().min(whole_out.len());
        assert_eq!(cut_out[..common], whole_out[..common]);
        assert!(whole.is_err() || cut_out.len() == whole_out.len());
    }
}

#[cfg(test)]
mod tests;
