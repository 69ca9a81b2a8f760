//! A conversation in Chat Completions. Each request repeats the whole conversation so far.

use std::collections::BTreeMap;
use std::io;

use serde_json::{Value, json};

use super::{Line, Stage, TOOL_OUTPUT, Turn, text};

/// Holds one conversation of a question, a tool call and the answer. Both completions are streamed.
pub(super) async fn play(stage: &mut Stage<impl FnMut(&Line<'_>)>) -> io::Result<()> {
    stage.tell(&Line::Title("two chat completions, a tool call between them"));
    stage.tell(&Line::User { user: USER, text: QUESTION });
    let mut messages = vec![json!({"role": "user", "content": QUESTION})];
    let first = complete(stage, &messages).await?;
    let turn = first.turn(QUESTION, &first.id)?;
    stage.settle(turn);
    messages.push(json!({"role": "assistant", "content": null, "tool_calls": first.calls()}));
    for call in first.calls.values() {
        let Call { id, name, arguments } = call;
        stage.tell(&Line::Tool { name, arguments, output: TOOL_OUTPUT });
        messages.push(json!({"role": "tool", "tool_call_id": id, "content": TOOL_OUTPUT}));
    }
    let turn = complete(stage, &messages).await?.turn(TOOL_OUTPUT, &first.id)?;
    stage.settle(turn);
    Ok(())
}

/// A completion, assembled from its chunks.
#[derive(Default)]
struct Completion {
    id: String,
    answer: String,
    /// Indexed by the call's index.
    calls: BTreeMap<u64, Call>,
    finish_reason: String,
    total_tokens: Option<u64>,
}

#[derive(Default)]
struct Call {
    id: String,
    name: String,
    arguments: String,
}

async fn complete(stage: &mut Stage<impl FnMut(&Line<'_>)>, messages: &[Value]) -> io::Result<Completion> {
    let tool = json!({"type": "function", "function": {"name": "get_weather"}});
    let body = json!({
        "model": "fake-tool", "messages": messages, "tools": [tool], "stream": true,
        "stream_options": {"include_usage": true},
    });
    let mut answered = stage.client_of(USER).stream("/chat/completions", &body).await?;
    let mut completion = Completion::default();
    while let Some(event) = answered.event().await? {
        if event.data == "[DONE]" {
            return Ok(completion);
        }
        let chunk: Value = serde_json::from_str(&event.data).map_err(io::Error::other)?;
        if let Some(said) = chunk["choices"][0]["delta"]["content"].as_str().filter(|said| !said.is_empty()) {
            stage.tell(&Line::Text(said));
        }
        completion.take(&chunk)?;
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the stream ended without a done event"))
}

impl Completion {
    fn take(&mut self, chunk: &Value) -> io::Result<()> {
        text(&chunk["id"])?.clone_into(&mut self.id);
        self.total_tokens = chunk["usage"]["total_tokens"].as_u64().or(self.total_tokens);
        let choice = &chunk["choices"][0];
        let delta = &choice["delta"];
        self.answer.push_str(delta["content"].as_str().unwrap_or_default());
        self.finish_reason.push_str(choice["finish_reason"].as_str().unwrap_or_default());
        for piece in delta["tool_calls"].as_array().into_iter().flatten() {
            let call = self.calls.entry(piece["index"].as_u64().unwrap_or_default()).or_default();
            let function = &piece["function"];
            call.id.push_str(piece["id"].as_str().unwrap_or_default());
            call.name.push_str(function["name"].as_str().unwrap_or_default());
            call.arguments.push_str(function["arguments"].as_str().unwrap_or_default());
        }
        Ok(())
    }

    /// The calls, in the form that the next request repeats them.
    fn calls(&self) -> Vec<Value> {
        let calls = self.calls.values();
        let call = |call: &Call| json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}});
        calls.map(call).collect()
    }

    fn turn(&self, question: &str, conversation: &str) -> io::Result<Turn> {
        let status = match &*self.finish_reason {
            "stop" | "tool_calls" => "completed",
            "length" => "incomplete",
            other => return Err(io::Error::other(format!("a reason to finish expected, not {other}"))),
        };
        Ok(Turn {
            user: USER.to_owned(),
            question: question.to_owned(),
            answer: self.answer.clone(),
            conversation: conversation.to_owned(),
            run: self.id.clone(),
            status: status.to_owned(),
            total_tokens: self.total_tokens,
        })
    }
}

const USER: &str = "eve";
const QUESTION: &str = "Shall I take an umbrella?";
