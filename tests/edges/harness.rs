//! Runs a script through dialect and correlator, with a clock and a store of its own.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value, json};
use threadtap_core::correlator::{self, ConversationState, Correlator, Effect, Limits, Placed, Remembered};
use threadtap_core::dialect::{self, Observed, Observer};
use threadtap_core::exchange::{End, Ending, ExchangeId, RequestBody, Segment, Start};
use threadtap_core::interaction::Interaction;
use threadtap_core::message::{Message, Role};
use threadtap_core::observation::ConversationKey;
use threadtap_core::time::UnixMillis;

use crate::script::{self, Exchange, Step};

/// Runs the case of this name.
pub(crate) fn check(dialect: &str, name: &str) {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(dialect).join(name);
    let read = |file| {
        fs::read_to_string(directory.join(file)).unwrap_or_else(|error| panic!("{name}/{file}: {error}"))
    };
    let steps = script::parse(&read("script.http"));
    let expected: Value = serde_json::from_str(&read("expected.json")).unwrap();
    let mut settings = Settings::default();
    settings.read(&expected["settings"]);
    let mut world = World::new(settings.clone());
    world.run(&steps);
    compare(name, &expected, &world.outcome());
    // Whatever a process leaves behind, the next one goes on from. What was counted is not told again.
    if expected["restarts"] != false {
        let mut restarted = World::without_cuts(settings);
        for step in &steps {
            restarted.run(std::slice::from_ref(step));
            restarted.restart();
        }
        let mut expected = expected.clone();
        expected.as_object_mut().unwrap().shift_remove("notes");
        compare(&format!("{name}, restarted after each step"), &expected, &restarted.outcome());
    }
}

/// Settings a case may change.
#[derive(Clone, Default)]
pub(crate) struct Settings {
    pub(crate) correlator: correlator::Config,
    pub(crate) dialect: dialect::Config,
}

impl Settings {
    fn read(&mut self, settings: &Value) {
        self.correlator.first_used = UnixMillis(START);
        for (name, value) in settings.as_object().into_iter().flatten() {
            let Limits { conversations, conversation_messages, conversation_runs, .. } =
                &mut self.correlator.limits;
            let number = || usize::try_from(value.as_u64().unwrap()).unwrap();
            let sources = || value.as_array().unwrap().iter().map(|s| s.as_str().unwrap().parse().unwrap());
            match name.as_str() {
                "app_messages" => self.correlator.app_messages = correlator::AppMessages::Drop,
                "continuation_grace" => {
                    self.correlator.continuation_grace = Duration::from_secs(value.as_u64().unwrap());
                }
                "conversations" => *conversations = number(),
                "conversation_messages" => *conversation_messages = number(),
                "conversation_runs" => *conversation_runs = number(),
                "text_bytes" => self.correlator.limits.text_bytes = number(),
                "conversation_text_bytes" => self.correlator.limits.conversation_text_bytes = number(),
                "remembered_turns" => self.correlator.limits.remembered_turns = number(),
                "keep_bodies" => self.dialect.chat.keep_bodies = value == true,
                "session" => Arc::make_mut(&mut self.dialect.attribution).session = sources().collect(),
                "user" => Arc::make_mut(&mut self.dialect.attribution).user = sources().collect(),
                other => panic!("no setting {other}"),
            }
        }
    }
}

/// A process, and what it stores.
pub(crate) struct World {
    pub(crate) settings: Settings,
    /// Whether bodies are tried at every cut.
    cuts: bool,
    correlator: Correlator,
    pub(crate) now: UnixMillis,
    upstream: Arc<str>,
    open: VecDeque<Open>,
    journal: Vec<(ConversationKey, String)>,
    states: BTreeMap<ConversationKey, String>,
    histories: Vec<Remembered>,
    /// In the order they were recorded; the store's unique key lets each in once.
    pub(crate) records: Vec<Interaction>,
    /// How many of them an earlier process recorded: a replay may conclude those again.
    recorded_before: usize,
    /// Runs that one process recorded twice.
    pub(crate) repeated: Vec<String>,
    pub(crate) notes: Vec<&'static str>,
    problems: Vec<&'static str>,
    sunsets: Vec<String>,
}

/// An exchange of which a part is held back.
struct Open {
    observer: Option<Observer>,
    exchange: Exchange,
    next: usize,
}

/// Second 1000, so that times in scripts stay short.
pub(crate) const START: u64 = 1_000_000;

