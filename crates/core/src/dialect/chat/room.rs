//! How much of one response is kept.

/// The room that is left.
#[derive(Debug)]
pub(super) struct Room {
    bytes: usize,
    overflowed: bool,
    missed: bool,
}

impl Default for Room {
    fn default() -> Self {
        Self { bytes: MAX_BYTES, overflowed: false, missed: false }
    }
}

impl Room {
    /// No room for anything more.
    pub(super) fn none() -> Self {
        Self { bytes: MAX_BYTES, overflowed: true, missed: false }
    }

    /// How much room was taken.
    pub(super) fn taken(&self) -> usize {
        MAX_BYTES - self.bytes
    }

    /// Adds a piece to a text if there is room for it.
    pub(super) fn append(&mut self, text: &mut String, piece: &str) {
        if self.take(piece.len()) {
            text.push_str(piece);
        }
    }

    /// Takes room. Returns false if there is not enough.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        match self.bytes.checked_sub(bytes) {
            // Once something is left out, anything kept after it would only look complete.
            Some(left) if !self.overflowed => {
                self.bytes = left;
                true
            }
            _ => {
                self.overflowed = true;
                false
            }
        }
    }

    /// Notes that something is left out.
    pub(super) fn overflow(&mut self) {
        self.overflowed = true;
    }

    /// Notes that something could not be read. What follows is still kept.
    pub(super) fn miss(&mut self) {
        self.missed = true;
    }

    /// Whether something was left out, or could not be read.
    pub(super) fn is_incomplete(&self) -> bool {
        self.overflowed || self.missed
    }
}

/// Several times the longest response of any model: 128,000 tokens are about half a megabyte.
const MAX_BYTES: usize = 4 << 20;
