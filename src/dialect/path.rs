//! Request paths, taken apart.

use std::borrow::Cow;

/// The segments below the last one called `name`, percent-decoded; empty ones do not count. An API lives under any prefix, so only
/// what follows says which endpoint it is.
pub(super) fn below<'a>(path: &'a str, name: &str) -> Option<Vec<Cow<'a, str>>> {
    if !may_name(path, name) {
        return None;
    }
    let mut segments = segments(path);
    let at = segments.iter().rposition(|segment| segment == name)?;
    if at > 0 && LOOKALIKES.contains(&&*segments[at - 1]) {
        return None;
    }
    Some(segments.split_off(at + 1))
}

/// Whether a segment of a path may be called `name`. Most paths are of no interest: this turns them away without taking them apart.
pub(super) fn may_name(path: &str, name: &str) -> bool {
    memchr::memmem::find(path.as_bytes(), name.as_bytes()).is_some() || path.contains('%')
}

/// The segments, percent-decoded; empty ones do not count.
pub(super) fn segments(path: &str) -> Vec<Cow<'_, str>> {
    path.split('/').filter(|segment| !segment.is_empty()).map(percent_decode).collect()
}

/// Decodes `%XX`; anything that is no valid escape, or would not be UTF-8, stays as it is.
pub(super) fn percent_decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match escape.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).map_or(Cow::Borrowed(text), Cow::Owned)
}

/// Products whose endpoints of the same names are something else.
const LOOKALIKES: [&str; 2] = ["chatkit", "organization"];