impl World {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            correlator: Correlator::new(settings.correlator.clone()),
            settings,
            cuts: true,
            now: UnixMillis(START),
            upstream: Arc::from("api.openai.com:443"),
            open: VecDeque::new(),
            journal: Vec::new(),
            states: BTreeMap::new(),
            histories: Vec::new(),
            records: Vec::new(),
            recorded_before: 0,
            repeated: Vec::new(),
            notes: Vec::new(),
            problems: Vec::new(),
            sunsets: Vec::new(),
        }
    }

    /// One in which bodies pass as they are and no other way.
    pub(crate) fn without_cuts(settings: Settings) -> Self {
        Self { cuts: false, ..Self::new(settings) }
    }

    pub(crate) fn run(&mut self, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Exchange(exchange) => self.exchange(exchange),
                Step::Finish => self.finish(),
                Step::More => {
                    let open = self.open.pop_front().expect("something is held back");
                    self.pass(open);
                }
                Step::Restart => self.restart(),
                Step::Upstream(name) => self.upstream = Arc::from(name.as_str()),
                Step::Wait(time) => self.wait(*time),
            }
        }
    }

    /// Ends the process as a shutdown does.
    pub(crate) fn finish(&mut self) {
        self.correlator.finish(self.now);
        self.collect();
    }

    pub(crate) fn wait(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.correlator.handle_timeout(self.now);
        self.collect();
    }

    fn exchange(&mut self, exchange: &Exchange) {
        self.wait(Duration::from_secs(1));
        if self.cuts {
            self.assert_cuts_do_not_matter(exchange);
        }
        let mut observed = Observed::default();
        let start = self.start(exchange);
        let observer = Observer::start(ExchangeId(self.now.0), &start, &self.settings.dialect, &mut observed);
        self.observe(observed);
        self.pass(Open { observer, exchange: exchange.clone(), next: 0 });
    }

    /// Lets the next piece of a response pass.
    fn pass(&mut self, mut open: Open) {
        let at = self.now.after(Duration::from_millis(200));
        let mut observed = Observed::default();
        let Open { observer: Some(observer), exchange, next } = &mut open else {
            self.observe(observed);
            return;
        };
        observer.feed(&segment(*next, at, &exchange.pieces[*next]), &mut observed);
        *next += 1;
        if *next < exchange.pieces.len() {
            self.observe(observed);
            self.open.push_back(open);
            return;
        }
        let end = end(exchange, *next, at);
        if let Some(observer) = open.observer {
            observer.end(&end, &mut observed);
        }
        self.observe(observed);
    }

    pub(crate) fn observe(&mut self, observed: Observed) {
        self.problems.extend(observed.problems.iter().map(|problem| problem.as_str()));
        self.sunsets.extend(observed.sunset.map(|call| format!("{} {}", call.sdk, call.version)));
        for observation in observed.observations {
            let at = observation.at;
            self.correlator.handle(observation, at);
            self.collect();
        }
    }

    /// Begins a new process on what the last one left.
    pub(crate) fn restart(&mut self) {
        self.recorded_before = self.records.len();
        self.correlator = Correlator::new(self.settings.correlator.clone());
        for (key, state) in self.states.clone() {
            self.correlator.restore(key, serde_json::from_str::<ConversationState>(&state).unwrap());
        }
        self.correlator.restore_histories(self.histories.iter().cloned());
        for (_, row) in self.journal.clone() {
            self.correlator.replay(&serde_json::from_str::<Placed>(&row).unwrap());
            self.collect_replayed();
        }
        let recorded: Vec<String> = self.records.iter().map(|record| record.key.clone()).collect();
        self.correlator.let_go_where(|key| recorded.iter().any(|recorded| recorded == key));
        self.collect_replayed();
        self.correlator.handle_timeout(self.now);
        self.collect();
    }

    fn collect_replayed(&mut self) {
        let notes = self.notes.len();
        self.collect();
        self.notes.truncate(notes);
    }

    fn collect(&mut self) {
        while let Some(effect) = self.correlator.poll() {
            match effect {
                Effect::Interaction(interaction) => {
                    match self.records.iter().position(|known| known.key == interaction.key) {
                        Some(known) if known >= self.recorded_before => self.repeated.push(interaction.run),
                        Some(_) => {}
                        None => self.records.push(*interaction),
                    }
                }
                Effect::Journal(placed) => {
                    let row = serde_json::to_string(&placed).unwrap();
                    assert!(!row.contains(PLANTED), "a credential is kept: {row}");
                    self.journal.push((placed.conversation().clone(), row));
                }
                Effect::Note(note) => self.notes.push(note.as_str()),
                Effect::Remembered(remembered) => self.histories.push(remembered),
                Effect::Settled(key, state) => {
                    self.journal.retain(|(of, _)| *of != key);
                    match state {
                        Some(state) => {
                            self.states.insert(key, serde_json::to_string(&state).unwrap());
                        }
                        None => {
                            self.states.remove(&key);
                        }
                    }
                }
            }
        }
    }

    pub(crate) fn correlator(&self) -> &Correlator {
        &self.correlator
    }

    /// What came of it all.
    fn outcome(&self) -> Value {
        json!({
            "interactions": self.records.iter().map(|record| self.view(record)).collect::<Vec<_>>(),
            "notes": self.notes,
            "problems": self.problems,
            "sunset": self.sunsets,
            "open_runs": self.correlator.open_runs(),
            "conversations": self.correlator.conversations(),
        })
    }

    /// A record, and the run that its conversation began with.
    fn view(&self, record: &Interaction) -> Value {
        let mut view = view(record);
        let first = self.records.iter().find(|first| first.conversation == record.conversation);
        view["first_of_conversation"] = first.map(|first| first.run.clone()).into();
        view
    }

    fn start(&self, exchange: &Exchange) -> Start {
        let (path, query) = exchange.target.split_once('?').unwrap_or((&exchange.target, ""));
        let mut caller = None;
        let mut request_headers = Vec::new();
        for (name, value) in &exchange.headers {
            if name == "caller" {
                caller = Some(value.clone());
                continue;
            }
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            request_headers.push((name, HeaderValue::from_str(value).unwrap()));
        }
        let content_type = Some(&exchange.content_type).filter(|kind| !kind.is_empty());
        Start {
            upstream: self.upstream.clone(),
            caller,
            method: exchange.method.parse().unwrap(),
            path: path.to_owned(),
            query: query.to_owned(),
            request_headers,
            request_body: RequestBody { bytes: exchange.request.clone().into_bytes(), complete: true },
            request_at: self.now,
            status: exchange.status,
            content_type: content_type.map(|kind| HeaderValue::from_str(kind).unwrap()),
            content_encoding: None,
            response_at: self.now.after(Duration::from_millis(100)),
        }
    }

    /// What an exchange tells must not depend on how its body was cut.
    fn assert_cuts_do_not_matter(&self, exchange: &Exchange) {
        let body = exchange.pieces.concat();
        let tell = |parts: &[&[u8]]| {
            let mut observed = Observed::default();
            let at = self.now;
            if let Some(mut observer) = Observer::start(
                ExchangeId(at.0),
                &self.start(exchange),
                &self.settings.dialect,
                &mut observed,
            ) {
                for (seq, part) in parts.iter().enumerate() {
                    observer.feed(&segment(seq, at, part), &mut observed);
                }
                observer.end(&end(exchange, parts.len(), at), &mut observed);
            }
            format!("{observed:?}")
        };
        let whole = tell(&[&body]);
        // A document is only read when it is whole; a stream is read as it comes.
        let step = if exchange.content_type.contains("event-stream") { 1 } else { 16 };
        for cut in (0..=body.len()).step_by(step) {
            let (a, b) = body.split_at(cut);
            assert_eq!(tell(&[a, b]), whole, "{} cut at {cut}", exchange.target);
        }
    }
}

