//! One choice of a response, put together from its pieces. A whole message is one piece.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

use super::audio::Audio;
use super::call::{Call, Calls};
use super::finish::Finish;
use super::logprobs::Logprobs;
use super::reasoning_details::ReasoningDetails;
use super::room::Room;
use crate::dialect::history::Speech;
use crate::dialect::object::{self, Object};
use crate::dialect::{clean, inline};
use crate::message::{Message, MessageStatus, Role};
use crate::observation::ToolCall;

/// A choice so far.
#[derive(Debug)]
pub(super) struct Choice {
    index: u64,
    content: Option<String>,
    reasoning: String,
    refusal: String,
    /// Parts that are neither text nor a refusal, for example images.
    others: Vec<Value>,
    annotations: Vec<Value>,
    logprobs: Logprobs,
    /// The parts of the model's reasoning, for providers that send it in parts.
    reasoning_details: ReasoningDetails,
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
            logprobs: Logprobs::default(),
            reasoning_details: ReasoningDetails::default(),
            audio: None,
            calls: Calls::default(),
            function_call: None,
            finish_reason: None,
        }
    }

    /// Adds what a chunk or a response contains of this choice. Returns whether there was any
    /// output.
    pub(super) fn push(&mut self, piece: &Object<'_>, room: &mut Room) -> bool {
        if let Some(reason) = piece.raw("finish_reason") {
            self.note_finish_reason(reason);
        }
        let brought_output = self.push_piece(piece, room);
        if let Some(logprobs) = piece.raw("logprobs") {
            self.logprobs.push(logprobs);
        }
        brought_output
    }

    /// Keeps a reason in the API's words, cut if it is long. It does not replace a worse reason: a
    /// server that sends `length` and then `stop` did not undo the first one.
    fn note_finish_reason(&mut self, reason: &RawValue) {
        let text = object::text(reason).unwrap_or_else(|| Cow::Borrowed(reason.get()));
        let text: String = text.chars().take(MAX_REASON_CHARS).collect();
        if text.is_empty() || text == "null" || self.finish().is_some_and(|known| known > Finish::of(&text)) {
            return;
        }
        self.finish_reason = Some(text);
    }

    fn push_piece(&mut self, piece: &Object<'_>, room: &mut Room) -> bool {
        let before = self.length();
        for name in ["delta", "text"] {
            match piece.raw(name) {
                Some(text) if text.get().starts_with('"') => self.push_content(text, room),
                Some(delta) => match Object::parse(delta.get()) {
                    Some(delta) => self.push_message(&delta, room),
                    None => room.miss(),
                },
                None => {}
            }
        }
        let message = match piece.raw("message") {
            // Chunks that only report a filter have none.
            None => return self.length() > before,
            Some(message) => Object::parse(message.get()),
        };
        let Some(message) = message else {
            room.miss();
            return self.length() > before;
        };
        // Perplexity repeats the whole text so far next to each piece.
        if piece.raw("delta").is_some() && self.has_anything() {
            return self.length() > before;
        }
        // Some servers end a stream with the whole message. It repeats the pieces, or is empty.
        let mut whole = Self::new(self.index);
        whole.push_message(&message, room);
        if whole.has_anything() {
            whole.finish_reason = self.finish_reason.take();
            whole.logprobs = std::mem::take(&mut self.logprobs);
            *self = whole;
        }
        self.length() > before
    }

    fn push_message(&mut self, message: &Object<'_>, room: &mut Room) {
        if let Some(content) = message.raw("content") {
            self.push_content(content, room);
        }
        // Servers that send it under several names repeat the same text.
        let reasoning = ["reasoning_content", "reasoning"].iter().find_map(|name| message.text(name));
        if let Some(reasoning) = &reasoning {
            room.append(&mut self.reasoning, reasoning);
        }
        for detail in message.list("reasoning_details") {
            if let Some(text) = self.reasoning_details.push(detail).filter(|_| reasoning.is_none()) {
                room.append(&mut self.reasoning, &text);
            }
        }
        if let Some(refusal) = message.text("refusal") {
            room.append(&mut self.refusal, &refusal);
        }
        for image in message.list("images") {
            self.push_other(image, room);
        }
        for annotation in message.list("annotations") {
            if let Some((value, _)) = clean::tree(annotation.get())
                && room.take(clean::tree_bytes(&value))
            {
                self.annotations.push(value);
            }
        }
        if let Some(audio) = message.object("audio") {
            self.audio.get_or_insert_default().push(&audio, room);
        }
        if let Some(calls) = message.raw("tool_calls") {
            match calls.get().as_bytes().first() {
                Some(b'[') => {}
                Some(b'{') => self.push_call(calls, 0, room),
                _ => room.miss(),
            }
        }
        for (place, call) in message.list("tool_calls").into_iter().enumerate() {
            self.push_call(call, place, room);
        }
        if let Some(call) = message.object("function_call") {
            self.function_call.get_or_insert_default().push(&call, call.text("name").as_deref(), room);
        }
    }

    fn push_call(&mut self, call: &RawValue, place: usize, room: &mut Room) {
        match Object::parse(call.get()) {
            Some(call) => self.calls.push(&call, place, room),
            None => room.miss(),
        }
    }

    /// Content is a string, or parts as in a request. Mistral's reasoning models also stream parts
    /// in pieces.
    fn push_content(&mut self, content: &RawValue, room: &mut Room) {
        if let Some(text) = object::text(content) {
            return room.append(self.content.get_or_insert_default(), &text);
        }
        let parts = match content.get().as_bytes().first() {
            Some(b'{') => Ok(vec![content]),
            _ => serde_json::from_str::<Vec<&RawValue>>(content.get()),
        };
        let Ok(parts) = parts else { return room.miss() };
        for raw in parts {
            if let Some(text) = object::text(raw) {
                room.append(self.content.get_or_insert_default(), &text);
                continue;
            }
            let Some(part) = Object::parse(raw.get()) else {
                room.miss();
                continue;
            };
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
        let Some((mut part, _)) = clean::tree(part.get()) else { return };
        inline::shorten(&mut part);
        if self.others.len() < MAX_OTHERS && room.take(clean::tree_bytes(&part)) {
            self.others.push(part);
        } else {
            room.overflow();
        }
    }

    /// Whether it has any output, reasoning or calls.
    fn has_anything(&self) -> bool {
        let calls = !self.calls.is_empty() || self.function_call.is_some();
        self.length() > 0 || calls || !self.reasoning.is_empty() || self.audio.is_some()
    }

    /// The length of everything in it.
    fn length(&self) -> usize {
        let audio = self.audio.as_ref().map_or(0, |audio| audio.transcript().len());
        let text = self.content.as_ref().map_or(0, String::len);
        text + self.refusal.len() + self.others.len() + audio
    }

    /// How many bytes of it are held in addition to what is taken from the room.
    pub(super) fn held_bytes(&self) -> usize {
        self.logprobs.held_bytes() + self.reasoning_details.held_bytes()
    }

    /// Its index in the response.
    pub(super) fn index(&self) -> u64 {
        self.index
    }

    /// The API's reason for its end.
    pub(super) fn finish_reason(&self) -> Option<&str> {
        self.finish_reason.as_deref()
    }

    /// The meaning of the finish reason.
    pub(super) fn finish(&self) -> Option<Finish> {
        self.finish_reason().map(Finish::of)
    }

    /// The model's reasoning.
    pub(super) fn reasoning(&self) -> &str {
        &self.reasoning
    }

    /// Its output in the form of records. None if it only calls tools. `owner` is the response's
    /// id.
    pub(super) fn to_message(&self, owner: &str) -> Option<Message> {
        let content = self.parts();
        if content.is_empty() {
            return None;
        }
        let id = format!("{owner}#{}", self.index);
        let status = match self.finish() {
            None => MessageStatus::InProgress,
            Some(Finish::CutShort | Finish::Failed | Finish::Unknown) => MessageStatus::Incomplete,
            Some(Finish::Good) => MessageStatus::Completed,
        };
        let object = json!({
            "id": id,
            "object": "thread.message",
            "role": "assistant",
            "content": content,
            "finish_reason": self.finish_reason,
        });
        Some(Message {
            id: Some(id),
            role: Role::Assistant,
            status,
            created_at: None,
            run: None,
            object: to_raw_value(&object).ok()?,
        })
    }

    /// Adds it to what was said.
    pub(super) fn say(&self, speech: &mut Speech) {
        speech.answer(self.content.as_deref().unwrap_or_default());
        speech.say(&self.refusal);
        self.calls.say(speech);
        if let Some(call) = &self.function_call {
            call.say(speech);
        }
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

    /// The choice in the form of an API response that was not streamed.
    pub(super) fn to_json(&self) -> impl Serialize {
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
        if !self.reasoning_details.is_empty() {
            put("reasoning_details", self.reasoning_details.to_json());
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
        let (logprobs, finish_reason) = (self.logprobs.to_json(), self.finish_reason.as_deref());
        WholeChoice { index: self.index, message, logprobs, finish_reason }
    }

    /// The function it calls in the legacy form before tools.
    pub(super) fn called_function(&self) -> Option<&str> {
        self.function_call.as_ref().map(Call::name).filter(|name| !name.is_empty())
    }

    /// The tools it calls. `owner` is used to name calls that have no id from the server.
    pub(super) fn tool_calls(&self, owner: &str) -> Vec<ToolCall> {
        let owner = format!("{owner}#{}", self.index);
        let mut calls = self.calls.tool_calls(&owner);
        calls.extend(self.function_call.as_ref().map(|call| call.tool_call(&owner, calls.len())));
        calls
    }
}

/// A choice of a response that was not streamed.
#[derive(Serialize)]
struct WholeChoice<'a> {
    index: u64,
    message: Map<String, Value>,
    logprobs: Option<Box<RawValue>>,
    finish_reason: Option<&'a str>,
}

/// The texts of a part that holds reasoning: one text, or a list of parts.
fn thoughts<'a>(part: &Object<'a>, kind: &str) -> Vec<Cow<'a, str>> {
    if let Some(text) = part.text(kind).or_else(|| part.text("text")) {
        return vec![text];
    }
    let parts = part.list(kind).into_iter().filter_map(|part| Object::parse(part.get()));
    parts.filter_map(|part| part.text("text")).collect()
}

const MAX_REASON_CHARS: usize = 64;
/// Images and similar parts in one choice.
const MAX_OTHERS: usize = 64;
