//! The record of one run: the inputs, the outputs, the assistant, the cost and the times.

mod tokens;

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::attribution::Attribution;
use crate::message::Message;
use crate::observation::{Api, ConversationKey, Reasoning, ToolCall, UsageAbsent};
use crate::time::UnixMillis;
pub use tokens::Tokens;

/// One settled run. It is written once and never changed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Interaction {
    /// The idempotency key: the hex form of a hash over upstream, conversation and run, the same on
    /// every machine.
    pub key: String,
    /// The API it belongs to.
    #[serde(default)]
    pub api: Api,
    /// Where the run took place: the thread or conversation, else the first response of the chain.
    pub conversation: ConversationKey,
    /// The API's id of the run, response or completion, or a generated id if the API gave none.
    pub run: String,
    /// The run that began the user's turn. This is the run itself, unless it only submitted tool
    /// outputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn_id: Option<String>,
    /// The previous run, if the request named one, submitted outputs for its tool calls, or
    /// repeated its conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<String>,
    /// The responses that submitted tool outputs for this one and are part of this record, in
    /// order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub continuations: Vec<String>,
    /// How it ended.
    pub status: Status,
    /// The assistant that responded.
    pub assistant: Option<String>,
    /// The assistant's name, if a response with the name was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assistant_name: Option<String>,
    /// The model that responded.
    pub model: Option<String>,
    /// Session, user and app.
    #[serde(default)]
    pub attribution: Attribution,
    /// The app's trace that the run's request is part of, from its `traceparent`: 32 hexadecimal
    /// digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// The inputs: the messages that this run responded to, in order. Earlier messages that the
    /// request repeats are not included.
    pub inputs: Vec<Message>,
    /// The assistant's instructions: those in the run's request, which replace its own; else its
    /// own, as far as the API shows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// The additional instructions in the run's request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub additional_instructions: Option<String>,
    /// The outputs, in thread order.
    pub outputs: Vec<Message>,
    /// The tools that were called, in order.
    pub tool_calls: Vec<ToolCall>,
    /// The model's reasoning as far as it was shown, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasoning: Vec<Reasoning>,
    /// The request as it was sent to the API, with descriptions in place of files. Only for Chat
    /// Completions, whose requests repeat the conversation. The new part of it is in `inputs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Box<RawValue>>,
    /// The response in the form that the API uses without streaming. Only for Chat Completions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<Box<RawValue>>,
    /// Token counts exactly as the API reported them.
    pub usage: Option<Box<RawValue>>,
    /// Why `usage` is missing. Set exactly when `usage` is missing.
    pub usage_absent: Option<UsageAbsent>,
    /// The counts of `usage` under common names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
    /// The API's `last_error`, `error` or `incomplete_details`.
    pub error: Option<Box<RawValue>>,
    /// The run's metadata.
    pub metadata: Option<Box<RawValue>>,
    /// The times of the run.
    pub times: Times,
    /// Whether all inputs were seen.
    pub inputs_complete: bool,
    /// Whether all outputs were seen.
    pub outputs_complete: bool,
    /// Whether the status was concluded by threadtap and not reported by the API.
    pub assumed: bool,
    /// How outputs and the conversation were assigned.
    pub pairing: Pairing,
}

impl Interaction {
    /// The conversation's messages, in order: those that are numbered in a session. Messages of
    /// tools and systems are not included.
    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        self.inputs.iter().chain(&self.outputs).filter(|message| message.role.speaks())
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Reported by the API.
    Cancelled,
    /// The client left the stream, and no later state of the run was seen.
    ClientDisconnected,
    /// Reported by the API.
    Completed,
    /// The stream reported an error, and no later state of the run was seen.
    Error,
    /// Reported by the API, or assumed after the run's deadline.
    Expired,
    /// Reported by the API.
    Failed,
    /// Reported by the API.
    Incomplete,
    /// The thread was deleted while the run was active.
    ThreadDeleted,
    /// No end was seen before the deadline.
    UnknownFinal,
}

impl Status {
    /// The name in records, settings and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::ClientDisconnected => "client_disconnected",
            Self::Completed => "completed",
            Self::Error => "error",
            Self::Expired => "expired",
            Self::Failed => "failed",
            Self::Incomplete => "incomplete",
            Self::ThreadDeleted => "thread_deleted",
            Self::UnknownFinal => "unknown_final",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How outputs were assigned to the run, and the run to its conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pairing {
    /// By id: the server named the run on each message, and client or server named the previous
    /// run, if there is one.
    Exact,
    /// Outputs were assigned by position and time, because the server does not name the run.
    Heuristic,
    /// The previous run was found by the conversation that the request repeats, because the request
    /// named nothing else.
    History,
}

/// The API's times in seconds, and the proxy's in milliseconds. Never compute a difference between
/// the two clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// Reported by the API.
    pub created_at: Option<f64>,
    /// Reported by the API.
    pub started_at: Option<f64>,
    /// Reported by the API: when it completed, failed or was cancelled.
    pub ended_at: Option<f64>,
    /// When the request that created the run arrived; else when the run was first seen.
    pub request_at: UnixMillis,
    /// When the first piece of output text passed, if the run was streamed.
    pub first_token_at: Option<UnixMillis>,
    /// When the end was seen.
    pub end_at: UnixMillis,
    /// How reliable the proxy's times are.
    #[serde(default)]
    pub source: TimeSource,
}

/// What the proxy's times of a run mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeSource {
    /// The run's creation was not seen, so the API's times are better.
    Backfilled,
    /// The run was seen from its creation.
    #[default]
    Live,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_an_earlier_version_is_one_of_the_assistants_api() {
        let record = r#"{"key":"k","conversation":{"upstream":"u","id":"thread"},"run":"run","status":"completed",
            "assistant":"a","model":"m","inputs":[],"outputs":[],"tool_calls":[{"id":"c","kind":"function"}],
            "usage":null,"usage_absent":"not_reported","error":null,"metadata":null,"times":{"created_at":null,
            "started_at":null,"ended_at":null,"request_at":1,"first_token_at":null,"end_at":2},"inputs_complete":true,
            "outputs_complete":true,"assumed":false,"pairing":"exact"}"#;
        let record: Interaction = serde_json::from_str(record).unwrap();
        assert_eq!((record.api, record.turn_id, record.tokens), (Api::Assistants, None, None));
        assert_eq!(record.usage_absent, Some(UsageAbsent::NotReported));
    }
}
