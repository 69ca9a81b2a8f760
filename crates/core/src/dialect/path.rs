//! Request paths, taken apart.

use std::borrow::Cow;

/// What follows a segment of a path.
#[derive(Debug)]
pub(super) struct Below<'a> {
    segments: [Cow<'a, str>; MOST_BELOW],
    /// Where the first one is; they stand at the end.
    first: usize,
}

impl<'a> Below<'a> {
    /// The segments below the last one called `name`, percent-decoded; empty ones do not count. An API lives under any prefix, so
    /// only what follows says which endpoint it is. None also where there are more than any endpoint has.
    pub(super) fn of(path: &'a str, name: &str) -> Option<Self> {
        if !may_name(path, name) {
            return None;
        }
        let mut below = Self { segments: [const { Cow::Borrowed("") }; MOST_BELOW], first: MOST_BELOW };
        // From the end, so that nothing is taken apart that does not say anything.
        let mut before = path;
        loop {
            let (rest, segment) = split_last(before)?;
            before = rest;
            if segment == name {
                break;
            }
            below.first = below.first.checked_sub(1)?;
            below.segments[below.first] = segment;
        }
        match split_last(before) {
            Some((_, product)) if LOOKALIKES.contains(&&*product) => None,
            _ => Some(below),
        }
    }

    /// Calls `read` with the segments as texts.
    pub(super) fn read<T>(&self, read: impl FnOnce(&[&str]) -> T) -> T {
        read(&self.segments.each_ref().map(|segment| &**segment)[self.first..])
    }
}

/// Whether a segment of a path may be called `name`. Most paths are of no interest: this turns them away without taking them apart.
pub(super) fn may_name(path: &str, name: &str) -> bool {
    memchr::memmem::find(path.as_bytes(), name.as_bytes()).is_some() || path.contains('%')
}

/// The segments, percent-decoded; empty ones do not count.
pub(super) fn segments(path: &str) -> Vec<Cow<'_, str>> {
    path.split('/').filter(|segment| !segment.is_empty()).map(percent_decode).collect()
}

/// The last segment, percent-decoded, and what stands before it; empty ones do not count.
fn split_last(path: &str) -> Option<(&str, Cow<'_, str>)> {
    let path = path.trim_end_matches('/');
    let start = memchr::memrchr(b'/', path.as_bytes()).map_or(0, |slash| slash + 1);
    let (before, last) = path.split_at(start);
    (!last.is_empty()).then(|| (before, percent_decode(last)))
}

/// Decodes `%XX`; anything that is no valid escape, or would not be UTF-8, stays as it is.
pub(super) fn percent_decode(text: &str) -> Cow<'_, str> {
    if memchr::memchr(b'%', text.as_bytes()).is_none() {
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

/// More than any endpoint has; below `agents` an agent's endpoint goes on with one of an API.
const MOST_BELOW: usize = 12;
/// Products whose endpoints of the same names are something else.
const LOOKALIKES: [&str; 2] = ["chatkit", "organization"];
