//! How much of one answer is kept.

/// What is left of it.
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

    /// How much was taken.
    pub(super) fn taken(&self) -> usize {
        MAX_BYTES - self.bytes
    }

    /// Adds a piece to a text if there is room for it.
    pub(super) fn append(&mut self, text: &mut String, piece: &str) {
        if self.take(piece.len()) {
            text.push_str(piece);
        }
    }

    /// Takes room; false when there is not so much.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        match self.bytes.checked_sub(bytes) {
            // Once something is left out, what follows would only look as if it were whole.
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

    /// Says that something is left out.
    pub(super) fn overflow(&mut self) {
        self.overflowed = true;
    }

    /// Says that something could not be read. What follows is kept all the same.
    pub(super) fn miss(&mut self) {
        self.missed = true;
    }

    /// Whether something was left out, or could not be read.
    pub(super) fn is_incomplete(&self) -> bool {
        self.overflowed || self.missed
    }
}

/// Several times the longest answer any model gives: 128,000 tokens are about half a megabyte.
const MAX_BYTES: usize = 4 << 20;
