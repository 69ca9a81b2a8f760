//! The attribution of a conversation or a run in packed form. It is held as text, because a parsed
//! user uses ten times as much memory.

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::heap_size;
use crate::attribution::Attribution;

/// An attribution's JSON. None while nothing is known. It is stored in the same format as the
/// attribution itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct PackedAttribution(Option<Box<RawValue>>);

impl PackedAttribution {
    pub(super) fn is_unknown(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn attribution(&self) -> Attribution {
        let known = self.0.as_ref().and_then(|json| serde_json::from_str(json.get()).ok());
        known.unwrap_or_default()
    }

    /// Takes the values that `newer` knows better. Returns whether anything changed.
    pub(super) fn update(&mut self, newer: &Attribution) -> bool {
        if newer.is_empty() {
            return false;
        }
        let mut known = self.attribution();
        known.update(newer);
        let json = to_raw_value(&known).expect("an attribution has string keys");
        let changed = self.0.as_ref().is_none_or(|known| known.get() != json.get());
        self.0 = Some(json);
        changed
    }

    /// How much memory it uses besides its own fields.
    pub(super) fn heap_bytes(&self) -> usize {
        heap_size::raw(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_stored_and_read_as_an_attribution() {
        let stored = json!({"session": "s", "user": {"userId": "u", "n": {"a": [1, 2.5]}}, "ranks": {"session": 3, "user": 1, "app": 0}});
        let attribution: Attribution = serde_json::from_value(stored.clone()).unwrap();
        let mut packed = PackedAttribution::default();
        assert!(packed.is_unknown() && packed.update(&attribution) && !packed.update(&attribution));
        assert_eq!(
            (serde_json::to_value(&packed).unwrap(), packed.attribution()),
            (stored.clone(), attribution)
        );
        let read: PackedAttribution = serde_json::from_str(&stored.to_string()).unwrap();
        assert_eq!(read.attribution(), packed.attribution());
        // A worse source changes nothing.
        let worse: Attribution =
            serde_json::from_value(json!({"session": "t", "ranks": {"session": 4}})).unwrap();
        assert!(!packed.update(&worse) && !packed.update(&Attribution::default()));
    }
}
