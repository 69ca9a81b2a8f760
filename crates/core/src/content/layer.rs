//! Decodes one content coding in steps of bounded size.

use std::fmt;

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Operation};

use super::{Allowance, Coding};

/// Decodes one content coding.
pub(super) struct Layer {
    /// How much more output it may produce.
    pub(super) allowance: Allowance,
    coding: Coding,
    state: LayerState,
    /// Whether any input has arrived.
    begun: bool,
    /// How many bytes it has written so far.
    written: usize,
}

/// The result of one step.
pub(super) struct Step {
    /// Bytes of input that were consumed.
    pub(super) read: usize,
    /// Bytes of output that were produced.
    pub(super) written: usize,
    /// The input is corrupt after the part that was written.
    pub(super) corrupt: bool,
}

impl Layer {
    pub(super) fn new(coding: Coding, allowance: Allowance) -> Self {
        let state = match coding {
            Coding::Brotli => LayerState::Brotli(Box::new(BrotliState::new_strict(
                StandardAlloc::default(),
                StandardAlloc::default(),
                StandardAlloc::default(),
            ))),
            Coding::Deflate => LayerState::Deflate { first: None },
            Coding::Gzip => LayerState::Gzip { member: gzip_member(), earlier: false },
            Coding::Zstd => LayerState::Zstd { decoder: zstd_decoder(), between_frames: true },
        };
        Self { allowance, coding, state, begun: false, written: 0 }
    }

    /// Decodes from `input` until all of it is read, `output` is full, or the data turns out to be
    /// corrupt. `input` may be empty to ask for output that the decoder holds back.
    pub(super) fn step(&mut self, input: &[u8], output: &mut [u8]) -> Step {
        self.begun |= !input.is_empty();
        let mut done = Step { read: 0, written: 0, corrupt: false };
        loop {
            let step = self.state.step(&input[done.read..], &mut output[done.written..]);
            done.read += step.read;
            done.written += step.written;
            done.corrupt = step.corrupt;
            let stuck = step.read == 0 && step.written == 0;
            if done.corrupt || stuck || done.read == input.len() || done.written == output.len() {
                // If input is left over and there is room for output, the decoder is at fault. The
                // caller must not loop.
                done.corrupt |= stuck && done.read < input.len() && done.written < output.len();
                self.written = self.written.saturating_add(done.written);
                return done;
            }
        }
    }

    /// Whether the input may end here.
    pub(super) fn is_complete(&self) -> bool {
        !self.begun
            || match &self.state {
                LayerState::Ended => true,
                LayerState::Brotli(_) | LayerState::Deflate { .. } | LayerState::Inflate(_) => false,
                LayerState::Gzip { member, earlier } => *earlier && member.total_in() == 0,
                LayerState::Zstd { between_frames, .. } => *between_frames,
            }
    }

    /// How many bytes it may hold. A window takes memory only as it is written to.
    pub(super) fn held_bytes(&self) -> usize {
        let (base, window) = self.memory();
        base + self.written.min(window)
    }

    /// The most it may hold.
    pub(super) fn most_held_bytes(&self) -> usize {
        let (base, window) = self.memory();
        base + window
    }

    /// The memory it needs at the start, and the size of its largest window.
    fn memory(&self) -> (usize, usize) {
        match self.coding {
            Coding::Brotli => (BROTLI_BYTES, 1 << MAX_BROTLI_WINDOW_BITS),
            Coding::Deflate | Coding::Gzip => (DEFLATE_BYTES, 0),
            Coding::Zstd => (ZSTD_BYTES, 1 << MAX_ZSTD_WINDOW_LOG),
        }
    }

    pub(super) fn coding(&self) -> Coding {
        self.coding
    }
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer")
            .field("coding", &self.coding)
            .field("begun", &self.begun)
            .finish_non_exhaustive()
    }
}

enum LayerState {
    Brotli(Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>),
    /// The first two bytes show whether there is a zlib wrapper.
    Deflate {
        first: Option<u8>,
    },
    /// The stream is complete. Anything that follows is padding.
    Ended,
    Gzip {
        member: Decompress,
        /// A member before this one was complete.
        earlier: bool,
    },
    Inflate(Decompress),
    Zstd {
        decoder: zstd::stream::raw::Decoder<'static>,
        between_frames: bool,
    },
}

