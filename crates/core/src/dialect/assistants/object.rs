//! Reads the API's objects, including those that a server changed.
//!
//! Any field may be missing, null or of another type (clones do all of these). In each case it is
//! treated as missing. Sources: the OpenAPI document of 2026-08-21 for shapes, observed servers for
//! the deviations.

use serde_json::value::to_raw_value;
use serde_json::{Map, Value, json};

use super::members::{Members, Name};
use crate::dialect::clean::{self, Files};
use crate::dialect::field::{self, id, raw, seconds};
use crate::dialect::inline::shorten;
use crate::dialect::object::Object;
use crate::message::{Message, MessageStatus, Role};
use crate::observation::{Run, RunStatus, Step, ToolCall};

/// A `thread.message` object of a response, and its members.
pub(super) fn message(json: &str, members: &Members<'_>) -> Option<Message> {
    Some(Message {
        id: Some(id(&members[Name::Id])?.to_owned()),
        role: role(&members[Name::Role]),
        status: match members[Name::Status].as_str() {
            Some("in_progress") => MessageStatus::InProgress,
            Some("incomplete") => MessageStatus::Incomplete,
            _ => MessageStatus::Completed,
        },
        created_at: seconds(&members[Name::CreatedAt]),
        run: id(&members[Name::RunId]).map(str::to_owned),
        object: clean::kept(json, Files::DescribedInContent)?,
    })
}

/// The instructions in a `thread.run` object. Every poll contains them, so they are read only where
/// they are needed.
pub(super) fn instructions(json: &str) -> Option<String> {
    let text = Object::parse(json)?.text("instructions")?;
    field::instructions(&text).map(str::to_owned)
}

/// A `thread.run` object.
pub(super) fn run(members: &Members<'_>) -> Option<Run> {
    // `submit_tool_outputs`, or the names that Azure's agents use for other kinds of tools.
    let mut actions =
        members[Name::RequiredAction].as_object().into_iter().flat_map(|action| action.values());
    let calls = actions.find_map(|action| action["tool_calls"].as_array());
    let own = |name| id(&members[name]).map(str::to_owned);
    let time = |name| seconds(&members[name]);
    let kept = |name| raw(&members[name]);
    Some(Run {
        id: own(Name::Id)?,
        status: match members[Name::Status].as_str().unwrap_or_default() {
            "canceled" | "cancelled" => RunStatus::Cancelled,
            "completed" => RunStatus::Completed,
            "expired" => RunStatus::Expired,
            "error" | "failed" => RunStatus::Failed,
            "incomplete" => RunStatus::Incomplete,
            "requires_action" => RunStatus::RequiresAction,
            other => RunStatus::Active(other.chars().take(MAX_STATUS_CHARS).collect()),
        },
        assistant: own(Name::AssistantId),
        model: own(Name::Model),
        created_at: time(Name::CreatedAt),
        started_at: time(Name::StartedAt),
        ended_at: [Name::CompletedAt, Name::FailedAt, Name::CancelledAt].into_iter().find_map(time),
        expires_at: time(Name::ExpiresAt),
        usage: kept(Name::Usage),
        error: [Name::LastError, Name::IncompleteDetails].into_iter().find_map(kept),
        metadata: kept(Name::Metadata),
        tool_calls: calls.into_iter().flatten().filter_map(tool_call).collect(),
    })
}

/// A message of a request. Its content may be a string, its text parts are plain, and it has no id.
pub(super) fn request_message(message: &Value) -> Option<Message> {
    let Value::Object(fields) = message else { return None };
    let mut object = Map::new();
    object.insert("object".to_owned(), json!("thread.message"));
    object.insert("role".to_owned(), fields.get("role").cloned().unwrap_or_else(|| json!("user")));
    let mut content = response_content(fields.get("content").unwrap_or(&Value::Null));
    shorten(&mut content);
    object.insert("content".to_owned(), content);
    for name in ["attachments", "metadata"] {
        if let Some(value) = fields.get(name).filter(|value| !value.is_null()) {
            object.insert(name.to_owned(), value.clone());
        }
    }
    Some(Message {
        id: None,
        role: role(&object["role"]),
        status: MessageStatus::Completed,
        created_at: None,
        run: None,
        object: to_raw_value(&object).ok()?,
    })
}

/// A message of which only streamed pieces were seen.
pub(super) fn partial_message(
    thread: &str,
    run: &str,
    id: &str,
    content: &Value,
    status: MessageStatus,
) -> Option<Message> {
    let object = json!({
        "id": id,
        "object": "thread.message",
        "thread_id": thread,
        "run_id": run,
        "role": "assistant",
        "content": content,
    });
    Some(Message {
        id: Some(id.to_owned()),
        role: Role::Assistant,
        status,
        created_at: None,
        run: Some(run.to_owned()),
        object: to_raw_value(&object).ok()?,
    })
}

/// A `thread.run.step` object.
pub(super) fn step(members: &Members<'_>, run: Option<&str>) -> Option<Step> {
    let details = &members[Name::StepDetails];
    Some(Step {
        id: id(&members[Name::Id])?.to_owned(),
        run: id(&members[Name::RunId]).or(run)?.to_owned(),
        message: id(&details["message_creation"]["message_id"]).map(str::to_owned),
        tool_calls: details["tool_calls"].as_array().into_iter().flatten().filter_map(tool_call).collect(),
    })
}

fn role(value: &Value) -> Role {
    match value.as_str() {
        Some("assistant") => Role::Assistant,
        Some("user") => Role::User,
        _ => Role::Other,
    }
}

