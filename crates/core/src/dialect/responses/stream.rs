//! What one event stream of a response has shown so far.
//!
//! Items are put together from their pieces. They are reported only if the response's final event
//! does not have them: the stream ended early, or the server leaves them out. A whole item takes
//! precedence over whole texts, and whole texts over pieces. Memory is bounded.

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::event::Event;
use super::item;
use super::object::Outputs;
use crate::dialect::clean::{self, Files};
use crate::observation::Run;
use crate::time::UnixMillis;

/// The state of a stream.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// The response, as it was last reported.
    pub(super) run: Option<Run>,
    pub(super) first_token_at: Option<UnixMillis>,
    pub(super) error: Option<Box<RawValue>>,
    /// Whether the stream is read only after it is over. Then the times of its pieces are not
    /// known.
    pub(super) late: bool,
    /// Items, ordered by position.
    items: Vec<Item>,
    bytes: usize,
    /// Whether something was left out because there was no room.
    full: bool,
}

/// An item so far.
#[derive(Debug)]
struct Item {
    place: u64,
    id: String,
    /// The item as it started, or the complete item.
    object: Value,
    done: bool,
    /// Parts of its content or its summary, or the one text of a call, by their index.
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    index: u64,
    kind: PartKind,
    text: String,
    annotations: Vec<Value>,
}

/// Where a text belongs in its item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PartKind {
    Arguments,
    Code,
    Input,
    OutputText,
    ReasoningText,
    Refusal,
    Summary,
}

impl PartKind {
    /// The kind, from the part of an event's name before `.delta` or `.done`.
    fn of(subject: &str) -> Option<Self> {
        Some(match subject.strip_prefix("response.").unwrap_or(subject) {
            "code_interpreter_call_code" | "code_interpreter_call.code" => Self::Code,
            "custom_tool_call_input" => Self::Input,
            "function_call_arguments" | "mcp_call_arguments" | "mcp_call.arguments" => Self::Arguments,
            "output_text" => Self::OutputText,
            "reasoning_summary_text" => Self::Summary,
            "reasoning_text" => Self::ReasoningText,
            "refusal" => Self::Refusal,
            _ => return None,
        })
    }

    /// The member that holds the whole text, if the item itself has one.
    fn member(self) -> Option<&'static str> {
        match self {
            Self::Arguments => Some("arguments"),
            Self::Code => Some("code"),
            Self::Input => Some("input"),
            Self::OutputText | Self::ReasoningText | Self::Refusal | Self::Summary => None,
        }
    }

    /// The text of this kind in an item.
    fn text_of(self, item: &Value) -> Option<&str> {
        Some(item[self.member()?].as_str().unwrap_or_default())
    }

    /// The kind of item it belongs to, if the start of the item was not seen.
    fn of_item(self) -> &'static str {
        match self {
            Self::Arguments => "function_call",
            Self::Code => "code_interpreter_call",
            Self::Input => "custom_tool_call",
            Self::OutputText | Self::Refusal => "message",
            Self::ReasoningText | Self::Summary => "reasoning",
        }
    }
}

impl Stream {
    /// Takes an event about a piece of the output. Returns whether it was one.
    pub(super) fn take_piece(&mut self, kind: &str, event: &Event<'_>, at: UnixMillis) -> bool {
        if let Some(part) = kind.strip_suffix(".delta").and_then(PartKind::of) {
            let text = event.delta().unwrap_or_default();
            self.note_text(part, &text, at);
            if let Some(part) = self.part(event, part, text.len(), false) {
                part.text.push_str(&text);
            }
            return true;
        }
        if let Some(part) = kind.strip_suffix(".done").and_then(PartKind::of) {
            if let Some(text) = event.whole() {
                self.note_text(part, &text, at);
                if let Some(part) = self.part(event, part, text.len(), true) {
                    part.text = text.into_owned();
                }
            }
            return true;
        }
        match kind {
            "response.output_item.added" => self.item(event, false),
            "response.output_item.done" => self.item(event, true),
            "response.output_text.annotation.added" => {
                if let Some(annotation) = event.annotation()
                    && let Some(part) =
                        self.part(event, PartKind::OutputText, clean::tree_bytes(&annotation), false)
                {
                    part.annotations.push(annotation);
                }
            }
            // The events of the text contain the same content.
            "response.content_part.added" => {}
            "response.content_part.done" => {
                if let Some(part) = event.part() {
                    self.content_part(event, &part);
                }
            }
            _ => return kind.ends_with(".delta"),
        }
        true
    }

