//! Plays a case: the fake server answers, the answers pass capture, and each record is held against the truth.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method};
use serde_json::{Value, json};
use threadtap::correlator::AppMessages;
use threadtap::demo::assistants::{Answered, EventStream, Payload, Piece, Simulation, TruthMessage};
use threadtap::dialect::{Observed, Observer};
use threadtap::exchange::{End, Ending as BodyEnding, RequestBody, Segment, Start};
use threadtap::time::UnixMillis;

use super::case::{Act, BEHAVIOURS, Back, Break, Case, Fate, Page, Setup, Start as PageStart, Step, TEXTS};
use super::coverage::{Coverage, Route};
use super::ledger::{Ending, Ledger, PageAsked, StreamSeen};
use super::oracle::Judged;
use crate::harness::{START, Settings, World};

/// Plays a case. Tells what is wrong, if anything is.
pub(super) fn play(case: &Case, coverage: &mut Coverage) -> Result<(), String> {
    let mut player = Player::new(case.setup);
    for (at, step) in case.steps.iter().enumerate() {
        player.step(*step, coverage).map_err(|wrong| format!("step {at}: {wrong}"))?;
    }
    player.conclude(coverage).map_err(|wrong| format!("at the end: {wrong}"))
}

struct Player {
    setup: Setup,
    world: World,
    server: Simulation,
    chance: u64,
    threads: Vec<String>,
    /// Thread and run.
    runs: Vec<(String, String)>,
    /// Every message there ever was, by thread.
    messages: BTreeMap<String, Vec<TruthMessage>>,
    routes: BTreeMap<String, Route>,
    seconds: BTreeMap<String, u64>,
    deleted: BTreeSet<String>,
    /// Where the last page of each kind stopped: thread, order, filter.
    stopped: BTreeMap<(String, bool, Option<String>), String>,
    held: Vec<Flight>,
    last_created: Option<Flight>,
    streams: VecDeque<Live>,
    /// Exchanges that decide on inputs and were shown: thread, number, second, and how little the answer tells of the order.
    shown: Vec<(String, usize, u64, u8)>,
    served: usize,
    ledger: Ledger,
    judged: usize,
}

/// One exchange, as the server saw it.
#[derive(Clone, Debug)]
struct Exchange {
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
struct Flight {
    exchange: Exchange,
    answer: Value,
    bytes: Vec<u8>,
}

/// A stream that is open.
struct Live {
    exchange: Exchange,
    stream: Box<EventStream>,
    observer: Option<Observer>,
    seen: StreamSeen,
    next: u32,
    /// Sent, and not yet taken by capture.
    pending: VecDeque<Piece>,
}

/// What is asked, as far as it matters what the answer shows.
#[derive(Clone, Debug)]
enum Asked {
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

type Request = (Asked, Method, String, Value);

impl Player {
    fn new(setup: Setup) -> Self {
        let mut settings = Settings::default();
        settings.correlator.first_used = UnixMillis(START);
        if setup.drops_app_messages {
            settings.correlator.app_messages = AppMessages::Drop;
        }
        Self {
            setup,
            world: World::new(settings),
            server: Simulation::new(setup.script()),
            chance: setup.seed.into(),
            threads: Vec::new(),
            runs: Vec::new(),
            messages: BTreeMap::new(),
            routes: BTreeMap::new(),
            seconds: BTreeMap::new(),
            deleted: BTreeSet::new(),
            stopped: BTreeMap::new(),
            held: Vec::new(),
            last_created: None,
            streams: VecDeque::new(),
            shown: Vec::new(),
            served: 0,
            ledger: Ledger::default(),
            judged: 0,
        }
    }

