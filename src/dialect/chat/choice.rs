//! One choice of an answer, put together from its pieces; a whole message is one piece.

use std::borrow::Cow;

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::audio::Audio;
use super::call::{Call, Calls};
use super::object::{self, Object};
use super::room::Room;
use crate::dialect::inline;
use crate::observation::ToolCall;

/// A choice so far.
#[derive(Debug)]
pub(super) struct Choice {
    index: u64,
    content: Option<String>,
    reasoning: String,
    refusal: String,
    /// Parts that are neither text nor a refusal: pictures, for one.
    others: Vec<Value>,
    annotations: Vec<Value>,
    audio: Option<Audio>,
    calls: Calls,
    function_call: Option<Call>,
    finish_reason: Option<String>,
}

impl Choice {
    pub(super) fn new(index: u64) -> Self {
        Self {
            index,
            content: None,
            reasoning: String::new(),
            refusal: String::new(),
            others: Vec::new(),
            annotations: Vec::new(),
            audio: None,
            calls: Calls::default(),
            function_call: None,
            finish_reason: None,
        }
    }

    /// Takes what a chunk or an answer has of this choice. Tells whether it brought any output.
    pub(super) fn push(&mut self, piece: &Object<'_>, room: &mut Room) -> bool {
        if let Some(reason) = piece.text("finish_reason").filter(|reason| reason.len() <= MAX_REASON_BYTES) {
            self.finish_reason = Some(reason.into_owned());
        }
        if let Some(delta) = piece.object("delta") {
            return self.push_message(&delta, room);
        }
        // Chunks that only tell of a filter have neither.
        let Some(message) = piece.object("message") else { return false };
        // Some servers end a stream with the whole message: it says again what its pieces said.
        let finish_reason = self.finish_reason.take();
        *self = Self { finish_reason, ..Self::new(self.index) };
        self.push_message(&message, room)
    }

    fn push_message(&mut self, message: &Object<'_>, room: &mut Room) -> bool {
        let before = self.length();
        if let Some(content) = message.raw("content") {
            self.push_content(content, room);
        }
        // Servers that give it under both names say the same twice.
        if let Some(reasoning) = ["reasoning_content", "reasoning"].iter().find_map(|name| message.text(name))
        {
            room.append(&mut self.reasoning, &reasoning);
        }
        if let Some(refusal) = message.text("refusal") {
            room.append(&mut self.refusal, &refusal);
        }
        for image in message.list("images") {
            self.push_other(image, room);
        }
        for annotation in message.list("annotations") {
            if let Ok(value) = serde_json::from_str(annotation.get())
                && room.take(annotation.get().len())
            {
                self.annotations.push(value);
            }
        }
        if let Some(audio) = message.object("audio") {
            self.audio.get_or_insert_default().push(&audio, room);
        }
        for (place, call) in message.list("tool_calls").into_iter().enumerate() {
            if let Some(call) = Object::parse(call.get()) {
                self.calls.push(&call, place, room);
            }
        }
        if let Some(call) = message.object("function_call") {
            self.function_call.get_or_insert_default().push(&call, call.text("name").as_deref(), room);
        }
        self.length() > before
    }

    /// Content is a string, or parts as in a request (Mistral's models that think aloud give them in pieces too).
    fn push_content(&mut self, content: &RawValue, room: &mut Room) {
        if let Some(text) = object::text(content) {
            return room.append(self.content.get_or_insert_default(), &text);
        }
        let Ok(parts) = serde_json::from_str::<Vec<&RawValue>>(content.get()) else { return };
        for raw in parts {
            let Some(part) = Object::parse(raw.get()) else { continue };
            match part.text("type").as_deref() {
                Some("text" | "output_text") => {
                    let text = part.text("text").unwrap_or_default();
                    room.append(self.content.get_or_insert_default(), &text);
                }
                Some("refusal") => {
                    room.append(&mut self.refusal, &part.text("refusal").unwrap_or_default());
                }
                Some(kind @ ("thinking" | "reasoning")) => {
                    for thought in thoughts(&part, kind) {
                        room.append(&mut self.reasoning, &thought);
                    }
                }
                _ => self.push_other(raw, room),
            }
        }
    }

