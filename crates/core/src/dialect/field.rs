//! Fields as servers send them. A field of the wrong type is treated as missing.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

/// A string, borrowed where it was written without escapes.
#[derive(Deserialize)]
#[serde(transparent)]
pub(in crate::dialect) struct Text<'a>(#[serde(borrow)] pub(in crate::dialect) Cow<'a, str>);

/// An id: a non-empty string that is short enough to keep.
pub(in crate::dialect) fn id(value: &Value) -> Option<&str> {
    value.as_str().filter(|id| !id.is_empty() && id.len() < MAX_ID_BYTES)
}

/// Instructions: a non-empty text that is short enough to keep.
pub(in crate::dialect) fn instructions(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty() && text.len() <= MAX_INSTRUCTIONS_BYTES)
}

/// Seconds since the epoch. Some servers send floats, some milliseconds.
pub(in crate::dialect) fn seconds(value: &Value) -> Option<f64> {
    let number = value.as_f64().filter(|number| *number > 0.0)?;
    Some(if number >= FIRST_MILLISECONDS { number / 1000.0 } else { number })
}

/// A JSON value worth keeping: an object or array that is not empty.
pub(in crate::dialect) fn raw(value: &Value) -> Option<Box<RawValue>> {
    let empty = match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => true,
    };
    let raw = if empty { None } else { to_raw_value(value).ok() };
    raw.filter(|raw| raw.get().len() <= MAX_RAW_BYTES)
}

/// An error worth keeping: an object as in the API, or a text as some servers send.
pub(in crate::dialect) fn error(value: &Value) -> Option<Box<RawValue>> {
    let text = value.as_str().filter(|text| !text.is_empty() && text.len() <= MAX_RAW_BYTES);
    text.and_then(|text| to_raw_value(text).ok()).or_else(|| raw(value))
}

/// Longest id that is kept. The longest id seen on a real gateway has some 400 characters.
const MAX_ID_BYTES: usize = 4096;
/// Four times the API's limit (256,000 characters).
const MAX_INSTRUCTIONS_BYTES: usize = 1 << 20;
/// Usage, errors and metadata of the API have at most a few kilobytes.
const MAX_RAW_BYTES: usize = 64 << 10;
/// No API time in seconds reaches this before the year 5138.
const FIRST_MILLISECONDS: f64 = 1e11;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_may_be_floats_or_milliseconds() {
        assert_eq!(seconds(&json!(1_795_169_739)), Some(1_795_169_739.0));
        assert_eq!(seconds(&json!(1_795_169_739.5)), Some(1_795_169_739.5));
        assert_eq!(seconds(&json!(1_795_169_739_500_u64)), Some(1_795_169_739.5));
        assert_eq!(seconds(&json!(0)), None);
    }
}
