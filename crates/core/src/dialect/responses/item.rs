//! Items: the elements of a response's input and output.
//!
//! Messages are written in the shape all dialects share. Tool calls and reasoning are not messages.
//! They are separate parts of the record.

use std::borrow::Cow;

use serde_json::value::to_raw_value;
use serde_json::{Map, Value, json};

use crate::dialect::field::id;
use crate::dialect::inline::shorten;
use crate::dialect::object::Object;
use crate::message::{Message, MessageStatus, Role};
use crate::observation::{Reasoning, ToolCall, is_random};

/// An item of a response's output.
#[derive(Debug)]
pub(super) enum OutputItem {
    Message(Message),
    Reasoning(Reasoning),
    ToolCall(ToolCall),
}

/// The kind of an item. A message may leave it out.
pub(super) fn kind(item: &Value) -> &str {
    match item["type"].as_str() {
        Some(kind) => kind,
        None if item["role"].is_string() => "message",
        None => "",
    }
}

/// The same for an item that is not read as a whole.
pub(super) fn kind_of<'a>(item: &Object<'a>) -> Cow<'a, str> {
    let of_role = || item.text("role").map(|_| "message".into());
    item.text("type").or_else(of_role).unwrap_or_default()
}

/// The id of an item, if no other item has it. The API's ids are long and random. Some servers
/// number items, or give all of them the same id. Clients do the same if a server gave none.
pub(super) fn unique_id(item: &Value) -> Option<&str> {
    id(&item["id"]).filter(|id| is_random(id))
}

/// An output item of `run`. If it has no id, one is made from its position.
pub(super) fn output(item: Value, run: &str, place: u64) -> Option<OutputItem> {
    let local_id = || format!("{run}#{place}");
    Some(match kind(&item) {
        "" => return None,
        "message" => {
            let id = id(&item["id"]).map_or_else(local_id, str::to_owned);
            let message = message(item, Role::Assistant)?;
            OutputItem::Message(Message { id: Some(id), run: Some(run.to_owned()), ..message })
        }
        "reasoning" => {
            let id = id(&item["id"]).map(str::to_owned);
            let texts = [&item["summary"], &item["content"]];
            let texts = texts.into_iter().flat_map(|parts| parts.as_array().into_iter().flatten());
            let texts: Vec<&str> = texts.filter_map(|part| part["text"].as_str()).collect();
            OutputItem::Reasoning(Reasoning { id, text: texts.join("\n\n") })
        }
        _ => OutputItem::ToolCall(tool_call(item, local_id)),
    })
}

/// A message from any role. `role` is used if the item does not name one.
pub(super) fn message(item: Value, role: Role) -> Option<Message> {
    let Value::Object(mut fields) = item else { return None };
    let role = match fields.get("role").and_then(Value::as_str) {
        None => role,
        Some("assistant") => Role::Assistant,
        Some("developer" | "system") => Role::System,
        Some("tool") => Role::Tool,
        Some("user") => Role::User,
        Some(_) => Role::Other,
    };
    let status = match fields.get("status").and_then(Value::as_str) {
        Some("in_progress") => MessageStatus::InProgress,
        Some("incomplete") => MessageStatus::Incomplete,
        _ => MessageStatus::Completed,
    };
    let content = content(fields.shift_remove("content").unwrap_or_default());
    fields.shift_remove("type");
    let mut object = Map::new();
    for name in ["id", "object", "role"] {
        let value = fields.shift_remove(name);
        match name {
            "object" => drop(object.insert(name.to_owned(), json!("thread.message"))),
            _ => object.extend(value.map(|value| (name.to_owned(), value))),
        }
    }
    object.insert("content".to_owned(), content);
    object.extend(fields);
    let known = object.get("id").and_then(id).map(str::to_owned);
    let object = to_raw_value(&object).ok()?;
    Some(Message { id: known, role, status, created_at: None, run: None, object })
}

/// Whether an item of this kind is the output of one of the app's tools, or the app's decision on a
/// call.
pub(super) fn is_tool_output(kind: &str) -> bool {
    kind == "mcp_approval_response" || kind.ends_with("_output")
}

/// A tool output, and the call it belongs to. None if the item is not a tool output.
pub(super) fn tool_output(item: &Value) -> Option<(String, Message)> {
    let kind = kind(item);
    let answered = match kind {
        "mcp_approval_response" => &item["approval_request_id"],
        _ if is_tool_output(kind) => &item["call_id"],
        _ => return None,
    };
    let output = match (&item["output"], kind) {
        (_, "mcp_approval_response") => {
            let approved = if item["approve"] == json!(true) { "approved" } else { "refused" };
            let reason = item["reason"].as_str().map(|reason| format!(": {reason}")).unwrap_or_default();
            json!(format!("[{approved}{reason}]"))
        }
        (Value::Object(part), _) => json!([part]),
        (output, _) => output.clone(),
    };
    let call = id(answered).unwrap_or_default().to_owned();
    let mut fields = json!({"role": "tool", "tool_call_id": call, "content": output});
    if id(&item["id"]).is_some() {
        fields["id"] = item["id"].clone();
    }
    Some((call, message(fields, Role::Tool)?))
}

