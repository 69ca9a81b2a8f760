//! Chance enough to spread pauses.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A stream of random numbers (splitmix64); nothing secret depends on it.
pub(super) struct Jitter(u64);

impl Jitter {
    pub(super) fn new() -> Self {
        Self(RandomState::new().build_hasher().finish())
    }

    pub(super) fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from(mixed >> 32).unwrap_or(u32::MAX)
    }
}
