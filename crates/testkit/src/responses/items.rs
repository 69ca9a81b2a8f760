//! Items: those in a request, which of them are new, and their text.

use serde_json::{Value, json};

use crate::fault::Fault;
use crate::random::Random;

/// Converts a request's `input` or `items` to the API's format: with ids and statuses, and all
/// content as lists of parts.
pub(super) fn given(input: &Value, random: &mut Random) -> Result<Vec<Value>, Fault> {
    match input {
        Value::Null => Ok(Vec::new()),
        Value::String(_) => Ok(vec![message(&json!({"role": "user", "content": input}), random)?]),
        Value::Array(items) => items.iter().map(|item| item_of(item, random)).collect(),
        _ => {
            Err(Fault::invalid("input", "Invalid type for 'input': expected a string or an array of items."))
        }
    }
}

fn item_of(item: &Value, random: &mut Random) -> Result<Value, Fault> {
    let kind = item["type"].as_str();
    if kind == Some("message") || kind.is_none() && item.get("role").is_some() {
        return message(item, random);
    }
    let mut item = item.clone();
    match kind {
        // OpenAI's documentation allows the type to be missing.
        Some("item_reference") | None if item["id"].is_string() => item["type"] = json!("item_reference"),
        Some(_) => {
            if item["id"].is_null() {
                let prefix = if kind == Some("function_call_output") { "fco" } else { "item" };
                item["id"] = json!(random.id(prefix));
            }
            if item["status"].is_null() {
                item["status"] = json!("completed");
            }
        }
        None => return Err(Fault::missing("input[0].type")),
    }
    Ok(item)
}

fn message(item: &Value, random: &mut Random) -> Result<Value, Fault> {
    let Some(role) = item["role"].as_str() else { return Err(Fault::missing("role")) };
    if !matches!(role, "assistant" | "developer" | "system" | "user") {
        let message = format!(
            "Invalid value: '{role}'. Supported values are: 'assistant', 'system', 'developer', and 'user'."
        );
        return Err(Fault::invalid("input[0].role", message));
    }
    let content = match &item["content"] {
        Value::String(_) if role == "assistant" => {
            json!([{"type": "output_text", "text": item["content"], "annotations": [], "logprobs": []}])
        }
        Value::String(_) => json!([{"type": "input_text", "text": item["content"]}]),
        Value::Array(_) => item["content"].clone(),
        _ => return Err(Fault::missing("content")),
    };
    let id = item["id"].as_str().map_or_else(|| random.id("msg"), str::to_owned);
    Ok(json!({"id": id, "type": "message", "status": "completed", "role": role, "content": content}))
}

/// How many items at the start are not new: everything up to the last item that a model made, or
/// that is only a reference.
pub(super) fn known_items(items: &[Value]) -> usize {
    items.iter().rposition(|item| !is_input(item)).map_or(0, |last| last + 1)
}

/// Whether items of this type are made by an app, never by a model.
fn is_input(item: &Value) -> bool {
    match item["type"].as_str().unwrap_or_default() {
        "message" => item["role"] != "assistant",
        kind => kind.ends_with("_output") || kind == "mcp_approval_response",
    }
}

/// The content of an item: the text of a message, with refusals in brackets, the arguments of a
/// call, or the output of a call.
pub(super) fn text(item: &Value) -> String {
    let parts = |parts: &Value| {
        let parts = parts.as_array().into_iter().flatten();
        parts.map(part_text).collect::<Vec<_>>().join("\n")
    };
    match item["type"].as_str().unwrap_or_default() {
        "function_call" | "mcp_call" => item["arguments"].as_str().unwrap_or_default().to_owned(),
        "function_call_output" => match &item["output"] {
            Value::String(output) => output.clone(),
            output => parts(output),
        },
        "message" => parts(&item["content"]),
        "reasoning" => parts(&item["summary"]),
        "web_search_call" => item["action"]["query"].as_str().unwrap_or_default().to_owned(),
        _ => String::new(),
    }
}

fn part_text(part: &Value) -> String {
    match part["type"].as_str().unwrap_or_default() {
        "input_text" | "output_text" | "summary_text" => part["text"].as_str().unwrap_or_default().to_owned(),
        "refusal" => format!("[refusal: {}]", part["refusal"].as_str().unwrap_or_default()),
        kind => format!("[{kind}]"),
    }
}

/// The number of words in an item.
pub(super) fn words(item: &Value) -> u64 {
    u64::try_from(text(item).split_whitespace().count()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_known(items: Value, known: usize) {
        let items = given(&items, &mut Random::new(1)).unwrap();
        assert_eq!(known_items(&items), known, "{items:?}");
    }

    #[test]
    fn what_follows_the_last_item_of_the_model_is_new() {
        check_known(json!("hi"), 0);
        check_known(json!([{"role": "developer", "content": "x"}, {"role": "user", "content": "hi"}]), 0);
        let said = json!({"role": "assistant", "content": "hello"});
        check_known(json!([{"role": "user", "content": "hi"}, said, {"role": "user", "content": "ok"}]), 2);
        let call = json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"});
        let output = json!({"type": "function_call_output", "call_id": "c", "output": "fine"});
        check_known(
            json!([{"role": "user", "content": "hi"}, {"type": "reasoning", "summary": []}, call, output]),
            3,
        );
        check_known(json!([output]), 0);
        check_known(json!([{"type": "item_reference", "id": "msg_1"}, {"role": "user", "content": "ok"}]), 1);
        check_known(json!([{"id": "msg_1"}, output]), 1);
    }

    #[test]
    fn items_say_what_they_say() {
        let items = json!([
            {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "data:,"}]},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "fine"}]},
        ]);
        let items = given(&items, &mut Random::new(1)).unwrap();
        let texts: Vec<String> = items.iter().map(text).collect();
        assert_eq!(texts, ["a\n[input_image]", "[refusal: no]", "fine"]);
        for nonsense in
            [json!(7), json!([{"role": "cook", "content": "x"}]), json!([{"role": "user"}]), json!([{}])]
        {
            given(&nonsense, &mut Random::new(1)).unwrap_err();
        }
    }
}
