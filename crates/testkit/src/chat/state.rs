//! Creates completions and stores them.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::behaviour::{Asked, Behaviour};
use super::chunks::Chunking;
use super::expected::{ChatChoice, ChatUsage, ExpectedCompletion};
use super::messages::{self, instructions, is_output, known_messages, text, turn_of, words};
use super::objects::Completion;
use crate::answers::{Function, tokens};
use crate::call::{Call, Routed, Source, metadata};
use crate::fault::Fault;
use crate::page::PageQuery;
use crate::random::Random;
use crate::script::{ChatShape, Script, UsageTiming};
use crate::vendor::Vendor;

/// The whole state of the server. It is pure: times (seconds since the epoch) are arguments, and
/// ids come from the seed.
pub(crate) struct State {
    pub(super) random: Random,
    tells_usage: bool,
    completions: Vec<Completion>,
    /// Maps each call to the completion that made it.
    calls: HashMap<String, usize>,
}

impl State {
    /// Creates an empty state.
    pub(crate) fn new(script: &Script) -> Self {
        Self {
            // Makes the ids differ from those of the other APIs.
            random: Random::new(script.seed ^ 0x6368_6174),
            tells_usage: script.usage != UsageTiming::Never,
            completions: Vec::new(),
            calls: HashMap::new(),
        }
    }

    /// Every completion so far, oldest first.
    pub(crate) fn snapshot(&self) -> Vec<ExpectedCompletion> {
        self.completions.iter().map(|completion| completion.truth.clone()).collect()
    }

    /// Records that a completion's client disconnected or was cut off.
    pub(crate) fn abandon(&mut self, completion: usize) {
        self.completions[completion].truth.abandoned = true;
    }

    /// Creates a completion. `deployment` is the name in the path that replaces the model.
    pub(super) fn create(
        &mut self,
        call: &Call<'_>,
        deployment: Option<&str>,
        shape: ChatShape,
    ) -> Result<Routed, Fault> {
        let body = call.body;
        let Some(model) = body["model"].as_str().or(deployment) else { return Err(Fault::missing("model")) };
        let messages = messages::given(body)?;
        let metadata = metadata(body);
        let behaviour = Behaviour::of(model, &metadata);
        let streamed = body["stream"] == true;
        match behaviour {
            Behaviour::Error if !streamed => return Err(Fault::trouble(500)),
            Behaviour::Stall if !streamed => return Ok(Routed::Never),
            Behaviour::FailEarly => {
                let message = "You exceeded your current quota.".to_owned();
                return Err(Fault { status: 429, message, param: None, code: Some("rate_limit_exceeded") });
            }
            _ => {}
        }
        let count = body["n"].as_u64().unwrap_or(1);
        let Some(count) = usize::try_from(count).ok().filter(|count| (1..=128).contains(count)) else {
            return Err(Fault::invalid("n", "Invalid 'n': expected 1 to 128."));
        };

        let turn = turn_of(&messages);
        let inputs = messages[known_messages(&messages)..].to_vec();
        let texts: Vec<String> = turn.iter().filter(|message| message["role"] == "user").map(text).collect();
        let tool_outputs: Vec<String> =
            inputs.iter().filter(|message| is_output(message)).map(text).collect();
        let asked = Asked {
            texts: &texts,
            tool_outputs: &tool_outputs,
            handoff: Function::of_handoff(&body["tools"], &metadata),
            depth: turn.iter().filter(|message| message["role"] == "assistant").count(),
            json: body["response_format"]["type"].as_str().unwrap_or_default().starts_with("json"),
            spoken: body["modalities"].as_array().is_some_and(|kinds| kinds.contains(&json!("audio"))),
        };
        let choices: Vec<ChatChoice> =
            (0..count).map(|index| behaviour.choice(index, &asked, &mut self.random)).collect();
        let usage = ChatUsage {
            prompt_tokens: 10 + messages.iter().map(words).sum::<u64>(),
            cached_tokens: messages[..messages.len() - inputs.len()].iter().map(words).sum(),
            completion_tokens: choices.iter().map(written).sum(),
            reasoning_tokens: choices
                .iter()
                .filter_map(|choice| choice.reasoning.as_deref())
                .map(pieces)
                .sum(),
        };
        let id = self.random.id("chatcmpl").replace('_', "-");
        let parent = self.parent_of(&messages, &inputs);
        let truth = ExpectedCompletion {
            continues: parent.map(|parent| parent.truth.completion.clone()),
            turn: parent.map_or_else(|| id.clone(), |parent| parent.truth.turn.clone()),
            completion: id,
            model: format!("{model}-2026-08-01"),
            request: body.clone(),
            streamed,
            usage_asked: body["stream_options"]["include_usage"] == true,
            instructions: instructions(&messages),
            inputs,
            choices,
            usage: self.tells_usage.then_some(usage),
            error: None,
            abandoned: false,
            metadata,
            created_at: call.now,
            stored: body["store"] == true,
        };
        let vendor = Vendor::of(call.path);
        let completion = Completion { metadata: truth.metadata.clone(), truth, messages, usage, vendor };
        Ok(self.answer(completion, behaviour, shape))
    }

