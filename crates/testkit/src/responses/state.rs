//! Creates and changes responses for clients. `play` advances them, `conversations` has
//! conversations.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::behaviour::{Asked, Behaviour};
use super::expected::{ExpectedItem, ExpectedResponse, ResponseUsage};
use super::items::{self, known_items, text, words};
use super::objects::{Conversation, Driver, Response, ResponseState};
use super::play::Advanced;
use crate::answers::Function;
use crate::call::metadata;
use crate::fault::Fault;
use crate::random::Random;
use crate::script::{Progress, Script, UsageTiming};
use crate::stream::Event;

/// The whole state. It is pure: times (seconds since the epoch) are arguments, ids are seeded.
pub(crate) struct State {
    pub(super) random: Random,
    pub(super) usage: UsageTiming,
    pub(super) progress: Progress,
    pub(super) lock_active: bool,
    pub(super) conversations: HashMap<String, Conversation>,
    pub(super) responses: HashMap<String, Response>,
    /// All responses so far, in the order they were created.
    order: Vec<String>,
    /// Maps each function call to the response that made it.
    pub(super) calls: HashMap<String, String>,
    /// Responses that time must drive from now on. The owner of the clock takes them from here.
    pub(crate) released: Vec<String>,
}

impl State {
    /// Creates an empty state.
    pub(crate) fn new(script: &Script) -> Self {
        Self {
            // Makes the ids differ from those of the other APIs.
            random: Random::new(script.seed ^ 0x7265_7370),
            usage: script.usage,
            progress: script.progress,
            lock_active: script.lock_active_runs,
            conversations: HashMap::new(),
            responses: HashMap::new(),
            order: Vec::new(),
            calls: HashMap::new(),
            released: Vec::new(),
        }
    }

    /// The current state of every response, including finished ones, oldest first.
    pub(crate) fn snapshot(&self) -> Vec<ExpectedResponse> {
        self.order.iter().map(|id| self.truth(&self.responses[id])).collect()
    }

    /// Creates a response and returns its id. `omit_links` leaves out its links to other objects.
    pub(super) fn create(&mut self, body: &Value, omit_links: bool, now: u64) -> Result<String, Fault> {
        let model = match body["model"].as_str() {
            Some(model) => model,
            None if body["prompt"].is_object() => "gpt-5-mini",
            None => return Err(Fault::missing("model")),
        };
        if body["background"] == true && body["store"] == false {
            return Err(Fault::invalid("background", "Background mode requires 'store' to be true."));
        }
        let conversation = self.conversation_of(body)?;
        let previous = self.previous_of(body, conversation.as_deref())?;
        let sources = ["input", "previous_response_id", "prompt", "conversation"];
        if sources.iter().all(|name| body[*name].is_null()) {
            let message = "One of \"input\" or \"previous_response_id\" or 'prompt' or 'conversation' must be provided.";
            return Err(Fault::invalid("input", message));
        }

        let given = items::given(&body["input"], &mut self.random)?;
        let mut context = self.context_of(previous.as_deref(), conversation.as_deref());
        let cached_tokens = context.iter().map(words).sum();
        let known = known_items(&given);
        for item in &given[..known] {
            context.push(self.resolve(item)?);
        }
        let follows = self.maker_of(&given[..known]).map(str::to_owned);
        let pending = self.pending_of(conversation.as_deref());
        let pending_inputs = pending.len();
        let inputs: Vec<Value> = pending.into_iter().chain(given[known..].iter().cloned()).collect();
        check_outputs(&context, &inputs)?;
        if let Some(conversation) = conversation.as_ref().and_then(|id| self.conversations.get_mut(id)) {
            conversation.items.iter_mut().for_each(|(_, claimed)| *claimed = true);
        }

        let id = self.random.id("resp");
        let parent = self.parent_of(&inputs, previous.as_deref());
        let said = inputs.iter().filter(|item| item["role"] == "user").map(text);
        let texts: Vec<String> = parent.map_or_else(|| said.collect(), |parent| parent.texts.clone());
        let is_new = |item: &Value| {
            let caller = self.caller_of(item);
            parent.is_none_or(|parent| caller.is_some_and(|caller| caller.id == parent.id))
        };
        let outputs = inputs.iter().filter(|item| is_output(item) && is_new(item)).map(text);
        let tool_outputs: Vec<String> = outputs.collect();
        let depth = parent.map_or(0, |parent| parent.depth + 1);
        let format = body["text"]["format"]["type"].as_str().unwrap_or_default();
        let metadata = metadata(body);
        let asked = Asked {
            texts: &texts,
            tool_outputs: &tool_outputs,
            handoff: Function::of_handoff(&body["tools"], &metadata),
            depth,
            json: format.starts_with("json"),
        };
        let plan = Behaviour::of(model, &metadata).plan(&asked);
        let input_tokens = 10 + context.iter().chain(&inputs).map(words).sum::<u64>();
        let previous_response = previous.as_ref().and_then(|id| self.responses.get(id));
        let before = previous_response.or_else(|| parent.filter(|_| conversation.is_none()));
        let before = before.or_else(|| {
            follows.as_ref().filter(|_| conversation.is_none()).and_then(|id| self.responses.get(id))
        });
        let response = Response {
            created_at: now,
            ended_at: None,
            state: if body["background"] == true { ResponseState::Queued } else { ResponseState::InProgress },
            request: body.clone(),
            model: format!("{model}-2026-08-01"),
            metadata,
            root: before.map_or_else(|| id.clone(), |before| before.root.clone()),
            continues: parent.map(|parent| parent.id.clone()),
            follows: follows.filter(|_| parent.is_none()),
            turn: parent.map_or_else(|| id.clone(), |parent| parent.turn.clone()),
            depth,
            texts,
            conversation,
            previous,
            context,
            inputs,
            pending_inputs,
            outputs: Vec::new(),
            usage: ResponseUsage { input_tokens, cached_tokens, ..ResponseUsage::default() },
            error: None,
            incomplete_reason: None,
            plan,
            driver: if body["stream"] == true { Driver::Stream } else { Driver::None },
            log: Vec::new(),
            stored: body["store"] != false,
            abandoned: false,
            refused: false,
            omit_links,
            terminal_views: 0,
            id: id.clone(),
        };
        self.order.push(id.clone());
        self.responses.insert(id.clone(), response);
        self.announce(&id);
        Ok(id)
    }

