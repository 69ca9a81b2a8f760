//! Chat Completions: a request and its response are a whole run.
//!
//! A completion cannot be retrieved again, so the exchange is the only source. When the exchange is
//! over, the run is over. Ids are not trusted to be unique: some servers only count to a
//! thousand, and caches repeat a response with its id. So a run is identified by the API's id
//! together with its exchange (see [`observation::api_id`](crate::observation::api_id)).

mod audio;
mod call;
mod choice;
mod finish;
mod logprobs;
mod messages;
mod outcome;
mod reasoning_details;
mod request;
mod response;
mod room;
mod route;

use std::sync::Arc;

use http::Method;
use serde::de::IgnoredAny;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use crate::attribution::Attribution;
use crate::dialect::attribution::{Owner, trace_id};
use crate::dialect::clean::{self, Files};
use crate::dialect::history::History;
use crate::dialect::object::Object;
use crate::dialect::registry::{Dialect, NotJson, Observe, Opening, Telling};
use crate::dialect::{Observed, Problem};
use crate::exchange::Ending;
use crate::message::Message;
use crate::observation::{
    Api, ConversationKey, Fact, Observation, Reasoning, Run, RunOrigin, RunStatus, StreamEnding, ToolCall,
    Turn, UsageAbsent, scoped_call, unique_id,
};
use crate::time::UnixMillis;
use choice::Choice;
use request::Asked;
use response::Response;
use route::Route;

/// Settings of this dialect.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether records keep the request and response in the API's form, including the history. Some
    /// sinks need them for their format.
    pub keep_bodies: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { keep_bodies: true }
    }
}

/// Chat Completions.
pub(super) const DIALECT: Dialect = Dialect {
    api: Api::Chat,
    interest,
    start: |opening| Some(Box::new(Observer::start(opening)?)),
    read_by_item: Some("messages"),
    hears_refusals: false,
    is_sunset: false,
};

/// Whether a request asks for a completion.
fn interest(method: &Method, path: &str) -> bool {
    *method == Method::POST && Route::parse(path).is_some()
}

/// Watches one exchange that succeeded.
#[derive(Debug)]
pub(super) struct Observer {
    upstream: Arc<str>,
    attribution: Attribution,
    /// The part that makes an id unique.
    exchange: String,
    /// What was asked. The first fact takes it.
    asked: Option<Asked>,
    /// Whether what was asked could not be read.
    asked_lost: bool,
    /// The model named in the request, for servers whose response names none.
    model: Option<String>,
    includes_usage: bool,
    question: Option<String>,
    /// Everything that was said before the response, if all of it was read.
    history: Option<Box<History>>,
    /// A hash over the history, if functions are offered in the legacy form before tools.
    said: Option<String>,
    keep_bodies: bool,
    request_at: UnixMillis,
    trace_id: Option<String>,
    streamed: bool,
    response: Response,
    /// The unmodified response, if it was not streamed.
    document: Option<Box<RawValue>>,
    /// Whether the response said that it is over.
    over: bool,
    /// Whether the response is over and cannot be used.
    unreadable: bool,
    first_token_at: Option<UnixMillis>,
    /// Whether the response is read only after it is over. Then the times of its pieces are not
    /// known.
    late: bool,
    /// The run, once it was reported.
    run: Option<String>,
}

impl Observe for Observer {
    fn set_telling(&mut self, telling: Telling) {
        self.streamed = telling != Telling::Document;
        self.late = telling == Telling::LateEvents;
    }

    /// What it reports before the end does not claim to be complete.
    fn miss(&mut self) {}

    /// Notes that the response is over and cannot be used.
    fn cannot_read(&mut self, _: UnixMillis, _: &mut Observed) {
        self.unreadable = true;
    }

    fn event(&mut self, _: &str, data: &str, at: UnixMillis, out: &mut Observed) -> Result<(), NotJson> {
        if data.is_empty() {
            return Ok(());
        }
        if data.trim_ascii() == "[DONE]" {
            self.over = true;
            return Ok(());
        }
        let Some(chunk) = Object::parse(data) else {
            serde_json::from_str::<IgnoredAny>(data).map_err(|_| NotJson)?;
            out.problem(Problem::UnexpectedShape);
            return Ok(());
        };
        self.chunk(&chunk, at, out);
        Ok(())
    }

