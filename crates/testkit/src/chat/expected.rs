//! What really happened, as only the server knows it. Tests compare threadtap's records with it.

use serde::Serialize;
use serde_json::{Map, Value, json};

/// One completion, with the values its record should have.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExpectedCompletion {
    /// The completion's id.
    pub completion: String,
    /// The model that answered.
    pub model: String,
    /// The request body, as the client sent it.
    pub request: Value,
    /// Whether it was streamed.
    pub streamed: bool,
    /// Whether the request asked for the usage of a stream.
    pub usage_asked: bool,
    /// The instructions for the assistant at the start of the conversation: the system or developer
    /// messages that the request begins with.
    pub instructions: Option<String>,
    /// The other new messages of this request, as sent: those after the last message with role
    /// `assistant`.
    pub inputs: Vec<Value>,
    /// The completion whose calls the inputs answer, if the inputs contain nothing else.
    pub continues: Option<String>,
    /// The first completion of its turn. This is the completion itself unless it continues another.
    pub turn: String,
    /// The choices, by index. If the stream reported an error, stalled, or was left by the client,
    /// the client has seen only their beginning.
    pub choices: Vec<ChatChoice>,
    /// The usage, if it was reported to the client.
    pub usage: Option<ChatUsage>,
    /// The error that its stream reported.
    pub error: Option<Value>,
    /// Whether the client left the stream, or the stream was cut, before its end.
    pub abandoned: bool,
    /// The metadata of the request. Later changes are not included.
    pub metadata: Map<String, Value>,
    /// Seconds since the epoch.
    pub created_at: u64,
    /// Whether it can be retrieved later.
    pub stored: bool,
}

/// One choice of a completion.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ChatChoice {
    /// Its index.
    pub index: usize,
    /// Its text.
    pub content: Option<String>,
    /// Its refusal.
    pub refusal: Option<String>,
    /// The reasoning before the answer, in APIs that show it.
    pub reasoning: Option<String>,
    /// The transcript of the audio.
    pub transcript: Option<String>,
    /// The tools it called, by index.
    pub tool_calls: Vec<ChatCall>,
    /// The function it called in the legacy format from before tools. Such a call has no id.
    pub function_call: Option<ChatCall>,
    /// Why it ended, in the API's terms.
    pub finish_reason: String,
}

/// One call of a function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ChatCall {
    /// Its id.
    pub id: String,
    /// The function.
    pub name: String,
    /// Its arguments, as JSON.
    pub arguments: String,
}

/// Token usage: one token for each word of the messages plus ten for the prompt, and one for each
/// piece of the choices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ChatUsage {
    /// Tokens read.
    pub prompt_tokens: u64,
    /// The part of them that an earlier completion had already read.
    pub cached_tokens: u64,
    /// Tokens written.
    pub completion_tokens: u64,
    /// The part of them that was reasoning.
    pub reasoning_tokens: u64,
}

impl ChatUsage {
    /// The usage in the API's JSON format.
    #[must_use]
    pub fn object(&self) -> Value {
        let Self { prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens } = *self;
        json!({
            "prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "prompt_tokens_details": {"cached_tokens": cached_tokens, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": reasoning_tokens, "audio_tokens": 0, "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        })
    }
}
