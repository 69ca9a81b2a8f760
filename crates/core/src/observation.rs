//! One fact about a conversation from an exchange, independent of HTTP and of any API's wire
//! format.
//!
//! The journal stores observations. They are serialised as JSON, so the format must stay compatible
//! with an older journal (new fields are optional, variants are never renamed).

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

/// Identifies a conversation: a thread, a conversation, or the chain that a response began, within
/// its upstream.
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
    /// When it was seen, by the proxy's clock.
    pub at: UnixMillis,
    /// The session, user and app of the exchange.
    #[serde(default, skip_serializing_if = "Attribution::is_empty")]
    pub attribution: Attribution,
    /// The fact.
    pub fact: Fact,
}

/// The content of a fact.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// The conversation was created, with messages that the response does not name.
    ConversationCreated {
        /// The messages of the request, in order, without ids.
        messages: Vec<Message>,
        /// Whether the request may have carried others that could not be read.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        messages_lost: bool,
    },
    /// The conversation was deleted.
    ConversationDeleted,
    /// The conversation itself was fetched or modified: this may show its session, user and app.
    ConversationSeen,
    /// A single message was seen: created, fetched, or in a stream.
    MessageSeen {
        /// The message.
        message: Message,
        /// How it was seen.
        origin: MessageOrigin,
        /// When its creation was requested, if the creation was seen.
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
        /// How it was seen.
        origin: RunOrigin,
        /// When the first piece of output text passed, if a stream that had shown any reported the
        /// run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first_token_at: Option<UnixMillis>,
        /// Whether the run's own stream reported it: then the stream also reported everything
        /// before it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        streamed: bool,
    },
    /// A run is still active, but its state is unknown: its stream delivers text, or the API
    /// refused a request because of it. This extends the deadline of a known run. It does not
    /// create an unknown one.
    RunGoesOn {
        /// The run.
        run: String,
    },
    /// A single step of a run was seen, or a step in a stream.
    StepSeen(Box<Step>),
    /// A run's steps were listed.
    StepsListed {
        /// The run.
        run: String,
        /// The steps of the page, oldest first.
        steps: Vec<Step>,
        /// Whether the page shows all steps.
        whole: bool,
        /// When the list was requested.
        requested_at: UnixMillis,
        /// The step after which the page begins, in time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        follows: Option<String>,
        /// The step before which the page ends, in time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        precedes: Option<String>,
    },
    /// The app submitted tool outputs.
    ToolOutputsSubmitted {
        /// The run that waited for them.
        run: String,
        /// The outputs, in the request's order.
        outputs: Vec<ToolOutput>,
    },
    /// A stream of a run ended. The run itself may continue.
    StreamEnded {
        /// The run.
        run: String,
        /// How the stream ended.
        ending: StreamEnding,
        /// When the first piece of output text passed, if any did.
        first_token_at: Option<UnixMillis>,
        /// An error that the stream reported, exactly as the API gave it.
        error: Option<Box<RawValue>>,
    },
    /// The state of a turn was seen: a run that is contained in one exchange.
    TurnSeen(Box<Turn>),
}

/// How a single message was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageOrigin {
    /// In the response to its creation: it is new.
    Created,
    /// Fetched or modified: it may be old.
    Fetched,
    /// In the stream of a run.
    Streamed,
}

/// How a run was seen.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOrigin {
    /// In the response to its creation, or as the first state in the stream that created it.
    Created {
        /// Messages in the creating request, without ids.
        messages: Vec<Message>,
        /// When that request arrived.
        request_at: UnixMillis,
        /// The trace that the request is part of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trace_id: Option<String>,
        /// Whether the response is a stream.
        streamed: bool,
        /// Whether the same request created the conversation.
        new_conversation: bool,
        /// Whether the request may have carried messages that could not be read.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        messages_lost: bool,
        /// The instructions in the request that replace the assistant's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instructions: Option<String>,
        /// The additional instructions in the request.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        additional_instructions: Option<String>,
    },
    /// In the response to submitted tool outputs.
    Continued {
        /// Whether the response is a stream.
        streamed: bool,
    },
    /// Polled, listed, modified, cancelled, or a later state in a stream.
    Seen,
}

/// A run as shown by one body or event. Some servers omit fields; only the id and the status are
/// always present.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// The API's id.
    pub id: String,
    /// The status as the API named it.
    pub status: RunStatus,
    /// The assistant that responds.
    pub assistant: Option<String>,
    /// The model that responds.
    pub model: Option<String>,
    /// Seconds since the epoch, by the API's clock.
    pub created_at: Option<f64>,
    /// Seconds since the epoch, by the API's clock.
    pub started_at: Option<f64>,
    /// Seconds since the epoch, by the API's clock: when it completed, failed or was cancelled.
    pub ended_at: Option<f64>,
    /// Seconds since the epoch, by the API's clock: when the run expires.
    pub expires_at: Option<f64>,
    /// Token counts exactly as the API reported them. The last non-null value wins.
    pub usage: Option<Box<RawValue>>,
    /// `last_error`, `error` or `incomplete_details`, exactly as the API gave it.
    pub error: Option<Box<RawValue>>,
    /// The run's metadata, exactly as the API gave it, unless empty.
    pub metadata: Option<Box<RawValue>>,
    /// The tool calls the run waits for.
    pub tool_calls: Vec<ToolCall>,
}

impl Run {
    /// A run with only these values known.
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
    /// Queued, in progress, cancelling, or an unknown state: the run is active.
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
    /// The requested order.
    pub order: PageOrder,
    /// The run that the client filtered by.
    pub run_filter: Option<String>,
    /// Where the page begins.
    pub start: PageStart,
    /// Whether more messages follow. None if the server does not say.
    pub has_more: Option<bool>,
    /// When the page was requested.
    pub requested_at: UnixMillis,
}

/// Where a page begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PageStart {
    /// After the message with this id, in the page's order.
    After(String),
    /// At the beginning of the list.
    Beginning,
    /// At an unknown place: a `before` cursor counts from the other end.
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
    /// `function`, `code_interpreter`, `file_search`, `mcp`, or any other type that the API names.
    pub kind: String,
    /// The MCP server that provides the tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The function's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The function's arguments (JSON in a string), or the interpreter's or search's input. For
    /// other types of calls, a description of the call as JSON text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
    /// The result: a function's output, or the interpreter's outputs or the search's results as
    /// JSON text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

/// The output of a tool.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ToolOutput {
    /// The id of the tool call.
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
    /// Upstream finished the stream, and no part of it was missed.
    Complete,
    /// Upstream aborted the stream, or part of the copy was lost.
    Truncated,
}
