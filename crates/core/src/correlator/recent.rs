//! A bounded memory of ids: the last ones seen.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::heap_size::allocation;

/// Remembers the fingerprints of the last `N` ids. What it forgot, the store's unique key still knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Recent<const N: usize>(VecDeque<u64>);

impl<const N: usize> Recent<N> {
    /// Whether the id is among the last ones.
    pub(super) fn contains(&self, id: &str) -> bool {
        !self.0.is_empty() && self.0.contains(&fingerprint(id))
    }

    /// What it takes in memory beside its own fields.
    pub(super) fn heap_bytes(&self) -> usize {
        allocation(self.0.capacity() * size_of::<u64>())
    }

    /// Whether nothing is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Remembers an id, and forgets the oldest one if need be. Tells whether it was new.
    pub(super) fn insert(&mut self, id: &str) -> bool {
        let fingerprint = fingerprint(id);
        if self.0.contains(&fingerprint) {
            return false;
        }
        if self.0.len() >= N {
            self.0.pop_front();
        }
        self.0.push_back(fingerprint);
        true
    }
}

/// A hash that stays the same over releases, for it is stored. Ids may be hostile, so it is a cryptographic one.
pub(super) fn fingerprint(id: &str) -> u64 {
    let digest = Sha256::digest(id.as_bytes());
    u64::from_le_bytes(std::array::from_fn(|at| digest[at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_the_oldest_first() {
        let mut recent = Recent::<2>::default();
        assert!(recent.insert("a") && recent.insert("b") && !recent.insert("a") && recent.insert("c"));
        assert!(!recent.contains("a") && recent.contains("b") && recent.contains("c"));
        let json = serde_json::to_string(&recent).unwrap();
        assert_eq!(serde_json::from_str::<Recent<2>>(&json).unwrap(), recent);
    }
}
