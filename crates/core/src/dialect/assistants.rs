//! The Assistants API (v1 and v2): threads, messages, runs.
//!
//! [`ObjectKind`] says what a body is. [`Route`] says which request it responds to. A run's stream
//! and a poll of the run report the same facts. Text deltas are joined per message, and reported
//! only if no whole message followed them.

mod event;
mod list;
mod members;
mod object;
mod object_kind;
mod partial;
mod refusal;
mod route;
mod stream;

use std::sync::Arc;

use http::Method;
use serde_json::{Map, Value, json};

use crate::attribution::Attribution;
use crate::dialect::attribution::{Order, Owner, trace_id};
use crate::dialect::clean;
use crate::dialect::registry::{Dialect, NotJson, Observe, Opening, Telling};
use crate::dialect::request::Request;
use crate::dialect::{Observed, Problem, field};
use crate::exchange::Ending;
use crate::message::Message;
use crate::observation::{Api, ConversationKey, Fact, MessageOrigin, Observation, RunOrigin, ToolOutput};
use crate::time::UnixMillis;
use members::{Members, Name};
use object_kind::ObjectKind;
use route::Route;
use stream::Stream;

/// Threads, messages and runs.
pub(super) const DIALECT: Dialect = Dialect {
    api: Api::Assistants,
    interest,
    start: |opening| Some(Box::new(Observer::start(opening)?)),
    read_by_item: None,
    hears_refusals: true,
    is_sunset: true,
};

/// Whether a request belongs to this API.
fn interest(method: &Method, path: &str) -> bool {
    Route::takes(method) && Route::parse(path).is_some()
}

/// Watches one exchange.
#[derive(Debug)]
pub(super) struct Observer {
    route: Route,
    method: Method,
    query: String,
    upstream: Arc<str>,
    order: Arc<Order>,
    attribution: Attribution,
    request_at: UnixMillis,
    trace_id: Option<String>,
    /// The thread: from the path, or from the body if the path has none.
    thread: Option<Arc<str>>,
    /// Messages of a create request. The first fact that carries them takes them.
    messages: Vec<Message>,
    /// The request that adds a message. Used if its response cannot be read.
    sent: String,
    /// Whether the request may have had messages that could not be read.
    messages_lost: bool,
    instructions: Option<String>,
    additional_instructions: Option<String>,
    tool_outputs: Vec<ToolOutput>,
    /// Whether the fact for the response to this request's `POST` was reported.
    answered: bool,
    stream: Option<Stream>,
    /// When something was last reported.
    told_at: UnixMillis,
    /// Whether the request was refused. The response can then only show which run is still active.
    refused: bool,
    /// Whether part of the response was not seen, or could not be read.
    missed: bool,
}

impl Observe for Observer {
    fn set_telling(&mut self, telling: Telling) {
        self.stream = (telling != Telling::Document).then(|| Stream::new(telling));
    }

    fn miss(&mut self) {
        self.missed = true;
        if let Some(stream) = &mut self.stream {
            stream.miss();
        }
    }

    /// Handles a response that is over and cannot be used. A message in the request was still sent.
    fn cannot_read(&mut self, at: UnixMillis, out: &mut Observed) {
        if self.method == Method::POST
            && matches!(self.route, Route::Messages { .. })
            && let Some((request, _)) = clean::tree(&self.sent)
            && let Some(message) = object::request_message(&request)
        {
            let (origin, requested_at) = (MessageOrigin::Created, Some(self.request_at));
            self.emit(Fact::MessageSeen { message, origin, requested_at }, at, out);
        }
    }

    fn event(&mut self, name: &str, data: &str, at: UnixMillis, out: &mut Observed) -> Result<(), NotJson> {
        self.read_event(name, data, at, out)
    }

