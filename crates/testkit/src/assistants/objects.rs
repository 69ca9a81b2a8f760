//! The stored objects and their JSON representations.

use serde_json::{Map, Value, json};
use threadtap_core::message::content_text;

use super::expected::{ExpectedCall, ExpectedMessage, Usage};

/// A conversation.
#[derive(Clone, Debug)]
pub(super) struct Thread {
    pub(super) id: String,
    pub(super) created_at: u64,
    pub(super) metadata: Map<String, Value>,
    pub(super) messages: Vec<Message>,
    /// Its runs' ids, oldest first.
    pub(super) runs: Vec<String>,
}

impl Thread {
    pub(super) fn object(&self) -> Value {
        json!({
            "id": self.id, "object": "thread", "created_at": self.created_at, "metadata": self.metadata,
            "tool_resources": {},
        })
    }
}

/// The status of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MessageState {
    Completed,
    InProgress,
    /// Incomplete, for this reason in the API's terms.
    Incomplete(&'static str),
}

/// A message of a thread.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) id: String,
    pub(super) created_at: u64,
    pub(super) ended_at: Option<u64>,
    pub(super) thread: String,
    pub(super) role: String,
    /// The parts, in the response's format.
    pub(super) content: Vec<Value>,
    pub(super) state: MessageState,
    /// The run that made it.
    pub(super) run: Option<String>,
    pub(super) assistant: Option<String>,
    pub(super) attachments: Value,
    pub(super) metadata: Map<String, Value>,
    /// Whether a run has taken it as its input.
    pub(super) claimed: bool,
}

impl Message {
    pub(super) fn object(&self) -> Value {
        let (status, reason) = match self.state {
            MessageState::Completed => ("completed", None),
            MessageState::InProgress => ("in_progress", None),
            MessageState::Incomplete(reason) => ("incomplete", Some(json!({ "reason": reason }))),
        };
        json!({
            "id": self.id, "object": "thread.message", "created_at": self.created_at,
            "assistant_id": self.assistant, "thread_id": self.thread, "run_id": self.run, "status": status,
            "incomplete_details": reason,
            "incomplete_at": self.ended_at.filter(|_| status == "incomplete"),
            "completed_at": self.ended_at.filter(|_| status == "completed"),
            "role": self.role,
            // The real server shows no content until the message has ended.
            "content": if status == "in_progress" { &[][..] } else { &self.content },
            "attachments": self.attachments, "metadata": self.metadata,
        })
    }

    pub(super) fn text(&self) -> String {
        self.content.iter().map(|part| content_text(&json!([part]))).collect::<Vec<_>>().join("\n")
    }

    pub(super) fn truth(&self) -> ExpectedMessage {
        ExpectedMessage { id: self.id.clone(), role: self.role.clone(), text: self.text() }
    }
}

/// A step of a run.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) id: String,
    pub(super) created_at: u64,
    pub(super) ended_at: Option<u64>,
    pub(super) status: &'static str,
    pub(super) details: StepDetails,
}

/// The type of a step.
#[derive(Clone, Debug)]
pub(super) enum StepDetails {
    /// Writes the message with this id.
    Message(String),
    /// Calls tools.
    Tools(Vec<ExpectedCall>),
}

impl Step {
    pub(super) fn object(&self, run: &Run) -> Value {
        let ended = |status: &str| self.ended_at.filter(|_| self.status == status);
        let last_error = (self.status == "failed").then_some(&run.last_error);
        json!({
            "id": self.id, "object": "thread.run.step", "created_at": self.created_at, "run_id": run.id,
            "assistant_id": run.assistant, "thread_id": run.thread, "type": self.details.kind(),
            "status": self.status, "cancelled_at": ended("cancelled"), "completed_at": ended("completed"),
            "expired_at": ended("expired"), "failed_at": ended("failed"), "last_error": last_error,
            "metadata": {}, "step_details": self.details.object(),
            "usage": (self.status == "completed").then(|| run.usage.object()),
        })
    }
}

impl StepDetails {
    fn kind(&self) -> &'static str {
        match self {
            Self::Message(_) => "message_creation",
            Self::Tools(_) => "tool_calls",
        }
    }

    fn object(&self) -> Value {
        match self {
            Self::Message(id) => {
                json!({"type": "message_creation", "message_creation": {"message_id": id}})
            }
            Self::Tools(calls) => {
                let calls: Vec<Value> = calls.iter().map(call_object).collect();
                json!({"type": "tool_calls", "tool_calls": calls})
            }
        }
    }
}

