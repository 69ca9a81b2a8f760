//! A completion and its JSON representation.

use serde_json::{Map, Value, json};

use super::expected::{ChatCall, ChatChoice, ChatUsage, ExpectedCompletion};
use crate::vendor::Vendor;

/// A completion.
pub(super) struct Completion {
    pub(super) truth: ExpectedCompletion,
    pub(super) messages: Vec<Value>,
    /// Its current metadata, which clients can change.
    pub(super) metadata: Map<String, Value>,
    /// Its usage, whether or not it was reported to the client.
    pub(super) usage: ChatUsage,
    pub(super) vendor: Vendor,
}

impl Completion {
    /// The complete object.
    pub(super) fn object(&self) -> Value {
        let truth = &self.truth;
        let choices: Vec<Value> = truth.choices.iter().map(|choice| self.choice_object(choice)).collect();
        let mut object = json!({
            "id": truth.completion, "object": "chat.completion", "created": truth.created_at, "model": truth.model,
            "choices": choices, "usage": truth.usage.map(|usage| usage.object()), "service_tier": "default",
            "system_fingerprint": FINGERPRINT,
        });
        if truth.stored {
            object["metadata"] = json!(self.metadata);
        }
        if self.vendor == Vendor::Azure {
            object["prompt_filter_results"] = prompt_filter_results();
        }
        object
    }

    fn choice_object(&self, choice: &ChatChoice) -> Value {
        let mut message = json!({
            "role": "assistant", "content": choice.content, "refusal": choice.refusal, "annotations": [],
        });
        if !choice.tool_calls.is_empty() {
            message["tool_calls"] = choice.tool_calls.iter().map(call_object).collect();
        }
        if let Some(call) = &choice.function_call {
            message["function_call"] = function_object(call);
        }
        if let Some(reasoning) = &choice.reasoning {
            message["reasoning_content"] = json!(reasoning);
        }
        if let Some(transcript) = &choice.transcript {
            message["audio"] = json!({
                "id": "audio_1", "data": AUDIO, "expires_at": self.truth.created_at + 3600, "transcript": transcript,
            });
        }
        let mut object = json!({
            "index": choice.index, "message": message, "logprobs": null, "finish_reason": choice.finish_reason,
        });
        if self.vendor == Vendor::Azure {
            object["content_filter_results"] = filter_results();
        }
        object
    }
}

pub(super) fn call_object(call: &ChatCall) -> Value {
    json!({"id": call.id, "type": "function", "function": function_object(call)})
}

pub(super) fn function_object(call: &ChatCall) -> Value {
    json!({"name": call.name, "arguments": call.arguments})
}

/// The results of Azure's filter for a choice.
pub(super) fn filter_results() -> Value {
    let safe = json!({"filtered": false, "severity": "safe"});
    json!({"hate": safe, "self_harm": safe, "sexual": safe, "violence": safe})
}

/// The results of Azure's filter for a request.
pub(super) fn prompt_filter_results() -> Value {
    json!([{"prompt_index": 0, "content_filter_results": filter_results()}])
}

pub(super) const FINGERPRINT: &str = "fp_fake";
/// A short sound, as base64.
pub(super) const AUDIO: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAgD4AAAB9AAACABAAZGF0YQAAAAA=";