    fn step(&mut self, step: Step, coverage: &mut Coverage) -> Result<(), String> {
        self.pass(u64::from(step.after_ms), coverage)?;
        let fate = if self.setup.rough { step.fate } else { Fate::Seen };
        match step.act {
            Act::Advance { run, acts } => {
                if let Some((_, run)) = nth(&self.runs, run).cloned() {
                    let streamed = self.streams.iter().any(|live| live.stream.run() == run);
                    (0..acts).all(|_| !streamed && self.server.advance(&run, self.second()));
                }
            }
            Act::Deliver { held } => {
                if let Some(place) = place(self.held.len(), held) {
                    let flight = self.held.remove(place);
                    self.deliver(&flight);
                }
            }
            Act::Expire { run } => {
                if let Some((_, run)) = nth(&self.runs, run) {
                    self.server.expire(run);
                }
            }
            Act::Repeat => {
                if let Some(flight) = self.last_created.clone() {
                    self.deliver(&flight);
                }
            }
            Act::Restart => self.kill(),
            Act::Shutdown => {
                self.world.finish();
                self.ledger.see_shutdown();
                self.judge(coverage)?;
                self.kill();
            }
            Act::Stream { stream, acts } => {
                if let Some(place) = place(self.streams.len(), stream) {
                    self.stream(place, acts, false);
                }
            }
            Act::StreamBreaks { stream, how, at } => {
                if let Some(place) = place(self.streams.len(), stream) {
                    self.break_off(place, how, at);
                }
            }
            Act::Wait { seconds } => self.pass(u64::from(seconds) * 1000, coverage)?,
            act => {
                if let Some(request) = self.request(act) {
                    self.exchange(request, fate);
                }
            }
        }
        self.judge(coverage)
    }

    /// Lets everything end.
    fn conclude(&mut self, coverage: &mut Coverage) -> Result<(), String> {
        for flight in std::mem::take(&mut self.held) {
            self.deliver(&flight);
            self.judge(coverage)?;
        }
        while !self.streams.is_empty() {
            self.stream(0, u8::MAX, true);
            self.judge(coverage)?;
        }
        for seconds in [29, 2, 31, 700, 700] {
            self.pass(seconds * 1000, coverage)?;
        }
        let open = self.ledger.runs.iter().find(|(_, run)| !run.recorded && !run.history);
        match open {
            Some((id, _)) => Err(format!("{id} was never recorded")),
            None if self.world.correlator().open_runs() > 0 => Err("a run is still open".to_owned()),
            None => Ok(()),
        }
    }