    /// Stores a completion and returns the response.
    fn answer(&mut self, completion: Completion, behaviour: Behaviour, shape: ChatShape) -> Routed {
        let mut completion = completion;
        let index = self.completions.len();
        let calls = completion.truth.choices.iter().flat_map(|choice| &choice.tool_calls);
        self.calls.extend(calls.map(|call| (call.id.clone(), index)));
        if !completion.truth.streamed {
            let object = completion.object();
            self.completions.push(completion);
            return Routed::Found(object);
        }
        let breaks = behaviour == Behaviour::Error;
        let chunking = Chunking { completion: &completion, shape, tells_usage: self.tells_usage, breaks };
        let mut chunks = chunking.chunks(&mut self.random);
        let stalls = behaviour == Behaviour::Stall;
        if stalls {
            chunks.truncate(chunks.len() / 2);
        }
        let shows_usage = chunking.shows_usage();
        if breaks {
            completion.truth.error = chunks.last().map(|chunk| chunk.data["error"].clone());
        }
        completion.truth.usage = completion.truth.usage.filter(|_| shows_usage && !breaks && !stalls);
        self.completions.push(completion);
        Routed::Stream(Source::Chat { completion: index, chunks, stalls })
    }

    /// The completion whose calls the inputs answer, if the inputs contain nothing else.
    fn parent_of(&self, messages: &[Value], inputs: &[Value]) -> Option<&Completion> {
        let first = inputs.first()?;
        inputs.iter().all(is_output).then_some(())?;
        if first["role"] == "tool" {
            return self.completions.get(*self.calls.get(first["tool_call_id"].as_str()?)?);
        }
        // The legacy function calls have no ids. Only the function's name and the previous messages
        // distinguish them.
        let said = messages.len().checked_sub(inputs.len() + 1).map(|end| &messages[..end])?;
        let calls = |choice: &ChatChoice| {
            choice.function_call.as_ref().is_some_and(|call| first["name"] == call.name.as_str())
        };
        let mut latest = self.completions.iter().rev();
        latest.find(|of| of.messages == said && of.truth.choices.iter().any(calls))
    }

    pub(super) fn list(&self, query: &PageQuery) -> Result<Value, Fault> {
        let stored = self.completions.iter().filter(|completion| completion.truth.stored);
        query.cut(stored.map(Completion::object).collect())
    }

    pub(super) fn stored(&mut self, id: &str) -> Result<&mut Completion, Fault> {
        let mut stored = self.completions.iter_mut().filter(|completion| completion.truth.stored);
        stored
            .find(|completion| completion.truth.completion == id)
            .ok_or_else(|| Fault::unknown("completion", id))
    }

    pub(super) fn modify(&mut self, id: &str, body: &Value) -> Result<Value, Fault> {
        let completion = self.stored(id)?;
        completion.metadata.extend(metadata(body));
        Ok(completion.object())
    }

    pub(super) fn delete(&mut self, id: &str) -> Result<Value, Fault> {
        self.stored(id)?.truth.stored = false;
        Ok(json!({"id": id, "object": "chat.completion.deleted", "deleted": true}))
    }

    pub(super) fn list_messages(&mut self, id: &str, query: &PageQuery) -> Result<Value, Fault> {
        let completion = self.stored(id)?;
        let messages = completion.messages.iter().enumerate();
        let with_ids = messages.map(|(index, message)| {
            let mut message = message.clone();
            message["id"] = json!(format!("{id}-{index}"));
            message
        });
        query.cut(with_ids.collect())
    }
}

/// The number of pieces a choice is streamed in.
fn written(choice: &ChatChoice) -> u64 {
    let texts = [&choice.content, &choice.refusal, &choice.reasoning, &choice.transcript];
    let said: u64 = texts.into_iter().flatten().map(|text| pieces(text)).sum();
    let calls = choice.tool_calls.len() + usize::from(choice.function_call.is_some());
    said + 2 * u64::try_from(calls).unwrap_or(u64::MAX)
}

fn pieces(text: &str) -> u64 {
    u64::try_from(tokens(text).count()).unwrap_or(u64::MAX)
}
