//! Lets exchanges take place, and capture see of them what their fate allows.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method};
use serde_json::Value;
use threadtap_core::dialect::{Observed, Observer};
use threadtap_core::exchange::{End, Ending as BodyEnding, ExchangeId, RequestBody, Segment, Start};
use threadtap_core::time::UnixMillis;
use threadtap_testkit::assistants::{Answered, EventStream, Payload, Piece};

use super::Player;
use crate::model::case::{Break, Fate};
use crate::model::coverage::Route;
use crate::model::ledger::{Ending, PageAsked, StreamSeen};

/// One exchange, as the server saw it.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    asked: Asked,
    method: Method,
    target: String,
    body: Value,
    /// Its place among all that were served.
    number: usize,
    requested_at: u64,
    thread: String,
    /// Messages that were born with it.
    born: Vec<String>,
    status: u16,
    content_encoding: Option<&'static str>,
}

/// An exchange answered with JSON, on its way to capture.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) exchange: Exchange,
    answer: Value,
    bytes: Vec<u8>,
}

/// A stream that is open.
pub(super) struct Live {
    exchange: Exchange,
    pub(super) stream: Box<EventStream>,
    observer: Option<Observer>,
    pub(super) seen: StreamSeen,
    next: u32,
    /// Sent, and not yet taken by capture.
    pending: VecDeque<Piece>,
}

/// What is asked, as far as it matters what the answer shows.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    Cancel,
    CreateMessage,
    CreateRun,
    CreateThread,
    CreateThreadAndRun,
    DeleteMessage(String),
    DeleteThread,
    FetchMessage,
    ListMessages(PageAsked),
    ListRuns { ascending: bool },
    ListSteps { run: String, beginning: bool },
    ModifyRun,
    Poll,
    Submit { run: String, calls: Vec<String> },
}

/// What a request asks, its method, target and body.
pub(super) type Request = (Asked, Method, String, Value);

impl Player {
    pub(super) fn exchange(&mut self, (asked, method, target, body): Request, fate: Fate) {
        // Nobody knows a thread whose creation was not answered.
        while let Some(place) = self.held.iter().position(|flight| {
            let Flight { exchange, .. } = flight;
            let creates = matches!(exchange.asked, Asked::CreateThread | Asked::CreateThreadAndRun);
            creates && target.contains(&exchange.thread)
        }) {
            let flight = self.held.remove(place);
            self.deliver(&flight);
        }
        let requested_at = self.world.now.0;
        let second = self.second();
        self.served += 1;
        let begins = matches!(asked, Asked::CreateRun | Asked::CreateThreadAndRun);
        let known = self.runs.len();
        let Answered { status, content_encoding, payload } = if fate == Fate::Refused {
            self.server.refuse(503)
        } else {
            self.server.answer(&method, &target, &body, "gzip", second)
        };
        let mut thread = target.split('/').nth(3).unwrap_or_default().to_owned();
        let begun = if begins { self.server.snapshot() } else { Vec::new() };
        if let Some(truth) = begun.get(known) {
            thread.clone_from(&truth.thread);
            self.runs.push((truth.thread.clone(), truth.run.clone()));
        } else if let (Asked::CreateThread, 200..300, Payload::Json(answer, _)) = (&asked, status, &payload) {
            thread = answer["id"].as_str().unwrap().to_owned();
        }
        if matches!(asked, Asked::CreateThread | Asked::CreateThreadAndRun) && status < 300 {
            self.threads.push(thread.clone());
        }
        let route = match asked {
            Asked::CreateMessage => Route::Message,
            Asked::CreateRun => Route::Additional,
            Asked::CreateThread => Route::Thread,
            _ => Route::ThreadAndRun,
        };
        let born = self.note_messages(&thread, route);
        if let (Asked::DeleteMessage(id), 200) = (&asked, status) {
            self.deleted.insert(id.clone());
        }
        let number = self.served;
        let exchange = Exchange {
            asked,
            method,
            target,
            body,
            number,
            requested_at,
            thread,
            born,
            status,
            content_encoding,
        };
        match payload {
            Payload::Json(answer, bytes) => self.fly(Flight { exchange, answer, bytes }, fate),
            Payload::Stream(stream) => self.begin(exchange, stream, fate),
        }
    }