/// A reference to an item that the server has. Only the server knows its content.
pub(super) fn reference(item: &Value) -> Option<Message> {
    let id = id(&item["id"])?;
    let content = json!([{"type": "item_reference", "id": id}]);
    let object = json!({"id": id, "object": "thread.message", "content": content});
    Some(Message {
        id: Some(id.to_owned()),
        role: Role::Other,
        status: MessageStatus::Completed,
        created_at: None,
        run: None,
        object: to_raw_value(&object).ok()?,
    })
}

/// A tool call, or other model output that is neither text nor reasoning.
fn tool_call(mut item: Value, local_id: impl FnOnce() -> String) -> ToolCall {
    shorten(&mut item);
    let kind = kind(&item);
    let text = |value: &Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    let first = |names: &[&str]| names.iter().find_map(|name| text(&item[*name]));
    // Each kind has its input in different fields. If the server made the call, the same applies to
    // the result.
    let arguments = first(&["arguments", "input", "code", "queries", "action", "tools", "revised_prompt"]);
    let output = first(&["output", "outputs", "results", "result", "error"]);
    ToolCall {
        id: [&item["call_id"], &item["id"]].into_iter().find_map(id).map_or_else(local_id, str::to_owned),
        kind: kind.strip_suffix("_call").unwrap_or(kind).to_owned(),
        server: id(&item["server_label"]).map(str::to_owned),
        name: id(&item["name"]).map(str::to_owned),
        arguments,
        output,
    }
}

/// Content in the shape all dialects share.
fn content(content: Value) -> Value {
    let mut content = match content {
        Value::String(text) => json!([text_part(text.into(), Value::Null)]),
        Value::Array(parts) => parts.into_iter().map(part).collect(),
        _ => json!([]),
    };
    shorten(&mut content);
    content
}

/// A part of content in the shape all dialects share. A part of a kind without such a shape stays
/// as it is.
pub(super) fn part(mut part: Value) -> Value {
    match part["type"].as_str() {
        Some("input_text" | "output_text" | "text") if part["text"].is_string() => {
            text_part(part["text"].take(), part["annotations"].take())
        }
        Some("input_image" | "computer_screenshot") => {
            let (name, key, value) = match &part["image_url"] {
                Value::String(_) => ("image_url", "url", part["image_url"].take()),
                _ => ("image_file", "file_id", part["file_id"].take()),
            };
            let mut image = json!({ key: value });
            if id(&part["detail"]).is_some() {
                image["detail"] = part["detail"].take();
            }
            json!({"type": name, name: image})
        }
        Some("input_file") => {
            let mut file = part;
            if let Value::Object(fields) = &mut file {
                fields.shift_remove("type");
            }
            json!({"type": "file", "file": file})
        }
        _ => part,
    }
}

