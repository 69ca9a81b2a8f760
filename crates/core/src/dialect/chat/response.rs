//! A response, put together from its chunks. A response that was not streamed is one chunk.
//!
//! It uses memory for the kept part of the response, which is bounded. Memory does not grow with
//! the length of the stream.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use super::choice::Choice;
use super::room::Room;
use crate::dialect::field;
use crate::dialect::object::Object;

/// A response so far.
#[derive(Debug, Default)]
pub(super) struct Response {
    id: Option<String>,
    created: Option<f64>,
    model: Option<String>,
    service_tier: Option<String>,
    system_fingerprint: Option<String>,
    /// By index.
    choices: Vec<Choice>,
    usage: Option<Box<RawValue>>,
    error: Option<Box<RawValue>>,
    /// Members specific to the vendor.
    others: Vec<(String, Box<RawValue>)>,
    /// Whether anything was seen that only a response has.
    told: bool,
    room: Room,
}

impl Response {
    /// Takes a chunk. Returns none if it is not a chunk, else whether it had any output.
    pub(super) fn push(&mut self, chunk: &Object<'_>) -> Option<bool> {
        if !chunk.has("choices")
            && let Some(wrapped) = chunk.object("data").filter(|data| data.has("choices"))
        {
            return self.push(&wrapped);
        }
        if let Some(error) = error(chunk) {
            self.note_error(error);
        }
        let named = chunk.text("object").is_some_and(|object| object.starts_with("chat.completion"));
        self.told |= named || self.error.is_some() || chunk.has("choices") || chunk.raw("usage").is_some();
        if !self.told && chunk.raw("id").is_none() && chunk.raw("object").is_none() {
            return None;
        }
        for (known, name) in [
            (&mut self.id, "id"),
            (&mut self.model, "model"),
            (&mut self.service_tier, "service_tier"),
            (&mut self.system_fingerprint, "system_fingerprint"),
        ] {
            // Filters insert chunks that have neither.
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
        for (name, value) in chunk.members() {
            self.note_other(name, value);
        }
        let groq = chunk.object("x_groq");
        if let Some(usage) = chunk.raw("usage").or_else(|| groq?.raw("usage")) {
            self.note_usage(usage);
        }
        let mut brought_output = false;
        let choices = chunk.list("choices");
        if choices.is_empty() && chunk.raw("choices").is_some_and(|choices| !choices.get().starts_with('[')) {
            // It may contain output in an unknown form.
            self.room.miss();
        }
        for (place, choice) in choices.into_iter().enumerate() {
            let Some(choice) = Object::parse(choice.get()) else {
                self.room.miss();
                continue;
            };
            if let Some(usage) = choice.raw("usage") {
                self.note_usage(usage);
            }
            if let Some(error) = choice.raw("error").filter(|error| tells(error)) {
                self.note_error(error);
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

    /// Keeps the latest value of a vendor-specific member, for example `citations` and
    /// `search_results` of Perplexity.
    fn note_other(&mut self, name: &str, value: &RawValue) {
        if KNOWN.contains(&name) || value.get() == "null" {
            return;
        }
        let bytes = name.len() + value.get().len();
        let room = self.others.len() < MAX_OTHERS;
        match self.others.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) if known.get() == value.get() => {}
            Some((_, known)) if bytes <= MAX_OTHER_BYTES => *known = value.to_owned(),
            None if bytes <= MAX_OTHER_BYTES && room => {
                self.others.push((name.to_owned(), value.to_owned()));
            }
            _ => {}
        }
    }

    fn note_error(&mut self, error: &RawValue) {
        let too_long = || to_raw_value("an error that is too long to be kept").ok();
        self.error = kept(error).or_else(too_long);
    }

    /// Token counts may be in any chunk. The last ones count.
    fn note_usage(&mut self, usage: &RawValue) {
        let told = usage.get().starts_with('{') && usage.get().len() > "{}".len();
        if let Some(usage) = kept(usage).filter(|_| told) {
            self.usage = Some(usage);
        }
    }

    /// How many bytes of it are held.
    pub(super) fn held_bytes(&self) -> usize {
        self.room.taken() + self.choices.iter().map(Choice::held_bytes).sum::<usize>()
    }

    /// Drops its content, which then counts as left out.
    pub(super) fn let_go(&mut self) {
        self.choices = Vec::new();
        self.room = Room::none();
    }

    /// The API's id.
    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The model that produced the response, in the API's words.
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

    /// An error in place of a response, or in the middle of one.
    pub(super) fn error(&self) -> Option<&RawValue> {
        self.error.as_deref()
    }

    /// The choices, by index.
    pub(super) fn choices(&self) -> &[Choice] {
        &self.choices
    }

    /// Whether nothing shows that there is a response.
    pub(super) fn is_empty(&self) -> bool {
        !self.told
    }

    /// Whether every choice was seen to its end.
    pub(super) fn is_finished(&self) -> bool {
        !self.choices.is_empty() && self.choices.iter().all(|choice| choice.finish_reason().is_some())
    }

    /// Whether something was left out because there was no room, or could not be read.
    pub(super) fn is_incomplete(&self) -> bool {
        self.room.is_incomplete()
    }

    /// The response in the form that is not streamed.
    pub(super) fn to_json(&self) -> Option<Box<RawValue>> {
        to_raw_value(&WholeResponse(self)).ok()
    }
}

/// A response in the form that is not streamed. It is written without a tree, because log
/// probabilities are long.
struct WholeResponse<'a>(&'a Response);

impl Serialize for WholeResponse<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let response = self.0;
        let mut members = serializer.serialize_map(None)?;
        members.serialize_entry("id", &response.id)?;
        members.serialize_entry("object", "chat.completion")?;
        #[expect(clippy::cast_possible_truncation, reason = "seconds since the epoch")]
        members.serialize_entry("created", &response.created.map(|seconds| seconds as i64))?;
        members.serialize_entry("model", &response.model)?;
        let choices: Vec<_> = response.choices.iter().map(Choice::to_json).collect();
        members.serialize_entry("choices", &choices)?;
        if let Some(usage) = &response.usage {
            members.serialize_entry("usage", usage)?;
        }
        if let Some(tier) = &response.service_tier {
            members.serialize_entry("service_tier", tier)?;
        }
        members.serialize_entry("system_fingerprint", &response.system_fingerprint)?;
        for (name, value) in &response.others {
            members.serialize_entry(name, value)?;
        }
        members.end()
    }
}

