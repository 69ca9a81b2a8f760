//! The chunks of a streamed completion.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::expected::ChatChoice;
use super::objects::{AUDIO, Completion, FINGERPRINT, filter_results, prompt_filter_results};
use crate::answers::{halves, tokens};
use crate::random::Random;
use crate::script::{ChatShape, StreamedUsage};
use crate::stream::Event;
use crate::vendor::Vendor;

/// How a completion is streamed.
pub(super) struct Chunking<'a> {
    pub(super) completion: &'a Completion,
    pub(super) shape: ChatShape,
    /// Whether usage may be reported at all.
    pub(super) tells_usage: bool,
    /// Whether an error ends the stream in the middle.
    pub(super) breaks: bool,
}

impl Chunking<'_> {
    /// All chunks, with the choices interleaved. Equal requests get the same order.
    pub(super) fn chunks(&self, random: &mut Random) -> Vec<Event> {
        let truth = &self.completion.truth;
        let azure = self.completion.vendor == Vendor::Azure;
        let mut queues: Vec<VecDeque<Value>> = truth.choices.iter().map(deltas).collect();
        let (mut chunks, mut mix) = (Vec::new(), Random::new(MIX_SEED));
        if azure {
            chunks.push(json!({
                "id": "", "object": "", "created": 0, "model": "", "choices": [],
                "prompt_filter_results": prompt_filter_results(),
            }));
        }
        let half = queues.iter().map(VecDeque::len).sum::<usize>().div_ceil(2);
        let mut told = 0;
        while let Some(index) = pick(&queues, &mut mix) {
            if self.breaks && told == half {
                chunks.push(json!({"error": {
                    "message": "The server had an error while processing your request.", "type": "server_error",
                    "param": null, "code": "server_error",
                }}));
                return chunks.into_iter().map(|chunk| Event::new("", chunk)).collect();
            }
            told += 1;
            let delta = queues[index].pop_front().unwrap_or_default();
            let mut choice = json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": null});
            if azure && !self.shape.async_filter {
                choice["content_filter_results"] = filter_results();
            }
            chunks.push(self.chunk(json!([choice]), random));
            if queues[index].is_empty() {
                if azure && self.shape.async_filter {
                    chunks.push(async_filter(index));
                }
                let reason = &truth.choices[index].finish_reason;
                let choice = json!({"index": index, "delta": {}, "logprobs": null, "finish_reason": reason});
                chunks.push(self.chunk(json!([choice]), random));
            }
        }
        self.add_usage(&mut chunks, random);
        chunks.into_iter().map(|chunk| Event::new("", chunk)).collect()
    }

    /// Whether the client receives the usage if the stream reaches its end.
    pub(super) fn shows_usage(&self) -> bool {
        let unasked = matches!(self.shape.usage, StreamedUsage::Every | StreamedUsage::Finish);
        self.tells_usage && (unasked || self.completion.truth.usage_asked)
    }

    fn add_usage(&self, chunks: &mut Vec<Value>, random: &mut Random) {
        if !self.shows_usage() {
            return;
        }
        let usage = self.completion.usage.object();
        match self.shape.usage {
            StreamedUsage::Asked => {
                for chunk in chunks.iter_mut().filter(|chunk| chunk["id"] != "") {
                    chunk["usage"] = Value::Null;
                }
                let mut last = self.chunk(json!([]), random);
                last["usage"] = usage;
                chunks.push(last);
            }
            StreamedUsage::AskedWithChoice => {
                let choice = json!({"index": 0, "delta": {"content": null}, "finish_reason": null});
                let mut last = self.chunk(json!([choice]), random);
                last["usage"] = usage;
                chunks.push(last);
            }
            StreamedUsage::Every => {
                let total = self.completion.usage.completion_tokens;
                let mut so_far = self.completion.usage;
                let count = chunks.len();
                for (at, chunk) in chunks.iter_mut().enumerate() {
                    let written = u64::try_from(at).unwrap_or(u64::MAX).min(total);
                    so_far.completion_tokens = if at + 1 == count { total } else { written };
                    chunk["usage"] = so_far.object();
                }
            }
            StreamedUsage::Finish => {
                if let Some(last) = chunks.last_mut() {
                    last["usage"] = usage;
                }
            }
        }
    }

    fn chunk(&self, choices: Value, random: &mut Random) -> Value {
        let truth = &self.completion.truth;
        let mut chunk = json!({
            "id": truth.completion, "object": "chat.completion.chunk", "created": truth.created_at,
            "model": truth.model, "service_tier": "default", "system_fingerprint": FINGERPRINT, "choices": choices,
        });
        let obfuscates = truth.request["stream_options"]["include_obfuscation"] != false;
        if obfuscates && self.completion.vendor == Vendor::OpenAi {
            chunk["obfuscation"] = json!(random.id("")[1..8]);
        }
        chunk
    }
}

