//! The record of one run: what was asked, what was answered, by whom, at what cost, when.

mod tokens;

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::attribution::Attribution;
use crate::message::Message;
use crate::observation::{Api, ConversationKey, Reasoning, ToolCall, UsageAbsent};
use crate::time::UnixMillis;
pub use tokens::Tokens;

/// One run, settled. It is written once and never changed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Interaction {
    /// The idempotency key: hex of a hash over upstream, conversation and run, the same on every machine.
    pub key: String,
    /// The API it belongs to.
    #[serde(default)]
    pub api: Api,
    /// Where it took place: the thread or conversation, else the first response of the chain.
    pub conversation: ConversationKey,
    /// The API's id of the run, response or completion; one of our own where the API gave none.
    pub run: String,
    /// The run in which the user asked what this one goes on answering: itself, unless it only handed in what tools returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn_id: Option<String>,
    /// The run before, where the request named one, answered its tool calls or repeated what was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<String>,
    /// The responses that handed in what this one's tools returned and are part of this record, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub continuations: Vec<String>,
    /// How it ended.
    pub status: Status,
    /// The assistant that answered.
    pub assistant: Option<String>,
    /// What it is called, if a response that says so has passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assistant_name: Option<String>,
    /// The model that answered.
    pub model: Option<String>,
    /// Session, user and app.
    #[serde(default)]
    pub attribution: Attribution,
    /// The trace of the app that the run's request is part of, by its `traceparent`: 32 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// What was asked: the messages this run answered, in order. Not what the request repeats of earlier ones.
    pub inputs: Vec<Message>,
    /// What the assistant was told: by the run's request, in place of its own instructions; else its own, as far as the API tells them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// What the run's request told the assistant beside its instructions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub additional_instructions: Option<String>,
    /// What was answered, in thread order.
    pub outputs: Vec<Message>,
    /// The tools that were called, in order.
    pub tool_calls: Vec<ToolCall>,
    /// What was told of the model's thinking, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasoning: Vec<Reasoning>,
    /// The request as the API was sent it, with descriptions in the place of files: Chat Completions, whose requests repeat the
    /// conversation. What is new in it is in `inputs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Box<RawValue>>,
    /// The answer as the API gives it where it is not streamed: Chat Completions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<Box<RawValue>>,
    /// Token counts as the API gave them.
    pub usage: Option<Box<RawValue>>,
    /// Why `usage` is missing; set exactly when it is.
    pub usage_absent: Option<UsageAbsent>,
    /// The counts of `usage`, in one vocabulary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
    /// The API's `last_error`, `error` or `incomplete_details`.
    pub error: Option<Box<RawValue>>,
    /// The run's metadata.
    pub metadata: Option<Box<RawValue>>,
    /// When.
    pub times: Times,
    /// Whether all inputs were seen.
    pub inputs_complete: bool,
    /// Whether all outputs were seen.
    pub outputs_complete: bool,
    /// Whether the status is our conclusion and not the API's word.
    pub assumed: bool,
    /// How outputs and the conversation were found.
    pub pairing: Pairing,
}

impl Interaction {
    /// What was said, in order: the messages that are numbered in a session. What tools and systems say is none of it.
    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        self.inputs.iter().chain(&self.outputs).filter(|message| message.role.speaks())
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// By the API's word.
    Cancelled,
    /// The client left the stream, and no later word of the run was seen.
    ClientDisconnected,
    /// By the API's word.
    Completed,
    /// The stream told an error, and no later word of the run was seen.
    Error,
    /// By the API's word; or assumed when its time was over.
    Expired,
    /// By the API's word.
    Failed,
    /// By the API's word.
    Incomplete,
    /// The thread was deleted while the run was active.
    ThreadDeleted,
    /// No end was seen in time.
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
    /// The server named the run on each message; client or server named what the run goes on from, if anything.
    Exact,
    /// Outputs by place and time, on servers that do not name the run.
    Heuristic,
    /// The request repeats a conversation, and named nothing else: by that it is known what the run goes on from.
    History,
}

/// The API's times in seconds, and the proxy's in milliseconds. Never mix the two clocks in one difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// The API's word.
    pub created_at: Option<f64>,
    /// The API's word.
    pub started_at: Option<f64>,
    /// The API's word: when it completed, failed or was cancelled.
    pub ended_at: Option<f64>,
    /// When the request that created the run arrived; else when the run was first seen.
    pub request_at: UnixMillis,
    /// When the first piece of output text passed, if the run was streamed.
    pub first_token_at: Option<UnixMillis>,
    /// When the end was seen.
    pub end_at: UnixMillis,
    /// What the proxy's times are worth.
    #[serde(default)]
    pub source: TimeSource,
}

/// What the proxy's times of a run tell: its own, or only when this program came to know of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeSource {
    /// The run's creation was not seen: the API's times are the better ones.
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
