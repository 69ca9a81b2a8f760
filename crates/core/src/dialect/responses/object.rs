//! Reads a `response` object, including one that a server changed.

use serde_json::Value;

use super::item::{self, OutputItem};
use super::speech;
use crate::dialect::field::{error, id, raw, seconds};
use crate::dialect::history::Speech;
use crate::message::Message;
use crate::observation::{Reasoning, Run, RunStatus, ToolCall};

/// The output of a response, by kind, in order.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    pub(super) messages: Vec<Message>,
    pub(super) reasoning: Vec<Reasoning>,
    pub(super) tool_calls: Vec<ToolCall>,
    /// The id of the last item, if no other item has it.
    pub(super) last_item: Option<String>,
    /// The part of it that a later request may repeat.
    pub(super) said: Speech,
}

impl Outputs {
    /// Reads an `output` list.
    pub(super) fn of(items: &mut Value, run: &str) -> Self {
        let mut outputs = Self::default();
        for (place, item) in (0..).zip(items.as_array_mut().into_iter().flatten()) {
            outputs.push(item.take(), run, place);
        }
        outputs
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.reasoning.is_empty() && self.tool_calls.is_empty()
    }

    /// Adds an item at its position in the whole output.
    pub(super) fn push(&mut self, item: Value, run: &str, place: u64) {
        if let Some(id) = item::unique_id(&item) {
            self.last_item = Some(id.to_owned());
        }
        speech::say_output(&mut self.said, &item);
        match item::output(item, run, place) {
            Some(OutputItem::Message(message)) => self.messages.push(message),
            Some(OutputItem::Reasoning(reasoning)) => self.reasoning.push(reasoning),
            Some(OutputItem::ToolCall(call)) => self.tool_calls.push(call),
            None => {}
        }
    }
}

/// Whether a body is a response, where one is expected. Its `object` need not say so. A list called
/// `output` is enough, or, if `object` says nothing, an id and a status of this API.
pub(super) fn is_response(body: &Value) -> bool {
    match body["object"].as_str() {
        Some("response") => true,
        Some("list") => false,
        None if is_status(&body["status"]) && id(&body["id"]).is_some() => true,
        _ => body["output"].is_array(),
    }
}

fn is_status(status: &Value) -> bool {
    const STATUSES: [&str; 6] = ["cancelled", "completed", "failed", "in_progress", "incomplete", "queued"];
    status.as_str().is_some_and(|status| STATUSES.contains(&status))
}

/// The state of the response itself, without its output. `named` is the status from the event's
/// name.
pub(super) fn run(body: &Value, local_id: &str, named: Option<&str>) -> Run {
    let error = [&body["error"], &body["incomplete_details"]].into_iter().find_map(error);
    Run {
        id: id(&body["id"]).unwrap_or(local_id).to_owned(),
        status: status(body, named),
        assistant: assistant(body),
        model: id(&body["model"]).map(str::to_owned),
        created_at: seconds(&body["created_at"]),
        started_at: None,
        ended_at: seconds(&body["completed_at"]),
        expires_at: None,
        usage: raw(&body["usage"]),
        error,
        metadata: raw(&body["metadata"]),
        tool_calls: Vec::new(),
    }
}

fn status(body: &Value, named: Option<&str>) -> RunStatus {
    let told = body["status"].as_str().filter(|status| !status.is_empty()).or(named);
    match told {
        Some("created") => RunStatus::Active("in_progress".to_owned()),
        Some("canceled" | "cancelled") => RunStatus::Cancelled,
        Some("completed") => RunStatus::Completed,
        Some("error" | "failed") => RunStatus::Failed,
        Some("incomplete") => RunStatus::Incomplete,
        Some(other) => RunStatus::Active(other.chars().take(MAX_STATUS_CHARS).collect()),
        // A server that leaves it out responds when it is done.
        None if body["output"].as_array().is_some_and(|items| !items.is_empty()) => RunStatus::Completed,
        None => RunStatus::Active(String::new()),
    }
}

/// The stored prompt, or the agent on Foundry, that a request or a response names.
pub(super) fn assistant(body: &Value) -> Option<String> {
    let names = [&body["prompt"]["id"], &body["agent"]["name"], &body["agent_reference"]["name"]];
    names.into_iter().find_map(id).map(str::to_owned)
}

/// The conversation that a request or a response names: by its id, or as an object.
pub(super) fn conversation(body: &Value) -> Option<&str> {
    id(&body["conversation"]).or_else(|| id(&body["conversation"]["id"]))
}

const MAX_STATUS_CHARS: usize = 64;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn wrong_types_are_as_if_missing() {
        let odd = json!({"id": 5, "status": 7, "usage": 3, "error": 7, "metadata": [], "model": {}, "created_at": "now",
                         "conversation": 9, "output": {"0": 1}});
        let run = run(&odd, "own", None);
        assert_eq!((run.id.as_str(), run.status), ("own", RunStatus::Active(String::new())));
        assert!(run.usage.is_none() && run.error.is_none() && run.model.is_none());
        assert_eq!(conversation(&odd), None);
        assert!(Outputs::of(&mut odd.clone()["output"], "r").messages.is_empty());
        let mut items = json!([null, 3, {}, {"type": 5}, {"role": "assistant", "content": "plain"}]);
        let outputs = Outputs::of(&mut items, "r");
        assert_eq!((outputs.messages.len(), outputs.messages[0].text().as_str()), (1, "plain"));
        assert_eq!(outputs.messages[0].id.as_deref(), Some("r#4"));
    }

    #[test]
    fn a_conversation_is_named_by_its_id_or_as_an_object() {
        assert_eq!(conversation(&json!({"conversation": "conv_1"})), Some("conv_1"));
        assert_eq!(conversation(&json!({"conversation": {"id": "conv_1"}})), Some("conv_1"));
        assert_eq!(conversation(&json!({"conversation": null})), None);
    }

    #[test]
    fn a_status_is_the_bodys_word_then_the_events_name_then_what_there_is() {
        let check = |body: Value, named, expected| assert_eq!(status(&body, named), expected, "{body}");
        check(json!({"status": "failed"}), Some("completed"), RunStatus::Failed);
        check(json!({}), Some("completed"), RunStatus::Completed);
        check(json!({"output": [{}]}), None, RunStatus::Completed);
        check(json!({"output": []}), None, RunStatus::Active(String::new()));
        check(json!({"status": "queued"}), None, RunStatus::Active("queued".to_owned()));
    }

    #[test]
    fn a_response_is_known_by_its_object_or_its_output() {
        assert!(is_response(&json!({"id": "resp_1", "status": "queued"})));
        assert!(is_response(&json!({"object": "response"})) && is_response(&json!({"output": []})));
        for other in [
            json!({"object": "list", "output": []}),
            json!({"error": {}}),
            json!([]),
            json!({"output": ""}),
            json!({"id": "form_1", "status": "submitted"}),
            json!({"object": "form", "id": "form_1", "status": "completed"}),
        ] {
            assert!(!is_response(&other), "{other}");
        }
    }
}