    /// A response that can be retrieved.
    pub(super) fn stored(&mut self, id: &str) -> Result<&mut Response, Fault> {
        let found = self.responses.get_mut(id).filter(|response| response.stored);
        found.ok_or_else(|| Fault {
            status: 404,
            message: format!("Response with id '{id}' not found."),
            param: None,
            code: None,
        })
    }

    /// The response as a client sees it now.
    pub(super) fn view(&mut self, id: &str) -> Result<Value, Fault> {
        let usage = self.usage;
        Ok(self.stored(id)?.view(usage))
    }

    /// Makes a response unavailable to clients. The expected records keep it.
    pub(super) fn delete(&mut self, id: &str) -> Result<Value, Fault> {
        self.stored(id)?.stored = false;
        Ok(json!({"id": id, "object": "response.deleted", "deleted": true}))
    }

    pub(super) fn cancel(&mut self, id: &str, now: u64) -> Result<Value, Fault> {
        let response = self.stored(id)?;
        if !response.in_background() {
            return Err(Fault::refused("Cannot cancel a synchronous response."));
        }
        match response.state {
            ResponseState::Cancelled => {}
            ResponseState::InProgress | ResponseState::Queued => response.stop(now),
            _ => return Err(Fault::refused("Cannot cancel a completed response.")),
        }
        self.view(id)
    }

    /// Ends a response without a client, unless it is in the background. True if it continues.
    pub(super) fn abandon(&mut self, id: &str, now: u64) -> bool {
        let Some(response) = self.responses.get_mut(id) else { return false };
        response.driver = Driver::None;
        if response.in_background() || response.state.is_terminal() {
            return response.in_background();
        }
        response.stop(now);
        response.stored = false;
        response.abandoned = true;
        false
    }

    /// Advances a response that has no driver, as the script says.
    pub(crate) fn release(&mut self, id: &str, now: u64) {
        let Some(response) = self.responses.get_mut(id) else { return };
        if response.driver != Driver::None {
            return;
        }
        match self.progress {
            Progress::Immediate => while matches!(self.advance(id, now), Advanced::Act { .. }) {},
            Progress::Manual | Progress::Polls => {}
            Progress::Time => {
                response.driver = Driver::Time;
                self.released.push(id.to_owned());
            }
        }
    }

    /// Makes a stream drive a response that only polls would advance. False if it may not.
    pub(super) fn take_over(&mut self, id: &str) -> bool {
        let Some(response) = self.responses.get_mut(id) else { return false };
        let takes = self.progress == Progress::Polls
            && response.driver == Driver::None
            && !response.state.is_terminal();
        if takes {
            response.driver = Driver::Stream;
        }
        takes
    }

    /// Advances a response without a driver until a poll would show something new.
    pub(super) fn poll(&mut self, id: &str, now: u64) {
        loop {
            let Some(response) = self.responses.get(id) else { return };
            let shows = response.plan.front().is_some_and(super::behaviour::Act::shows);
            if response.driver != Driver::None
                || !matches!(self.advance(id, now), Advanced::Act { .. })
                || shows
            {
                return;
            }
        }
    }

    /// The events of a response, starting at index `from`.
    pub(super) fn events(&self, id: &str, from: usize) -> Vec<Event> {
        self.responses[id].log.get(from..).unwrap_or_default().to_vec()
    }

    fn previous_of(&self, body: &Value, conversation: Option<&str>) -> Result<Option<String>, Fault> {
        let Some(previous) = body["previous_response_id"].as_str() else { return Ok(None) };
        if conversation.is_some() {
            let message = "Mutually exclusive parameters: 'previous_response_id' and 'conversation'.";
            return Err(Fault::invalid("previous_response_id", message));
        }
        if !self.responses.get(previous).is_some_and(|response| response.stored) {
            return Err(Fault {
                status: 400,
                message: format!("Previous response with id '{previous}' not found."),
                param: Some("previous_response_id"),
                code: Some("previous_response_not_found"),
            });
        }
        Ok(Some(previous.to_owned()))
    }