    /// Whether any of the output was seen.
    pub(super) fn has_items(&self) -> bool {
        !self.items.is_empty()
    }

    /// How many bytes of the output are held.
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes
    }

    /// Drops the output, which then counts as left out.
    pub(super) fn let_go(&mut self) {
        (self.items, self.bytes, self.full) = (Vec::new(), MAX_BYTES, true);
    }

    /// Whether anything of a response was reported.
    pub(super) fn has_told(&self) -> bool {
        self.has_items() || self.error.is_some()
    }

    /// Whether all pieces that were seen are kept.
    pub(super) fn is_whole(&self) -> bool {
        !self.full
    }

    /// Notes an `error` event: `{message, …}`, or the same under `error`.
    pub(super) fn note_error(&mut self, event: &Event<'_>, data: &str) {
        let error = event.error().map(RawValue::get).unwrap_or(data);
        self.error = clean::kept(error, Files::Kept).filter(|error| error.get().len() <= MAX_ERROR_BYTES);
    }

    /// The output so far. `finished` says whether nothing more will come.
    pub(super) fn take_outputs(&mut self, run: &str, finished: bool) -> Outputs {
        let mut outputs = Outputs::default();
        for item in std::mem::take(&mut self.items) {
            // A message that only started has nothing to report.
            let begun = !item.done && item.parts.is_empty();
            let empty = item.object["content"].as_array().is_none_or(Vec::is_empty);
            if begun && empty && item::kind(&item.object) == "message" {
                continue;
            }
            let place = item.place;
            outputs.push(item.into_object(finished), run, place);
        }
        outputs
    }

    /// Notes when the first text arrived that a user sees.
    fn note_text(&mut self, part: PartKind, text: &str, at: UnixMillis) {
        if matches!(part, PartKind::OutputText | PartKind::Refusal) && !text.is_empty() && !self.late {
            self.first_token_at.get_or_insert(at);
        }
    }

    fn item(&mut self, event: &Event<'_>, done: bool) {
        let Some(object) = event.item().filter(Value::is_object) else { return };
        let bytes = clean::tree_bytes(&object);
        let id = object["id"].as_str().unwrap_or_default().to_owned();
        let place = event.output_index();
        if let Some(item) = self.find_or_add(place, &id, item::kind(&object), bytes, false)
            && (done || !item.done)
        {
            item.object = object;
            item.done = done;
            if done {
                // llama.cpp leaves out of the whole item what it sent before.
                item.parts.retain(|part| part.kind.text_of(&item.object).is_some_and(str::is_empty));
            }
        }
    }

    fn content_part(&mut self, event: &Event<'_>, part: &Value) {
        let (kind, name) = match part["type"].as_str() {
            Some("output_text") => (PartKind::OutputText, "text"),
            Some("refusal") => (PartKind::Refusal, "refusal"),
            Some("reasoning_text") => (PartKind::ReasoningText, "text"),
            _ => return,
        };
        let text = part[name].as_str().unwrap_or_default();
        let annotations = part["annotations"].as_array();
        let bytes = text.len() + annotations.map_or(0, |all| all.iter().map(clean::tree_bytes).sum());
        if let Some(known) = self.part(event, kind, bytes, true) {
            known.text = text.to_owned();
            known.annotations = annotations.cloned().unwrap_or_default();
        }
    }

    fn part(&mut self, event: &Event<'_>, kind: PartKind, bytes: usize, whole: bool) -> Option<&mut Part> {
        let (index, id) = (event.part_index(), event.item_id().unwrap_or_default());
        let item = self.find_or_add(event.output_index(), &id, kind.of_item(), bytes, whole)?;
        if item.done {
            return None;
        }
        let at = match item.parts.iter().position(|part| part.index == index && part.kind == kind) {
            Some(at) => at,
            None if item.parts.len() >= MAX_PARTS => return None,
            None => {
                let (text, annotations) = (String::new(), Vec::new());
                item.parts.push(Part { index, kind, text, annotations });
                item.parts.len() - 1
            }
        };
        Some(&mut item.parts[at])
    }

    /// The item with an id, else at a position, else the latest of its kind. Adds a new one if
    /// there is room. A `whole` text without id and position belongs to the first item that has no
    /// text yet.
    fn find_or_add(
        &mut self,
        place: Option<u64>,
        id: &str,
        kind: &str,
        bytes: usize,
        whole: bool,
    ) -> Option<&mut Item> {
        if self.bytes + bytes > MAX_BYTES {
            self.full = true;
            return None;
        }
        self.bytes += bytes;
        let by_id = || self.items.iter().position(|item| !id.is_empty() && item.id == id);
        let by_place = || {
            let same = |item: &Item| Some(item.place) == place && (id.is_empty() || item.id.is_empty());
            self.items.iter().position(same)
        };
        let latest = || {
            let open = |item: &Item| !item.done && item::kind(&item.object) == kind;
            let first = self.items.iter().position(|item| whole && open(item) && item.parts.is_empty());
            first.or_else(|| self.items.iter().rposition(open)).filter(|_| place.is_none() && id.is_empty())
        };
        if let Some(at) = by_id().or_else(by_place).or_else(latest) {
            let item = &mut self.items[at];
            if item.id.is_empty() {
                id.clone_into(&mut item.id);
            }
            return Some(item);
        }
        if self.items.len() >= MAX_ITEMS {
            self.full = true;
            return None;
        }
        let next = || self.items.last().map_or(0, |last| last.place.saturating_add(1));
        let place = place.unwrap_or_else(next);
        let at = self.items.partition_point(|item| item.place <= place);
        let object = json!({ "type": kind });
        self.items.insert(at, Item { place, id: id.to_owned(), object, done: false, parts: Vec::new() });
        Some(&mut self.items[at])
    }
}

