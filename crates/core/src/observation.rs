//! One fact an exchange tells about a conversation, free of HTTP and of any one API's wire format.
//!
//! Observations are what the journal holds: they are serialised as JSON, so a change here must stay readable to an older
//! journal (new fields are optional, variants are never renamed).

mod api;
mod turn;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::attribution::Attribution;
use crate::message::Message;
use crate::time::UnixMillis;
pub use api::{Api, ApiTraits};
pub use turn::{Reasoning, Said, Turn, UsageAbsent, api_id, is_random, scoped_call, unique_id};

/// Names a conversation: a thread, a conversation, or the chain a response began, within the upstream it lives on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ConversationKey {
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// The API's id of the conversation.
    pub id: Arc<str>,
}

/// A fact, the conversation it is about, and when it was seen.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Observation {
    /// The conversation it is about.
    pub conversation: ConversationKey,
    /// When it was seen: the proxy's clock.
    pub at: UnixMillis,
    /// Whom the exchange that told it belongs to.
    #[serde(default, skip_serializing_if = "Attribution::is_empty")]
    pub attribution: Attribution,
    /// The fact.
    pub fact: Fact,
}

/// What was learnt.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// The conversation was created, with messages the answer does not name.
    ConversationCreated {
        /// The messages of the request, in order; without ids.
        messages: Vec<Message>,
        /// Whether the request may have carried others, which could not be read.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        messages_lost: bool,
    },
    /// The conversation was deleted.
    ConversationDeleted,
    /// The conversation itself was looked at or modified: it may say whose it is.
    ConversationSeen,
    /// A message was seen by itself: created, fetched, or in a stream.
    MessageSeen {
        /// The message.
        message: Message,
        /// How it came to be seen.
        origin: MessageOrigin,
        /// When its creation was asked for, if that is what was seen.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        requested_at: Option<UnixMillis>,
    },
    /// A message was deleted.
    MessageDeleted {
        /// Its id.
        id: String,
    },
    /// A page of the conversation's messages was listed.
    MessagesListed(MessagePage),
    /// A run was seen in some state.
    RunSeen {
        /// The run as it was then.
        run: Box<Run>,
        /// How it came to be seen.
        origin: RunOrigin,
        /// When the first piece of output text passed, if it was told by a stream that had shown any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first_token_at: Option<UnixMillis>,
        /// Whether the run's own stream told it: then everything before it was told as well.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        streamed: bool,
    },
    /// A run is still going on, although nothing is known of its state: its stream brings text, or the API refused something
    /// because of it. Known runs are waited for longer; it is no word of any other.
    RunGoesOn {
        /// The run.
        run: String,
    },
    /// A step of a run was seen by itself or in a stream.
    StepSeen(Box<Step>),
    /// A run's steps were listed.
    StepsListed {
        /// The run.
        run: String,
        /// The steps of the page, oldest first.
        steps: Vec<Step>,
        /// Whether the page shows all there are.
        whole: bool,
        /// When the list was asked for.
        requested_at: UnixMillis,
        /// The step the page goes on after, in time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        follows: Option<String>,
        /// The step the page goes on before, in time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        precedes: Option<String>,
    },
    /// The app handed in what its tools returned.
    ToolOutputsSubmitted {
        /// The run that waited for them.
        run: String,
        /// The outputs, in the request's order.
        outputs: Vec<ToolOutput>,
    },
    /// A stream of a run is over. It does not say that the run is.
    StreamEnded {
        /// The run.
        run: String,
        /// How the stream ended.
        ending: StreamEnding,
        /// When the first piece of output text passed, if any did.
        first_token_at: Option<UnixMillis>,
        /// An error the stream told, as the API gave it.
        error: Option<Box<RawValue>>,
    },
    /// A turn was seen in some state: a run that one exchange tells as a whole.
    TurnSeen(Box<Turn>),
}

/// How a single message came to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageOrigin {
    /// The answer to its creation: it is new.
    Created,
    /// Fetched or modified: it may be old.
    Fetched,
    /// Told by the stream of a run.
    Streamed,
}

