//! What really happened, as only the server knows it: what a test holds threadtap's records against.

use serde::Serialize;
use serde_json::{Map, Value, json};

/// One run, as its record should be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExpectedRun {
    /// The thread.
    pub thread: String,
    /// The run.
    pub run: String,
    /// The assistant.
    pub assistant: String,
    /// The model.
    pub model: String,
    /// The status now, in the API's words; the run may not be over.
    pub status: String,
    /// The messages it answers, in thread order: what no earlier run had taken, and what its request carried. Those of
    /// the role `assistant` were written by the app.
    pub inputs: Vec<ExpectedMessage>,
    /// The messages it wrote and ended, in order; those that were cut short are among them, with what they had.
    pub outputs: Vec<ExpectedMessage>,
    /// The message it is writing, as far as it is.
    pub writing: Option<ExpectedMessage>,
    /// The tools it called, in order.
    pub tool_calls: Vec<ExpectedCall>,
    /// What it used; none before it is terminal, and none ever under [`UsageTiming::Never`](super::UsageTiming::Never).
    pub usage: Option<Usage>,
    /// `last_error`, or `incomplete_details`.
    pub error: Option<Value>,
    /// The run's metadata.
    pub metadata: Map<String, Value>,
    /// Seconds since the epoch.
    pub created_at: u64,
    /// Seconds since the epoch.
    pub started_at: Option<u64>,
    /// Seconds since the epoch: when it became terminal.
    pub ended_at: Option<u64>,
    /// Whether its thread was deleted, whatever became of it; it does not go on then.
    pub thread_deleted: bool,
}

/// One message of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExpectedMessage {
    /// Its id, also when no answer ever told it.
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
    /// The function's name; empty for tools of the server's own.
    pub name: String,
    /// The function's arguments, the code, or what is searched for.
    pub arguments: String,
    /// What came back.
    pub output: Option<String>,
}

/// Tokens used: one for each word of the thread and ten for the prompt, one for each piece of the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Read.
    pub prompt_tokens: u64,
    /// Written.
    pub completion_tokens: u64,
}

impl Usage {
    /// Usage as the API shows it.
    #[must_use]
    pub fn object(&self) -> Value {
        let Self { prompt_tokens, completion_tokens } = *self;
        json!({
            "prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        })
    }
}