    fn note_messages(&mut self, thread: &str, route: Route) -> Vec<String> {
        let second = self.second();
        let mut truths = None;
        let known = self.messages.entry(thread.to_owned()).or_default();
        let mut born = Vec::new();
        for message in self.server.messages(thread) {
            match known.iter_mut().find(|known| known.id == message.id) {
                Some(known) => *known = message,
                None => {
                    let truths = truths.get_or_insert_with(|| self.server.snapshot());
                    let mut outputs = truths.iter().flat_map(|run| run.outputs.iter().chain(&run.writing));
                    if outputs.all(|output| output.id != message.id) {
                        born.push(message.id.clone());
                    }
                    self.routes.insert(message.id.clone(), route);
                    self.seconds.insert(message.id.clone(), second);
                    known.push(message);
                }
            }
        }
        born
    }

    /// Lets an answer in JSON pass, now or later or never.
    fn fly(&mut self, flight: Flight, fate: Fate) {
        self.note_where_it_stopped(&flight);
        let served = flight.exchange.status < 300;
        match fate {
            Fate::Held => self.held.push(flight),
            Fate::Lost => self.lose(&flight.exchange),
            Fate::Refused | Fate::Seen => self.deliver(&flight),
            Fate::Short => {
                if served {
                    self.lose(&flight.exchange);
                }
                let half = &flight.bytes[..flight.bytes.len() / 2];
                self.capture(&flight.exchange, half, BodyEnding::ClientGone);
            }
        }
    }

    fn note_where_it_stopped(&mut self, Flight { exchange, answer, .. }: &Flight) {
        let key = match &exchange.asked {
            Asked::ListMessages(page) => (exchange.thread.clone(), page.ascending, page.run.clone()),
            Asked::ListSteps { run, .. } => {
                let ascending = exchange.target.contains("order=asc");
                (format!("{} steps", exchange.thread), ascending, Some(run.clone()))
            }
            _ => return,
        };
        match answer["last_id"].as_str() {
            Some(last) => self.stopped.insert(key, last.to_owned()),
            None => self.stopped.remove(&key),
        };
    }

    /// An exchange that took place is not shown.
    pub(super) fn lose(&mut self, exchange: &Exchange) {
        if decides_on_inputs(&exchange.asked) && exchange.status < 300 {
            self.ledger.thread(&exchange.thread).unclear = true;
        }
    }

    pub(super) fn deliver(&mut self, flight: &Flight) {
        let Flight { exchange, answer, bytes } = flight;
        self.world.wait(Duration::from_millis(5));
        if matches!(exchange.asked, Asked::CreateThread | Asked::CreateMessage | Asked::CreateRun)
            && exchange.status < 300
        {
            self.last_created = Some(flight.clone());
        }
        self.capture(exchange, bytes, BodyEnding::Complete);
        self.show(exchange, answer);
    }

    /// Tells the ledger what an answer shows.
    fn show(&mut self, exchange: &Exchange, answer: &Value) {
        let at = self.world.now.0;
        let Exchange { asked, thread, born, requested_at, .. } = exchange;
        self.note_shown(exchange);
        let ledger = &mut self.ledger;
        ledger.thread(thread);
        if exchange.status >= 300 {
            return ledger.see_refusal(answer, at);
        }
        let items = || answer["data"].as_array().into_iter().flatten();
        match asked {
            Asked::Cancel => ledger.see_run(answer, Ending::Cancel, None, at),
            Asked::CreateMessage => {
                ledger.created_messages(born);
                ledger.see_message(answer, at);
            }
            Asked::CreateRun | Asked::CreateThreadAndRun => {
                ledger.thread(thread).created |= matches!(asked, Asked::CreateThreadAndRun);
                ledger.created_messages(born);
                ledger.see_run(answer, Ending::Create, Some(*requested_at), at);
            }
            Asked::CreateThread => {
                ledger.thread(thread).created = true;
                ledger.created_messages(born);
            }
            Asked::DeleteMessage(id) => ledger.see_deleted(thread, id),
            Asked::DeleteThread => {
                ledger.see_thread_deleted(thread);
                // What no run has claimed by then goes with its thread, though the answer to a creation may be on its way.
                ledger.thread(thread).unclear |= self.held.iter().any(|Flight { exchange: held, .. }| {
                    held.thread == *thread && matches!(held.asked, Asked::CreateRun) && held.status < 300
                });
            }
            Asked::FetchMessage => ledger.see_message(answer, at),
            Asked::ListMessages(page) => ledger.see_page(thread, page, answer, *requested_at, at),
            Asked::ListRuns { ascending } => {
                let mut runs: Vec<&Value> = items().collect();
                if !ascending {
                    runs.reverse();
                }
                runs.into_iter().for_each(|run| ledger.see_run(run, Ending::ListRuns, None, at));
            }
            Asked::ListSteps { run, beginning } => {
                items().for_each(|step| ledger.see_step(step));
                if *beginning && answer["has_more"] == false {
                    ledger.see_all_steps(run, *requested_at);
                }
            }
            Asked::ModifyRun => ledger.see_run(answer, Ending::Modify, None, at),
            Asked::Poll => ledger.see_run(answer, Ending::Poll, None, at),
            Asked::Submit { run, calls } => {
                ledger.see_submitted(run, calls, false);
                ledger.see_run(answer, Ending::Submit, None, at);
            }
        }
    }