/// How a run came to be seen.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOrigin {
    /// The answer to its creation, or the first state its creating stream told.
    Created {
        /// Messages the creating request carried; without ids.
        messages: Vec<Message>,
        /// When that request arrived.
        request_at: UnixMillis,
        /// The trace that request is part of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trace_id: Option<String>,
        /// Whether the answer is a stream.
        streamed: bool,
        /// Whether the same request created the conversation.
        new_conversation: bool,
        /// Whether the request may have carried messages that could not be read.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        messages_lost: bool,
        /// What the request told the assistant in place of its own instructions.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instructions: Option<String>,
        /// What the request told the assistant beside its instructions.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        additional_instructions: Option<String>,
    },
    /// The answer to handed-in tool outputs.
    Continued {
        /// Whether the answer is a stream.
        streamed: bool,
    },
    /// Polled, listed, modified, cancelled, or a later state in a stream.
    Seen,
}

/// A run as one body or event showed it. Every field but the id and the status may be missing on some servers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// The API's id.
    pub id: String,
    /// The status, in the API's words.
    pub status: RunStatus,
    /// The assistant that answers.
    pub assistant: Option<String>,
    /// The model that answers.
    pub model: Option<String>,
    /// Seconds since the epoch, by the API's clock.
    pub created_at: Option<f64>,
    /// Seconds since the epoch, by the API's clock.
    pub started_at: Option<f64>,
    /// Seconds since the epoch, by the API's clock: when it completed, failed or was cancelled.
    pub ended_at: Option<f64>,
    /// Seconds since the epoch, by the API's clock: when the API gives up waiting.
    pub expires_at: Option<f64>,
    /// Token counts as the API gave them; the last non-null wins.
    pub usage: Option<Box<RawValue>>,
    /// `last_error`, `error` or `incomplete_details`, as the API gave it.
    pub error: Option<Box<RawValue>>,
    /// The run's metadata, as the API gave it, unless empty.
    pub metadata: Option<Box<RawValue>>,
    /// The tool calls the run waits for.
    pub tool_calls: Vec<ToolCall>,
}

impl Run {
    /// A run of which nothing is known but this.
    #[must_use]
    pub fn new(id: String, status: RunStatus) -> Self {
        Self {
            id,
            status,
            assistant: None,
            model: None,
            created_at: None,
            started_at: None,
            ended_at: None,
            expires_at: None,
            usage: None,
            error: None,
            metadata: None,
            tool_calls: Vec::new(),
        }
    }
}

/// The states of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Queued, in progress, cancelling, or a state this program does not know: the run goes on.
    Active(String),
    /// Terminal.
    Cancelled,
    /// Terminal.
    Completed,
    /// Terminal.
    Expired,
    /// Terminal.
    Failed,
    /// Terminal.
    Incomplete,
    /// The run waits for tool outputs.
    RequiresAction,
}

impl RunStatus {
    /// Whether the run is over.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        !matches!(self, Self::Active(_) | Self::RequiresAction)
    }
}

/// A page of a conversation's messages.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MessagePage {
    /// The messages, in the order they were listed.
    pub messages: Vec<Message>,
    /// The order that was asked for.
    pub order: PageOrder,
    /// The run the client asked to see only.
    pub run_filter: Option<String>,
    /// Where the page begins.
    pub start: PageStart,
    /// Whether more follow; none where the server does not say.
    pub has_more: Option<bool>,
    /// When the page was asked for.
    pub requested_at: UnixMillis,
}

/// Where a page begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PageStart {
    /// After the message with this id, in the page's order.
    After(String),
    /// At the list's beginning.
    Beginning,
    /// Somewhere: a `before` cursor counts from the other end.
    Unknown,
}

/// The order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PageOrder {
    /// Oldest first.
    Ascending,
    /// Newest first: the API's default.
    Descending,
}

/// A step of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    /// The API's id.
    pub id: String,
    /// The run it belongs to.
    pub run: String,
    /// The message it created, for message creation steps.
    pub message: Option<String>,
    /// The tools it called, for tool call steps.
    pub tool_calls: Vec<ToolCall>,
}

/// A call of a tool.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ToolCall {
    /// The API's id of the call.
    pub id: String,
    /// `function`, `code_interpreter`, `file_search`, `mcp`, or whatever else the API names.
    pub kind: String,
    /// The MCP server that has the tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The function's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The function's arguments (JSON in a string), the interpreter's or search's input, or as JSON text whatever else
    /// describes a call of a kind that has none of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
    /// What came back: a function's output, or the interpreter's outputs or the search's results as JSON text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

/// What a tool returned.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ToolOutput {
    /// The call it answers.
    pub call: String,
    /// The output.
    pub output: String,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamEnding {
    /// The client went away.
    ClientGone,
    /// Upstream finished it, and nothing of it was missed.
    Complete,
    /// Upstream broke off, or part of the copy was lost.
    Truncated,
}
