//! Repeatable randomness, so that a failing test can be run again from its seed.

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014). Not for secrets.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// A generator that always says the same for the same seed.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator of its own for part of the work, so that parts do not disturb each other's sequence.
    pub(super) fn split(&mut self) -> Self {
        Self(self.next())
    }

    /// The next 64 bits.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which must not be 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// An id as the API makes them: `prefix_` and 24 letters and digits.
    pub(super) fn id(&mut self, prefix: &str) -> String {
        const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let mut id = String::with_capacity(prefix.len() + 25);
        id.push_str(prefix);
        id.push('_');
        for _ in 0..24 {
            let index = self.below(62);
            id.push(char::from(ALPHABET[usize::try_from(index).expect("below 62")]));
        }
        id
    }
}