    fn document(&mut self, json: &str, _: UnixMillis, out: &mut Observed) -> Result<(), NotJson> {
        let text = clean::kept(json, Files::Described).ok_or(NotJson)?;
        let document = Object::parse(text.get());
        let told = document
            .is_some_and(|document| self.response.push(&document).is_some() && !self.response.is_empty());
        if told {
            self.over = true;
            self.document = Some(text).filter(|text| text.get().len() <= MAX_DOCUMENT_BYTES);
        } else {
            out.problem(Problem::UnexpectedShape);
            self.unreadable = true;
        }
        Ok(())
    }

    /// Reads the part of a JSON body that arrived before it was cut: its id and model, if they came
    /// early.
    fn prefix(&mut self, members: Map<String, Value>, _: Ending, _: UnixMillis, _: &mut Observed) {
        let text = Value::Object(members).to_string();
        if let Some(members) = Object::parse(&text) {
            self.response.push(&members);
        }
    }

    fn hears_broken_responses(&self) -> bool {
        true
    }

    fn held_bytes(&self) -> usize {
        let document = self.document.as_ref().map_or(0, |document| document.get().len());
        self.asked.as_ref().map_or(0, Asked::held_bytes) + self.response.held_bytes() + document
    }

    fn let_go(&mut self) {
        self.response.let_go();
    }

    fn end(&mut self, ending: Ending, missed: bool, at: UnixMillis, out: &mut Observed) {
        let whole_body = ending == Ending::Complete && !missed;
        if whole_body && !self.streamed && self.response.is_empty() && !self.unreadable {
            // The body was empty.
            return;
        }
        if self.unreadable
            && self.asked.as_ref().is_none_or(|asked| asked.inputs.is_empty())
            && !self.asked_lost
        {
            // Neither the response nor the request belongs to this API.
            return;
        }
        let finished = self.over || self.unreadable || self.response.is_finished();
        let status = self.status(finished);
        let told = Told {
            whole: finished && !missed && !self.unreadable && !self.response.is_incomplete(),
            usage_absent: self.response.usage().is_none().then(|| self.usage_absent(finished, ending)),
            ..self.told()
        };
        let is_open = !status.is_terminal();
        self.emit(status, told, at, out);
        let Some(run) = self.run.clone().filter(|_| is_open) else { return };
        let ending = match ending {
            Ending::ClientGone => StreamEnding::ClientGone,
            Ending::Complete | Ending::UpstreamFailed => StreamEnding::Truncated,
        };
        let first_token_at = self.first_token_at;
        self.push(Fact::StreamEnded { run, ending, first_token_at, error: None }, at, out);
    }

    fn has_cut_request(&self) -> bool {
        self.asked.as_ref().is_some_and(|asked| asked.is_cut)
    }
}

impl Observer {
    /// Starts watching an exchange.
    pub(super) fn start(opening: Opening<'_>) -> Option<Self> {
        let Opening { exchange, start, request, config } = opening;
        let Route { deployment } = Route::parse(&start.path)?;
        let mut attribution = config.attribution.of_request(start, &request.body);
        config.attribution.note_metadata(&mut attribution, &request.body["metadata"], Owner::Run);
        let mut history = History::of(&attribution, Api::Chat, &start.upstream);
        let asked = Asked::read(&request, &mut history);
        Some(Self {
            upstream: start.upstream.clone(),
            attribution,
            exchange: format!("{:x}.{:x}", start.request_at.0, exchange.0),
            model: asked.model.clone().or(deployment),
            includes_usage: asked.includes_usage,
            question: asked.question.clone(),
            said: asked.offers_functions.then(|| history.fingerprint()),
            history: (!request.lost).then(|| Box::new(history)),
            asked_lost: request.lost || asked.is_cut,
            asked: Some(asked),
            keep_bodies: config.chat.keep_bodies,
            request_at: start.request_at,
            trace_id: trace_id(start),
            streamed: false,
            response: Response::default(),
            document: None,
            over: false,
            unreadable: false,
            first_token_at: None,
            late: false,
            run: None,
        })
    }