/// Stands for a credential in fixtures: it is never kept.
const PLANTED: &str = "PLANTED";

fn segment(seq: usize, at: UnixMillis, bytes: &[u8]) -> Segment {
    Segment { seq: u32::try_from(seq).unwrap(), at, bytes: bytes.to_vec() }
}

fn end(of: &Exchange, segments: usize, at: UnixMillis) -> End {
    let lost = u32::from(of.truncated);
    let ending = match of.ending.as_str() {
        "" => Ending::Complete,
        "client_gone" => Ending::ClientGone,
        "upstream_failed" => Ending::UpstreamFailed,
        other => panic!("no ending {other}"),
    };
    End { segments: u32::try_from(segments).unwrap() + lost, at, ending }
}

/// A record, with its messages as a person reads them.
fn view(interaction: &Interaction) -> Value {
    let mut view = serde_json::to_value(interaction).unwrap();
    let texts = |messages: &[Message], own: Role| -> Value {
        let line = |message: &Message| match message.role {
            role if role == own => message.text(),
            role => format!("{role:?}: {}", message.text()),
        };
        messages.iter().map(line).collect()
    };
    view["inputs"] = texts(&interaction.inputs, Role::User);
    view["outputs"] = texts(&interaction.outputs, Role::Assistant);
    view["objects"] = interaction.outputs.iter().map(|m| serde_json::to_value(&m.object).unwrap()).collect();
    view["input_ids"] = interaction.inputs.iter().map(|m| m.id.clone()).collect();
    view["input_objects"] =
        interaction.inputs.iter().map(|m| serde_json::to_value(&m.object).unwrap()).collect();
    view["user"] = interaction.attribution.user.as_ref().and_then(|user| user.id()).into();
    view["conversation_id"] = json!(interaction.conversation.id);
    view
}

/// What is expected must be there; an expected list has nothing else in it.
fn compare(name: &str, expected: &Value, actual: &Value) {
    let expected: Map<String, Value> = expected.as_object().unwrap().clone();
    for (key, expected) in
        expected.iter().filter(|(key, _)| !["settings", "restarts"].contains(&key.as_str()))
    {
        if let Err(place) = subset(expected, &actual[key]) {
            panic!("{name}: {key}{place}\nexpected {expected:#}\nfound {:#}", actual[key]);
        }
    }
}

fn subset(expected: &Value, actual: &Value) -> Result<(), String> {
    match (expected, actual) {
        (Value::Object(expected), Value::Object(actual)) => {
            for (key, expected) in expected {
                let found = actual.get(key).unwrap_or(&Value::Null);
                subset(expected, found).map_err(|place| format!(".{key}{place}"))?;
            }
            Ok(())
        }
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
            for (at, (expected, actual)) in expected.iter().zip(actual).enumerate() {
                subset(expected, actual).map_err(|place| format!("[{at}]{place}"))?;
            }
            Ok(())
        }
        _ if expected == actual => Ok(()),
        _ => Err(String::new()),
    }
}