/// The deltas of a choice, in order. The first contains the role.
fn deltas(choice: &ChatChoice) -> VecDeque<Value> {
    let mut deltas = VecDeque::new();
    let speaks = choice.content.is_some();
    deltas.push_back(json!({
        "role": "assistant", "content": if speaks { json!("") } else { Value::Null }, "refusal": null,
    }));
    for token in choice.reasoning.iter().flat_map(|text| tokens(text)) {
        deltas.push_back(json!({ "reasoning_content": token }));
    }
    for token in choice.content.iter().flat_map(|text| tokens(text)) {
        deltas.push_back(json!({ "content": token }));
    }
    for token in choice.refusal.iter().flat_map(|text| tokens(text)) {
        deltas.push_back(json!({ "refusal": token }));
    }
    if let Some(transcript) = &choice.transcript {
        deltas.push_back(json!({"audio": {"id": "audio_1"}}));
        deltas.extend(tokens(transcript).map(|token| json!({"audio": {"transcript": token}})));
        deltas.push_back(json!({"audio": {"data": AUDIO}}));
        deltas.push_back(json!({"audio": {"expires_at": 4_102_444_800_u64}}));
    }
    // The fragments of the calls are interleaved, as some servers send them.
    for (index, call) in choice.tool_calls.iter().enumerate() {
        let function = json!({"name": call.name, "arguments": ""});
        let head = json!({"index": index, "id": call.id, "type": "function", "function": function});
        deltas.push_back(json!({"tool_calls": [head]}));
    }
    for part in 0..2 {
        for (index, call) in choice.tool_calls.iter().enumerate() {
            let (first, second) = halves(&call.arguments);
            let arguments = if part == 0 { first } else { second };
            deltas.push_back(json!({"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}));
        }
    }
    if let Some(call) = &choice.function_call {
        let (first, second) = halves(&call.arguments);
        deltas.push_back(json!({"function_call": {"name": call.name, "arguments": ""}}));
        deltas.push_back(json!({"function_call": {"arguments": first}}));
        deltas.push_back(json!({"function_call": {"arguments": second}}));
    }
    deltas
}

/// The late results of Azure's filter: a choice without a delta.
fn async_filter(index: usize) -> Value {
    json!({
        "id": "", "object": "", "created": 0, "model": "",
        "choices": [{
            "index": index, "finish_reason": null, "content_filter_results": filter_results(),
            "content_filter_offsets": {"check_offset": 0, "start_offset": 0, "end_offset": 8},
        }],
    })
}

/// Picks a random queue that is not empty.
fn pick(queues: &[VecDeque<Value>], random: &mut Random) -> Option<usize> {
    let open: Vec<usize> = (0..queues.len()).filter(|index| !queues[*index].is_empty()).collect();
    let below = u64::try_from(open.len()).ok().filter(|count| *count > 0)?;
    open.get(usize::try_from(random.below(below)).ok()?).copied()
}

/// An arbitrary number.
const MIX_SEED: u64 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deltas_add_up_to_their_choice() {
        let choice = ChatChoice { content: Some("a  b ü".to_owned()), ..ChatChoice::default() };
        let told: String = deltas(&choice).iter().filter_map(|delta| delta["content"].as_str()).collect();
        assert_eq!(told, "a  b ü");
    }
}
