//! Merges single values from a later state of a run. Each function returns whether anything
//! changed.

use serde_json::value::RawValue;

/// Takes a value if none was known.
pub(super) fn fill<T>(known: &mut Option<T>, newer: Option<T>) -> bool {
    let changed = known.is_none() && newer.is_some();
    if changed {
        *known = newer;
    }
    changed
}

/// Takes a copy of a value if none was known.
pub(super) fn learn<T: Clone>(known: &mut Option<T>, newer: &Option<T>) -> bool {
    known.is_none() && fill(known, newer.clone())
}

/// The last value given wins.
pub(super) fn replace(known: &mut Option<Box<RawValue>>, newer: &Option<Box<RawValue>>) -> bool {
    let Some(newer) = newer else { return false };
    let changed = known.as_ref().is_none_or(|known| known.get() != newer.get());
    if changed {
        *known = Some(newer.clone());
    }
    changed
}
