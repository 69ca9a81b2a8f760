//! A message of a conversation, in one shape for every dialect.
//!
//! The shape is the Assistants API's `thread.message` object. An object from upstream is kept
//! unchanged. A message that came in a request (and so never had an id) is converted to the same
//! shape, and so are the messages of other APIs. Code that needs the parts parses them further.

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

/// One message: the fields correlation needs, and the object itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Message {
    /// The API's id. None for messages that came in a request whose response does not name them.
    pub id: Option<String>,
    /// Who speaks.
    pub role: Role,
    /// The state of the message.
    pub status: MessageStatus,
    /// The API's `created_at` in seconds; a float on some servers.
    pub created_at: Option<f64>,
    /// The run that produced it, if the server names one.
    pub run: Option<String>,
    /// The whole object in `thread.message` shape.
    pub object: Box<RawValue>,
}

impl Message {
    /// The readable text: text parts, refusals, and placeholders for the rest, joined by line
    /// breaks.
    #[must_use]
    pub fn text(&self) -> String {
        let Ok(object) = serde_json::from_str::<Value>(self.object.get()) else { return String::new() };
        content_text(&object["content"])
    }
}

/// The author of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The assistant, or the app on the assistant's behalf.
    Assistant,
    /// An unknown role.
    Other,
    /// The author of instructions: `system` or `developer`.
    System,
    /// A tool: the message submits its output.
    Tool,
    /// The user.
    User,
}

impl Role {
    /// Whether the author is part of the conversation: only users and assistants are.
    #[must_use]
    pub fn speaks(self) -> bool {
        matches!(self, Self::Assistant | Self::User)
    }
}

/// The state of a message. States are ordered: a later one replaces an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageStatus {
    /// Still being written.
    InProgress,
    /// Truncated by the API.
    Incomplete,
    /// Complete.
    Completed,
}

/// The readable text of a `content` value: a string, or parts in the shape of a request or a
/// response.
#[must_use]
pub fn content_text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().map(part_text).filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

fn part_text(part: &Value) -> String {
    match part["type"].as_str() {
        Some("text") => match &part["text"] {
            Value::String(text) => text.clone(),
            text => text["value"].as_str().unwrap_or_default().to_owned(),
        },
        Some("refusal") => format!("[refusal: {}]", part["refusal"].as_str().unwrap_or_default()),
        Some("image_file") => {
            format!("[image_file {}]", part["image_file"]["file_id"].as_str().unwrap_or("?"))
        }
        Some("image_url") => format!("[image_url {}]", part["image_url"]["url"].as_str().unwrap_or("?")),
        // A transcript of audio is treated as text.
        Some("audio") => part["audio"]["transcript"].as_str().unwrap_or("[audio]").to_owned(),
        Some("file") => {
            let names = ["filename", "file_id", "file_url"].into_iter();
            let name = names.filter_map(|name| part["file"][name].as_str()).next();
            format!("[file {}]", name.unwrap_or("?"))
        }
        Some("item_reference") => format!("[item_reference {}]", part["id"].as_str().unwrap_or("?")),
        Some("input_audio") => {
            let audio = ["format", "data"].map(|name| part["input_audio"][name].as_str().unwrap_or("?"));
            format!("[input_audio {}]", audio.join(" "))
        }
        Some(other) => format!("[{other}]"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_text_of_both_the_request_and_the_response_shape() {
        assert_eq!(content_text(&json!("plain")), "plain");
        assert_eq!(content_text(&json!([{"type": "text", "text": "asked"}])), "asked");
        assert_eq!(
            content_text(&json!([{"type": "text", "text": {"value": "said", "annotations": []}},
                                 {"type": "image_file", "image_file": {"file_id": "file_1"}}])),
            "said\n[image_file file_1]"
        );
        assert_eq!(content_text(&json!(null)), "");
        assert_eq!(
            content_text(
                &json!([{"type": "file", "file": {"file_id": "f", "filename": "a.pdf"}}, {"type": "file"}])
            ),
            "[file a.pdf]\n[file ?]"
        );
        assert_eq!(content_text(&json!([{"type": "refusal", "refusal": "no"}, 7])), "[refusal: no]");
        assert_eq!(
            content_text(&json!([{"type": "audio", "audio": {"transcript": "aloud"}},
                                 {"type": "input_audio", "input_audio": {"format": "wav", "data": "[9 characters]"}},
                                 {"type": "file", "file": {"filename": "a.pdf"}}])),
            "aloud\n[input_audio wav [9 characters]]\n[file a.pdf]"
        );
    }
}
