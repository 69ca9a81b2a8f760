//! Responses and Conversations: a request and its response are a whole turn.
//!
//! A turn is reported when the response is first seen, with the new input of its request; again
//! when its state changes; and with its whole output at the end. A background response is polled,
//! and reported with the state of each poll. A conversation is identified by its id. Without an id,
//! the correlator finds it by the chain of `previous_response_id`.

mod conversation;
mod event;
mod input;
mod item;
mod object;
mod route;
mod speech;
mod stream;
mod telling;

use std::sync::Arc;

use http::Method;
use serde_json::value::to_raw_value;
use serde_json::{Map, Value, json};

use crate::attribution::Attribution;
use crate::dialect::attribution::{Order, Owner, trace_id};
use crate::dialect::history::History;
use crate::dialect::registry::{Dialect, NotJson, Observe, Opening, Telling};
use crate::dialect::request::Request;
use crate::dialect::{Observed, Problem, field};
use crate::exchange::Ending;
use crate::message::Message;
use crate::observation::{Api, Fact, Run, RunStatus, StreamEnding};
use crate::time::UnixMillis;
use event::Event;
use input::NewInput;
use object::Outputs;
use route::Route;
use stream::Stream;

/// Responses and Conversations.
pub(super) const DIALECT: Dialect = Dialect {
    api: Api::Responses,
    interest,
    start: |opening| Some(Box::new(Observer::start(opening)?)),
    read_by_item: Some("input"),
    hears_refusals: false,
    is_sunset: false,
};

/// Whether a request belongs to this API and its response reports something.
fn interest(method: &Method, path: &str) -> bool {
    Route::parse(method, path).is_some()
}

/// Watches one exchange.
#[derive(Debug)]
pub(super) struct Observer {
    route: Route,
    upstream: Arc<str>,
    order: Arc<Order>,
    attribution: Attribution,
    request_at: UnixMillis,
    trace_id: Option<String>,
    /// The conversation named by the path, the request or the response.
    conversation: Option<Arc<str>>,
    /// The input of the request. The first fact that carries it takes it.
    asked: Option<Asked>,
    /// Everything that was said before the response, if all of it was read and the request names
    /// neither a conversation nor a previous response.
    history: Option<Box<History>>,
    /// The previous response that the request continues.
    previous: Option<String>,
    /// The prompt or agent named in the request.
    assistant: Option<String>,
    background: bool,
    /// The id of the response if it has none: the one in the path, else a local one.
    local_id: String,
    streamed: bool,
    stream: Stream,
    /// Whether the request asked for the stream from its beginning.
    from_beginning: bool,
    /// Whether the stream reported the end without the output. The whole output is then only known
    /// when the stream is over.
    told_late: bool,
    /// The id in the body of a response that was requested under another id.
    alias: Option<String>,
    /// When something was last reported.
    told_at: UnixMillis,
    /// Whether part of the response was not seen, or could not be read.
    missed: bool,
}

/// The input of a request that starts something.
#[derive(Debug, Default)]
struct Asked {
    input: NewInput,
    instructions: Option<String>,
    /// Whether there was input that could not be read.
    lost: bool,
}

impl Asked {
    fn held_bytes(&self) -> usize {
        let messages = self.input.messages.iter();
        let messages = messages.map(|message| size_of::<Message>() + message.object.get().len());
        messages.sum::<usize>() + self.instructions.as_ref().map_or(0, String::len)
    }
}

impl Observe for Observer {
    fn set_telling(&mut self, telling: Telling) {
        self.streamed = telling != Telling::Document;
        self.stream.late = telling == Telling::LateEvents;
    }

    fn miss(&mut self) {
        self.missed = true;
    }

    /// Notes that the response is over and cannot be used. The request was still made.
    fn cannot_read(&mut self, at: UnixMillis, out: &mut Observed) {
        let asked = self.asked.as_ref().is_some_and(|asked| asked.lost || !asked.input.messages.is_empty());
        if self.route != Route::Create || !asked {
            return;
        }
        let run = object::run(&Value::Null, &self.local_id, None);
        let error = to_raw_value(&json!({"reason": "unreadable_response"})).ok();
        self.turn(Run { status: RunStatus::Incomplete, error, ..run }, Outputs::default(), false, at, out);
    }

    fn event(&mut self, name: &str, data: &str, at: UnixMillis, out: &mut Observed) -> Result<(), NotJson> {
        if data.is_empty() || data == "[DONE]" || !matches!(self.route, Route::Create | Route::Look { .. }) {
            return Ok(());
        }
        // If a key occurs twice, the last one counts, as in bodies.
        let unique;
        let event = match Event::read(data) {
            Some(event) => event,
            None => {
                unique = serde_json::from_str::<Value>(data).map_err(|_| NotJson)?.to_string();
                match Event::read(&unique) {
                    Some(event) => event,
                    None => {
                        out.problem(Problem::UnexpectedShape);
                        return Ok(());
                    }
                }
            }
        };
        self.read_event(name, data, &event, at, out);
        Ok(())
    }

