//! A chat in the form of the vendor's SDK: the arguments of `chat.completions.create`, and its
//! result.
//!
//! For a stream the SDK sends the object it iterates over, without text or usage. Here the
//! assembled response is sent.

use serde_json::{Map, Value, json};

use super::Object;
use crate::interaction::Interaction;
use crate::message::{Message, Role};

/// The request, unchanged if it was kept. Otherwise the new part of it, after the instructions.
pub(super) fn request(interaction: &Interaction) -> Object<'_> {
    if let Some(request) = &interaction.request {
        return Object::Kept(request);
    }
    let system = interaction.instructions.iter().map(|text| json!({"role": "system", "content": text}));
    let messages: Value = system.chain(interaction.inputs.iter().map(asked)).collect();
    Object::Made(Map::from_iter([
        ("model".to_owned(), json!(interaction.model)),
        ("messages".to_owned(), messages),
    ]))
}

/// The response, unchanged if it was kept. Otherwise the recorded part of it. If several were
/// merged it is the last one, with the usage of all.
pub(super) fn response(interaction: &Interaction) -> Object<'_> {
    let usage = || {
        let usage: Value = serde_json::from_str(interaction.usage.as_ref()?.get()).ok()?;
        Some(("usage".to_owned(), usage))
    };
    if let Some(response) = &interaction.response {
        let merged = || serde_json::from_str::<Map<String, Value>>(response.get()).ok();
        let Some(mut last) = (!interaction.continuations.is_empty()).then(merged).flatten() else {
            return Object::Kept(response);
        };
        last.shift_remove("usage");
        last.extend(usage());
        return Object::Made(last);
    }
    let choice = |(index, message): (usize, &Message)| {
        json!({
            "index": index,
            "message": {"role": "assistant", "content": message.text()},
            "finish_reason": field(message, "finish_reason"),
        })
    };
    let mut response = Map::from_iter([
        ("id".to_owned(), json!(interaction.run)),
        ("object".to_owned(), json!("chat.completion")),
        ("model".to_owned(), json!(interaction.model)),
        ("choices".to_owned(), interaction.outputs.iter().enumerate().map(choice).collect()),
    ]);
    response.extend(usage());
    Object::Made(response)
}

fn asked(message: &Message) -> Value {
    let role = match message.role {
        Role::Assistant => json!("assistant"),
        Role::System => json!("system"),
        Role::Tool => json!("tool"),
        Role::User => json!("user"),
        Role::Other => field(message, "role"),
    };
    let mut asked = json!({"role": role, "content": message.text()});
    if message.role == Role::Tool {
        asked["tool_call_id"] = field(message, "tool_call_id");
    }
    asked
}

fn field(message: &Message, name: &str) -> Value {
    let object: Option<Map<String, Value>> = serde_json::from_str(message.object.get()).ok();
    object.and_then(|mut object| object.shift_remove(name)).unwrap_or_default()
}
