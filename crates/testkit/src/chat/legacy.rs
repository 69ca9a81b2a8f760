//! The endpoints that are older than chat. Nothing about them is stored.

use serde_json::{Value, json};

use crate::answers::echo;
use crate::fault::Fault;

/// A text completion. It is never streamed.
pub(super) fn complete(body: &Value, now: u64) -> Result<Value, Fault> {
    let Some(prompt) = body["prompt"].as_str() else { return Err(Fault::missing("prompt")) };
    let choice = json!({"index": 0, "text": echo(&[prompt]), "logprobs": null, "finish_reason": "stop"});
    Ok(json!({
        "id": "cmpl-1", "object": "text_completion", "created": now, "model": body["model"], "choices": [choice],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }))
}

/// Meaningless embedding vectors.
pub(super) fn embed(body: &Value) -> Result<Value, Fault> {
    let count = match &body["input"] {
        Value::Null => return Err(Fault::missing("input")),
        Value::Array(inputs) => inputs.len(),
        _ => 1,
    };
    let vector = |index| json!({"object": "embedding", "index": index, "embedding": [0.0, 0.5, 1.0]});
    Ok(json!({
        "object": "list", "data": (0..count).map(vector).collect::<Vec<_>>(), "model": body["model"],
        "usage": {"prompt_tokens": 1, "total_tokens": 1},
    }))
}
