//! The limits that Align's SDKs check before sending. Lengths are UTF-16 code units, as in its Node
//! SDK.

use std::borrow::Cow;

use crate::event::key_of;

/// The limit for ids and display names.
pub(super) const MAX_ID: usize = 64;
/// The limit for property values and email addresses.
pub(super) const MAX_VALUE: usize = 256;
/// The maximum number of properties of one event.
pub(super) const MAX_PROPERTIES: usize = 10;

/// The length of a text.
pub(super) fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// An id that fits. Equal ids give equal results, and different ids different ones. Also returns
/// whether the id was replaced.
pub(super) fn fit_id(id: &str) -> (Cow<'_, str>, bool) {
    if units(id) <= MAX_ID {
        return (Cow::Borrowed(id), false);
    }
    // Its beginning, for people to recognise, and a hash of the whole id.
    let beginning = beginning(id, MAX_ID - 33);
    (Cow::Owned(format!("{beginning}-{}", key_of(&["id", id]))), true)
}

/// The beginning of a text that fits. Also returns whether the text was cut.
pub(super) fn fit(text: &str, max: usize) -> (&str, bool) {
    let cut = beginning(text, max);
    (cut, cut.len() < text.len())
}

/// Whether a key matches Align's pattern: `^[a-zA-Z][a-zA-Z0-9_]{0,63}$`.
pub(super) fn is_property_key(key: &str) -> bool {
    let mut chars = key.chars();
    key.len() <= MAX_ID
        && chars.next().is_some_and(|char| char.is_ascii_alphabetic())
        && chars.all(|char| char.is_ascii_alphanumeric() || char == '_')
}

fn beginning(text: &str, max: usize) -> &str {
    let mut left = max;
    let end = text.char_indices().find(|(_, char)| match left.checked_sub(char.len_utf16()) {
        Some(rest) => {
            left = rest;
            false
        }
        None => true,
    });
    end.map_or(text, |(at, _)| &text[..at])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_made_to_fit_fits_and_stays_apart(ids in prop::collection::hash_set("[a-zé🌍]{0,80}", 1..20), max in 1..80usize) {
            let fitted: std::collections::HashSet<_> = ids.iter().map(|id| fit_id(id).0.into_owned()).collect();
            prop_assert_eq!(fitted.len(), ids.len());
            for id in &ids {
                prop_assert!(units(&fit_id(id).0) <= MAX_ID);
                prop_assert_eq!(fit_id(id).1, units(id) > MAX_ID);
                let (text, cut) = fit(id, max);
                prop_assert!(units(text) <= max && id.starts_with(text) && cut == (units(id) > max));
                // Not one more character would have fitted.
                prop_assert!(!cut || id[text.len()..].chars().next().unwrap().len_utf16() + units(text) > max);
            }
        }
    }

    #[test]
    fn keys_follow_the_pattern() {
        for (key, allowed) in [
            ("plan", true),
            ("a_1", true),
            ("", false),
            ("1a", false),
            ("_a", false),
            ("a-b", false),
            ("é", false),
        ] {
            assert_eq!(is_property_key(key), allowed, "{key}");
        }
        assert!(is_property_key(&"a".repeat(64)) && !is_property_key(&"a".repeat(65)));
    }
}
