//! One event of a response's stream, read in one pass. Unused content (`obfuscation`, images in
//! pieces) is skipped.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// The fields of all events together. A field of the wrong type is none.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Event<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    item_id: Option<&'a RawValue>,
    #[serde(borrow)]
    output_index: Option<&'a RawValue>,
    #[serde(borrow)]
    content_index: Option<&'a RawValue>,
    #[serde(borrow)]
    summary_index: Option<&'a RawValue>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow)]
    item: Option<&'a RawValue>,
    #[serde(borrow)]
    part: Option<&'a RawValue>,
    #[serde(borrow)]
    annotation: Option<&'a RawValue>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

impl<'a> Event<'a> {
    /// Reads an event's data.
    pub(super) fn read(data: &'a str) -> Option<Self> {
        // The parser would also accept a list.
        if data.trim_start().starts_with('{') { serde_json::from_str(data).ok() } else { None }
    }

    /// The kind of the event. `type` also gives it if the event has no name of its own.
    pub(super) fn kind(&self) -> Option<Cow<'a, str>> {
        text(self.kind)
    }

    pub(super) fn item_id(&self) -> Option<Cow<'a, str>> {
        text(self.item_id).filter(|id| !id.is_empty())
    }

    pub(super) fn output_index(&self) -> Option<u64> {
        number(self.output_index)
    }

    /// The index of a part in its item's content, or of a summary among its summaries.
    pub(super) fn part_index(&self) -> u64 {
        number(self.content_index).or_else(|| number(self.summary_index)).unwrap_or_default()
    }

    /// The piece of text in the event.
    pub(super) fn delta(&self) -> Option<Cow<'a, str>> {
        text(self.delta)
    }

    /// The whole of a text that came in pieces.
    pub(super) fn whole(&self) -> Option<Cow<'a, str>> {
        [self.text, self.refusal, self.arguments, self.input, self.code].into_iter().find_map(text)
    }

    pub(super) fn item(&self) -> Option<Value> {
        value(self.item)
    }

    pub(super) fn part(&self) -> Option<Value> {
        value(self.part)
    }

    pub(super) fn annotation(&self) -> Option<Value> {
        value(self.annotation)
    }

    pub(super) fn response(&self) -> Option<Value> {
        value(self.response).filter(Value::is_object)
    }

    pub(super) fn error(&self) -> Option<&'a RawValue> {
        self.error.filter(|error| error.get() != "null")
    }
}

fn text(raw: Option<&RawValue>) -> Option<Cow<'_, str>> {
    let raw = raw?.get();
    // Nearly all strings have no escapes, and need no copy.
    match raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(plain) if memchr::memchr(b'\\', plain.as_bytes()).is_none() => Some(Cow::Borrowed(plain)),
        Some(_) => serde_json::from_str(raw).ok().map(Cow::Owned),
        None => None,
    }
}

fn number(raw: Option<&RawValue>) -> Option<u64> {
    raw?.get().parse().ok()
}

fn value(raw: Option<&RawValue>) -> Option<Value> {
    serde_json::from_str(raw?.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_with_and_without_escapes() {
        let event = Event::read(
            r#"{"type":"t","delta":"a\"\u00e9\n","obfuscation":"x","output_index":3,"text":null}"#,
        );
        let event = event.unwrap();
        assert_eq!(event.kind().as_deref(), Some("t"));
        assert_eq!(event.delta().as_deref(), Some("a\"é\n"));
        assert_eq!((event.output_index(), event.whole()), (Some(3), None));
    }

    #[test]
    fn wrong_types_are_none() {
        let event = Event::read(
            r#"{"type":5,"delta":{"a":1},"output_index":"x","item_id":"","response":[1],"error":null}"#,
        );
        let event = event.unwrap();
        assert!(event.kind().is_none() && event.delta().is_none() && event.output_index().is_none());
        assert!(event.item_id().is_none() && event.response().is_none() && event.error().is_none());
        assert!(Event::read("[]").is_none() && Event::read("").is_none() && Event::read("7").is_none());
    }
}