impl Item {
    /// The item, with the texts that were seen for it.
    fn into_object(self, finished: bool) -> Value {
        let Self { place: _, id, mut object, done, mut parts } = self;
        if !done {
            object["status"] = if finished { "completed" } else { "in_progress" }.into();
        }
        if object["id"].as_str().is_none_or(str::is_empty) && !id.is_empty() {
            object["id"] = id.into();
        }
        parts.sort_by_key(|part| part.index);
        let (mut content, mut summary) = (Vec::new(), Vec::new());
        for Part { index: _, kind, text, annotations } in parts {
            match kind {
                PartKind::Arguments | PartKind::Code | PartKind::Input => {
                    if let Some(member) = kind.member() {
                        object[member] = text.into();
                    }
                }
                PartKind::OutputText => {
                    content.push(json!({"type": "output_text", "text": text, "annotations": annotations}));
                }
                PartKind::ReasoningText => content.push(json!({"type": "reasoning_text", "text": text})),
                PartKind::Refusal => content.push(json!({"type": "refusal", "refusal": text})),
                PartKind::Summary => summary.push(json!({"type": "summary_text", "text": text})),
            }
        }
        if !content.is_empty() {
            object["content"] = content.into();
        }
        if !summary.is_empty() {
            object["summary"] = summary.into();
        }
        object
    }
}

/// How much is kept of a stream's pieces: more than any model writes in one response.
const MAX_BYTES: usize = 8 << 20;
const MAX_ITEMS: usize = 1024;
const MAX_PARTS: usize = 1024;
const MAX_ERROR_BYTES: usize = 64 << 10;
