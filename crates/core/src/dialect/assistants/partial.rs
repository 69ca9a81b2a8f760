//! Messages and steps that are put together from streamed pieces because the whole has not arrived.
//!
//! Pieces are joined in the order they arrive, whatever index they have: some servers increase the
//! index with every token.

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::object;
use crate::dialect::{clean, field};
use crate::message::{Message, MessageStatus};
use crate::observation::Step;

/// A message so far.
#[derive(Debug)]
pub(super) struct PartialMessage {
    pub(super) id: String,
    parts: Vec<Part>,
    bytes: usize,
}

#[derive(Debug)]
enum Part {
    Image(Box<RawValue>),
    Refusal(String),
    Text { value: String, annotations: Vec<Box<RawValue>> },
}

impl PartialMessage {
    pub(super) fn new(id: &str) -> Self {
        Self { id: id.to_owned(), parts: Vec::new(), bytes: 0 }
    }

    /// How many bytes of it are held.
    pub(super) fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.bytes
    }

    pub(super) fn push_text(&mut self, text: &str) {
        if text.is_empty() || !self.has_room(text.len()) {
            return;
        }
        match self.parts.last_mut() {
            Some(Part::Text { value, .. }) => value.push_str(text),
            _ => self.parts.push(Part::Text { value: text.to_owned(), annotations: Vec::new() }),
        }
    }

    pub(super) fn push_annotation(&mut self, annotation: &RawValue) {
        if !self.has_room(annotation.get().len()) {
            return;
        }
        if let Some(Part::Text { annotations, .. }) = self.parts.last_mut() {
            annotations.push(annotation.to_owned());
        }
    }

    pub(super) fn push_refusal(&mut self, text: &str) {
        if text.is_empty() || !self.has_room(text.len()) {
            return;
        }
        match self.parts.last_mut() {
            Some(Part::Refusal(refusal)) => refusal.push_str(text),
            _ => self.parts.push(Part::Refusal(text.to_owned())),
        }
    }

    /// Adds a part of another kind: an image, which arrives whole.
    pub(super) fn push_image(&mut self, part: &RawValue) {
        if self.has_room(part.get().len()) {
            self.parts.push(Part::Image(part.to_owned()));
        }
    }

    /// The message. None if it has no content yet.
    pub(super) fn into_message(self, thread: &str, run: &str, status: MessageStatus) -> Option<Message> {
        if self.parts.is_empty() {
            return None;
        }
        let part = |part: Part| match part {
            Part::Image(part) => serde_json::from_str(part.get()).unwrap_or_default(),
            Part::Refusal(refusal) => json!({"type": "refusal", "refusal": refusal}),
            Part::Text { value, annotations } => {
                json!({"type": "text", "text": {"value": value, "annotations": annotations}})
            }
        };
        let content: Value = self.parts.into_iter().map(part).collect();
        object::partial_message(thread, run, &self.id, &content, status)
    }

    fn has_room(&mut self, bytes: usize) -> bool {
        let room = self.bytes + bytes <= MAX_BYTES && self.parts.len() < MAX_PARTS;
        if room {
            self.bytes += bytes;
        }
        room
    }
}

/// The tool calls of a step so far.
#[derive(Debug)]
pub(super) struct PartialStep {
    pub(super) id: String,
    calls: Vec<(u64, Value)>,
    bytes: usize,
}

impl PartialStep {
    pub(super) fn new(id: &str) -> Self {
        Self { id: id.to_owned(), calls: Vec::new(), bytes: 0 }
    }

    /// How many bytes of it are held.
    pub(super) fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.bytes
    }

    /// Adds the `tool_calls` of a `thread.run.step.delta`.
    pub(super) fn push(&mut self, calls: &Value) {
        let bytes = clean::tree_bytes(calls);
        if self.bytes + bytes > MAX_BYTES {
            return;
        }
        self.bytes += bytes;
        for (place, piece) in calls.as_array().into_iter().flatten().enumerate() {
            let index = piece["index"].as_u64().unwrap_or(place as u64);
            match self.calls.iter().position(|(known, _)| *known == index) {
                Some(known) => extend(&mut self.calls[known].1, piece),
                None if self.calls.len() < MAX_PARTS => self.calls.push((index, piece.clone())),
                None => {}
            }
        }
    }

    /// The step. None if there is nothing to report yet.
    pub(super) fn into_step(self, run: &str) -> Option<Step> {
        let Self { id, calls, bytes: _ } = self;
        let calls = calls.into_iter().filter_map(|(index, mut call)| {
            // Some servers do not give calls an id.
            if field::id(&call["id"]).is_none() {
                call["id"] = json!(format!("{id}#{index}"));
            }
            object::tool_call(&call)
        });
        let tool_calls: Vec<_> = calls.collect();
        (!tool_calls.is_empty()).then(|| Step {
            id: id.clone(),
            run: run.to_owned(),
            message: None,
            tool_calls,
        })
    }
}

/// Adds a piece of a tool call to the known part. Text is appended, lists are extended, everything
/// else keeps the latest value.
fn extend(known: &mut Value, piece: &Value) {
    match (known, piece) {
        (Value::Object(known), Value::Object(piece)) => {
            for (name, piece) in piece {
                match known.get_mut(name) {
                    Some(Value::String(text)) if GROWING.contains(&name.as_str()) => {
                        text.push_str(piece.as_str().unwrap_or_default());
                    }
                    Some(known @ (Value::Object(_) | Value::Array(_))) => extend(known, piece),
                    Some(Value::Null) | None => {
                        known.insert(name.clone(), piece.clone());
                    }
                    Some(_) => {}
                }
            }
        }
        (Value::Array(known), Value::Array(piece)) => known.extend(piece.iter().cloned()),
        _ => {}
    }
}

/// The fields that come in pieces.
const GROWING: [&str; 4] = ["arguments", "input", "logs", "output"];
/// How much is kept of text that never arrived as a whole. The API's own limit for a message is
/// 256,000 characters.
const MAX_BYTES: usize = 1 << 20;
const MAX_PARTS: usize = 1024;
