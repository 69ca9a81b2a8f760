//! A bounded memory of recently seen ids.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::heap_size::allocation;

/// Remembers the fingerprints of the last `N` ids. The store's unique key also covers forgotten
/// ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Recent<const N: usize>(VecDeque<u64>);

impl<const N: usize> Recent<N> {
    /// Whether the id is remembered.
    pub(super) fn contains(&self, id: &str) -> bool {
        !self.0.is_empty() && self.0.contains(&fingerprint(id))
    }

    /// How much memory it uses besides its own fields.
    pub(super) fn heap_bytes(&self) -> usize {
        allocation(self.0.capacity() * size_of::<u64>())
    }

    /// Whether nothing is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Remembers an id, and forgets the oldest one if necessary. Returns whether it was new.
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

/// A hash that must stay the same in all releases, because it is stored. It is cryptographic,
/// because ids may be hostile.
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
