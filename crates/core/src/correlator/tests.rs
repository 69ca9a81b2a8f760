//! The correlator as a whole, fed with facts and driven by a clock of its own.

mod continuations;
mod deadlines;
mod inputs;
mod limits;
mod outputs;
mod pages;
mod runs;
mod tools;
mod turns;

use std::time::Duration;

use serde_json::json;
use serde_json::value::to_raw_value;

use super::*;
use crate::attribution::{Attribution, User};
use crate::interaction::{Pairing, Status};
use crate::message::{Message, MessageStatus, Role};
use crate::observation::{
    Fact, MessageOrigin, MessagePage, PageOrder, PageStart, Run, RunOrigin, RunStatus, Step, StreamEnding,
    ToolCall, ToolOutput, UsageAbsent,
};

/// A correlator and the time; every fact takes a second.
struct Fixture {
    config: Config,
    correlator: Correlator,
    now: UnixMillis,
    attribution: Attribution,
    interactions: Vec<Interaction>,
    settled: Vec<Option<ConversationState>>,
    /// What changed something.
    journal: Vec<Placed>,
    /// Whether the run's own stream tells its states.
    streams: bool,
    notes: Vec<Note>,
}

const START: u64 = 1_800_000_000_000;

impl Fixture {
    fn new() -> Self {
        Self::with(Config { first_used: UnixMillis(START), ..Config::default() })
    }

    fn with(config: Config) -> Self {
        Self {
            correlator: Correlator::new(config.clone()),
            config,
            now: UnixMillis(START),
            attribution: Attribution::default(),
            interactions: Vec::new(),
            settled: Vec::new(),
            journal: Vec::new(),
            streams: false,
            notes: Vec::new(),
        }
    }

    fn see(&mut self, fact: Fact) -> bool {
        self.now = self.now.after(Duration::from_secs(1));
        self.tell(Observation {
            conversation: key(),
            at: self.now,
            attribution: self.attribution.clone(),
            fact,
        })
    }

    /// Tells whether it changed anything.
    fn tell(&mut self, observation: Observation) -> bool {
        let kept = self.journal.len();
        self.correlator.handle(observation, self.now);
        self.collect();
        self.journal.len() > kept
    }

    fn wait(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
        self.correlator.handle_timeout(self.now);
        self.collect();
    }

    fn collect(&mut self) {
        while let Some(output) = self.correlator.poll() {
            match output {
                Effect::Interaction(interaction) => self.interactions.push(*interaction),
                Effect::Journal(placed) => {
                    // What the journal gives back must be what went in.
                    let row = serde_json::to_string(&placed).unwrap();
                    let read: Placed = serde_json::from_str(&row).unwrap();
                    assert_eq!(format!("{read:?}"), format!("{placed:?}"));
                    self.journal.push(read);
                }
                Effect::Note(note) => self.notes.push(note),
                Effect::Remembered(_) => {}
                Effect::Settled(_, state) => self.settled.push(state.map(|state| *state)),
            }
        }
    }

    fn second(&self) -> f64 {
        self.now.0.div_euclid(1000) as f64
    }

    fn ask(&mut self, id: &str, text: &str) {
        let message = message(id, Role::User, text, self.second(), None);
        self.see(Fact::MessageSeen { message, origin: MessageOrigin::Created, requested_at: None });
    }

    fn create_run(&mut self, id: &str, streamed: bool) {
        let origin = RunOrigin::Created {
            messages: Vec::new(),
            request_at: self.now,
            trace_id: None,
            streamed,
            new_conversation: false,
            messages_lost: false,
            instructions: None,
            additional_instructions: None,
        };
        self.streams = streamed;
        let run = self.run(id, active("queued"));
        self.see(Fact::RunSeen { run: Box::new(run), origin, first_token_at: None, streamed });
    }

    fn poll(&mut self, id: &str, status: RunStatus) -> bool {
        let run = self.run(id, status);
        let streamed = self.streams;
        self.see(Fact::RunSeen {
            run: Box::new(run),
            origin: RunOrigin::Seen,
            first_token_at: None,
            streamed,
        })
    }

    fn run(&self, id: &str, status: RunStatus) -> Run {
        let usage = json!({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3});
        Run {
            id: id.to_owned(),
            usage: status.is_terminal().then(|| to_raw_value(&usage).unwrap()),
            ended_at: status.is_terminal().then(|| self.second()),
            status,
            assistant: Some("asst_1".to_owned()),
            model: Some("gpt-4o".to_owned()),
            created_at: Some(self.second()),
            started_at: None,
            expires_at: None,
            error: None,
            metadata: None,
            tool_calls: Vec::new(),
        }
    }

    fn only(&self) -> &Interaction {
        assert_eq!(self.interactions.len(), 1, "{:#?}", self.interactions);
        &self.interactions[0]
    }
}

fn key() -> ConversationKey {
    ConversationKey { upstream: "api.openai.com".into(), id: "thread_1".into() }
}

fn active(status: &str) -> RunStatus {
    RunStatus::Active(status.to_owned())
}

fn message(id: &str, role: Role, text: &str, second: f64, run: Option<&str>) -> Message {
    let object = json!({"id": id, "object": "thread.message", "role": role, "content": [
        {"type": "text", "text": {"value": text, "annotations": []}}], "run_id": run});
    Message {
        id: Some(id.to_owned()),
        role,
        status: MessageStatus::Completed,
        created_at: Some(second),
        run: run.map(str::to_owned),
        object: to_raw_value(&object).unwrap(),
    }
}

fn answer(id: &str, second: f64, run: &str) -> Message {
    message(id, Role::Assistant, "an answer", second, Some(run))
}

fn listed(world: &Fixture, messages: Vec<Message>) -> MessagePage {
    MessagePage {
        messages,
        order: PageOrder::Descending,
        run_filter: None,
        start: PageStart::Beginning,
        has_more: Some(false),
        requested_at: world.now,
    }
}

fn texts(messages: &[Message]) -> Vec<String> {
    messages.iter().map(Message::text).collect()
}

/// A message of a request: its answer names no id.
fn born(text: &str) -> Message {
    Message { id: None, created_at: None, ..message("", Role::User, text, 0.0, None) }
}

fn created_with(world: &Fixture, messages: Vec<Message>) -> RunOrigin {
    RunOrigin::Created {
        messages,
        request_at: world.now,
        trace_id: None,
        streamed: false,
        new_conversation: false,
        messages_lost: false,
        instructions: None,
        additional_instructions: None,
    }
}

fn seen(run: Run, origin: RunOrigin) -> Fact {
    Fact::RunSeen { run: Box::new(run), origin, first_token_at: None, streamed: false }
}

fn tool_step(id: &str, call: &str) -> Step {
    let call = ToolCall {
        id: call.to_owned(),
        kind: "function".to_owned(),
        server: None,
        name: None,
        arguments: None,
        output: None,
    };
    Step { id: id.to_owned(), run: "run_1".to_owned(), message: None, tool_calls: vec![call] }
}

/// Adds a fact whose text is a thousand bytes long, and tells how much more is held.
fn growth(world: &mut Fixture, fact: Fact) -> usize {
    let before = world.correlator.text_bytes();
    assert!(world.see(fact), "something new is a change");
    world.correlator.text_bytes() - before
}

/// A thread whose first run is settled.
fn answered() -> Fixture {
    let mut world = Fixture::new();
    world.ask("msg_1", "first");
    world.create_run("run_1", false);
    world.poll("run_1", RunStatus::Completed);
    world.wait(31);
    world
}
