//! A turn of an API where one request asks and its answer is the whole run: Responses and Chat Completions.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::api::Api;
use super::{Run, RunOrigin, RunStatus, ToolCall};
use crate::message::Message;
use crate::time::UnixMillis;

/// A turn as one body or event showed it: what was new in its request, if that is what was seen, and how far it is.
///
/// A dialect that knows no conversation by name gives the run's own id as the conversation's: the correlator then finds the one
/// it belongs to, by `previous`, `answers`, `history` and `said_before`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Turn {
    /// The API.
    pub api: Api,
    /// The response or completion: its id, status, usage, tool calls.
    pub run: Run,
    /// What else the server calls it: some give a response a new id with each answer, and clients go on with the last. Then the
    /// run's id is the one that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// How it came to be seen. The messages of a creation are what is new in the request, not the history it repeats.
    pub origin: RunOrigin,
    /// The run that the request named as the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// The tool calls whose outputs are new in the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<String>,
    /// Items that earlier runs may have put out and that the request repeats or mentions, the last one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<String>,
    /// The last item that was put out, for the history of later requests: its id is one that no other item has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_item: Option<String>,
    /// What the request repeats of its conversation, up to each of the assistant's last words, the last one first. Only a turn that
    /// is placed needs it.
    #[serde(skip)]
    pub said_before: Vec<Said>,
    /// What request and answer add up to, for later requests to repeat; one for each choice. Told when the run is over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub said: Vec<Said>,
    /// What tells this run's tool calls from others of the same ids, where the API's ids may repeat; `answers` carry it too (see
    /// [`scoped_call`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// What tells this run's calls apart that have no id, for `answers` to name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub named_calls: Vec<String>,
    /// What was put out so far, in order, each with an id of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Message>,
    /// What was told of the model's thinking so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasoning: Vec<Reasoning>,
    /// Whether `outputs` and `reasoning` are all there are up to this state.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
    /// Whether it goes on when the exchange that asked for it is over: it can be polled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub background: bool,
    /// Why there is no usage, where the dialect knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage_absent: Option<UsageAbsent>,
    /// When the first piece of output text passed, if the answer is a stream that has shown any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_at: Option<UnixMillis>,
    /// The request as the API was sent it, history and all, for sinks whose format is made of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Box<RawValue>>,
    /// The answer so far as the API has it, put together from its pieces where it was streamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<Box<RawValue>>,
}

impl Turn {
    /// A turn of which nothing is known but this.
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

    /// Whether it is completed and waits for what the app's own tools return.
    #[must_use]
    pub fn calls_the_app(&self) -> bool {
        let open = |call: &ToolCall| call.output.is_none() && APP_TOOLS.contains(&call.kind.as_str());
        self.run.status == RunStatus::Completed && self.run.tool_calls.iter().any(open)
    }
}

/// A conversation up to one of the assistant's words, as hashes that also tell upstreams, apps, users and sessions apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// The last exchange: the last message of what was asked, and that word.
    pub exchange: u64,
    /// The last two exchanges; none where there is only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair: Option<NonZeroU64>,
    /// All of it, whatever was asked.
    pub whole: u64,
}

/// Makes the id of a run of an API whose own ids may repeat.
#[must_use]
pub fn unique_id(api_id: Option<&str>, exchange: &str) -> String {
    format!("{}{UNIQUE_MARK}{exchange}", api_id.unwrap_or(NO_ID))
}

/// The API's own id in an id that was made unique; one of our own where the API gave none.
#[must_use]
pub fn api_id(run: &str) -> &str {
    match run.rsplit_once(UNIQUE_MARK) {
        Some((id, _)) if id != NO_ID => id,
        _ => run,
    }
}

/// What a tool call is known by: its id if no other call has it, else the id and the question it was made for.
#[must_use]
pub fn scoped_call(question: &str, call: &str) -> String {
    if is_random(call) { call.to_owned() } else { format!("{question}/{call}") }
}

/// Whether an id is long and mixed enough to be random, so that nothing else has it. Some servers count, or give everything one name.
#[must_use]
pub fn is_random(id: &str) -> bool {
    let random = id.rsplit_once('_').map_or(id, |(_, random)| random);
    let letters = || random.bytes().filter(u8::is_ascii_alphanumeric);
    let kinds = [u8::is_ascii_digit, u8::is_ascii_lowercase, u8::is_ascii_uppercase];
    let is_mixed = kinds.iter().filter(|is_one| letters().any(|letter| is_one(&letter))).count() > 1;
    letters().count() >= RANDOM_LETTERS && is_mixed
}

/// Letters and digits of a random id; OpenAI's have 24 or 48, a UUID has 32, and counters have a few.
const RANDOM_LETTERS: usize = 16;
/// The kinds of tools that the app runs itself, or has to approve; all others are the server's.
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
/// Between the API's id and what makes it unique.
const UNIQUE_MARK: char = '~';
/// In the place of an id the API did not give.
const NO_ID: &str = "exchange";

/// What was told of the model's thinking: a summary, or the thinking itself where the server shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reasoning {
    /// The API's id of the item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The text; empty where only its encrypted form is told.
    pub text: String,
}

/// Why a record has no token counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageAbsent {
    /// The client left before they were told.
    ClientDisconnected,
    /// The run's end was not seen.
    EndNotSeen,
    /// The server told none.
    NotReported,
    /// The answer was a stream, and its request did not ask for them (`stream_options.include_usage`).
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
