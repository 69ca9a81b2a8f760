//! An answer, put together from its chunks; an answer that was not streamed is one chunk.
//!
//! Memory is what is kept of the answer, which has a bound, and never the stream's length.

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

use super::choice::Choice;
use super::object::Object;
use super::room::Room;
use crate::dialect::field;

/// An answer so far.
#[derive(Debug, Default)]
pub(super) struct Answer {
    id: Option<String>,
    created: Option<f64>,
    model: Option<String>,
    service_tier: Option<String>,
    system_fingerprint: Option<String>,
    /// By index.
    choices: Vec<Choice>,
    usage: Option<Box<RawValue>>,
    error: Option<Box<RawValue>>,
    room: Room,
}

impl Answer {
    /// Takes a chunk. None when it is none; else whether it brought any output.
    pub(super) fn push(&mut self, chunk: &Object<'_>) -> Option<bool> {
        if let Some(error) = error(chunk) {
            let too_long = || to_raw_value("an error that is too long to be kept").ok();
            self.error = kept(error).or_else(too_long);
        }
        let choices = chunk.list("choices");
        let known =
            ["choices", "usage", "error", "id", "object"].iter().any(|name| chunk.raw(name).is_some());
        if !known {
            return None;
        }
        for (known, name) in [
            (&mut self.id, "id"),
            (&mut self.model, "model"),
            (&mut self.service_tier, "service_tier"),
            (&mut self.system_fingerprint, "system_fingerprint"),
        ] {
            // Filters put chunks in between that name neither.
            if known.is_none() {
                *known = chunk
                    .text(name)
                    .filter(|text| text.len() <= MAX_NAME_BYTES)
                    .map(|text| text.into_owned());
            }
        }
        if self.created.is_none() {
            self.created = chunk.number("created").and_then(|number| field::seconds(&json!(number)));
        }
        let groq = chunk.object("x_groq");
        if let Some(usage) = chunk.raw("usage").or_else(|| groq?.raw("usage")) {
            self.note_usage(usage);
        }
        let mut brought_output = false;
        for (place, choice) in choices.into_iter().enumerate() {
            let Some(choice) = Object::parse(choice.get()) else { continue };
            if let Some(usage) = choice.raw("usage") {
                self.note_usage(usage);
            }
            let index = choice.count("index").unwrap_or(place as u64);
            brought_output |= self.push_choice(index, &choice);
        }
        Some(brought_output)
    }

    fn push_choice(&mut self, index: u64, choice: &Object<'_>) -> bool {
        let place = match self.choices.binary_search_by_key(&index, Choice::index) {
            Ok(place) => place,
            Err(_) if self.choices.len() >= MAX_CHOICES => {
                self.room.overflow();
                return false;
            }
            Err(place) => {
                self.choices.insert(place, Choice::new(index));
                place
            }
        };
        self.choices[place].push(choice, &mut self.room)
    }

    /// Token counts may stand in any chunk; the last ones count.
    fn note_usage(&mut self, usage: &RawValue) {
        let told = usage.get().starts_with('{') && usage.get().len() > "{}".len();
        if let Some(usage) = kept(usage).filter(|_| told) {
            self.usage = Some(usage);
        }
    }

    /// How many bytes are held of it.
    pub(super) fn held_bytes(&self) -> usize {
        self.room.taken()
    }

    /// Lets go of what it says; it counts as left out.
    pub(super) fn let_go(&mut self) {
        self.choices = Vec::new();
        self.room = Room::none();
    }

    /// The API's id.
    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The model that answered, in the API's words.
    pub(super) fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Seconds since the epoch, by the API's clock.
    pub(super) fn created(&self) -> Option<f64> {
        self.created
    }

    /// Token counts as the API gave them.
    pub(super) fn usage(&self) -> Option<&RawValue> {
        self.usage.as_deref()
    }

    /// An error told in place of an answer, or in the middle of one.
    pub(super) fn error(&self) -> Option<&RawValue> {
        self.error.as_deref()
    }

    /// The choices, by index.
    pub(super) fn choices(&self) -> &[Choice] {
        &self.choices
    }

    /// Whether there is nothing that tells of an answer.
    pub(super) fn is_empty(&self) -> bool {
        self.choices.is_empty() && self.error.is_none()
    }

    /// Whether every choice was seen to its end.
    pub(super) fn is_finished(&self) -> bool {
        !self.choices.is_empty() && self.choices.iter().all(|choice| choice.finish_reason().is_some())
    }

    /// Whether something was left out for want of room.
    pub(super) fn overflowed(&self) -> bool {
        self.room.overflowed()
    }

    /// The answer as the API gives it to whom it does not stream.
    pub(super) fn to_json(&self) -> Value {
        let mut answer = Map::new();
        let mut put = |name: &str, value: Value| answer.insert(name.to_owned(), value);
        put("id", json!(self.id));
        put("object", json!("chat.completion"));
        #[expect(clippy::cast_possible_truncation, reason = "seconds since the epoch")]
        put("created", json!(self.created.map(|seconds| seconds as i64)));
        put("model", json!(self.model));
        put("choices", self.choices.iter().map(Choice::to_json).collect());
        if let Some(usage) = self.usage.as_ref().and_then(|usage| serde_json::from_str(usage.get()).ok()) {
            put("usage", usage);
        }
        if let Some(tier) = &self.service_tier {
            put("service_tier", json!(tier));
        }
        put("system_fingerprint", json!(self.system_fingerprint));
        Value::Object(answer)
    }
}

fn kept(value: &RawValue) -> Option<Box<RawValue>> {
    (value.get().len() <= MAX_RAW_BYTES).then(|| value.to_owned())
}

/// An error, as the API or one of its clones tells it.
fn error<'a>(chunk: &Object<'a>) -> Option<&'a RawValue> {
    if let Some(error) = chunk.raw("error") {
        return Some(error);
    }
    (chunk.text("object").as_deref() == Some("error")).then(|| chunk.raw("message")).flatten()
}

/// The API's own limit for `n`.
const MAX_CHOICES: usize = 128;
/// Longest id kept; a gateway's has some 400 characters.
const MAX_NAME_BYTES: usize = 4096;
/// Usage and errors have at most a few kilobytes.
const MAX_RAW_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests;
