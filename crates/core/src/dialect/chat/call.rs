//! Tool calls, put together from their pieces.

use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::room::Room;
use crate::dialect::history::Speech;
use crate::dialect::object::Object;
use crate::observation::ToolCall;

/// The calls of one choice, in the order they started.
#[derive(Debug, Default)]
pub(super) struct Calls(Vec<Call>);

impl Calls {
    /// Adds a call, or a piece of one. `place` is its position in the list, for servers that give
    /// no index.
    pub(super) fn push(&mut self, piece: &Object<'_>, place: usize, room: &mut Room) {
        let index = piece.count("index");
        let id = piece.text("id");
        let kind = piece.text("type");
        let named = kind.as_deref().and_then(|kind| piece.object(kind));
        let details = named.or_else(|| piece.object("function")).or_else(|| piece.object("custom"));
        let details = details.unwrap_or_default();
        let name = details.text("name");
        let known = self.0.iter().rposition(|call| match (index, id.as_deref()) {
            // Some servers number every call 0. So a piece with an id and a name of its own is
            // another call. An id alone is not enough, because other servers make up a new id for
            // every piece.
            (Some(index), Some(id)) => {
                call.index == Some(index) && (call.id == id || call.id.is_empty() || name.is_none())
            }
            (Some(index), None) => call.index == Some(index),
            (None, Some(id)) => call.id == id,
            (None, None) => name.is_none(),
        });
        let known = match (&id, &name) {
            (None, None) => self.nameless(known),
            _ => known,
        };
        let call = match known {
            Some(known) => &mut self.0[known],
            None if self.0.len() >= MAX_CALLS || !room.take(CALL_BYTES) => return room.overflow(),
            None => {
                let index = index.or_else(|| u64::try_from(place).ok());
                self.0.push(Call { index, ..Call::default() });
                self.0.last_mut().expect("one was just added")
            }
        };
        if call.id.is_empty() {
            room.append(&mut call.id, id.as_deref().unwrap_or_default());
        }
        if call.kind.is_empty() {
            room.append(&mut call.kind, kind.as_deref().unwrap_or_default());
        }
        call.push(&details, name.as_deref(), room);
    }

    /// The call that a piece with neither id nor name belongs to. That is the call opened last,
    /// unless the index names another call that is still being written. Some servers number pieces
    /// instead of calls.
    fn nameless(&mut self, by_index: Option<usize>) -> Option<usize> {
        let last = self.0.len().checked_sub(1)?;
        by_index.filter(|at| *at == last || !self.0[*at].is_whole()).or(Some(last))
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The calls in the form of an API message.
    pub(super) fn to_json(&self) -> Value {
        self.0.iter().map(Call::to_json).collect()
    }

    /// Adds them to what was said.
    pub(super) fn say(&self, speech: &mut Speech) {
        self.0.iter().for_each(|call| call.say(speech));
    }

    /// The calls in the form of records. `owner` is used to name calls that have no id from the
    /// server.
    pub(super) fn tool_calls(&self, owner: &str) -> Vec<ToolCall> {
        self.0.iter().enumerate().map(|(place, call)| call.tool_call(owner, place)).collect()
    }
}

/// A call so far.
#[derive(Debug, Default)]
pub(super) struct Call {
    index: Option<u64>,
    id: String,
    kind: String,
    name: String,
    /// The arguments of a function, or the input of a custom tool.
    arguments: String,
    /// The length of the arguments when they were last checked, and whether they were complete.
    looked_at: usize,
    whole: bool,
}

impl Call {
    /// Adds a name and arguments, or pieces of them. A `function_call`, the legacy form before
    /// tools, has nothing else.
    pub(super) fn push(&mut self, details: &Object<'_>, name: Option<&str>, room: &mut Room) {
        // The name arrives in pieces, or is repeated in every piece.
        if let Some(name) = name.filter(|name| *name != self.name) {
            room.append(&mut self.name, name);
        }
        match details.text("arguments").or_else(|| details.text("input")) {
            Some(piece) => room.append(&mut self.arguments, &piece),
            // Some servers give them as an object instead of as text.
            None => {
                let whole = details.raw("arguments").filter(|whole| whole.get().starts_with('{'));
                if let Some(whole) = whole.filter(|_| self.arguments.is_empty()) {
                    room.append(&mut self.arguments, whole.get());
                }
            }
        }
    }

    /// Whether its arguments are complete: a closed object. Long arguments count as open, because
    /// checking means reading them.
    fn is_whole(&mut self) -> bool {
        let bytes = self.arguments.len();
        if self.looked_at != bytes {
            self.looked_at = bytes;
            self.whole = bytes <= MAX_LOOKED_AT_BYTES
                && self.arguments.ends_with('}')
                && serde_json::from_str::<IgnoredAny>(&self.arguments).is_ok();
        }
        self.whole
    }

    /// Adds it to what was said. When a client sends it back, it has the id that the server gave.
    pub(super) fn say(&self, speech: &mut Speech) {
        speech.call(&self.id, &self.name, &self.arguments);
    }

    /// The name of the function or tool it calls.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The name and the arguments as the API has them.
    pub(super) fn function(&self) -> Value {
        json!({"name": self.name, "arguments": self.arguments})
    }

    /// The call as records have it.
    pub(super) fn tool_call(&self, owner: &str, place: usize) -> ToolCall {
        let or = |text: &str, other: String| if text.is_empty() { other } else { text.to_owned() };
        ToolCall {
            id: or(&self.id, format!("{owner}#{place}")),
            kind: or(&self.kind, "function".to_owned()),
            server: None,
            name: Some(self.name.clone()).filter(|name| !name.is_empty()),
            arguments: Some(self.arguments.clone()),
            output: None,
        }
    }

    fn to_json(&self) -> Value {
        if self.kind == "custom" {
            let custom = json!({"name": self.name, "input": self.arguments});
            return json!({"id": self.id, "type": "custom", "custom": custom});
        }
        json!({"id": self.id, "type": "function", "function": self.function()})
    }
}

const MAX_LOOKED_AT_BYTES: usize = 8 << 10;
/// More calls than any model may make at one time.
const MAX_CALLS: usize = 512;
/// The memory a call takes in addition to its text.
const CALL_BYTES: usize = size_of::<Call>();
