//! What really happened, as only the server knows it. Tests compare threadtap's records with it.

use serde::Serialize;
use serde_json::{Map, Value, json};

/// One run, with the values its record should have.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExpectedRun {
    /// The thread's id.
    pub thread: String,
    /// The run's id.
    pub run: String,
    /// The assistant's id.
    pub assistant: String,
    /// The model.
    pub model: String,
    /// The current status, in the API's terms. The run may not be over.
    pub status: String,
    /// The messages it answers, in thread order: those that no earlier run had taken, and those in
    /// its request. The app wrote those with the role `assistant`.
    pub inputs: Vec<ExpectedMessage>,
    /// The messages it wrote and ended, in order. Includes incomplete messages, with the text they
    /// had.
    pub outputs: Vec<ExpectedMessage>,
    /// The message it is writing, with its text so far.
    pub writing: Option<ExpectedMessage>,
    /// The tools it called, in order.
    pub tool_calls: Vec<ExpectedCall>,
    /// Its usage. `None` before it is terminal, and always with
    /// [`UsageTiming::Never`](super::UsageTiming::Never).
    pub usage: Option<Usage>,
    /// Its `last_error`, or its `incomplete_details`.
    pub error: Option<Value>,
    /// The run's metadata.
    pub metadata: Map<String, Value>,
    /// Seconds since the epoch.
    pub created_at: u64,
    /// Seconds since the epoch.
    pub started_at: Option<u64>,
    /// When it became terminal, in seconds since the epoch.
    pub ended_at: Option<u64>,
    /// Whether its thread was deleted, whatever the status of the run. Such a run does not
    /// continue.
    pub thread_deleted: bool,
}

/// One message of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExpectedMessage {
    /// Its id, even if no response ever contained it.
    pub id: String,
    /// `user` or `assistant`.
    pub role: String,
    /// Its text, as [`content_text`](threadtap_core::message::content_text) reads it.
    pub text: String,
}

/// One call of a tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExpectedCall {
    /// Its id.
    pub id: String,
    /// `function`, `code_interpreter`, `azure_ai_search` or `bing_grounding`.
    pub kind: String,
    /// The function's name. Empty for the server's own tools.
    pub name: String,
    /// The function's arguments, the code, or the search query.
    pub arguments: String,
    /// The output.
    pub output: Option<String>,
}

/// Token usage: one token for each word of the thread plus ten for the prompt, and one for each
/// piece of the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Tokens read.
    pub prompt_tokens: u64,
    /// Tokens written.
    pub completion_tokens: u64,
}

impl Usage {
    /// The usage in the API's JSON format.
    #[must_use]
    pub fn object(&self) -> Value {
        let Self { prompt_tokens, completion_tokens } = *self;
        json!({
            "prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        })
    }
}
