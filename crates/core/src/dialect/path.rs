//! Splits request paths into segments.

use std::borrow::Cow;

/// The segments after a given segment of a path.
#[derive(Debug)]
pub(super) struct Below<'a> {
    segments: [Cow<'a, str>; MOST_BELOW],
    /// The index of the first one. They are stored at the end.
    first: usize,
}

impl<'a> Below<'a> {
    /// The segments after the last one called `name`, percent-decoded. Empty segments are ignored.
    /// An API may be served under any prefix, so only these segments say which endpoint it is. None
    /// also if there are more than any endpoint has.
    pub(super) fn of(path: &'a str, name: &str) -> Option<Self> {
        if !may_name(path, name) {
            return None;
        }
        let mut below = Self { segments: [const { Cow::Borrowed("") }; MOST_BELOW], first: MOST_BELOW };
        // Starts at the end, so that irrelevant segments are not split.
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

    /// Calls `read` with the segments as strings.
    pub(super) fn read<T>(&self, read: impl FnOnce(&[&str]) -> T) -> T {
        read(&self.segments.each_ref().map(|segment| &**segment)[self.first..])
    }
}

/// Whether a segment of a path may be called `name`. Most paths are irrelevant: this rejects them
/// without splitting them.
pub(super) fn may_name(path: &str, name: &str) -> bool {
    memchr::memmem::find(path.as_bytes(), name.as_bytes()).is_some() || path.contains('%')
}

/// The segments, percent-decoded. Empty segments are ignored.
pub(super) fn segments(path: &str) -> Vec<Cow<'_, str>> {
    path.split('/').filter(|segment| !segment.is_empty()).map(percent_decode).collect()
}

/// The last segment, percent-decoded, and the path before it. Empty segments are ignored.
fn split_last(path: &str) -> Option<(&str, Cow<'_, str>)> {
    let path = path.trim_end_matches('/');
    let start = memchr::memrchr(b'/', path.as_bytes()).map_or(0, |slash| slash + 1);
    let (before, last) = path.split_at(start);
    (!last.is_empty()).then(|| (before, percent_decode(last)))
}

/// Decodes `%XX`. An invalid escape, or one whose result would not be UTF-8, stays as it is.
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

/// More than any endpoint has. Below `agents`, an agent's endpoint is followed by an API's
/// endpoint.
const MOST_BELOW: usize = 12;
/// Products that use the same endpoint names for something else.
const LOOKALIKES: [&str; 2] = ["chatkit", "organization"];
