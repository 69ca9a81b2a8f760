//! Files that are inlined in requests and responses. A description replaces them, so that an image
//! is not kept with every message.

use std::fmt::Write as _;

use serde_json::Value;
use sha2::{Digest, Sha256};

/// Replaces `data:` URLs and other encoded content with descriptions. Only fields meant for files
/// are changed, so that ordinary text is not mistaken for a file.
pub(in crate::dialect) fn shorten(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(shorten),
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if may_be_encoded(name) => {
                        if let Some(shorter) = shorter(text) {
                            *text = shorter;
                        }
                    }
                    value => shorten(value),
                }
            }
        }
        Value::Bool(_) | Value::Null | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whether a field may hold a file.
pub(in crate::dialect) fn may_be_encoded(name: &str) -> bool {
    ENCODED.contains(&name)
}

/// The replacement for a text in such a field. None if the text may stay.
pub(in crate::dialect) fn shorter(text: &str) -> Option<String> {
    match text.strip_prefix("data:").and_then(|rest| rest.split_once(',')) {
        Some((_, data)) if is_description(data) => None,
        Some((mime, data)) => Some(format!("data:{mime},[{}]", describe(data))),
        None if text.len() > LONGEST_KEPT_BYTES && !text.contains(' ') && !text.contains("://") => {
            Some(format!("[{}]", describe(text)))
        }
        None => None,
    }
}

/// Whether a text is already a description.
pub(in crate::dialect) fn is_description(text: &str) -> bool {
    text.starts_with('[') && text.ends_with(']') && text.contains(DESCRIBED)
}

/// A description of the size, with a hash that tells it from others.
fn describe(data: &str) -> String {
    let mut description = format!("{}{DESCRIBED}", data.len());
    for byte in Sha256::digest(data.as_bytes()).iter().take(8) {
        write!(description, "{byte:02x}").expect("a string takes anything");
    }
    description
}

const DESCRIBED: &str = " characters, sha256 ";
/// Fields that hold URLs, base64 or encrypted content.
const ENCODED: [&str; 9] = [
    "b64_json",
    "data",
    "encrypted_content",
    "file_data",
    "image_base64",
    "image_url",
    "partial_image_b64",
    "result",
    "url",
];
/// Shorter texts are not worth leaving out.
const LONGEST_KEPT_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn inlined_files_become_descriptions_and_texts_stay() {
        let long = "A".repeat(1000);
        let mut value = json!([
            {"type": "input_image", "image_url": format!("data:image/png;base64,{long}")},
            {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
            {"type": "input_audio", "input_audio": {"data": long, "format": "wav"}},
            {"type": "input_file", "file_data": format!("data:application/pdf;base64,{long}")},
            {"type": "mcp_call", "result": "short"},
            {"type": "text", "text": "data:a,b", "data": "some words ".repeat(100)},
        ]);
        shorten(&mut value);
        let once = value.clone();
        shorten(&mut value);
        assert_eq!(value, once, "a description is not described");
        let hash = "c2e686823489ced2";
        let described = format!("[1000 characters, sha256 {hash}]");
        assert_eq!(value[0]["image_url"], format!("data:image/png;base64,{described}"));
        assert_eq!(value[1]["image_url"]["url"], "https://example.org/a.png");
        assert_eq!(value[2]["input_audio"]["data"], described);
        assert_eq!(value[3]["file_data"], format!("data:application/pdf;base64,{described}"));
        assert_eq!((&value[4]["result"], &value[5]["text"]), (&json!("short"), &json!("data:a,b")));
        assert_eq!(value[5]["data"], "some words ".repeat(100));
    }
}