fn kept(value: &RawValue) -> Option<Box<RawValue>> {
    (value.get().len() <= MAX_RAW_BYTES).then(|| value.to_owned())
}

/// An error in the form of the API or one of its clones: OpenAI's own form, `x_groq.error` (Groq),
/// `object: "error"` (vLLM), `base_resp` with a code that is not 0 (MiniMax).
fn error<'a>(chunk: &Object<'a>) -> Option<&'a RawValue> {
    let own = || chunk.raw("error").filter(|error| tells(error));
    let groq = || chunk.object("x_groq")?.raw("error").filter(|error| tells(error));
    let named = || chunk.raw("message").filter(|_| chunk.text("object").as_deref() == Some("error"));
    let minimax = || {
        let failed = chunk.object("base_resp")?.number("status_code")? != 0.0;
        chunk.raw("base_resp").filter(|_| failed)
    };
    own().or_else(groq).or_else(named).or_else(minimax)
}

/// Whether an error has any content. Some servers have the member in each chunk.
fn tells(error: &RawValue) -> bool {
    !matches!(error.get(), "\"\"" | "0" | "[]" | "false" | "{}")
}

/// The members of a chunk that are handled separately, and one that is only padding to hide the
/// length of the others.
const KNOWN: [&str; 10] = [
    "choices",
    "created",
    "error",
    "id",
    "model",
    "obfuscation",
    "object",
    "service_tier",
    "system_fingerprint",
    "usage",
];
/// More than any vendor adds.
const MAX_OTHERS: usize = 16;
const MAX_OTHER_BYTES: usize = 16 << 10;
/// The API's own limit for `n`.
const MAX_CHOICES: usize = 128;
/// Longest id that is kept. A gateway's id has some 400 characters.
const MAX_NAME_BYTES: usize = 4096;
/// Usage and errors have at most a few kilobytes.
const MAX_RAW_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests;
