//! A turn: for APIs where one request and its response are the whole run (Responses and Chat
//! Completions).

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::api::Api;
use super::{Run, RunOrigin, RunStatus, ToolCall};
use crate::message::Message;
use crate::time::UnixMillis;

/// A turn as one body or event showed it: the new part of its request, if the request was seen, and
/// its current state.
///
/// A dialect that knows no conversation id uses the run's own id as the conversation's. The
/// correlator then finds the right conversation by `previous`, `answers`, `history` and
/// `said_before`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Turn {
    /// The API.
    pub api: Api,
    /// The response or completion: its id, status, usage, tool calls.
    pub run: Run,
    /// The server's other id for it: some servers give a response a new id each time, and clients
    /// continue with the last one. The run's id is then the one that was requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// How it was seen. The messages of a creation are the new ones in the request, not the history
    /// that it repeats.
    pub origin: RunOrigin,
    /// The previous run, if the request named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// The tool calls whose outputs are new in the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<String>,
    /// Items that earlier runs may have output and that the request repeats or mentions, last one
    /// first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<String>,
    /// The last output item, for matching the history of later requests. Its id is one that no
    /// other item has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_item: Option<String>,
    /// The part of the conversation that the request repeats, up to each of the assistant's last
    /// messages, last one first. Needed only for a turn that is placed.
    #[serde(skip)]
    pub said_before: Vec<Said>,
    /// The conversation including request and response, for matching later requests that repeat it.
    /// One for each choice. Set when the run is over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub said: Vec<Said>,
    /// Distinguishes this run's tool calls from others with the same ids, if the API's ids may
    /// repeat. `answers` contain it too (see [`scoped_call`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// Distinguishes this run's calls that have no id, so that `answers` can name them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub named_calls: Vec<String>,
    /// The outputs so far, in order, each with its own id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Message>,
    /// The model's reasoning so far, as far as it was shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasoning: Vec<Reasoning>,
    /// Whether `outputs` and `reasoning` are complete up to this state.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
    /// Whether it continues after the exchange that requested it: it can be polled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub background: bool,
    /// Why there is no usage, if the dialect knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage_absent: Option<UsageAbsent>,
    /// When the first piece of output text passed, if the response is a stream that has shown any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_at: Option<UnixMillis>,
    /// The request as it was sent to the API, including history, for sinks whose format contains
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Box<RawValue>>,
    /// The response so far in the API's form. A streamed response is assembled from its pieces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<Box<RawValue>>,
}

impl Turn {
    /// A turn with only these values known.
    #[must_use]
    pub fn new(api: Api, run: Run, origin: RunOrigin) -> Self {
        Self {
            api,
            run,
            alias: None,
            origin,
            previous: None,
            answers: Vec::new(),
            history: Vec::new(),
            last_item: None,
            said_before: Vec::new(),
            said: Vec::new(),
            question: None,
            named_calls: Vec::new(),
            outputs: Vec::new(),
            reasoning: Vec::new(),
            whole: false,
            background: false,
            usage_absent: None,
            first_token_at: None,
            request: None,
            response: None,
        }
    }

    /// Whether it is completed and waits for outputs of the app's own tools.
    #[must_use]
    pub fn calls_the_app(&self) -> bool {
        let open = |call: &ToolCall| call.output.is_none() && APP_TOOLS.contains(&call.kind.as_str());
        self.run.status == RunStatus::Completed && self.run.tool_calls.iter().any(open)
    }
}

/// A conversation up to one of the assistant's messages, as hashes that also depend on upstream,
/// app, user and session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// The last exchange: the last input message, and that message of the assistant.
    pub exchange: u64,
    /// The last two exchanges. None if there is only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair: Option<NonZeroU64>,
    /// The whole conversation, including all inputs.
    pub whole: u64,
}

/// Makes a unique run id for an API whose own ids may repeat.
#[must_use]
pub fn unique_id(api_id: Option<&str>, exchange: &str) -> String {
    format!("{}{UNIQUE_MARK}{exchange}", api_id.unwrap_or(NO_ID))
}

/// The API's own id inside a unique id, or a generated id if the API gave none.
#[must_use]
pub fn api_id(run: &str) -> &str {
    match run.rsplit_once(UNIQUE_MARK) {
        Some((id, _)) if id != NO_ID => id,
        _ => run,
    }
}

/// The key of a tool call: its id if that is unique, else the id and the question that led to the
/// call.
#[must_use]
pub fn scoped_call(question: &str, call: &str) -> String {
    if is_random(call) { call.to_owned() } else { format!("{question}/{call}") }
}

/// Whether an id is long and random enough to be unique. Some servers use counters, or the same id
/// for everything.
#[must_use]
pub fn is_random(id: &str) -> bool {
    let random = id.rsplit_once('_').map_or(id, |(_, random)| random);
    let letters = || random.bytes().filter(u8::is_ascii_alphanumeric);
    let kinds = [u8::is_ascii_digit, u8::is_ascii_lowercase, u8::is_ascii_uppercase];
    let is_mixed = kinds.iter().filter(|is_one| letters().any(|letter| is_one(&letter))).count() > 1;
    letters().count() >= RANDOM_LETTERS && is_mixed
}

/// The minimum number of letters and digits in a random id. OpenAI's have 24 or 48, a UUID has 32,
/// and counters have a few.
const RANDOM_LETTERS: usize = 16;
/// The kinds of tools that the app runs itself, or must approve. The server runs all others.
const APP_TOOLS: [&str; 8] = [
    "apply_patch",
    "computer",
    "custom",
    "custom_tool",
    "function",
    "local_shell",
    "mcp_approval_request",
    "shell",
];
/// Separates the API's id from the part that makes it unique.
const UNIQUE_MARK: char = '~';
/// Replaces an id that the API did not give.
const NO_ID: &str = "exchange";

/// The model's reasoning as far as it was shown: a summary, or the full text if the server shows
/// it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reasoning {
    /// The API's id of the item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The text. Empty if only its encrypted form was sent.
    pub text: String,
}

/// Why a record has no token counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageAbsent {
    /// The client left before the counts were sent.
    ClientDisconnected,
    /// The run's end was not seen.
    EndNotSeen,
    /// The server sent none.
    NotReported,
    /// The response was a stream, and its request did not ask for counts
    /// (`stream_options.include_usage`).
    StreamWithoutIncludeUsage,
}

impl UsageAbsent {
    /// The name in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientDisconnected => "client_disconnected",
            Self::EndNotSeen => "end_not_seen",
            Self::NotReported => "not_reported",
            Self::StreamWithoutIncludeUsage => "stream_without_include_usage",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_mixed_ids_are_random() {
        for (id, expected) in [
            ("msg_68af4030592c81938ec0a5fbab4a3e9f05438e46b5f69a3b", true),
            ("msg_550e8400-e29b-41d4-a716-446655440000", true),
            ("550e8400-e29b-41d4-a716-446655440000", true),
            ("msg_123456", false),
            ("msg_resp_1_0", false),
            ("item_0", false),
            ("__fake_id__", false),
            ("msg_QwErTyUiOpAsDfGhJkLzXcVb", true),
            ("msg_placeholderplaceholder", false),
            ("msg_0000000000000001", false),
            ("", false),
        ] {
            assert_eq!(is_random(id), expected, "{id}");
        }
    }

    #[test]
    fn a_call_whose_id_is_random_needs_no_question() {
        let random = "call_A1b2C3d4E5f6G7h8I9j0K1l2";
        assert_eq!(scoped_call("q", random), random);
        assert_eq!(scoped_call("q", "call_0"), "q/call_0");
    }
}