    fn document(&mut self, json: &str, at: UnixMillis, out: &mut Observed) -> Result<(), NotJson> {
        if self.refused {
            let refusal = serde_json::from_str(json).map_err(|_| NotJson)?;
            if let Some(run) = refusal::active_run(&refusal) {
                self.emit(Fact::RunGoesOn { run }, at, out);
            }
            return Ok(());
        }
        let members = Members::of(json).map_err(|_| NotJson)?;
        match ObjectKind::of_response(&members, &self.route) {
            Some(ObjectKind::List) => self.list(&members, at, out),
            Some(ObjectKind::ThreadDeleted) => self.emit(Fact::ConversationDeleted, at, out),
            Some(ObjectKind::MessageDeleted) => match field::id(&members[Name::Id]) {
                Some(id) => self.emit(Fact::MessageDeleted { id: id.to_owned() }, at, out),
                None => out.problem(Problem::UnexpectedShape),
            },
            kind => self.object(kind, json, &members, at, out),
        }
        Ok(())
    }

    /// Reads the start of an object that was cut: ids and status, if they came early.
    fn prefix(&mut self, mut members: Map<String, Value>, _: Ending, at: UnixMillis, out: &mut Observed) {
        let json = |members: &Map<String, Value>| json!(members).to_string();
        let kind = {
            let json = json(&members);
            Members::of(&json).ok().and_then(|members| ObjectKind::of_response(&members, &self.route))
        };
        match kind {
            Some(ObjectKind::Message) => {
                let content = members.entry("content").or_insert(Value::Null);
                if content.is_null() {
                    *content = json!([{"type": "truncated"}]);
                }
            }
            Some(ObjectKind::Run) if members.get("status").is_some_and(Value::is_string) => {}
            _ => return,
        }
        let json = json(&members);
        if let Ok(members) = Members::of(&json) {
            self.object(kind, &json, &members, at, out);
        }
    }

    fn hears_broken_responses(&self) -> bool {
        false
    }

    fn held_bytes(&self) -> usize {
        let messages = self.messages.iter().map(|message| size_of::<Message>() + message.object.get().len());
        let outputs = self.tool_outputs.iter().map(|output| output.call.len() + output.output.len());
        let instructions = [&self.instructions, &self.additional_instructions].into_iter().flatten();
        self.sent.len()
            + messages.sum::<usize>()
            + outputs.sum::<usize>()
            + instructions.map(String::len).sum::<usize>()
            + self.stream.as_ref().map_or(0, Stream::held_bytes)
    }

    fn let_go(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.let_go();
        }
    }

    fn end(&mut self, ending: Ending, _: bool, at: UnixMillis, out: &mut Observed) {
        if matches!(self.route, Route::ThreadRuns) && !self.answered && !self.messages.is_empty() {
            let (messages, messages_lost) = (std::mem::take(&mut self.messages), self.messages_lost);
            self.emit(Fact::ConversationCreated { messages, messages_lost }, at, out);
        }
        if self.stream.is_some() {
            self.flush_partials(at, out);
        }
        let Some(fact) = self.stream.take().and_then(|stream| stream.end(ending)) else { return };
        self.emit(fact, at, out);
    }
}

