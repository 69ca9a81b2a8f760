//! The parts of a model's reasoning, for providers that send it in parts (`reasoning_details`:
//! OpenRouter, MiniMax).
//!
//! Each piece repeats its frame, so the parts have their own limit. Beyond it they are left out.
//! The text of the reasoning is kept separately and stays.

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::dialect::clean;

/// The parts so far.
#[derive(Debug, Default)]
pub(super) struct ReasoningDetails {
    parts: Vec<Map<String, Value>>,
    bytes: usize,
}

impl ReasoningDetails {
    /// Adds a piece of a part, and returns its text. Pieces of one part have the same index and
    /// type.
    pub(super) fn push(&mut self, piece: &RawValue) -> Option<String> {
        let (Value::Object(piece), _) = clean::tree(piece.get())? else { return None };
        let text = TOLD.iter().find_map(|name| piece.get(*name)?.as_str()).map(str::to_owned);
        let same = |known: &&mut Map<String, Value>| {
            ["index", "type"].iter().all(|name| known.get(*name) == piece.get(*name))
        };
        let bytes = piece.values().map(clean::tree_bytes).sum::<usize>();
        let has_room = self.bytes + bytes <= MAX_BYTES;
        let has_place = self.parts.len() < MAX_PARTS;
        match self.parts.last_mut().filter(same) {
            Some(known) if has_room => {
                for (name, value) in piece {
                    match (known.get_mut(&name), value) {
                        (Some(Value::String(text)), Value::String(more)) if GROWING.contains(&&*name) => {
                            self.bytes += more.len();
                            text.push_str(&more);
                        }
                        (None | Some(Value::Null), value) => {
                            self.bytes += name.len() + clean::tree_bytes(&value);
                            known.insert(name, value);
                        }
                        _ => {}
                    }
                }
            }
            None if has_room && has_place => {
                self.bytes += bytes;
                self.parts.push(piece);
            }
            _ => {}
        }
        text
    }

    /// How many bytes of them are held.
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// In the form of a response that is not streamed.
    pub(super) fn to_json(&self) -> Value {
        json!(self.parts)
    }
}

/// The members that hold the text.
const TOLD: [&str; 2] = ["text", "summary"];
/// The members that arrive in pieces.
const GROWING: [&str; 4] = ["data", "signature", "summary", "text"];
const MAX_PARTS: usize = 1024;
const MAX_BYTES: usize = 1 << 20;
