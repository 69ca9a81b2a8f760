//! What really happened, as only the server knows it: what a test holds threadtap's records against.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::items::text;

/// One response, as its record should be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExpectedResponse {
    /// The response.
    pub response: String,
    /// Its conversation.
    pub conversation: Option<String>,
    /// Whether its conversation was deleted.
    pub conversation_deleted: bool,
    /// The response it names as its predecessor.
    pub previous: Option<String>,
    /// The first response of its chain, which may be itself: of its predecessors, or where it has none and no conversation, of
    /// the responses whose calls were answered, or whose items its request repeats.
    pub root: String,
    /// The response whose function calls its input answers.
    pub continues: Option<String>,
    /// The response that made the last item its request repeats or mentions, where it answers no calls.
    pub follows: Option<String>,
    /// The response its turn began with, which is itself unless it continues another.
    pub turn: String,
    /// The model that answered.
    pub model: String,
    /// The status now, in the API's words; the response may not be over.
    pub status: String,
    /// Whether its client left its stream, or its stream was cut, before it was over; it is `cancelled` then.
    pub abandoned: bool,
    /// Whether its creation was answered with an HTTP error.
    pub refused: bool,
    /// Whether it plays in the background.
    pub background: bool,
    /// Whether it can be retrieved later.
    pub stored: bool,
    /// What its request told the model in place of a system message, and in system messages before all else.
    pub instructions: Option<String>,
    /// The items that are new in this turn: what was added to its conversation since the last response, and what its request
    /// has after the last item of a model.
    pub inputs: Vec<ExpectedItem>,
    /// The items it made, in order; the last may be cut short.
    pub outputs: Vec<ExpectedItem>,
    /// What it used; none before it is over, and none ever under [`UsageTiming::Never`](super::super::assistants::UsageTiming).
    pub usage: Option<ResponseUsage>,
    /// `error`, or `incomplete_details`.
    pub error: Option<Value>,
    /// The response's metadata.
    pub metadata: Map<String, Value>,
    /// Seconds since the epoch.
    pub created_at: u64,
    /// Seconds since the epoch: when it completed, as the API shows it.
    pub completed_at: Option<u64>,
}

/// One item of a response.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExpectedItem {
    /// Its id, also when no answer ever told it.
    pub id: String,
    /// Its type.
    pub kind: String,
    /// The role of a message.
    pub role: Option<String>,
    /// What it says: a message its text, a refusal in brackets; a call its arguments; an output what came out.
    pub text: String,
    /// It, as the API shows it.
    pub object: Value,
}

impl ExpectedItem {
    pub(super) fn of(item: &Value) -> Self {
        let owned = |field: &str| item[field].as_str().map(str::to_owned);
        Self {
            id: owned("id").unwrap_or_default(),
            kind: owned("type").unwrap_or_default(),
            role: owned("role"),
            text: text(item),
            object: item.clone(),
        }
    }
}

/// Tokens used: one for each word that was read and ten for the prompt, one for each piece that was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ResponseUsage {
    /// Read.
    pub input_tokens: u64,
    /// Of those, what an earlier response had read.
    pub cached_tokens: u64,
    /// Written.
    pub output_tokens: u64,
    /// Of those, thought.
    pub reasoning_tokens: u64,
}

impl ResponseUsage {
    /// Usage as the API shows it.
    #[must_use]
    pub fn object(&self) -> Value {
        let Self { input_tokens, cached_tokens, output_tokens, reasoning_tokens } = *self;
        json!({
            "input_tokens": input_tokens, "input_tokens_details": {"cached_tokens": cached_tokens},
            "output_tokens": output_tokens, "output_tokens_details": {"reasoning_tokens": reasoning_tokens},
            "total_tokens": input_tokens + output_tokens,
        })
    }
}