impl Observer {
    /// Starts watching an exchange that succeeded, or whose refusal may be useful.
    pub(super) fn start(opening: Opening<'_>) -> Option<Self> {
        let Opening { exchange: _, start, mut request, config } = opening;
        let order = &config.attribution;
        let route = Route::parse(&start.path).filter(|_| Route::takes(&start.method))?;
        let posted = start.method == Method::POST;
        let refused = !(200..300).contains(&start.status);
        if refused && !matches!(route, Route::Messages { .. } | Route::Runs { .. }) {
            return None;
        }
        let sent = match route {
            Route::Messages { .. } if posted => request.take_text(),
            _ => String::new(),
        };
        let Request { body: request, lost: messages_lost, .. } = request;
        let mut attribution = order.of_request(start, &request);
        let owner = match route {
            Route::Runs { .. } | Route::Run { .. } | Route::ThreadRuns => Owner::Run,
            Route::Messages { .. } | Route::Message { .. } => Owner::Message,
            _ => Owner::Thread,
        };
        order.note_metadata(&mut attribution, &request["metadata"], owner);
        order.note_metadata(&mut attribution, &request["thread"]["metadata"], Owner::Thread);
        let text = |name: &str| {
            let text = request[name].as_str().and_then(field::instructions);
            text.filter(|_| matches!(route, Route::Runs { .. } | Route::ThreadRuns)).map(str::to_owned)
        };
        let (instructions, additional_instructions) = (text("instructions"), text("additional_instructions"));
        let messages = match route {
            Route::Threads if posted => &request["messages"],
            Route::ThreadRuns if posted => &request["thread"]["messages"],
            Route::Runs { .. } if posted => &request["additional_messages"],
            _ => &Value::Null,
        };
        let messages =
            messages.as_array().into_iter().flatten().filter_map(object::request_message).collect();
        let tool_outputs = request["tool_outputs"].as_array().into_iter().flatten().filter_map(|output| {
            Some(ToolOutput {
                call: field::id(&output["tool_call_id"])?.to_owned(),
                output: output["output"].as_str()?.to_owned(),
            })
        });
        Some(Self {
            thread: route.thread().map(Arc::from),
            tool_outputs: tool_outputs.collect(),
            route,
            method: start.method.clone(),
            query: start.query.clone(),
            upstream: start.upstream.clone(),
            order: order.clone(),
            attribution,
            request_at: start.request_at,
            trace_id: trace_id(start),
            messages,
            sent,
            messages_lost,
            instructions,
            additional_instructions,
            answered: false,
            stream: None,
            told_at: start.response_at,
            refused,
            missed: false,
        })
    }

    fn object(
        &mut self,
        kind: Option<ObjectKind>,
        json: &str,
        body: &Members<'_>,
        at: UnixMillis,
        out: &mut Observed,
    ) {
        match kind {
            Some(ObjectKind::Thread) => self.thread_object(body, at, out),
            Some(ObjectKind::Message) => self.message(json, body, at, out),
            Some(ObjectKind::Run) => self.run(json, body, at, out),
            Some(ObjectKind::Step) => {
                let run = self.stream.as_ref().and_then(Stream::run);
                let Some(step) = object::step(body, run) else {
                    self.miss();
                    return out.problem(Problem::UnexpectedShape);
                };
                self.learn_thread(&body[Name::ThreadId]);
                if let Some(stream) = &mut self.stream {
                    stream.note_step(&step);
                }
                self.emit(Fact::StepSeen(Box::new(step)), at, out);
            }
            // Errors with status 200, look-alikes of other products, objects of later versions: not
            // ours to judge.
            Some(ObjectKind::List | ObjectKind::MessageDeleted | ObjectKind::ThreadDeleted) | None => {
                out.problem(Problem::UnexpectedShape)
            }
        }
    }

    fn thread_object(&mut self, body: &Members<'_>, at: UnixMillis, out: &mut Observed) {
        self.order.note_metadata(&mut self.attribution, &body[Name::Metadata], Owner::Thread);
        if self.method == Method::POST && self.route == Route::Threads {
            self.learn_thread(&body[Name::Id]);
            let (messages, messages_lost) = (std::mem::take(&mut self.messages), self.messages_lost);
            self.emit(Fact::ConversationCreated { messages, messages_lost }, at, out);
        } else if matches!(self.route, Route::Thread { .. }) {
            self.emit(Fact::ConversationSeen, at, out);
        }
    }