pub(super) fn tool_call(object: &Value) -> Option<ToolCall> {
    let kind = object["type"].as_str().unwrap_or("function");
    // Some of Azure's additional kinds have their fields next to the type. `openapi` has them under
    // `function`.
    let nested = [kind, "function"].map(|name| &object[name]).into_iter().find(|details| details.is_object());
    let details = nested.unwrap_or(object);
    let text = |value: &Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    let (arguments, output) = match kind {
        "code_interpreter" => (text(&details["input"]), text(&details["outputs"])),
        "file_search" => (None, text(&details["results"])),
        "function" => (text(&details["arguments"]), text(&details["output"])),
        _ => {
            let arguments = text(&details["arguments"]).or_else(|| text(&details["input"]));
            let output = text(&details["output"]);
            // A value with none of these fields (for example `bing_grounding`) is kept as it is.
            let unread =
                nested.filter(|details| arguments.is_none() && output.is_none() && **details != json!({}));
            (arguments.or_else(|| unread.map(Value::to_string)), output)
        }
    };
    Some(ToolCall {
        id: id(&object["id"])?.to_owned(),
        kind: kind.to_owned(),
        server: None,
        name: text(&details["name"]),
        arguments,
        output,
    })
}

/// Converts a request's content to the shape of a response's content.
fn response_content(content: &Value) -> Value {
    let text_part = |text: &str| json!({"type": "text", "text": {"value": text, "annotations": []}});
    match content {
        Value::String(text) => json!([text_part(text)]),
        Value::Array(parts) => parts
            .iter()
            .map(|part| match part["text"].as_str() {
                Some(text) if part["type"] == "text" => text_part(text),
                _ => part.clone(),
            })
            .collect(),
        _ => json!([]),
    }
}

const MAX_STATUS_CHARS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T>(json: &Value, read: impl FnOnce(&str, &Members<'_>) -> Option<T>) -> Option<T> {
        let json = json.to_string();
        read(&json, &Members::of(&json).unwrap())
    }

    #[test]
    fn keeps_a_message_object_word_for_word() {
        let text = r#"{"id":"msg_1","object":"thread.message","created_at":1.0,"thread_id":"t","run_id":null,"role":"user","content":[{"type":"text","text":{"value":"hé","annotations":[]}}],"metadata":{},"x":[1,2.5]}"#;
        let message = message(text, &Members::of(text).unwrap()).unwrap();
        assert_eq!(message.object.get(), text);
        assert_eq!((message.role, message.created_at), (Role::User, Some(1.0)));
    }

    #[test]
    fn wrong_types_are_as_if_missing() {
        assert!(read(&json!({"id": "m", "content": 5}), message).is_some());
        assert!(request_message(&json!("hi")).is_none());
        let run = |json: &Value| read(json, |_, members| run(members));
        let odd = json!({"id": "run_1", "object": "thread.run", "status": 7, "created_at": "soon", "model": {}, "usage": 3,
                         "required_action": {"submit_tool_outputs": 1}, "metadata": [], "expires_at": null});
        let odd = run(&odd).unwrap();
        assert_eq!(odd.status, RunStatus::Active(String::new()));
        assert!(odd.created_at.is_none() && odd.model.is_none() && odd.usage.is_none());
        assert!(odd.tool_calls.is_empty() && odd.metadata.is_none());
        for id in [json!(null), json!(""), json!(5), json!("x".repeat(5000))] {
            assert!(run(&json!({"object": "thread.run", "id": id})).is_none());
        }
    }

    #[test]
    fn a_requests_content_takes_the_responses_shape() {
        let parts =
            json!([{"type": "text", "text": "a"}, {"type": "image_file", "image_file": {"file_id": "f"}}]);
        let message = request_message(&json!({"role": "user", "content": parts, "metadata": null})).unwrap();
        assert_eq!(
            message.object.get(),
            r#"{"object":"thread.message","role":"user","content":[{"type":"text","text":{"value":"a","annotations":[]}},{"type":"image_file","image_file":{"file_id":"f"}}]}"#
        );
        assert_eq!(message.text(), "a\n[image_file f]");
    }

    #[test]
    fn inlined_pictures_become_a_description() {
        let url = format!("data:image/png;base64,{}", "A".repeat(100_000));
        let content = json!([{"type": "image_url", "image_url": {"url": url}}]);
        let message = request_message(&json!({"role": "user", "content": content})).unwrap();
        assert!(message.object.get().len() < 300, "{}", message.object.get().len());
        assert!(message.object.get().contains("image/png;base64,[100000 characters, sha256 "));
    }

    #[test]
    fn reads_tool_calls_of_every_kind() {
        let step = read(
            &json!({"id": "step_1", "run_id": "run_1", "step_details": {"type": "tool_calls", "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}", "output": null}},
                {"id": "c2", "type": "code_interpreter", "code_interpreter": {"input": "1+1", "outputs": [{"type": "logs", "logs": "2"}]}},
                {"id": "c3", "type": "file_search", "file_search": {}},
                {"type": "function"}
            ]}}),
            |_, members| step(members, None),
        )
        .unwrap();
        assert_eq!(step.tool_calls.len(), 3);
        assert_eq!(step.tool_calls[0].arguments.as_deref(), Some("{}"));
        assert_eq!(step.tool_calls[1].output.as_deref(), Some(r#"[{"type":"logs","logs":"2"}]"#));
        assert_eq!(step.tool_calls[2].output, None);
    }
}
