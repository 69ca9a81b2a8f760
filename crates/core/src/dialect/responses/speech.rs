//! Adds items to the history of a conversation.
//!
//! It includes messages, calls of the app's functions and custom tools, and their outputs. It does
//! not include the server's own calls and the model's reasoning: clients leave them out, or send
//! them back in a different form.

use serde_json::Value;
use serde_json::value::RawValue;

use super::item;
use crate::dialect::history::{History, Speech};
use crate::dialect::object::Object;

/// Adds a user's text to a history.
pub(super) fn hear_text(history: &mut History, text: &str) {
    let mut speech = Speech::default();
    speech.say(text);
    history.ask("user", "", speech);
}

/// Adds an item of a request's input to a history.
pub(super) fn hear_item(history: &mut History, item: &Object<'_>) {
    let text = |name: &str| item.text(name).unwrap_or_default();
    match &*item::kind_of(item) {
        "message" => match &*text("role") {
            "assistant" => history.answer(|word| {
                if let Some(content) = item.raw("content") {
                    word.say_content(content, Speech::answer);
                }
            }),
            "developer" | "system" => {}
            role => ask(history, role, "", item.raw("content")),
        },
        "function_call" => {
            history.answer(|word| word.call(&text("call_id"), &text("name"), &text("arguments")));
        }
        "custom_tool_call" => {
            history.answer(|word| word.call(&text("call_id"), &text("name"), &text("input")));
        }
        // Only the server knows its content, but it is known that there is an item.
        "item_reference" => history.answer(|word| word.show(&text("id"))),
        "mcp_approval_response" => {
            ask(history, "tool", &text("approval_request_id"), item.raw("approve"));
        }
        kind if item::is_tool_output(kind) => ask(history, "tool", &text("call_id"), item.raw("output")),
        _ => {}
    }
}

fn ask(history: &mut History, role: &str, call: &str, content: Option<&RawValue>) {
    let mut speech = Speech::default();
    if let Some(content) = content {
        speech.say_content(content, Speech::say);
    }
    history.ask(role, call, speech);
}

/// Adds an output item of the model to what the model said.
pub(super) fn say_output(word: &mut Speech, item: &Value) {
    let text = |name: &str| item[name].as_str().unwrap_or_default();
    match item::kind(item) {
        "message" => {
            for part in item["content"].as_array().into_iter().flatten() {
                word.answer(part["text"].as_str().or_else(|| part["refusal"].as_str()).unwrap_or_default());
            }
            word.answer(item["content"].as_str().unwrap_or_default());
            word.end_message();
        }
        "function_call" => word.call(text("call_id"), text("name"), text("arguments")),
        "custom_tool_call" => word.call(text("call_id"), text("name"), text("input")),
        _ => {}
    }
}