    /// Notes an exchange that decides on inputs; of two of one second, shown in the other order, nobody can tell which was first.
    fn note_shown(&mut self, exchange: &Exchange) {
        if !decides_on_inputs(&exchange.asked) || exchange.status >= 300 {
            return;
        }
        let second = exchange.requested_at / 1000;
        let vague = vagueness(&exchange.asked);
        let overtakes = self.held.iter().any(|Flight { exchange: held, .. }| {
            let decides =
                decides_on_inputs(&held.asked) && held.status < 300 && held.thread == exchange.thread;
            decides && held.number < exchange.number && vague + vagueness(&held.asked) >= 2
        });
        let overtaken = self.shown.iter().any(|(thread, number, other, also)| {
            *thread == exchange.thread && *number > exchange.number && (*other == second || vague + also >= 2)
        });
        // Nor do times tell apart what two runs of one second were given, once it is listed.
        let twins = vague == 1
            && self
                .shown
                .iter()
                .any(|(thread, _, other, also)| *thread == exchange.thread && *also == 1 && *other == second);
        let late = self.ledger.runs.values().any(|run| run.thread == exchange.thread && run.recorded)
            && self
                .shown
                .iter()
                .any(|(thread, number, ..)| *thread == exchange.thread && *number > exchange.number);
        self.ledger.thread(&exchange.thread).unclear |= overtaken || overtakes || twins || late;
        self.shown.push((exchange.thread.clone(), exchange.number, second, vague));
    }

    fn begin(&mut self, exchange: Exchange, stream: Box<EventStream>, fate: Fate) {
        if fate == Fate::Lost {
            self.lose(&exchange);
            return self.server.leave(&stream);
        }
        self.note_shown(&exchange);
        self.ledger.thread(&exchange.thread).created |= matches!(exchange.asked, Asked::CreateThreadAndRun);
        let mut observed = Observed::default();
        let head = self.head(&exchange, "text/event-stream; charset=utf-8");
        let observer =
            Observer::start(ExchangeId(self.world.now.0), &head, &self.world.settings.dialect, &mut observed);
        self.world.observe(observed);
        let creation = match &exchange.asked {
            Asked::Submit { run, calls } => {
                self.ledger.see_submitted(run, calls, true);
                None
            }
            _ => Some(exchange.requested_at),
        };
        let seen = StreamSeen::new(creation);
        let live = Live { exchange, stream, observer, seen, next: 0, pending: VecDeque::new() };
        self.streams.push_back(live);
        self.stream(self.streams.len() - 1, 1, true);
    }

    /// Lets a stream go on; what it says may reach capture a little later, unless `all` has to.
    pub(super) fn stream(&mut self, place: usize, acts: u8, all: bool) {
        let second = self.second();
        let Some(mut live) = self.streams.remove(place) else { return };
        for _ in 0..acts {
            let pieces = self.server.play(&mut live.stream, second);
            if pieces.is_empty() {
                break;
            }
            live.pending.extend(pieces);
        }
        self.note_messages(&live.exchange.thread, Route::ThreadAndRun);
        let lag = if all || self.below(4) > 0 { 0 } else { self.below(4) };
        let count = live.pending.len().saturating_sub(lag);
        let ready: Vec<Piece> = live.pending.drain(..count).collect();
        for piece in &ready {
            self.take(&mut live, piece);
        }
        let stalled = acts == u8::MAX && !live.stream.is_over();
        if stalled || (live.stream.is_over() && live.pending.is_empty()) {
            let ending = if stalled { BodyEnding::ClientGone } else { BodyEnding::Complete };
            return self.end(live, ending);
        }
        self.streams.insert(place, live);
    }