    fn document(&mut self, json: &str, at: UnixMillis, out: &mut Observed) -> Result<(), NotJson> {
        let body: Value = serde_json::from_str(json).map_err(|_| NotJson)?;
        match &self.route {
            Route::Create | Route::Look { .. } if object::is_response(&body) => {
                self.response(body, None, true, at, out);
            }
            Route::Create if field::error(&body["error"]).is_some() => {
                let run = object::run(&body, &self.local_id, None);
                self.turn(Run { status: RunStatus::Failed, ..run }, Outputs::default(), true, at, out);
            }
            Route::Create | Route::Look { .. } => {
                out.problem(Problem::UnexpectedShape);
                self.cannot_read(at, out);
            }
            Route::Conversation { .. } | Route::Conversations => self.conversation(&body, at, out),
            Route::Item { item, .. } => {
                let id = item.clone();
                self.emit(Fact::MessageDeleted { id }, at, out);
            }
            Route::Items { .. } if body.is_array() => self.items(&body, at, out),
            Route::Items { .. } => self.items(&body["data"], at, out),
        }
        Ok(())
    }

    /// Reads the part of a response that arrived before it was cut: its id and status, if they came
    /// early. If the response itself was cut, and not only the copy, the client has not seen the
    /// end that a status may name.
    fn prefix(&mut self, members: Map<String, Value>, ending: Ending, at: UnixMillis, out: &mut Observed) {
        let mut body = Value::Object(members);
        let is_response =
            matches!(self.route, Route::Create | Route::Look { .. }) && object::is_response(&body);
        if !is_response || field::id(&body["id"]).is_none() || !body["status"].is_string() {
            return;
        }
        let whole = body["output"].is_array();
        if ending == Ending::Complete {
            return self.response(body, None, whole, at, out);
        }
        if self.route != Route::Create {
            // A client that polls and disconnects will poll again.
            return;
        }
        let run = object::run(&body, &self.local_id, None);
        if run.status.is_terminal() {
            body["status"] = "in_progress".into();
        }
        self.stream.run = Some(run);
        self.response(body, None, false, at, out);
    }

    fn hears_broken_responses(&self) -> bool {
        true
    }

    fn held_bytes(&self) -> usize {
        self.asked.as_ref().map_or(0, Asked::held_bytes) + self.stream.held_bytes()
    }

    fn let_go(&mut self) {
        self.stream.let_go();
    }

    fn end(&mut self, ending: Ending, missed: bool, at: UnixMillis, out: &mut Observed) {
        let asked = self.asked.as_ref().is_some_and(|asked| !asked.input.messages.is_empty());
        if !self.streamed && self.route == Route::Create && ending != Ending::Complete {
            let id = match self.stream.run.take() {
                Some(run) => run.id,
                None if asked => {
                    let run = object::run(&Value::Null, &self.local_id, None);
                    self.turn(run, Outputs::default(), false, at, out);
                    self.local_id.clone()
                }
                // It was already reported as a whole.
                None => return,
            };
            return self.exchange_ended(id, ending, missed, at, out);
        }
        if !self.streamed || !matches!(self.route, Route::Create | Route::Look { .. }) {
            return;
        }
        let run = match self.stream.run.take() {
            Some(run) if run.status.is_terminal() && !self.told_late => return,
            Some(run) => run,
            // The stream ended before it named the response. The request was still made.
            None if asked || self.stream.has_told() => object::run(&Value::Null, &self.local_id, None),
            None => return,
        };
        let outputs = self.stream.take_outputs(&run.id, self.told_late);
        let whole = self.told_late && self.from_beginning && !missed && self.stream.is_whole();
        let (id, over) = (run.id.clone(), run.status.is_terminal());
        self.turn(run, outputs, whole, at, out);
        if !over {
            self.exchange_ended(id, ending, missed, at, out);
        }
    }

    fn has_cut_request(&self) -> bool {
        self.asked.as_ref().is_some_and(|asked| asked.input.is_cut)
    }

    fn omitted(&self) -> &'static [&'static str] {
        OMITTED
    }
}