    /// The request an act makes; none when there is nothing to make it of.
    fn request(&mut self, act: Act) -> Option<Request> {
        let thread = |back: Back| nth(&self.threads, back).map(|thread| format!("/v1/threads/{thread}"));
        let run = |back: Back| {
            nth(&self.runs, back).map(|(thread, run)| format!("/v1/threads/{thread}/runs/{run}"))
        };
        let said = |count: u8| -> Value {
            let text = |n: u8| TEXTS[usize::from(n + count) % TEXTS.len()];
            (0..count).map(|n| json!({"role": "user", "content": text(n)})).collect()
        };
        let assistant = |behaviour: u8| format!("asst_{}", BEHAVIOURS[usize::from(behaviour)]);
        let (get, post, delete) = (Method::GET, Method::POST, Method::DELETE);
        let none = Value::Null;
        Some(match act {
            Act::Cancel { run: back } => (Asked::Cancel, post, run(back)? + "/cancel", none),
            Act::CreateMessage { thread: back, text, assistant } => {
                let role = if assistant { "assistant" } else { "user" };
                let body = json!({"role": role, "content": TEXTS[usize::from(text)]});
                (Asked::CreateMessage, post, thread(back)? + "/messages", body)
            }
            Act::CreateRun { thread: back, behaviour, streamed, additional } => {
                let body = json!({"assistant_id": assistant(behaviour), "stream": streamed,
                                  "additional_messages": said(additional)});
                (Asked::CreateRun, post, thread(back)? + "/runs", body)
            }
            Act::CreateThread { messages } => {
                (Asked::CreateThread, post, "/v1/threads".to_owned(), json!({"messages": said(messages)}))
            }
            Act::CreateThreadAndRun { messages, behaviour, streamed } => {
                let body = json!({"assistant_id": assistant(behaviour), "stream": streamed,
                                  "thread": {"messages": said(messages)}});
                (Asked::CreateThreadAndRun, post, "/v1/threads/runs".to_owned(), body)
            }
            Act::DeleteMessage { thread: back, message } => {
                let id = self.message(back, message)?;
                // Whoever deletes a message has learnt its id, if not from an answer that was captured.
                let shown = self.ledger.messages.get(&id).is_some_and(|message| message.metadata.is_some());
                if !shown && !self.setup.rough {
                    return None;
                }
                let target = format!("{}/messages/{id}", thread(back)?);
                let of = nth(&self.threads, back)?;
                self.ledger.thread(of).unclear |= !shown;
                (Asked::DeleteMessage(id), delete, target, none)
            }
            Act::DeleteThread { thread: back } => (Asked::DeleteThread, delete, thread(back)?, none),
            Act::FetchMessage { thread: back, message } => {
                let target = format!("{}/messages/{}", thread(back)?, self.message(back, message)?);
                (Asked::FetchMessage, get, target, none)
            }
            Act::ListMessages { thread: back, page } => {
                let (page, query) = self.page(back, page)?;
                (Asked::ListMessages(page), get, format!("{}/messages?{query}", thread(back)?), none)
            }
            Act::ListRuns { thread: back, ascending, limit } => {
                let target = format!("{}/runs?limit={limit}&order={}", thread(back)?, order(ascending));
                (Asked::ListRuns { ascending }, get, target, none)
            }
            Act::ListSteps { run: back, ascending, limit, goes_on } => {
                let (thread, id) = nth(&self.runs, back)?;
                let key = (format!("{thread} steps"), ascending, Some(id.clone()));
                let after = self.stopped.get(&key).filter(|_| goes_on);
                let after = after.map(|id| format!("&after={id}")).unwrap_or_default();
                let target = format!("{}/steps?limit={limit}&order={}{after}", run(back)?, order(ascending));
                (Asked::ListSteps { run: id.clone(), beginning: after.is_empty() }, get, target, none)
            }
            Act::ModifyMessage { thread: back, message } => {
                let target = format!("{}/messages/{}", thread(back)?, self.message(back, message)?);
                (Asked::FetchMessage, post, target, json!({"metadata": {"n": self.served.to_string()}}))
            }
            Act::ModifyRun { run: back } => {
                let body = json!({"metadata": {"n": self.served.to_string()}});
                (Asked::ModifyRun, post, run(back)?, body)
            }
            Act::Poll { run: back } => (Asked::Poll, get, run(back)?, none),
            Act::Submit { run: back, streamed } => {
                let (_, id) = nth(&self.runs, back)?;
                let truth = self.server.snapshot().into_iter().find(|truth| truth.run == *id)?;
                let waiting = truth.tool_calls.into_iter().filter(|call| call.output.is_none());
                let calls: Vec<String> = waiting.map(|call| call.id).collect();
                let outputs = calls.iter().map(|id| json!({"tool_call_id": id, "output": "sunny"}));
                let body = json!({"tool_outputs": outputs.collect::<Vec<_>>(), "stream": streamed});
                (Asked::Submit { run: id.clone(), calls }, post, run(back)? + "/submit_tool_outputs", body)
            }
            _ => return None,
        })
    }

    fn message(&self, thread: Back, message: Back) -> Option<String> {
        let thread = nth(&self.threads, thread)?;
        nth(&self.server.messages(thread), message).map(|message| message.id.clone())
    }

    fn page(&self, thread: Back, page: Page) -> Option<(PageAsked, String)> {
        let id = nth(&self.threads, thread)?;
        let runs: Vec<&String> = self.runs.iter().filter(|(of, _)| of == id).map(|(_, run)| run).collect();
        let run = page.run.and_then(|back| nth(&runs, back).map(|run| (*run).clone()));
        let mut query = format!("limit={}&order={}", page.limit, order(page.ascending));
        if let Some(run) = &run {
            query += &format!("&run_id={run}");
        }
        let stopped = self.stopped.get(&(id.clone(), page.ascending, run.clone()));
        let after = match page.start {
            PageStart::After(back) => self.message(thread, back),
            PageStart::Before(back) => {
                query += &format!("&before={}", self.message(thread, back)?);
                None
            }
            PageStart::Beginning => Some(String::new()),
            PageStart::GoesOn => Some(stopped.cloned().unwrap_or_default()),
        };
        if let Some(after) = after.as_ref().filter(|after| !after.is_empty()) {
            query += &format!("&after={after}");
        }
        Some((PageAsked { ascending: page.ascending, run, after }, query))
    }

