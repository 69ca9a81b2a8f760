//! The stored objects and their JSON representations.

use std::collections::VecDeque;

use serde_json::{Map, Value, json};

use super::behaviour::Act;
use super::expected::ResponseUsage;
use super::items;
use crate::script::UsageTiming;
use crate::stream::Event;

/// A conversation.
pub(super) struct Conversation {
    pub(super) id: String,
    pub(super) created_at: u64,
    pub(super) metadata: Map<String, Value>,
    /// Its items, oldest first. The flag says whether a response has taken or made the item.
    pub(super) items: Vec<(Value, bool)>,
}

impl Conversation {
    pub(super) fn object(&self) -> Value {
        json!({
            "id": self.id, "object": "conversation", "created_at": self.created_at, "metadata": self.metadata,
        })
    }
}

/// The states of a response, in the API's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResponseState {
    Cancelled,
    Completed,
    Failed,
    InProgress,
    Incomplete,
    Queued,
}

impl ResponseState {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::InProgress => "in_progress",
            Self::Incomplete => "incomplete",
            Self::Queued => "queued",
        }
    }

    pub(super) fn is_terminal(self) -> bool {
        !matches!(self, Self::InProgress | Self::Queued)
    }
}

/// What advances a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Driver {
    /// No driver. Polls or the test may advance it.
    None,
    /// A stream, which also sends its events.
    Stream,
    /// Time.
    Time,
}

/// A response and its remaining plan.
pub(super) struct Response {
    pub(super) id: String,
    pub(super) created_at: u64,
    pub(super) ended_at: Option<u64>,
    pub(super) state: ResponseState,
    /// The request body.
    pub(super) request: Value,
    /// The model that responds.
    pub(super) model: String,
    pub(super) metadata: Map<String, Value>,
    pub(super) conversation: Option<String>,
    pub(super) previous: Option<String>,
    pub(super) root: String,
    pub(super) continues: Option<String>,
    pub(super) follows: Option<String>,
    pub(super) turn: String,
    /// How many earlier responses its turn has.
    pub(super) depth: usize,
    /// What the user said in its turn.
    pub(super) texts: Vec<String>,
    /// The items known before its turn, or sent again.
    pub(super) context: Vec<Value>,
    /// The new items. The first of them were already in its conversation.
    pub(super) inputs: Vec<Value>,
    pub(super) pending_inputs: usize,
    pub(super) outputs: Vec<Value>,
    pub(super) usage: ResponseUsage,
    pub(super) error: Option<Value>,
    pub(super) incomplete_reason: Option<&'static str>,
    pub(super) plan: VecDeque<Act>,
    pub(super) driver: Driver,
    /// All events of its stream, even if nobody streams it. An event's index is its sequence
    /// number.
    pub(super) log: Vec<Event>,
    pub(super) stored: bool,
    pub(super) abandoned: bool,
    pub(super) refused: bool,
    /// Whether its links to other objects are omitted.
    pub(super) omit_links: bool,
    /// How many times clients have seen its terminal state.
    pub(super) terminal_views: u32,
}

impl Response {
    /// The system messages at the start of its input.
    fn leading(&self) -> &[Value] {
        let input = self.request["input"].as_array().map_or(&[][..], Vec::as_slice);
        let leads = |item: &Value| item["role"] == "system" || item["role"] == "developer";
        &input[..input.iter().take_while(|item| leads(item)).count()]
    }

    /// The instructions in its request, apart from the conversation.
    pub(super) fn instructions(&self) -> Option<String> {
        let text = |item: &Value| match &item["content"] {
            Value::String(text) => text.clone(),
            content => items::text(&json!({"type": "message", "content": content})),
        };
        let leading = self.leading().iter().map(text);
        let all: Vec<String> =
            self.request["instructions"].as_str().map(str::to_owned).into_iter().chain(leading).collect();
        Some(all.join("\n")).filter(|all| !all.is_empty())
    }

    /// The new items of its request, without instructions.
    pub(super) fn new_inputs(&self) -> impl Iterator<Item = &Value> {
        let given = self.request["input"].as_array().map_or(1, Vec::len);
        let (pending, asked) = self.inputs.split_at(self.pending_inputs);
        let leading = if asked.len() == given { self.leading().len() } else { 0 };
        pending.iter().chain(&asked[leading..])
    }

    /// Whether it runs in the background.
    pub(super) fn in_background(&self) -> bool {
        self.request["background"] == true
    }

    /// The response as a client sees it now.
    pub(super) fn view(&mut self, usage: UsageTiming) -> Value {
        let shown = self.state.is_terminal()
            && match usage {
                UsageTiming::Late => self.terminal_views > 0,
                UsageTiming::Never => false,
                UsageTiming::Terminal => true,
            };
        self.terminal_views += u32::from(self.state.is_terminal());
        self.object(shown)
    }

    /// The response as JSON. `usage` says whether the viewer may see the usage.
    pub(super) fn object(&self, usage: bool) -> Value {
        let field = |name: &str, default: Value| match &self.request[name] {
            Value::Null => default,
            given => given.clone(),
        };
        let reason = self.incomplete_reason.map(|reason| json!({ "reason": reason }));
        let completed_at = self.ended_at.filter(|_| self.state == ResponseState::Completed);
        let mut object = json!({
            "id": self.id, "object": "response", "created_at": self.created_at, "status": self.state.as_str(),
            "background": self.in_background(), "completed_at": completed_at, "error": self.error,
            "incomplete_details": reason, "instructions": field("instructions", Value::Null),
            "max_output_tokens": field("max_output_tokens", Value::Null), "max_tool_calls": null, "model": self.model,
            "output": self.outputs, "parallel_tool_calls": field("parallel_tool_calls", json!(true)),
            "previous_response_id": self.previous, "prompt_cache_key": field("prompt_cache_key", Value::Null),
            "reasoning": {"effort": null, "summary": null},
            "safety_identifier": field("safety_identifier", Value::Null), "service_tier": "default",
            "store": field("store", json!(true)), "temperature": field("temperature", json!(1.0)),
            "text": field("text", json!({"format": {"type": "text"}})),
            "tool_choice": field("tool_choice", json!("auto")), "tools": field("tools", json!([])),
            "top_logprobs": 0, "top_p": field("top_p", json!(1.0)), "truncation": "disabled",
            "usage": usage.then(|| self.usage.object()), "user": field("user", Value::Null), "metadata": self.metadata,
        });
        match &self.conversation {
            _ if self.omit_links => object["previous_response_id"] = Value::Null,
            Some(id) => object["conversation"] = json!({ "id": id }),
            None => {}
        }
        object
    }
}