    /// The previous items, as the server recorded them.
    fn context_of(&self, previous: Option<&str>, conversation: Option<&str>) -> Vec<Value> {
        if let Some(response) = previous.and_then(|id| self.responses.get(id)) {
            let Response { context, inputs, outputs, .. } = response;
            return context.iter().chain(inputs).chain(outputs).cloned().collect();
        }
        let conversation = conversation.and_then(|id| self.conversations.get(id));
        let items = conversation.into_iter().flat_map(|conversation| &conversation.items);
        items.filter(|(_, claimed)| *claimed).map(|(item, _)| item.clone()).collect()
    }

    /// The items of a conversation that no response has taken yet.
    fn pending_of(&self, conversation: Option<&str>) -> Vec<Value> {
        let conversation = conversation.and_then(|id| self.conversations.get(id));
        let items = conversation.into_iter().flat_map(|conversation| &conversation.items);
        items.filter(|(_, claimed)| !claimed).map(|(item, _)| item.clone()).collect()
    }

    /// Resolves an item reference. Any other item is returned unchanged.
    fn resolve(&self, item: &Value) -> Result<Value, Fault> {
        if item["type"] != "item_reference" {
            return Ok(item.clone());
        }
        let stored = self.responses.values().filter(|response| response.stored);
        let mut items = stored.flat_map(|response| response.inputs.iter().chain(&response.outputs));
        let found = items.find(|known| known["id"] == item["id"]);
        found.cloned().ok_or_else(|| Fault {
            status: 404,
            message: format!("Item with id '{}' not found.", item["id"].as_str().unwrap_or_default()),
            param: Some("input"),
            code: None,
        })
    }

    /// The response that made the last one of these items that a response made.
    fn maker_of(&self, items: &[Value]) -> Option<&str> {
        items.iter().rev().filter_map(|item| item["id"].as_str()).find_map(|id| {
            let made = |response: &&Response| response.outputs.iter().any(|output| output["id"] == id);
            self.responses.values().find(made).map(|response| &*response.id)
        })
    }

    /// The response whose calls the inputs answer, if the inputs contain nothing else. Some clients
    /// also repeat the whole turn, even if they name that response as the previous one.
    fn parent_of(&self, inputs: &[Value], previous: Option<&str>) -> Option<&Response> {
        let caller = self.caller_of(inputs.last()?)?;
        let is_named = previous == Some(&caller.id);
        let repeats = |item: &Value| is_named && item["role"] == "user" && caller.texts.contains(&text(item));
        inputs.iter().all(|item| is_output(item) || repeats(item)).then_some(caller)
    }

    /// The response that made the call whose output this item is.
    fn caller_of(&self, item: &Value) -> Option<&Response> {
        self.responses.get(self.calls.get(item["call_id"].as_str()?)?)
    }

    fn truth(&self, response: &Response) -> ExpectedResponse {
        let reason = response.incomplete_reason.map(|reason| json!({ "reason": reason }));
        let usage_shown = response.state.is_terminal() && self.usage != UsageTiming::Never;
        let conversation_deleted =
            response.conversation.as_ref().is_some_and(|id| !self.conversations.contains_key(id));
        ExpectedResponse {
            response: response.id.clone(),
            conversation: response.conversation.clone(),
            conversation_deleted,
            previous: response.previous.clone(),
            root: response.root.clone(),
            continues: response.continues.clone(),
            follows: response.follows.clone(),
            turn: response.turn.clone(),
            model: response.model.clone(),
            status: response.state.as_str().to_owned(),
            abandoned: response.abandoned,
            refused: response.refused,
            background: response.in_background(),
            stored: response.stored,
            instructions: response.instructions(),
            inputs: response.new_inputs().map(ExpectedItem::of).collect(),
            outputs: response.outputs.iter().map(ExpectedItem::of).collect(),
            usage: usage_shown.then_some(response.usage),
            error: response.error.clone().or(reason),
            metadata: response.metadata.clone(),
            created_at: response.created_at,
            completed_at: response.ended_at.filter(|_| response.state == ResponseState::Completed),
        }
    }
}

/// Whether an item is the output of a function.
fn is_output(item: &Value) -> bool {
    item["type"] == "function_call_output"
}

/// Refuses outputs without a matching call, as OpenAI does.
fn check_outputs(context: &[Value], inputs: &[Value]) -> Result<(), Fault> {
    let called =
        |id: &Value| context.iter().any(|item| item["type"] == "function_call" && item["call_id"] == *id);
    let outputs = inputs.iter().filter(|item| is_output(item));
    match outputs.map(|item| &item["call_id"]).find(|id| !called(id)) {
        Some(id) => {
            let id = id.as_str().unwrap_or_default();
            let message = format!("No tool call found for function call output with call_id {id}.");
            Err(Fault { status: 400, message, param: Some("input"), code: None })
        }
        None => Ok(()),
    }
}
