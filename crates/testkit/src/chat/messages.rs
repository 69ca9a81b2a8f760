//! The messages of a request: which of them are new, and their text.

use serde_json::Value;

use crate::fault::Fault;

/// The messages of a request. Each has a role that the API knows.
pub(super) fn given(body: &Value) -> Result<Vec<Value>, Fault> {
    let Some(messages) = body["messages"].as_array().filter(|messages| !messages.is_empty()) else {
        return Err(Fault::missing("messages"));
    };
    for message in messages {
        let role = message["role"].as_str().unwrap_or_default();
        if !matches!(role, "assistant" | "developer" | "function" | "system" | "tool" | "user") {
            let text =
                format!("Invalid value: '{role}'. Supported values are: 'system', 'assistant', 'user', …");
            return Err(Fault::invalid("messages[0].role", text));
        }
    }
    check_tools(messages)?;
    Ok(messages.clone())
}

/// Refuses outputs without a matching call, and calls without outputs, as OpenAI does.
fn check_tools(messages: &[Value]) -> Result<(), Fault> {
    let mut open: Vec<&Value> = Vec::new();
    for message in messages {
        if message["role"] == "tool" {
            let Some(at) = open.iter().position(|id| **id == message["tool_call_id"]) else {
                let text = "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.";
                return Err(Fault::refused(text));
            };
            open.swap_remove(at);
            continue;
        }
        if !open.is_empty() {
            let text = "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'.";
            return Err(Fault::refused(text));
        }
        open.extend(message["tool_calls"].as_array().into_iter().flatten().map(|call| &call["id"]));
    }
    Ok(())
}

/// How many messages at the start are not new: everything up to the last assistant message, or the
/// leading instructions if there is none.
pub(super) fn known_messages(messages: &[Value]) -> usize {
    let last = messages.iter().rposition(|message| message["role"] == "assistant");
    last.map_or_else(|| leading(messages), |last| last + 1)
}

/// How many messages at the start are instructions.
fn leading(messages: &[Value]) -> usize {
    messages
        .iter()
        .take_while(|message| matches!(message["role"].as_str(), Some("developer" | "system")))
        .count()
}

/// The instructions for the assistant.
pub(super) fn instructions(messages: &[Value]) -> Option<String> {
    let texts: Vec<String> = messages[..leading(messages)].iter().map(text).collect();
    (!texts.is_empty()).then(|| texts.join("\n"))
}

/// What the user said in the current turn: the messages after the last answer without calls.
pub(super) fn turn_of(messages: &[Value]) -> &[Value] {
    let calls = |message: &Value| {
        message["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty())
            || message["function_call"].is_object()
    };
    let answer = messages.iter().rposition(|message| message["role"] == "assistant" && !calls(message));
    &messages[answer.map_or(0, |last| last + 1)..]
}

/// Whether a message contains the output of a tool or function.
pub(super) fn is_output(message: &Value) -> bool {
    matches!(message["role"].as_str(), Some("function" | "tool"))
}

/// The text of a message. Other parts than text are shown by their names.
pub(super) fn text(message: &Value) -> String {
    match &message["content"] {
        Value::Array(parts) => parts.iter().map(part_text).collect::<Vec<_>>().join("\n"),
        content => content.as_str().unwrap_or_default().to_owned(),
    }
}

fn part_text(part: &Value) -> String {
    match part["type"].as_str().unwrap_or_default() {
        "text" => part["text"].as_str().unwrap_or_default().to_owned(),
        "refusal" => format!("[refusal: {}]", part["refusal"].as_str().unwrap_or_default()),
        kind => format!("[{kind}]"),
    }
}

/// The number of words in a message.
pub(super) fn words(message: &Value) -> u64 {
    u64::try_from(text(message).split_whitespace().count()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(messages: Value, known: usize, turn: usize) {
        let messages = given(&json!({ "messages": messages })).unwrap();
        assert_eq!((known_messages(&messages), turn_of(&messages).len()), (known, turn), "{messages:?}");
    }

    #[test]
    fn what_follows_the_last_of_the_assistant_is_new_and_a_turn_goes_back_to_its_question() {
        let user = json!({"role": "user", "content": "hi"});
        let said = json!({"role": "assistant", "content": "hello"});
        let call = json!({"role": "assistant", "tool_calls": [{"id": "c", "type": "function"}]});
        let output = json!({"role": "tool", "tool_call_id": "c", "content": "fine"});
        check(json!([{"role": "system", "content": "x"}, user]), 1, 2);
        check(json!([user, said, user]), 2, 1);
        check(json!([user, call, output]), 2, 3);
        check(json!([user, said, user, call, output]), 4, 3);
        for nonsense in
            [json!([]), json!([{"role": "cook"}]), json!([user, output]), json!([user, call, user])]
        {
            given(&json!({ "messages": nonsense })).unwrap_err();
        }
    }
}
