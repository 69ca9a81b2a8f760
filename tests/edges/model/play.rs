//! Plays a case: the fake server answers, the answers pass capture, and each record is held against the truth.

mod exchange;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use exchange::{Asked, Flight, Live, Request};
use http::Method;
use serde_json::{Value, json};
use threadtap_core::correlator::AppMessages;
use threadtap_core::time::UnixMillis;
use threadtap_testkit::assistants::{ExpectedMessage, Simulation};

use super::case::{Act, BEHAVIOURS, Back, Case, Fate, Page, Setup, Start as PageStart, Step, TEXTS};
use super::coverage::{Coverage, Route};
use super::ledger::{Ledger, PageAsked};
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
    messages: BTreeMap<String, Vec<ExpectedMessage>>,
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
            let Some((truth, _)) = found else { return Err(format!("{run} is invented")) };
            // Only its own creation tells whether a message came before or after a run of its second; not shown in time, nothing.
            let untold = record.inputs.iter().filter_map(|input| input.id.as_ref()).any(|id| {
                let told = self.ledger.messages.get(id).is_some_and(|message| message.created);
                let other = truth.inputs.iter().all(|input| input.id != *id);
                !told && other && self.seconds.get(id) == Some(&truth.created_at)
            });
            self.ledger.thread(&truth.thread).unclear |= untold;
            let seen = &self.ledger.runs[run];
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

fn nth<T>(items: &[T], back: Back) -> Option<&T> {
    items.get(place(items.len(), back)?)
}

fn place(count: usize, back: Back) -> Option<usize> {
    (count > 0).then(|| count - 1 - usize::from(back) % count)
}

fn order(ascending: bool) -> &'static str {
    if ascending { "asc" } else { "desc" }
}
