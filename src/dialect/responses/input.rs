//! What is new in a request: clients that keep the history themselves send all of it again with every turn.

use serde_json::Value;

use super::item;
use crate::message::{Message, Role};

/// The part of a request's `input` that the model has not answered yet.
#[derive(Debug, Default)]
pub(super) struct NewInput {
    /// Messages, and what tools returned, in order; without ids unless the request gives some.
    pub(super) messages: Vec<Message>,
    /// The calls that are answered.
    pub(super) answers: Vec<String>,
    /// Whether some of it cannot be read: it is mentioned by its id only.
    pub(super) lost: bool,
}

impl NewInput {
    /// Reads `input`: a text, or items.
    pub(super) fn of(input: &Value) -> Self {
        let items = match input {
            Value::String(_) => {
                let mut asked = serde_json::Map::new();
                asked.insert("role".to_owned(), "user".into());
                asked.insert("content".to_owned(), input.clone());
                let message = item::message(Value::Object(asked), Role::User);
                return Self { messages: message.into_iter().collect(), ..Self::default() };
            }
            Value::Array(items) => items,
            _ => return Self::default(),
        };
        Self::read(&items[history(items)..])
    }

    /// Reads items that are all new.
    pub(super) fn all(items: &Value) -> Self {
        Self::read(items.as_array().map(Vec::as_slice).unwrap_or_default())
    }

    fn read(items: &[Value]) -> Self {
        let mut new = Self::default();
        for item in items {
            if let Some((call, message)) = item::tool_output(item) {
                new.messages.push(message);
                new.answers.push(call);
            } else if item::kind(item) == "item_reference" {
                new.messages.extend(item::reference(item));
                new.lost = true;
            } else if item::kind(item) == "message" {
                new.messages.extend(item::message(item.clone(), Role::User));
            }
        }
        new.answers.retain(|call| !call.is_empty());
        new
    }
}

/// How many items, from the first, are history: all up to the last one that the model put out, or that the server has.
///
/// What stands at the very end is new even so: a beginning of the answer in the model's mouth, or a mention of an item.
fn history(items: &[Value]) -> usize {
    let is_said = |item: &Value| item::kind(item) == "message" && item["role"] == "assistant";
    let is_named = |item: &Value| item::kind(item) == "item_reference";
    let is_known = |item: &Value| match item::kind(item) {
        "message" => item["role"] == "assistant",
        _ => item::tool_output(item).is_none(),
    };
    let open = items.iter().rposition(|item| !is_said(item) && !is_named(item));
    let end = open.map_or(0, |last| last + 1);
    items[..end].iter().rposition(is_known).map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(input: Value, messages: &[&str], answers: &[&str]) {
        let new = NewInput::of(&input);
        let said = |message: &Message| format!("{:?}: {}", message.role, message.text());
        assert_eq!(new.messages.iter().map(said).collect::<Vec<_>>(), messages, "{input}");
        assert_eq!(new.answers, answers, "{input}");
    }

    fn said(role: &str, text: &str) -> Value {
        json!({"role": role, "content": text})
    }

    #[test]
    fn a_text_is_one_message_of_the_user() {
        check(json!("hello"), &["User: hello"], &[]);
        check(json!([]), &[], &[]);
        check(json!(null), &[], &[]);
        check(json!(7), &[], &[]);
    }

    #[test]
    fn what_was_answered_before_is_not_new() {
        let first = said("user", "one");
        check(json!([said("developer", "be nice"), first]), &["System: be nice", "User: one"], &[]);
        check(
            json!([
                said("developer", "be nice"),
                first,
                said("assistant", "1"),
                said("user", "two"),
                said("user", "three")
            ]),
            &["User: two", "User: three"],
            &[],
        );
        let output = json!({"type": "message", "id": "msg_1", "role": "assistant", "content": [{"type": "output_text", "text": "1"}]});
        check(
            json!([first, {"type": "reasoning", "summary": []}, output, said("user", "two")]),
            &["User: two"],
            &[],
        );
    }

    #[test]
    fn what_tools_returned_is_new_and_their_calls_are_not() {
        let call = |id| json!({"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"});
        let output = |id| json!({"type": "function_call_output", "call_id": id, "output": "5"});
        check(
            json!([said("user", "one"), call("a"), call("b"), output("a"), output("b")]),
            &["Tool: 5", "Tool: 5"],
            &["a", "b"],
        );
        check(json!([call("a"), output("a"), call("b"), output("b")]), &["Tool: 5"], &["b"]);
        check(json!([output("a"), said("user", "and?")]), &["Tool: 5", "User: and?"], &["a"]);
    }

    #[test]
    fn an_item_that_the_server_has_is_history_but_at_the_end() {
        let reference = |id| json!({"type": "item_reference", "id": id});
        check(json!([said("user", "one"), reference("msg_1"), said("user", "two")]), &["User: two"], &[]);
        check(
            json!([said("user", "this:"), reference("msg_9")]),
            &["User: this:", "Other: [item_reference msg_9]"],
            &[],
        );
        assert!(NewInput::of(&json!([reference("msg_9")])).lost);
    }

    #[test]
    fn words_put_into_the_models_mouth_are_context_of_what_was_asked() {
        check(
            json!([
                said("user", "one"),
                said("assistant", "1"),
                said("user", "two"),
                said("assistant", "It is")
            ]),
            &["User: two", "Assistant: It is"],
            &[],
        );
    }
}
