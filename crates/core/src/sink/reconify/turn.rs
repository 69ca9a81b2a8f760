//! Represents a turn in a shape that the vendor supports: as the assistant's messages, or as lists
//! of messages.
//!
//! Only messages of users and assistants are included. Tool outputs and system messages are not.

use serde_json::{Map, Value, json};

use super::message::{empty, fill, joined};
use crate::event::SessionKey;
use crate::interaction::{Interaction, Status};
use crate::message::{Message, Role};

/// The input message of an assistant's run: the user's text, with the session as its thread.
pub(super) fn request(interaction: &Interaction) -> Map<String, Value> {
    let asked = interaction.inputs.iter().filter(|message| message.role == Role::User);
    let mut object = joined(asked).unwrap_or_else(|| empty("user"));
    fill(&mut object, "assistant_id", interaction.assistant.as_deref());
    fill(&mut object, "thread_id", Some(&session(interaction)));
    fill(&mut object, "model", interaction.model.as_deref());
    object
}

/// The output message of an assistant's run. None for a run that did not complete and has neither
/// text nor usage.
pub(super) fn response(interaction: &Interaction) -> Option<Map<String, Value>> {
    let usage = usage(interaction);
    let said = interaction.outputs.iter().filter(|message| message.role.speaks());
    let expected = interaction.status == Status::Completed || usage.is_some();
    let mut object = joined(said).or_else(|| expected.then(|| empty("assistant")))?;
    fill(&mut object, "assistant_id", interaction.assistant.as_deref());
    fill(&mut object, "thread_id", Some(&session(interaction)));
    fill(&mut object, "run_id", Some(&interaction.run));
    if let Some(usage) = usage {
        object.insert("usage".to_owned(), usage);
    }
    Some(object)
}

/// A chat's request: messages with their authors.
pub(super) fn asked(interaction: &Interaction) -> Map<String, Value> {
    let mut object = Map::new();
    fill(&mut object, "model", interaction.model.as_deref());
    fill(&mut object, "thread_id", Some(&session(interaction)));
    let said = interaction.inputs.iter().filter(|message| message.role.speaks());
    object.insert("messages".to_owned(), said.map(line).collect());
    object
}

/// A chat's response.
pub(super) fn answered(interaction: &Interaction) -> Map<String, Value> {
    let mut object = Map::from_iter([("id".to_owned(), json!(interaction.run))]);
    fill(&mut object, "model", interaction.model.as_deref());
    let said = interaction.outputs.iter().filter(|message| message.role.speaks());
    let choice = |(at, message)| json!({"index": at, "message": line(message)});
    object.insert("choices".to_owned(), said.enumerate().map(choice).collect());
    if let Some(usage) = usage(interaction) {
        object.insert("usage".to_owned(), usage);
    }
    object
}

fn line(message: &Message) -> Value {
    let role = if message.role == Role::User { "user" } else { "assistant" };
    json!({"role": role, "content": message.text()})
}

/// Token counts under the names that the vendor reads. Unknown counts are omitted.
fn usage(interaction: &Interaction) -> Option<Value> {
    let tokens = interaction.tokens?;
    let counts = [
        ("prompt_tokens", tokens.input),
        ("completion_tokens", tokens.output),
        ("total_tokens", tokens.total),
    ];
    let counts: Map<String, Value> =
        counts.into_iter().filter_map(|(name, count)| Some((name.to_owned(), count?.into()))).collect();
    (!counts.is_empty()).then_some(Value::Object(counts))
}

/// The id by which the vendor groups.
fn session(interaction: &Interaction) -> String {
    SessionKey::of(&interaction.attribution, &interaction.conversation).id
}