fn text_part(text: Value, annotations: Value) -> Value {
    let annotations = if annotations.is_array() { annotations } else { json!([]) };
    json!({"type": "text", "text": {"value": text, "annotations": annotations}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(item: Value) -> OutputItem {
        output(item, "resp_1", 2).unwrap()
    }

    #[test]
    fn a_message_takes_the_shape_all_dialects_share() {
        let OutputItem::Message(message) = read(
            json!({"type": "message", "id": "msg_1", "role": "assistant",
            "status": "completed", "phase": "final_answer", "content": [
                {"type": "output_text", "text": "hi", "annotations": [{"type": "url_citation"}], "logprobs": []},
                {"type": "refusal", "refusal": "no"}]}),
        ) else {
            panic!("no message")
        };
        assert_eq!(
            message.object.get(),
            r#"{"id":"msg_1","object":"thread.message","role":"assistant","content":[{"type":"text","text":{"value":"hi","annotations":[{"type":"url_citation"}]}},{"type":"refusal","refusal":"no"}],"status":"completed","phase":"final_answer"}"#
        );
        assert_eq!((message.id.as_deref(), message.run.as_deref()), (Some("msg_1"), Some("resp_1")));
        assert_eq!(message.text(), "hi\n[refusal: no]");
        let OutputItem::Message(nameless) = read(json!({"type": "message", "content": []})) else { panic!() };
        assert_eq!((nameless.id.as_deref(), nameless.role), (Some("resp_1#2"), Role::Assistant));
    }

    #[test]
    fn pictures_and_files_of_input_are_placeholders() {
        let data = "A".repeat(500);
        let item = json!({"role": "user", "content": [
            {"type": "input_text", "text": "look"},
            {"type": "input_image", "image_url": format!("data:image/png;base64,{data}"), "detail": "low"},
            {"type": "input_image", "file_id": "file_1"},
            {"type": "input_file", "filename": "a.pdf", "file_data": format!("data:application/pdf;base64,{data}")}]});
        let message = message(item, Role::Other).unwrap();
        assert_eq!(message.role, Role::User);
        assert!(message.object.get().len() < 700 && message.object.get().contains(r#""detail":"low""#));
        let text = message.text();
        assert!(
            text.starts_with("look\n[image_url data:image/png;base64,[500 characters, sha256 "),
            "{text}"
        );
        assert!(text.ends_with("]]\n[image_file file_1]\n[file a.pdf]"), "{text}");
    }

    #[test]
    fn tools_of_every_kind_become_calls() {
        let call = |item| match read(item) {
            OutputItem::ToolCall(call) => {
                let ToolCall { id, kind, server, name, arguments, output } = call;
                [Some(id), Some(kind), server, name, arguments, output].map(Option::unwrap_or_default)
            }
            other => panic!("{other:?}"),
        };
        let function = json!({"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{}"});
        assert_eq!(call(function), ["call_1", "function", "", "f", "{}", ""]);
        let mcp = json!({"type": "mcp_call", "id": "mcp_1", "server_label": "s", "name": "t", "arguments": "{}", "output": "o", "error": null});
        assert_eq!(call(mcp), ["mcp_1", "mcp", "s", "t", "{}", "o"]);
        let failed = json!({"type": "mcp_call", "id": "mcp_2", "name": "t", "arguments": "{}", "output": null, "error": {"code": 1}});
        assert_eq!(call(failed), ["mcp_2", "mcp", "", "t", "{}", r#"{"code":1}"#]);
        let search = json!({"type": "web_search_call", "id": "ws_1", "action": {"query": "q"}});
        assert_eq!(call(search), ["ws_1", "web_search", "", "", r#"{"query":"q"}"#, ""]);
        let code =
            json!({"type": "code_interpreter_call", "id": "ci_1", "code": "1+1", "outputs": [{"logs": "2"}]});
        assert_eq!(call(code), ["ci_1", "code_interpreter", "", "", "1+1", r#"[{"logs":"2"}]"#]);
        let listed = json!({"type": "mcp_list_tools", "server_label": "s", "tools": []});
        assert_eq!(call(listed), ["resp_1#2", "mcp_list_tools", "s", "", "[]", ""]);
        let image = json!({"type": "image_generation_call", "id": "ig_1", "result": "A".repeat(1000)});
        assert!(call(image)[5].starts_with("[1000 characters, sha256 "));
    }

    #[test]
    fn reasoning_is_its_summary_and_its_text() {
        let item = json!({"type": "reasoning", "id": "rs_1", "encrypted_content": "x",
            "summary": [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}],
            "content": [{"type": "reasoning_text", "text": "c"}]});
        let OutputItem::Reasoning(reasoning) = read(item) else { panic!("no reasoning") };
        assert_eq!(reasoning, Reasoning { id: Some("rs_1".to_owned()), text: "a\n\nb\n\nc".to_owned() });
    }

    #[test]
    fn what_a_tool_returned_is_a_tools_message() {
        let check = |item: Value, call: &str, text: &str| {
            let (of, message) = tool_output(&item).unwrap();
            assert_eq!((of.as_str(), message.role, message.text().as_str()), (call, Role::Tool, text));
        };
        check(json!({"type": "function_call_output", "call_id": "c", "output": "5"}), "c", "5");
        let parts = json!([{"type": "input_text", "text": "5"}, {"type": "input_image", "file_id": "f"}]);
        check(
            json!({"type": "custom_tool_call_output", "call_id": "c", "output": parts}),
            "c",
            "5\n[image_file f]",
        );
        let screen = json!({"type": "computer_screenshot", "image_url": "https://x/y"});
        check(
            json!({"type": "computer_call_output", "call_id": "c", "output": screen}),
            "c",
            "[image_url https://x/y]",
        );
        let approval = json!({"type": "mcp_approval_response", "approval_request_id": "r", "approve": true});
        check(approval, "r", "[approved]");
        assert!(tool_output(&json!({"type": "function_call", "call_id": "c"})).is_none());
    }
}