impl Observer {
    /// Starts watching an exchange that succeeded.
    pub(super) fn start(opening: Opening<'_>) -> Option<Self> {
        let route = Route::parse(&opening.start.method, &opening.start.path)?;
        let local_id = match &route {
            Route::Look { response } => response.clone(),
            _ => opening.local_id(),
        };
        let Opening { exchange: _, start, mut request, config } = opening;
        let order = &config.attribution;
        let conversation =
            route.conversation().or_else(|| object::conversation(&request.body)).map(Arc::from);
        let previous = field::id(&request.body["previous_response_id"]).map(str::to_owned);
        let is_placed = conversation.is_some() || previous.is_some();
        if let Value::Object(fields) = &mut request.body
            && is_placed
        {
            // These turns are already grouped. The cache key adds nothing.
            fields.shift_remove("prompt_cache_key");
        }
        let mut attribution = order.of_request(start, &request.body);
        let owner = if route == Route::Create { Owner::Run } else { Owner::Thread };
        order.note_metadata(&mut attribution, &request.body["metadata"], owner);
        let mut history = History::of(&attribution, Api::Responses, &start.upstream);
        let input = (route == Route::Create).then(|| NewInput::of(request.items("input"), &mut history));
        let Request { body, lost, .. } = request;
        let asked = match route {
            Route::Create => input,
            Route::Conversations => Some(NewInput::all(&body["items"])),
            _ => None,
        };
        let asked = asked.map(|mut input| {
            let leading = std::mem::take(&mut input.instructions);
            let all: Vec<&str> =
                body["instructions"].as_str().into_iter().chain(leading.iter().map(String::as_str)).collect();
            let instructions = field::instructions(&all.join("\n")).map(str::to_owned);
            Asked { lost: lost || input.lost, input, instructions }
        });
        Some(Self {
            upstream: start.upstream.clone(),
            order: order.clone(),
            attribution,
            request_at: start.request_at,
            trace_id: trace_id(start),
            conversation,
            asked,
            history: (route == Route::Create && !is_placed && !lost).then(|| Box::new(history)),
            previous,
            assistant: object::assistant(&body).or_else(|| route::agent(&start.path)),
            background: body["background"] == true,
            local_id,
            streamed: false,
            stream: Stream::default(),
            from_beginning: !start.query.split('&').any(|pair| pair.starts_with("starting_after=")),
            told_late: false,
            alias: None,
            told_at: start.response_at,
            missed: false,
            route,
        })
    }

    fn read_event(&mut self, name: &str, data: &str, event: &Event<'_>, at: UnixMillis, out: &mut Observed) {
        let kind = event.kind().unwrap_or_else(|| name.into());
        if self.stream.take_piece(&kind, event, at) {
            return self.tell_that_it_goes_on(at, out);
        }
        let response = event.response();
        if kind == "error" || (response.is_none() && event.error().is_some()) {
            return self.stream.note_error(event, data);
        }
        match (response, kind.strip_prefix("response.")) {
            (Some(response), Some(state)) => self.response(response, Some(state), true, at, out),
            // Progress of tools, images in pieces, events of later versions.
            (None, Some(_)) => {}
            (_, None) => out.problem(Problem::UnexpectedShape),
        }
    }

    /// Reports that the exchange is over, for a response that is not over as far as it was seen.
    fn exchange_ended(
        &mut self,
        run: String,
        ending: Ending,
        missed: bool,
        at: UnixMillis,
        out: &mut Observed,
    ) {
        let ending = match ending {
            Ending::ClientGone => StreamEnding::ClientGone,
            Ending::Complete if !missed => StreamEnding::Complete,
            Ending::Complete | Ending::UpstreamFailed => StreamEnding::Truncated,
        };
        let (first_token_at, error) = (self.stream.first_token_at, self.stream.error.take());
        self.tell_of(&run.clone(), Fact::StreamEnded { run, ending, first_token_at, error }, at, out);
    }

    /// Takes a state of the response. `named` is the status in the event's name. `whole` says
    /// whether its body is complete.
    fn response(
        &mut self,
        mut body: Value,
        named: Option<&str>,
        whole: bool,
        at: UnixMillis,
        out: &mut Observed,
    ) {
        // The request has the name that the client knows. LiteLLM's responses have an internal name
        // instead.
        if self.conversation.is_none() {
            self.conversation = object::conversation(&body).map(Arc::from);
        }
        if self.previous.is_none() {
            self.previous = field::id(&body["previous_response_id"]).map(str::to_owned);
        }
        self.background |= body["background"] == true;
        self.order.note_metadata(&mut self.attribution, &body["metadata"], Owner::Run);
        let mut run = object::run(&body, &self.local_id, named);
        self.alias = self.route.rename(&mut run.id);
        let outputs = Outputs::of(&mut body["output"], &run.id);
        let over = run.status.is_terminal();
        if self.streamed {
            self.stream.run = Some(run.clone());
            // Some servers leave out of the final event what they streamed before.
            self.told_late = over && outputs.is_empty() && (self.stream.has_items() || !self.from_beginning);
            if self.told_late {
                return;
            }
        }
        self.turn(run, outputs, whole && over && !self.missed, at, out);
    }
}

/// Members that take most of a long response and are in no record. They are left out of pieces,
/// too.
const OMITTED: &[&str] = &["logprobs", "obfuscation"];