    /// Breaks a stream off: after some of what it still says, and in the middle of an event.
    pub(super) fn break_off(&mut self, place: usize, how: Break, at: u8) {
        let second = self.second();
        let Some(mut live) = self.streams.remove(place) else { return };
        for _ in 0..at % 8 {
            live.pending.extend(self.server.play(&mut live.stream, second));
        }
        self.note_messages(&live.exchange.thread, Route::ThreadAndRun);
        let keep = usize::from(at) % (live.pending.len() + 1);
        let rest: Vec<Piece> = live.pending.drain(keep..).collect();
        for piece in std::mem::take(&mut live.pending) {
            self.take(&mut live, &piece);
        }
        if let Some(piece) = rest.first().filter(|_| !self.setup.compress) {
            self.feed(&mut live, &piece.bytes[..piece.bytes.len() / 2]);
        }
        self.end(
            live,
            match how {
                Break::ClientGone => BodyEnding::ClientGone,
                Break::UpstreamFailed => BodyEnding::UpstreamFailed,
            },
        );
    }

    fn take(&mut self, live: &mut Live, piece: &Piece) {
        self.feed(live, &piece.bytes);
        let at = self.world.now.0;
        self.ledger.see_piece(&mut live.seen, &piece.data, &live.exchange.born, at);
    }

    fn feed(&mut self, live: &mut Live, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(1 + self.below(rest.len()));
            rest = after;
            let segment = Segment { seq: live.next, at: self.world.now, bytes: chunk.to_vec() };
            live.next += 1;
            let mut observed = Observed::default();
            if let Some(observer) = &mut live.observer {
                observer.feed(&segment, &mut observed);
            }
            self.world.observe(observed);
        }
    }

    fn end(&mut self, live: Live, ending: BodyEnding) {
        let Live { stream, observer, seen, next, .. } = live;
        let mut observed = Observed::default();
        if let Some(observer) = observer {
            observer.end(&End { segments: next, at: self.world.now, ending }, &mut observed);
        }
        self.world.observe(observed);
        self.server.leave(&stream);
        self.ledger.see_stream_end(
            seen,
            match ending {
                BodyEnding::ClientGone => Some(Break::ClientGone),
                BodyEnding::Complete => None,
                BodyEnding::UpstreamFailed => Some(Break::UpstreamFailed),
            },
            self.world.now.0,
        );
    }

    fn capture(&mut self, exchange: &Exchange, bytes: &[u8], ending: BodyEnding) {
        let mut observed = Observed::default();
        let head = self.head(exchange, "application/json");
        let mut observer =
            Observer::start(ExchangeId(self.world.now.0), &head, &self.world.settings.dialect, &mut observed);
        let (first, second) = bytes.split_at(self.below(bytes.len() + 1));
        for (seq, bytes) in (0..).zip([first, second]) {
            let segment = Segment { seq, at: self.world.now, bytes: bytes.to_vec() };
            if let Some(observer) = &mut observer {
                observer.feed(&segment, &mut observed);
            }
        }
        if let Some(observer) = observer {
            observer.end(&End { segments: 2, at: self.world.now, ending }, &mut observed);
        }
        self.world.observe(observed);
    }

    fn head(&self, exchange: &Exchange, content_type: &'static str) -> Start {
        let (path, query) = exchange.target.split_once('?').unwrap_or((&exchange.target, ""));
        let body = if exchange.body.is_null() { String::new() } else { exchange.body.to_string() };
        Start {
            upstream: Arc::from("api.openai.com:443"),
            caller: None,
            method: exchange.method.clone(),
            path: path.to_owned(),
            query: query.to_owned(),
            request_headers: Vec::new(),
            request_body: RequestBody { bytes: body.into_bytes(), complete: true },
            request_at: UnixMillis(exchange.requested_at),
            status: exchange.status,
            content_type: Some(HeaderValue::from_static(content_type)),
            content_encoding: exchange.content_encoding.map(HeaderValue::from_static),
            response_at: self.world.now,
        }
    }
}

/// Whether it matters for the inputs of runs in which order it is seen.
fn decides_on_inputs(asked: &Asked) -> bool {
    matches!(
        asked,
        Asked::CreateMessage
            | Asked::CreateRun
            | Asked::CreateThread
            | Asked::CreateThreadAndRun
            | Asked::DeleteMessage(_)
    )
}

/// How little an answer tells of when it happened: of a message its time tells whether a run took it, of two runs theirs do not
/// tell which took what, and a deletion has none.
fn vagueness(asked: &Asked) -> u8 {
    match asked {
        Asked::CreateRun | Asked::CreateThreadAndRun => 1,
        Asked::DeleteMessage(_) => 2,
        _ => 0,
    }
}
