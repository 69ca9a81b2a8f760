//! What really happened, as only the server knows it: what a test holds threadtap's records against.

use serde::Serialize;
use serde_json::{Map, Value, json};

/// One completion, as its record should be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExpectedCompletion {
    /// The completion.
    pub completion: String,
    /// The model that answered.
    pub model: String,
    /// What was asked for, as its client sent it.
    pub request: Value,
    /// Whether it was streamed.
    pub streamed: bool,
    /// Whether its request asked for the usage of a stream.
    pub usage_asked: bool,
    /// What stands before the conversation for the assistant alone: the messages of the system or developer that the request
    /// begins with.
    pub instructions: Option<String>,
    /// The other messages that are new in this request, as it has them: what follows the last of the role `assistant`.
    pub inputs: Vec<Value>,
    /// The completion whose calls the inputs answer, when they do nothing else.
    pub continues: Option<String>,
    /// The completion its turn began with, which is itself unless it continues another.
    pub turn: String,
    /// The choices, by index; of a stream that told an error, stalled or was left the client has only seen the beginning.
    pub choices: Vec<ChatChoice>,
    /// What it used, if the client was told.
    pub usage: Option<ChatUsage>,
    /// The error its stream told.
    pub error: Option<Value>,
    /// Whether its client left its stream, or its stream was cut, before it was over.
    pub abandoned: bool,
    /// The request's metadata, whatever becomes of it later.
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
    /// What was thought before, where that is told.
    pub reasoning: Option<String>,
    /// The text of what was spoken.
    pub transcript: Option<String>,
    /// The tools it called, by index.
    pub tool_calls: Vec<ChatCall>,
    /// The function it called as it was done before there were tools; that has no id.
    pub function_call: Option<ChatCall>,
    /// Why it is over, in the API's words.
    pub finish_reason: String,
}

/// One call of a function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ChatCall {
    /// Its id.
    pub id: String,
    /// The function.
    pub name: String,
    /// What it is given, JSON.
    pub arguments: String,
}

/// Tokens used: one for each word of the messages and ten for the prompt, one for each piece of the choices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ChatUsage {
    /// Read.
    pub prompt_tokens: u64,
    /// Of those, what an earlier completion had read.
    pub cached_tokens: u64,
    /// Written.
    pub completion_tokens: u64,
    /// Of those, thought.
    pub reasoning_tokens: u64,
}

impl ChatUsage {
    /// Usage as the API shows it.
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