    fn push_other(&mut self, part: &RawValue, room: &mut Room) {
        let Ok(mut part) = serde_json::from_str::<Value>(part.get()) else { return };
        inline::shorten(&mut part);
        if self.others.len() < MAX_OTHERS && room.take(part.to_string().len()) {
            self.others.push(part);
        } else {
            room.overflow();
        }
    }

    /// How much there is of it.
    fn length(&self) -> usize {
        let audio = self.audio.as_ref().map_or(0, |audio| audio.transcript().len());
        let text = self.content.as_ref().map_or(0, String::len);
        text + self.refusal.len() + self.others.len() + audio
    }

    /// Its place in the answer.
    pub(super) fn index(&self) -> u64 {
        self.index
    }

    /// How the API says it ended.
    pub(super) fn finish_reason(&self) -> Option<&str> {
        self.finish_reason.as_deref()
    }

    /// Whether the API cut it short.
    pub(super) fn is_cut_short(&self) -> bool {
        self.finish_reason().is_some_and(|reason| CUT_SHORT.contains(&reason))
    }

    /// What was told of the model's thinking.
    pub(super) fn reasoning(&self) -> &str {
        &self.reasoning
    }

    /// The content in the shape a record's message has.
    pub(super) fn parts(&self) -> Vec<Value> {
        let mut parts = Vec::new();
        if let Some(text) = self.content.as_deref().filter(|text| !text.is_empty()) {
            parts.push(json!({"type": "text", "text": {"value": text, "annotations": self.annotations}}));
        }
        if !self.refusal.is_empty() {
            parts.push(json!({"type": "refusal", "refusal": self.refusal}));
        }
        parts.extend(self.others.iter().cloned());
        if let Some(audio) = &self.audio {
            parts.push(json!({"type": "audio", "audio": audio.to_json()}));
        }
        parts
    }

    /// The choice as an answer of the API that was not streamed has it.
    pub(super) fn to_json(&self) -> Value {
        let mut message = Map::new();
        let mut put = |name: &str, value: Value| message.insert(name.to_owned(), value);
        put("role", json!("assistant"));
        let content = match (&self.content, &self.others[..]) {
            (content, []) => json!(content),
            (content, others) => {
                let text = content.iter().map(|text| json!({"type": "text", "text": text}));
                text.chain(others.iter().cloned()).collect()
            }
        };
        put("content", content);
        put("refusal", if self.refusal.is_empty() { Value::Null } else { json!(self.refusal) });
        if !self.reasoning.is_empty() {
            put("reasoning_content", json!(self.reasoning));
        }
        if !self.annotations.is_empty() {
            put("annotations", json!(self.annotations));
        }
        if let Some(audio) = &self.audio {
            put("audio", audio.to_json());
        }
        if !self.calls.is_empty() {
            put("tool_calls", self.calls.to_json());
        }
        if let Some(call) = &self.function_call {
            put("function_call", call.function());
        }
        json!({"index": self.index, "message": message, "logprobs": null, "finish_reason": self.finish_reason})
    }

    /// The function it calls in the form before tools.
    pub(super) fn called_function(&self) -> Option<&str> {
        self.function_call.as_ref().map(Call::name).filter(|name| !name.is_empty())
    }

    /// The tools it calls; `owner` names calls to which the server gave no id.
    pub(super) fn tool_calls(&self, owner: &str) -> Vec<ToolCall> {
        let owner = format!("{owner}#{}", self.index);
        let mut calls = self.calls.tool_calls(&owner);
        calls.extend(self.function_call.as_ref().map(|call| call.tool_call(&owner, calls.len())));
        calls
    }
}

/// The texts of a part in which a model thinks: one, or a list of parts.
fn thoughts<'a>(part: &Object<'a>, kind: &str) -> Vec<Cow<'a, str>> {
    if let Some(text) = part.text(kind).or_else(|| part.text("text")) {
        return vec![text];
    }
    let parts = part.list(kind).into_iter().filter_map(|part| Object::parse(part.get()));
    parts.filter_map(|part| part.text("text")).collect()
}

/// Reasons for which the API ends a choice before the model does.
const CUT_SHORT: [&str; 3] = ["content_filter", "length", "max_tokens"];
const MAX_REASON_BYTES: usize = 64;
/// Pictures and the like in one choice.
const MAX_OTHERS: usize = 64;