/// A call, as a finished or waiting step shows it.
fn call_object(call: &ExpectedCall) -> Value {
    match call.kind.as_str() {
        "code_interpreter" => json!({
            "id": call.id, "type": "code_interpreter",
            "code_interpreter": {
                "input": call.arguments,
                "outputs": call.output.iter().map(|logs| json!({"type": "logs", "logs": logs})).collect::<Vec<_>>(),
            },
        }),
        "azure_ai_search" => json!({
            "id": call.id, "type": "azure_ai_search",
            "azure_ai_search": {"input": call.arguments, "output": call.output},
        }),
        "bing_grounding" => json!({
            "id": call.id, "type": "bing_grounding",
            "bing_grounding": serde_json::from_str(&call.arguments).unwrap_or(Value::Null),
        }),
        _ => json!({
            "id": call.id, "type": "function",
            "function": {"name": call.name, "arguments": call.arguments, "output": call.output},
        }),
    }
}

/// The states of a run, in the API's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RunState {
    Cancelled,
    Cancelling,
    Completed,
    Expired,
    Failed,
    InProgress,
    Incomplete,
    Queued,
    RequiresAction,
}

impl RunState {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Cancelling => "cancelling",
            Self::Completed => "completed",
            Self::Expired => "expired",
            Self::Failed => "failed",
            Self::InProgress => "in_progress",
            Self::Incomplete => "incomplete",
            Self::Queued => "queued",
            Self::RequiresAction => "requires_action",
        }
    }

    pub(super) fn is_terminal(self) -> bool {
        matches!(self, Self::Cancelled | Self::Completed | Self::Expired | Self::Failed | Self::Incomplete)
    }
}

/// A run without its plan.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) id: String,
    pub(super) thread: String,
    pub(super) assistant: String,
    pub(super) model: String,
    pub(super) state: RunState,
    pub(super) created_at: u64,
    pub(super) started_at: Option<u64>,
    pub(super) ended_at: Option<u64>,
    pub(super) last_error: Option<Value>,
    pub(super) incomplete_reason: Option<&'static str>,
    pub(super) metadata: Map<String, Value>,
    /// Instructions, tools and similar settings, as sent in the request.
    pub(super) request: Value,
    pub(super) usage: Usage,
    pub(super) steps: Vec<Step>,
    pub(super) inputs: Vec<ExpectedMessage>,
    pub(super) outputs: Vec<ExpectedMessage>,
    pub(super) thread_deleted: bool,
    /// How many times clients have seen its terminal state.
    pub(super) terminal_views: u32,
}

impl Run {
    /// The run as JSON. `usage` says whether the viewer may see the usage.
    pub(super) fn object(&self, usage: bool) -> Value {
        let ended = |state: RunState| self.ended_at.filter(|_| self.state == state);
        let expires_at = (!self.state.is_terminal()).then_some(self.created_at + EXPIRY_SECS);
        let reason = self.incomplete_reason.map(|reason| json!({ "reason": reason }));
        let field = |name: &str, default: Value| match &self.request[name] {
            Value::Null => default,
            given => given.clone(),
        };
        json!({
            "id": self.id, "object": "thread.run", "created_at": self.created_at,
            "assistant_id": self.assistant, "thread_id": self.thread, "status": self.state.as_str(),
            "started_at": self.started_at, "expires_at": expires_at,
            "cancelled_at": ended(RunState::Cancelled), "failed_at": ended(RunState::Failed),
            "completed_at": ended(RunState::Completed), "required_action": self.required_action(),
            "last_error": self.last_error, "model": self.model,
            "instructions": field("instructions", Value::Null), "tools": field("tools", json!([])),
            "tool_resources": {}, "metadata": self.metadata, "temperature": field("temperature", json!(1.0)),
            "top_p": field("top_p", json!(1.0)),
            "max_completion_tokens": field("max_completion_tokens", Value::Null),
            "max_prompt_tokens": field("max_prompt_tokens", Value::Null),
            "truncation_strategy": field("truncation_strategy", json!({"type": "auto", "last_messages": null})),
            "incomplete_details": reason,
            "usage": usage.then(|| self.usage.object()),
            "response_format": field("response_format", json!("auto")),
            "tool_choice": field("tool_choice", json!("auto")),
            "parallel_tool_calls": field("parallel_tool_calls", json!(true)),
        })
    }

    /// The calls whose outputs it is waiting for.
    pub(super) fn waiting_calls(&self) -> &[ExpectedCall] {
        match self.steps.last() {
            Some(Step { details: StepDetails::Tools(calls), .. })
                if self.state == RunState::RequiresAction =>
            {
                calls
            }
            _ => &[],
        }
    }

    fn required_action(&self) -> Option<Value> {
        (self.state == RunState::RequiresAction).then(|| {
            let calls: Vec<Value> = self
                .waiting_calls()
                .iter()
                .map(|call| {
                    json!({
                        "id": call.id, "type": "function",
                        "function": {"name": call.name, "arguments": call.arguments},
                    })
                })
                .collect();
            json!({"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": calls}})
        })
    }
}

/// The expiry time a run reports. Nothing actually expires by this clock.
const EXPIRY_SECS: u64 = 600;