    fn chunk(&mut self, chunk: &Object<'_>, at: UnixMillis, out: &mut Observed) {
        match self.response.push(chunk) {
            None => return out.problem(Problem::UnexpectedShape),
            Some(true) if !self.late => {
                self.first_token_at.get_or_insert(at);
            }
            Some(_) => {}
        }
        // Reported early, so that the request is not lost if this process ends.
        if self.run.is_none() && self.response.id().is_some() && !self.response.choices().is_empty() {
            let status = RunStatus::Active("in_progress".to_owned());
            self.emit(status, Told::default(), at, out);
        }
    }

    /// What was reported so far.
    fn told(&self) -> Told {
        let choices = self.response.choices();
        let owner = self.response.id().unwrap_or(&self.exchange);
        let reasoning = choices.iter().map(Choice::reasoning).filter(|text| !text.is_empty());
        let document = || self.document.clone().or_else(|| self.response.to_json());
        Told {
            outputs: choices.iter().filter_map(|choice| choice.to_message(owner)).collect(),
            reasoning: reasoning.map(|text| Reasoning { id: None, text: text.to_owned() }).collect(),
            tool_calls: choices.iter().flat_map(|choice| choice.tool_calls(owner)).collect(),
            response: self.keep_bodies.then(document).flatten(),
            ..Told::default()
        }
    }

    fn emit(&mut self, status: RunStatus, told: Told, at: UnixMillis, out: &mut Observed) {
        let Told { outputs, reasoning, tool_calls, response, whole, usage_absent } = told;
        let run = self.run.get_or_insert_with(|| unique_id(self.response.id(), &self.exchange)).clone();
        let asked = self.asked.take();
        let history = self.history.as_deref();
        let said_before = history.filter(|_| asked.is_some()).map(History::before).unwrap_or_default();
        let choices = self.response.choices().iter().take(MAX_SAID).filter(|_| whole);
        let said = choices.filter_map(|choice| history?.with(|word| choice.say(word))).collect();
        let origin = match &asked {
            None => RunOrigin::Seen,
            Some(asked) => RunOrigin::Created {
                messages: asked.inputs.clone(),
                request_at: self.request_at,
                trace_id: self.trace_id.take(),
                streamed: self.streamed,
                new_conversation: true,
                messages_lost: self.asked_lost,
                instructions: asked.instructions.clone(),
                additional_instructions: None,
            },
        };
        let reason = || to_raw_value(&json!({"reason": self.reason(&status)?})).ok();
        let error = self.response.error().map(RawValue::to_owned).or_else(reason);
        let asked = asked.unwrap_or_default();
        let run = Run {
            model: self.response.model().map(str::to_owned).or_else(|| self.model.clone()),
            created_at: self.response.created(),
            usage: self.response.usage().map(RawValue::to_owned),
            error,
            metadata: asked.metadata,
            tool_calls,
            ..Run::new(run, status)
        };
        let turn = Turn {
            answers: asked.answers,
            said_before,
            said,
            named_calls: self.named_calls(),
            question: self.question.clone(),
            outputs,
            reasoning,
            whole,
            usage_absent,
            first_token_at: self.first_token_at,
            request: asked.parameters.filter(|_| self.keep_bodies),
            response,
            ..Turn::new(Api::Chat, run, origin)
        };
        self.push(Fact::TurnSeen(Box::new(turn)), at, out);
    }

    /// The keys of function calls in the legacy form before tools.
    fn named_calls(&self) -> Vec<String> {
        let Some(said) = &self.said else { return Vec::new() };
        let names = self.response.choices().iter().filter_map(Choice::called_function);
        names.map(|name| scoped_call(said, name)).collect()
    }

    fn push(&self, fact: Fact, at: UnixMillis, out: &mut Observed) {
        let Some(run) = &self.run else { return };
        let id = Arc::from(run.as_str());
        out.observations.push(Observation {
            conversation: ConversationKey { upstream: self.upstream.clone(), id },
            at,
            attribution: self.attribution.clone(),
            fact,
        });
    }
}

/// What was reported of a response so far.
#[derive(Default)]
struct Told {
    outputs: Vec<Message>,
    reasoning: Vec<Reasoning>,
    tool_calls: Vec<ToolCall>,
    response: Option<Box<RawValue>>,
    whole: bool,
    usage_absent: Option<UsageAbsent>,
}

/// Choices that the app may continue from.
const MAX_SAID: usize = 8;
/// A longer response is not kept verbatim. Only its record is kept.
const MAX_DOCUMENT_BYTES: usize = 4 << 20;