    fn exchange(&mut self, (asked, method, target, body): Request, fate: Fate) {
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
    fn lose(&mut self, exchange: &Exchange) {
        if decides_on_inputs(&exchange.asked) && exchange.status < 300 {
            self.ledger.thread(&exchange.thread).unclear = true;
        }
    }

    fn deliver(&mut self, flight: &Flight) {
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
            Asked::DeleteThread => ledger.see_thread_deleted(thread),
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
        let observer = Observer::start(&head, &self.world.settings.dialect, &mut observed);
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
    fn stream(&mut self, place: usize, acts: u8, all: bool) {
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
    fn break_off(&mut self, place: usize, how: Break, at: u8) {
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
        );
    }

    /// Kills the process, and with it whatever passes, and begins a new one on what it left.
    fn kill(&mut self) {
        for flight in std::mem::take(&mut self.held) {
            self.lose(&flight.exchange);
        }
        for live in std::mem::take(&mut self.streams) {
            self.ledger.see_killed(&live.seen);
            self.server.leave(&live.stream);
        }
        self.world.restart();
    }

    fn capture(&mut self, exchange: &Exchange, bytes: &[u8], ending: BodyEnding) {
        let mut observed = Observed::default();
        let head = self.head(exchange, "application/json");
        let mut observer = Observer::start(&head, &self.world.settings.dialect, &mut observed);
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

    fn pass(&mut self, ms: u64, coverage: &mut Coverage) -> Result<(), String> {
        self.world.wait(Duration::from_millis(ms));
        self.judge(coverage)
    }

    /// Holds what was recorded since against the truth, and looks for what should have been.
    fn judge(&mut self, coverage: &mut Coverage) -> Result<(), String> {
        if let Some(run) = self.world.repeated.first() {
            return Err(format!("{run} was recorded twice"));
        }
        let new = self.judged < self.world.records.len();
        let truths = if new { self.server.snapshot() } else { Vec::new() };
        let outputs = truths.iter().flat_map(|run| run.outputs.iter().chain(&run.writing));
        let outputs: BTreeSet<&str> = outputs.map(|output| output.id.as_str()).collect();
        while let Some(record) = self.world.records.get(self.judged) {
            self.judged += 1;
            let run = &record.run;
            let found = truths.iter().find(|truth| truth.run == *run).zip(self.ledger.runs.get(run));
            let Some((truth, seen)) = found else { return Err(format!("{run} is invented")) };
            let judged = Judged {
                record,
                truth,
                seen,
                ledger: &self.ledger,
                outputs: &outputs,
                thread: &self.messages[&truth.thread],
                seconds: &self.seconds,
                deleted: &self.deleted,
                config: &self.world.settings.correlator,
                drops_app_messages: self.setup.drops_app_messages,
                now: self.world.now.0,
            };
            let same_place = *record.conversation.id == *truth.thread;
            let ending = judged.verdict().and_then(|ending| {
                if same_place { Ok(ending) } else { Err("it is in another thread".to_owned()) }
            });
            let ending = ending.map_err(|wrong| format!("{run}: {wrong}"))?;
            let mut routes: BTreeSet<Route> = truth
                .inputs
                .iter()
                .filter(|input| record.inputs.iter().any(|known| known.text() == input.text))
                .filter_map(|input| {
                    let created = self.ledger.messages.get(&input.id).is_some_and(|seen| seen.created);
                    if created { self.routes.get(&input.id).copied() } else { Some(Route::Listed) }
                })
                .collect();
            if record.inputs.is_empty() {
                routes.insert(Route::Nothing);
            }
            coverage.count(record.status, &routes, ending);
            self.ledger.runs.get_mut(run).expect("it was just found").recorded = true;
        }
        match self.ledger.overdue(&self.world.settings.correlator, self.world.now.0) {
            Some(overdue) => Err(overdue),
            None => Ok(()),
        }
    }

    fn second(&self) -> u64 {
        self.world.now.0 / 1000
    }

    /// A number below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        self.chance =
            self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.chance >> 33).unwrap() % bound.max(1)
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

fn nth<T>(items: &[T], back: Back) -> Option<&T> {
    items.get(place(items.len(), back)?)
}

fn place(count: usize, back: Back) -> Option<usize> {
    (count > 0).then(|| count - 1 - usize::from(back) % count)
}

fn order(ascending: bool) -> &'static str {
    if ascending { "asc" } else { "desc" }
}
