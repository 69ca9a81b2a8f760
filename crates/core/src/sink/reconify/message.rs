//! Builds the message objects of a run. Messages are joined and completed as in the vendor's SDK.

use serde_json::{Map, Value, json};

use crate::interaction::{Interaction, Status};
use crate::message::Message;

/// The input message, with the run's assistant, thread and model if it has none itself.
///
/// Never none: a run without an input still has its assistant, thread and model.
pub(super) fn request(interaction: &Interaction) -> Map<String, Value> {
    let mut object = joined(interaction.inputs.iter()).unwrap_or_else(|| empty("user"));
    fill(&mut object, "assistant_id", interaction.assistant.as_deref());
    fill(&mut object, "thread_id", Some(&interaction.conversation.id));
    fill(&mut object, "model", interaction.model.as_deref());
    object
}

/// The output message with the run's usage. A completed run whose outputs were not seen gets an
/// empty one with its ids. Any other run without outputs has none.
pub(super) fn response(interaction: &Interaction) -> Option<Map<String, Value>> {
    let expected = interaction.status == Status::Completed;
    let unseen = || {
        let mut object = empty("assistant");
        fill(&mut object, "assistant_id", interaction.assistant.as_deref());
        fill(&mut object, "thread_id", Some(&interaction.conversation.id));
        fill(&mut object, "run_id", Some(&interaction.run));
        object
    };
    let mut object = joined(interaction.outputs.iter()).or_else(|| expected.then(unseen))?;
    if !object.contains_key("usage")
        && let Some(usage) = interaction.usage.as_deref()
        && let Ok(usage) = serde_json::from_str(usage.get())
    {
        object.insert("usage".to_owned(), usage);
    }
    Some(object)
}

/// A message without any known content.
pub(super) fn empty(role: &str) -> Map<String, Value> {
    Map::from_iter([
        ("object".to_owned(), json!("thread.message")),
        ("role".to_owned(), json!(role)),
        ("content".to_owned(), json!([])),
    ])
}

/// Sets a key in place if it is missing, null or empty. This mirrors the conditional assignment in
/// the SDK's JavaScript.
pub(super) fn fill(object: &mut Map<String, Value>, key: &str, value: Option<&str>) {
    let Some(value) = value else { return };
    let unset = match object.get(key) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(_) => false,
    };
    if unset {
        object.insert(key.to_owned(), Value::String(value.to_owned()));
    }
}

/// The last message's object, with the content of all of them in order.
pub(super) fn joined<'a>(messages: impl Iterator<Item = &'a Message>) -> Option<Map<String, Value>> {
    let mut content = Vec::new();
    let mut last = None;
    for message in messages {
        let mut object = object(message);
        content.extend(parts(object.get_mut("content").map(Value::take).unwrap_or_default()));
        last = Some((message, object));
    }
    let (message, mut object) = last?;
    object.insert("content".to_owned(), Value::Array(content));
    if message.id.is_none() {
        object.shift_remove("id");
    }
    Some(object)
}

/// The captured object. Anything that is not an object was not made by this program, and is sent as
/// an empty one.
fn object(message: &Message) -> Map<String, Value> {
    serde_json::from_str(message.object.get()).unwrap_or_default()
}

/// A content value as a list of parts in the shape of a response. Requests may give a string, or
/// parts with a bare text.
fn parts(content: Value) -> Vec<Value> {
    match content {
        Value::String(text) => vec![json!({"type": "text", "text": response_text(text)})],
        Value::Array(parts) => parts.into_iter().map(part).collect(),
        _ => Vec::new(),
    }
}

fn part(mut part: Value) -> Value {
    if let Some(Value::String(text)) = part.get_mut("text") {
        let text = std::mem::take(text);
        part["text"] = response_text(text);
    }
    part
}

fn response_text(text: String) -> Value {
    json!({"value": text, "annotations": []})
}
