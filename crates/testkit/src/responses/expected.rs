//! What really happened, as only the server knows it. Tests compare threadtap's records with it.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::items::text;

/// One response, with the values its record should have.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExpectedResponse {
    /// The response's id.
    pub response: String,
    /// The id of its conversation.
    pub conversation: Option<String>,
    /// Whether its conversation was deleted.
    pub conversation_deleted: bool,
    /// The response it names as its predecessor.
    pub previous: Option<String>,
    /// The first response of its chain, which may be the response itself. The chain follows
    /// predecessors. If it has no predecessor and no conversation, the chain follows the responses
    /// whose calls were answered, or whose items its request repeats.
    pub root: String,
    /// The response whose function calls its input answers.
    pub continues: Option<String>,
    /// The response that made the last item that its request repeats or mentions, if the request
    /// answers no calls.
    pub follows: Option<String>,
    /// The first response of its turn. This is the response itself unless it continues another.
    pub turn: String,
    /// The model that responded.
    pub model: String,
    /// The current status, in the API's terms. The response may not be over.
    pub status: String,
    /// Whether the client left the stream, or the stream was cut, before its end. The status is
    /// then `cancelled`.
    pub abandoned: bool,
    /// Whether the request that creates it got an HTTP error.
    pub refused: bool,
    /// Whether it runs in the background.
    pub background: bool,
    /// Whether it can be retrieved later.
    pub stored: bool,
    /// The instructions in its request: `instructions` and leading system messages.
    pub instructions: Option<String>,
    /// The new items of this turn: those added to its conversation since the last response, and
    /// those in its request after the last item made by a model.
    pub inputs: Vec<ExpectedItem>,
    /// The items it made, in order. The last one may be incomplete.
    pub outputs: Vec<ExpectedItem>,
    /// Its usage. `None` before it is over, and always with
    /// [`UsageTiming::Never`](super::super::assistants::UsageTiming).
    pub usage: Option<ResponseUsage>,
    /// Its `error`, or its `incomplete_details`.
    pub error: Option<Value>,
    /// The response's metadata.
    pub metadata: Map<String, Value>,
    /// Seconds since the epoch.
    pub created_at: u64,
    /// When it completed, as the API shows it, in seconds since the epoch.
    pub completed_at: Option<u64>,
}

/// One item of a response.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExpectedItem {
    /// Its id, even if no response ever contained it.
    pub id: String,
    /// Its type.
    pub kind: String,
    /// The role of a message.
    pub role: Option<String>,
    /// Its content: the text of a message, with refusals in brackets, the arguments of a call, or
    /// the output of a call.
    pub text: String,
    /// The item in the API's JSON format.
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

/// Token usage: one token for each word read plus ten for the prompt, and one for each piece
/// written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ResponseUsage {
    /// Tokens read.
    pub input_tokens: u64,
    /// The part of them that an earlier response had already read.
    pub cached_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// The part of them that was reasoning.
    pub reasoning_tokens: u64,
}

impl ResponseUsage {
    /// The usage in the API's JSON format.
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