    fn message(&mut self, json: &str, body: &Members<'_>, at: UnixMillis, out: &mut Observed) {
        self.learn_thread(&body[Name::ThreadId]);
        let mut attribution = self.attribution.clone();
        if body[Name::Role] == "user" && self.stream.is_none() {
            self.order.note_metadata(&mut attribution, &body[Name::Metadata], Owner::Message);
        }
        let Some(mut message) = object::message(json, body) else {
            self.miss();
            return out.problem(Problem::UnexpectedShape);
        };
        let origin = if let Some(stream) = &mut self.stream {
            stream.note_message(&mut message);
            MessageOrigin::Streamed
        } else if self.method == Method::POST && matches!(self.route, Route::Messages { .. }) {
            MessageOrigin::Created
        } else {
            MessageOrigin::Fetched
        };
        let requested_at = (origin == MessageOrigin::Created).then_some(self.request_at);
        self.emit_as(attribution, Fact::MessageSeen { message, origin, requested_at }, at, out);
    }

    fn run(&mut self, json: &str, body: &Members<'_>, at: UnixMillis, out: &mut Observed) {
        self.learn_thread(&body[Name::ThreadId]);
        let mut attribution = self.attribution.clone();
        self.order.note_metadata(&mut attribution, &body[Name::Metadata], Owner::Run);
        let Some(run) = object::run(body) else { return out.problem(Problem::UnexpectedShape) };
        let mut first_token_at = None;
        if let Some(stream) = &mut self.stream {
            if !stream.note_run(&run) {
                return out.problem(Problem::UnexpectedShape);
            }
            first_token_at = stream.first_token_at();
        }
        if run.status.is_terminal() {
            self.flush_partials(at, out);
        }
        let origin = self.run_origin(&run.id, json, at, out);
        let streamed = self.stream.as_ref().is_some_and(Stream::is_whole);
        let fact = Fact::RunSeen { run: Box::new(run), origin, first_token_at, streamed };
        self.emit_as(attribution, fact, at, out);
    }

    fn run_origin(&mut self, run: &str, json: &str, at: UnixMillis, out: &mut Observed) -> RunOrigin {
        if self.answered || self.method != Method::POST {
            return RunOrigin::Seen;
        }
        let streamed = self.stream.is_some();
        match &self.route {
            Route::Runs { .. } | Route::ThreadRuns => {
                self.answered = true;
                if self.instructions.is_none() && self.additional_instructions.is_none() {
                    self.instructions = object::instructions(json);
                }
                RunOrigin::Created {
                    messages: std::mem::take(&mut self.messages),
                    request_at: self.request_at,
                    trace_id: self.trace_id.take(),
                    streamed,
                    new_conversation: self.route == Route::ThreadRuns,
                    messages_lost: self.messages_lost,
                    instructions: self.instructions.take(),
                    additional_instructions: self.additional_instructions.take(),
                }
            }
            Route::SubmitToolOutputs { run: asked, .. } if asked == run => {
                self.answered = true;
                let outputs = std::mem::take(&mut self.tool_outputs);
                if !outputs.is_empty() {
                    self.emit(Fact::ToolOutputsSubmitted { run: run.to_owned(), outputs }, at, out);
                }
                RunOrigin::Continued { streamed }
            }
            _ => RunOrigin::Seen,
        }
    }

    /// The thread in the body takes precedence over the one in the path.
    fn learn_thread(&mut self, id: &Value) {
        if let Some(id) = field::id(id).filter(|id| self.thread.as_deref() != Some(*id)) {
            self.thread = Some(Arc::from(id));
        }
    }

    fn emit(&mut self, fact: Fact, at: UnixMillis, out: &mut Observed) {
        self.emit_as(self.attribution.clone(), fact, at, out);
    }

    fn emit_as(&mut self, attribution: Attribution, fact: Fact, at: UnixMillis, out: &mut Observed) {
        self.told_at = at;
        let Some(thread) = &self.thread else { return out.problem(Problem::UnexpectedShape) };
        out.observations.push(Observation {
            conversation: ConversationKey { upstream: self.upstream.clone(), id: thread.clone() },
            at,
            attribution,
            fact,
        });
    }
}