impl LayerState {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Step {
        match self {
            Self::Brotli(state) => {
                let (step, ended) = unbrotli(state, input, output);
                if ended {
                    *self = Self::Ended;
                }
                step
            }
            Self::Deflate { first: None } => {
                *self = Self::Deflate { first: input.first().copied() };
                Step { read: input.len().min(1), written: 0, corrupt: false }
            }
            Self::Deflate { first: Some(first) } => {
                let Some(&second) = input.first() else {
                    return Step { read: 0, written: 0, corrupt: false };
                };
                let head = [*first, second];
                let mut decompress = Decompress::new(is_zlib(head));
                let (step, ended) = inflate(&mut decompress, &head, output);
                *self = if ended { Self::Ended } else { Self::Inflate(decompress) };
                Step { read: 1, ..step }
            }
            Self::Ended => Step { read: input.len(), written: 0, corrupt: false },
            Self::Gzip { member, earlier } => {
                let (step, ended) = inflate(member, input, output);
                if ended {
                    (*member, *earlier) = (gzip_member(), true);
                } else if step.corrupt && *earlier && member.total_out() == 0 {
                    // This is padding, not another member.
                    *self = Self::Ended;
                    return Step { read: input.len(), written: 0, corrupt: false };
                }
                step
            }
            Self::Inflate(decompress) => {
                let (step, ended) = inflate(decompress, input, output);
                if ended {
                    *self = Self::Ended;
                }
                step
            }
            Self::Zstd { decoder, between_frames } => {
                // The decoder applies different rules to a frame that arrives in one piece. So no
                // frame is passed in one piece.
                let input = if *between_frames { &input[..input.len().min(1)] } else { input };
                let Ok(status) = decoder.run_on_buffers(input, output) else {
                    return Step { read: 0, written: 0, corrupt: true };
                };
                if status.bytes_read > 0 || status.bytes_written > 0 {
                    *between_frames = status.remaining == 0;
                }
                Step { read: status.bytes_read, written: status.bytes_written, corrupt: false }
            }
        }
    }
}

/// The second value says whether the stream is complete.
fn inflate(decompress: &mut Decompress, input: &[u8], output: &mut [u8]) -> (Step, bool) {
    let (read, written) = (decompress.total_in(), decompress.total_out());
    let status = decompress.decompress(input, output, FlushDecompress::None);
    let step = Step {
        read: (decompress.total_in() - read) as usize,
        written: (decompress.total_out() - written) as usize,
        corrupt: status.is_err(),
    };
    (step, matches!(status, Ok(Status::StreamEnd)))
}

/// The second value says whether the stream is complete.
fn unbrotli(
    state: &mut BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    input: &[u8],
    output: &mut [u8],
) -> (Step, bool) {
    let (mut input_left, mut output_left) = (input.len(), output.len());
    let (mut read, mut written, mut total) = (0, 0, 0);
    let result = BrotliDecompressStream(
        &mut input_left,
        &mut read,
        input,
        &mut output_left,
        &mut written,
        output,
        &mut total,
        state,
    );
    let corrupt = matches!(result, BrotliResult::ResultFailure);
    (Step { read, written, corrupt }, matches!(result, BrotliResult::ResultSuccess))
}

/// RFC 1950 §2.2: method 8, a window of at most 32 KiB, and a checksum of the two bytes. No encoder
/// starts raw deflate like that: it would be a stored block with noise in its padding.
fn is_zlib([method, flags]: [u8; 2]) -> bool {
    method & 0x0F == 8 && method >> 4 <= 7 && u16::from_be_bytes([method, flags]).is_multiple_of(31)
}

fn gzip_member() -> Decompress {
    Decompress::new_gzip(MAX_GZIP_WINDOW_BITS)
}

fn zstd_decoder() -> zstd::stream::raw::Decoder<'static> {
    let mut decoder = zstd::stream::raw::Decoder::new().expect("memory for a decoder");
    decoder.set_parameter(DParameter::WindowLogMax(MAX_ZSTD_WINDOW_LOG)).expect("a window size zstd knows");
    decoder
}

const MAX_GZIP_WINDOW_BITS: u8 = 15;
/// RFC 7932 §9.1.
const MAX_BROTLI_WINDOW_BITS: u8 = 24;
/// What each decoder needs in addition to its window: tables and buffers of one block. Measured.
const BROTLI_BYTES: usize = 256 << 10;
const DEFLATE_BYTES: usize = 64 << 10;
const ZSTD_BYTES: usize = 256 << 10;
/// RFC 9659 §3: a `zstd` content coding never needs a window over 8 MiB.
const MAX_ZSTD_WINDOW_LOG: u32 = 23;
