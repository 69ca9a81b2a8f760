//! The correlator as a whole, fed with facts and driven by a clock of its own.

mod continuations;
mod deadlines;
mod inputs;
mod limits;
mod outputs;
mod pages;
mod tools;
mod turns;

use std::time::Duration;

use proptest::prelude::*;
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

#[test]
fn a_streamed_run_is_recorded_when_it_completes() {
    let mut world = Fixture::new();
    world.attribution.user = Some(User::from_id("u1"));
    world.ask("msg_1", "a question");
    world.create_run("run_1", true);
    let step = Step {
        id: "step_1".to_owned(),
        run: "run_1".to_owned(),
        message: Some("msg_2".to_owned()),
        tool_calls: vec![],
    };
    world.see(Fact::StepSeen(Box::new(step)));
    let message = answer("msg_2", world.second(), "run_1");
    world.see(Fact::MessageSeen { message, origin: MessageOrigin::Streamed, requested_at: None });
    assert!(world.interactions.is_empty());
    world.poll("run_1", RunStatus::Completed);
    let run = world.only();
    assert_eq!(texts(&run.inputs), ["a question"]);
    assert_eq!(texts(&run.outputs), ["an answer"]);
    assert_eq!((run.status, run.assumed, run.outputs_complete), (Status::Completed, false, true));
    assert_eq!(run.attribution.user, Some(User::from_id("u1")));
    assert!(run.usage.is_some() && run.usage_absent.is_none());
    assert!(world.settled.last().unwrap().is_some());
    world.wait(24 * 3600 + 1);
    assert!(world.settled.last().unwrap().is_none(), "an idle conversation is forgotten");
    assert_eq!((world.correlator.conversations(), world.correlator.poll_timeout()), (0, None));
}

#[test]
fn a_polled_run_waits_for_its_messages_to_be_fetched() {
    let mut world = Fixture::new();
    world.ask("msg_1", "a question");
    world.create_run("run_1", false);
    for _ in 0..3 {
        world.poll("run_1", active("in_progress"));
    }
    world.poll("run_1", RunStatus::Completed);
    assert!(world.interactions.is_empty());
    let second = world.second();
    let asked = world.correlator.conversations[&key()].runs[0].inputs.messages[0].clone();
    let page = listed(&world, vec![answer("msg_2", second, "run_1"), asked]);
    world.see(Fact::MessagesListed(page));
    assert_eq!(texts(&world.only().outputs), ["an answer"]);
    assert!(world.only().outputs_complete);
}

#[test]
fn a_polled_run_is_recorded_without_outputs_after_the_grace() {
    let mut world = Fixture::new();
    world.ask("msg_1", "a question");
    world.create_run("run_1", false);
    world.poll("run_1", RunStatus::Completed);
    world.wait(29);
    assert!(world.interactions.is_empty());
    world.wait(2);
    assert!(!world.only().outputs_complete && world.only().outputs.is_empty());
    assert_eq!(world.only().status, Status::Completed);
}

#[test]
fn a_page_of_one_proves_nothing_while_more_follow() {
    let mut world = Fixture::new();
    world.create_run("run_1", false);
    world.poll("run_1", RunStatus::Completed);
    let second = world.second();
    let mut page = listed(&world, vec![answer("msg_3", second, "run_1")]);
    page.run_filter = Some("run_1".to_owned());
    page.has_more = Some(true);
    world.see(Fact::MessagesListed(page.clone()));
    assert!(world.interactions.is_empty());
    page.messages = vec![answer("msg_2", second, "run_1")];
    page.start = PageStart::After("msg_3".to_owned());
    page.has_more = Some(false);
    world.see(Fact::MessagesListed(page));
    assert_eq!(world.only().outputs.len(), 2);
    assert!(world.only().outputs_complete);
}

#[test]
fn a_page_asked_for_before_the_end_was_seen_proves_nothing() {
    let mut world = Fixture::new();
    world.create_run("run_1", false);
    let early = world.now;
    world.poll("run_1", RunStatus::Completed);
    let mut page = listed(&world, vec![answer("msg_2", world.second(), "run_1")]);
    page.requested_at = early;
    world.see(Fact::MessagesListed(page));
    assert!(world.interactions.is_empty());
}

#[test]
fn tool_calls_keep_the_run_open_and_are_recorded() {
    let mut world = Fixture::new();
    world.ask("msg_1", "weather?");
    world.create_run("run_1", true);
    let call = |output: Option<&str>| ToolCall {
        id: "call_1".to_owned(),
        kind: "function".to_owned(),
        server: None,
        name: Some("weather".to_owned()),
        arguments: Some("{}".to_owned()),
        output: output.map(str::to_owned),
    };
    let mut run = world.run("run_1", RunStatus::RequiresAction);
    run.tool_calls.push(call(None));
    world.see(Fact::RunSeen {
        run: Box::new(run),
        origin: RunOrigin::Seen,
        first_token_at: None,
        streamed: true,
    });
    let ended = Fact::StreamEnded {
        run: "run_1".to_owned(),
        ending: StreamEnding::Complete,
        first_token_at: None,
        error: None,
    };
    world.see(ended.clone());
    let outputs = vec![ToolOutput { call: "call_1".to_owned(), output: "sunny".to_owned() }];
    world.see(Fact::ToolOutputsSubmitted { run: "run_1".to_owned(), outputs });
    let run = world.run("run_1", active("in_progress"));
    let origin = RunOrigin::Continued { streamed: true };
    world.see(Fact::RunSeen { run: Box::new(run), origin, first_token_at: None, streamed: true });
    let message = answer("msg_2", world.second(), "run_1");
    world.see(Fact::MessageSeen { message, origin: MessageOrigin::Streamed, requested_at: None });
    world.poll("run_1", RunStatus::Completed);
    world.see(ended);
    let run = world.only();
    assert_eq!(run.tool_calls.len(), 1);
    assert_eq!(run.tool_calls[0].output.as_deref(), Some("sunny"));
    assert_eq!(texts(&run.outputs), ["an answer"]);
}

#[test]
fn messages_posted_while_a_run_is_active_are_the_next_runs() {
    let mut world = Fixture::new();
    world.ask("msg_1", "first");
    world.ask("msg_2", "second");
    world.create_run("run_1", false);
    world.ask("msg_3", "third");
    world.poll("run_1", RunStatus::Failed);
    world.create_run("run_2", false);
    world.poll("run_2", RunStatus::Expired);
    world.wait(31);
    let inputs: Vec<_> = world.interactions.iter().map(|run| texts(&run.inputs)).collect();
    assert_eq!(inputs, [vec!["first", "second"], vec!["third"]]);
    let statuses: Vec<_> = world.interactions.iter().map(|run| run.status).collect();
    assert_eq!(statuses, [Status::Failed, Status::Expired]);
}

#[test]
fn messages_of_a_request_take_the_place_of_none_when_they_are_listed() {
    let mut world = Fixture::new();
    let mut born = message("", Role::User, "hello", 0.0, None);
    born.id = None;
    born.created_at = None;
    world.see(Fact::ConversationCreated { messages: vec![born], messages_lost: false });
    world.create_run("run_1", false);
    world.poll("run_1", RunStatus::Completed);
    let second = world.second();
    let page = listed(
        &world,
        vec![answer("msg_2", second, "run_1"), message("msg_1", Role::User, "hello", second - 1.0, None)],
    );
    world.see(Fact::MessagesListed(page));
    let run = world.only();
    assert_eq!(run.inputs.len(), 1);
    assert_eq!(run.inputs[0].id.as_deref(), Some("msg_1"));
    assert!(run.inputs_complete && run.outputs_complete);
}

#[test]
fn a_run_whose_end_is_never_seen_is_recorded_as_such() {
    for (last, client_gone, expected) in [
        (active("in_progress"), false, Status::UnknownFinal),
        (active("in_progress"), true, Status::ClientDisconnected),
        (RunStatus::RequiresAction, false, Status::Expired),
        (active("some_new_status"), false, Status::UnknownFinal),
    ] {
        let mut world = Fixture::new();
        world.ask("msg_1", "a question");
        world.create_run("run_1", true);
        world.poll("run_1", last);
        if client_gone {
            world.see(Fact::StreamEnded {
                run: "run_1".to_owned(),
                ending: StreamEnding::ClientGone,
                first_token_at: None,
                error: None,
            });
        }
        world.wait(655);
        assert!(world.interactions.is_empty());
        world.wait(10);
        assert_eq!((world.only().status, world.only().assumed), (expected, true));
        assert_eq!(world.only().usage_absent, Some(UsageAbsent::EndNotSeen));
    }
}

#[test]
fn a_run_is_recorded_even_if_its_conversation_is_to_be_forgotten_when_time_is_next_looked_at() {
    let mut world = Fixture::new();
    world.ask("msg_1", "a question");
    world.create_run("run_1", false);
    // A machine was asleep, or the process was not running.
    world.wait(48 * 3600);
    assert_eq!(
        (world.only().status, &*texts(&world.only().inputs)),
        (Status::UnknownFinal, &["a question".to_owned()][..])
    );
    assert_eq!((world.correlator.conversations(), world.correlator.open_runs()), (0, 0));
    assert_eq!((world.correlator.text_bytes(), world.correlator.poll_timeout()), (0, None));
}

#[test]
fn history_is_learnt_without_a_record() {
    let mut world = Fixture::new();
    world.wait(3600);
    let mut old = world.run("run_old", RunStatus::Completed);
    old.created_at = Some(world.second() - 1000.0);
    old.ended_at = old.created_at;
    let seen = |run: &Run| Fact::RunSeen {
        run: Box::new(run.clone()),
        origin: RunOrigin::Seen,
        first_token_at: None,
        streamed: false,
    };
    world.see(seen(&old));
    world.wait(60);
    assert!(world.interactions.is_empty());
    let mut recent = world.run("run_recent", RunStatus::Completed);
    recent.created_at = Some(world.second() - 60.0);
    world.see(seen(&recent));
    world.wait(60);
    assert_eq!(world.only().run, "run_recent");
    assert!(!world.only().inputs_complete);
}

#[test]
fn a_run_whose_creation_was_missed_may_have_missed_inputs_which_a_list_brings_back() {
    let mut world = Fixture::new();
    world.see(Fact::ConversationCreated { messages: vec![], messages_lost: false });
    world.poll("run_1", active("in_progress"));
    world.poll("run_1", RunStatus::Completed);
    let second = world.correlator.conversations[&key()].runs[0].created_second().unwrap();
    let question = message("msg_1", Role::User, "a question", second, None);
    let page = listed(&world, vec![answer("msg_2", second, "run_1"), question]);
    world.see(Fact::MessagesListed(page));
    assert_eq!(texts(&world.only().inputs), ["a question"]);
    assert!(world.only().inputs_complete);
}

#[test]
fn deleting_the_thread_ends_what_is_open() {
    let mut world = Fixture::new();
    world.ask("msg_1", "a question");
    world.create_run("run_1", false);
    world.see(Fact::ConversationDeleted);
    assert_eq!(world.only().status, Status::ThreadDeleted);
    world.poll("run_1", RunStatus::Completed);
    world.wait(100);
    world.only();
}

#[test]
fn servers_that_name_no_run_are_paired_by_place() {
    let mut world = Fixture::new();
    world.ask("msg_1", "a question");
    world.create_run("run_1", false);
    world.poll("run_1", RunStatus::Completed);
    let second = world.second();
    let asked = world.correlator.conversations[&key()].runs[0].inputs.messages[0].clone();
    let page = listed(&world, vec![message("msg_2", Role::Assistant, "an answer", second, None), asked]);
    world.see(Fact::MessagesListed(page));
    assert_eq!(
        (world.only().pairing, texts(&world.only().outputs)),
        (Pairing::Heuristic, vec!["an answer".to_owned()])
    );
}

#[test]
fn a_look_at_something_unknown_leaves_no_trace() {
    let mut world = Fixture::new();
    assert!(!world.see(Fact::MessageDeleted { id: "msg_1".to_owned() }));
    let page = listed(&world, vec![]);
    assert!(!world.see(Fact::MessagesListed(page)));
    assert_eq!(world.correlator.conversations(), 0);
}

/// One thing a client, or the network, may do around a run.
#[derive(Clone, Debug)]
enum Act {
    Poll(&'static str),
    List { limit: usize, ascending: bool, filtered: bool },
    Steps,
    Restart,
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => prop_oneof![Just("queued"), Just("in_progress"), Just("completed")].prop_map(Act::Poll),
        3 => (1..5_usize, any::<bool>(), any::<bool>())
            .prop_map(|(limit, ascending, filtered)| Act::List { limit, ascending, filtered }),
        1 => Just(Act::Steps),
        1 => Just(Act::Restart),
        1 => (0..8_u64).prop_map(Act::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is polled, listed, repeated or lost around one run, and wherever the process is killed and begins anew: there is
    /// one interaction, with the question as its input and nothing but the run's own answers as outputs, all of them if it says so.
    #[test]
    fn any_polls_around_a_run_give_exactly_one_interaction(
        acts in prop::collection::vec(act(), 0..24),
        answers in 1..4_usize,
    ) {
        let mut world = Fixture::new();
        let mut restored: Option<ConversationState> = None;
        let question = message("msg_q", Role::User, "a question", world.second(), None);
        let run_second = world.second() + 1.0;
        let answers: Vec<Message> =
            (0..answers).map(|n| answer(&format!("msg_{n}"), run_second + n as f64, "run_1")).collect();
        let run = |status: RunStatus, world: &Fixture| {
            let mut run = world.run("run_1", status);
            run.created_at = Some(run_second);
            Box::new(run)
        };
        let created = RunOrigin::Created {
            messages: vec![], request_at: world.now, trace_id: None, streamed: false, new_conversation: false, messages_lost: false,
            instructions: None, additional_instructions: None,
        };
        let mut facts = vec![
            Fact::MessageSeen { message: question.clone(), origin: MessageOrigin::Created, requested_at: None },
            Fact::RunSeen { run: run(active("queued"), &world), origin: created, first_token_at: None, streamed: false },
        ];
        let mut over = false;
        for act in acts.into_iter().map(Some).chain([None]) {
            match act {
                Some(Act::Poll(status)) => {
                    over |= status == "completed";
                    let status = if status == "completed" { RunStatus::Completed } else { active(status) };
                    let run = run(status, &world);
                    facts.push(Fact::RunSeen { run, origin: RunOrigin::Seen, first_token_at: None, streamed: false });
                }
                Some(Act::List { limit, ascending, filtered }) => {
                    let mut all: Vec<Message> = Vec::new();
                    if !filtered { all.push(question.clone()); }
                    // Before the end is told, some answers may not exist yet.
                    let shown = if over { answers.len() } else { answers.len() - 1 };
                    all.extend(answers[..shown].iter().cloned());
                    if !ascending { all.reverse(); }
                    let has_more = Some(all.len() > limit);
                    all.truncate(limit);
                    facts.push(Fact::MessagesListed(MessagePage {
                        messages: all,
                        order: if ascending { PageOrder::Ascending } else { PageOrder::Descending },
                        run_filter: filtered.then(|| "run_1".to_owned()),
                        start: PageStart::Beginning,
                        has_more,
                        requested_at: world.now,
                    }));
                }
                Some(Act::Steps) => {
                    let steps = answers.iter().map(|message| Step {
                        id: format!("step of {:?}", message.id), run: "run_1".to_owned(),
                        message: message.id.clone(), tool_calls: vec![],
                    });
                    facts.push(Fact::StepsListed {
                        run: "run_1".to_owned(), steps: steps.collect(), whole: true, requested_at: world.now,
                        follows: None, precedes: None,
                    });
                }
                Some(Act::Wait(seconds)) => world.wait(seconds),
                Some(Act::Restart) => {
                    let mut correlator = Correlator::new(world.correlator.config.clone());
                    if let Some(state) = &restored {
                        correlator.restore(key(), state.clone());
                    }
                    world.journal.iter().for_each(|placed| correlator.replay(placed));
                    correlator.handle_timeout(world.now);
                    world.correlator = correlator;
                    world.collect();
                    // The store's unique key.
                    world.interactions.truncate(1);
                }
                None => facts.push(Fact::RunSeen {
                    run: run(RunStatus::Completed, &world), origin: RunOrigin::Seen, first_token_at: None, streamed: false,
                }),
            }
            for fact in facts.drain(..) {
                let settled = world.settled.len();
                world.see(fact);
                if world.settled.len() > settled {
                    restored = world.settled.last().unwrap().clone();
                    world.journal.clear();
                }
            }
        }
        world.wait(3600);
        let interaction = world.only();
        prop_assert_eq!(texts(&interaction.inputs), ["a question"]);
        prop_assert_eq!(interaction.status, Status::Completed);
        let ids: Vec<_> = interaction.outputs.iter().map(|message| message.id.clone()).collect();
        let all: Vec<_> = answers.iter().map(|message| message.id.clone()).collect();
        prop_assert!(ids.iter().all(|id| all.contains(id)), "{ids:?}");
        if interaction.outputs_complete {
            prop_assert_eq!(ids, all);
        }
    }
}

/// A message as a stream begins it: whole in form, without content.
fn begun(id: &str, second: f64, run: &str) -> Message {
    let object = json!({"id": id, "object": "thread.message", "created_at": second, "assistant_id": "asst_1",
        "thread_id": "thread_1", "run_id": run, "status": "in_progress", "incomplete_details": null,
        "incomplete_at": null, "completed_at": null, "role": "assistant", "content": [], "metadata": {}});
    let object = to_raw_value(&object).unwrap();
    Message {
        status: MessageStatus::InProgress,
        object,
        ..message(id, Role::Assistant, "", second, Some(run))
    }
}

#[test]
fn what_a_broken_stream_told_of_a_message_is_kept() {
    let mut world = Fixture::new();
    world.create_run("run_1", true);
    let first = begun("msg_1", world.second(), "run_1");
    world.see(Fact::MessageSeen { message: first, origin: MessageOrigin::Streamed, requested_at: None });
    let partial = Message {
        status: MessageStatus::InProgress,
        created_at: None,
        ..message("msg_1", Role::Assistant, "half an", 0.0, Some("run_1"))
    };
    world.see(Fact::MessageSeen { message: partial, origin: MessageOrigin::Streamed, requested_at: None });
    let ended = Fact::StreamEnded {
        run: "run_1".to_owned(),
        ending: StreamEnding::ClientGone,
        first_token_at: None,
        error: None,
    };
    world.see(ended);
    world.wait(3600);
    let run = world.only();
    assert_eq!(
        (run.status, &*texts(&run.outputs)),
        (Status::ClientDisconnected, &["half an".to_owned()][..])
    );
    assert!(run.outputs[0].created_at.is_some());
}

#[test]
fn a_stream_that_told_an_error_does_not_prove_the_outputs_of_a_run_that_is_polled_to_its_end() {
    let mut world = Fixture::new();
    world.create_run("run_1", true);
    let second = world.second();
    world.see(Fact::MessageSeen {
        message: begun("msg_1", second, "run_1"),
        origin: MessageOrigin::Streamed,
        requested_at: None,
    });
    let ended = Fact::StreamEnded {
        run: "run_1".to_owned(),
        ending: StreamEnding::Complete,
        first_token_at: None,
        error: Some(to_raw_value(&json!({"message": "sorry"})).unwrap()),
    };
    world.see(ended);
    world.poll("run_1", RunStatus::Failed);
    assert!(world.interactions.is_empty());
    let page = listed(&world, vec![answer("msg_1", second, "run_1")]);
    world.see(Fact::MessagesListed(page));
    assert_eq!(texts(&world.only().outputs), ["an answer"]);
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

#[test]
fn a_thread_whose_creation_is_answered_twice_has_its_messages_once() {
    let mut world = Fixture::new();
    let created = Fact::ConversationCreated { messages: vec![born("hello")], messages_lost: false };
    world.see(created.clone());
    assert!(!world.see(created));
    world.create_run("run_1", false);
    world.poll("run_1", RunStatus::Failed);
    world.wait(31);
    assert_eq!(texts(&world.only().inputs), ["hello"]);
}

#[test]
fn a_deletion_of_what_was_never_seen_does_not_spoil_outputs_that_a_stream_told() {
    let mut world = Fixture::new();
    world.see(Fact::ConversationCreated { messages: vec![born("hello")], messages_lost: false });
    world.create_run("run_1", true);
    world.see(Fact::MessageDeleted { id: "the id of hello".to_owned() });
    let message = answer("msg_2", world.second(), "run_1");
    world.see(Fact::MessageSeen { message, origin: MessageOrigin::Streamed, requested_at: None });
    world.poll("run_1", RunStatus::Completed);
    assert!(world.only().outputs_complete);
}

#[test]
fn a_message_whose_answer_a_run_overtook_is_the_runs_if_it_is_older() {
    let mut world = Fixture::new();
    world.see(Fact::ConversationCreated { messages: vec![], messages_lost: false });
    let (requested_at, second) = (world.now, world.second());
    world.wait(2);
    world.create_run("run_1", false);
    for (id, second) in [("msg_late", second), ("msg_next", second + 60.0)] {
        let message = message(id, Role::User, id, second, None);
        let requested_at = Some(requested_at);
        world.see(Fact::MessageSeen { message, origin: MessageOrigin::Created, requested_at });
    }
    world.poll("run_1", RunStatus::Failed);
    world.wait(31);
    assert_eq!(texts(&world.only().inputs), ["msg_late"]);
}

#[test]
fn messages_whose_answers_come_in_the_other_order_keep_the_threads() {
    let mut world = Fixture::new();
    for (id, second) in [("second", 2_000_000_002.0), ("first", 2_000_000_001.0)] {
        let message = message(id, Role::User, id, second, None);
        world.see(Fact::MessageSeen { message, origin: MessageOrigin::Created, requested_at: None });
    }
    let mut run = world.run("run_1", RunStatus::Failed);
    run.created_at = Some(2_000_000_003.0);
    world.see(seen(run, created_with(&world, vec![])));
    world.wait(31);
    assert_eq!(texts(&world.only().inputs), ["first", "second"]);
}

#[test]
fn a_creation_that_is_answered_after_a_poll_still_says_that_all_inputs_were_seen() {
    let mut world = Fixture::new();
    world.see(Fact::ConversationCreated { messages: vec![born("hello")], messages_lost: false });
    world.poll("run_1", active("in_progress"));
    let run = world.run("run_1", active("queued"));
    world.see(seen(run, created_with(&world, vec![born("and more")])));
    world.poll("run_1", RunStatus::Failed);
    world.wait(31);
    assert_eq!(texts(&world.only().inputs), ["hello", "and more"]);
    assert!(world.only().inputs_complete);
}

#[test]
fn tool_calls_stand_in_the_order_of_their_steps_however_pages_brought_them() {
    let listed = |steps: Vec<Step>, follows: Option<&str>, precedes: Option<&str>| Fact::StepsListed {
        run: "run_1".to_owned(),
        steps,
        whole: false,
        requested_at: UnixMillis(START),
        follows: follows.map(str::to_owned),
        precedes: precedes.map(str::to_owned),
    };
    let (one, two, three) = (tool_step("s1", "c1"), tool_step("s2", "c2"), tool_step("s3", "c3"));
    for pages in [
        vec![
            listed(vec![three.clone()], None, None),
            listed(vec![one.clone(), two.clone()], None, Some("s3")),
        ],
        vec![
            listed(vec![three.clone()], None, None),
            listed(vec![one.clone()], None, None),
            listed(vec![two.clone(), three.clone()], Some("s1"), None),
        ],
    ] {
        let mut world = Fixture::new();
        world.create_run("run_1", false);
        for page in pages {
            world.see(page);
        }
        world.poll("run_1", RunStatus::Failed);
        world.wait(31);
        let calls: Vec<&str> = world.only().tool_calls.iter().map(|call| call.id.as_str()).collect();
        assert_eq!(calls, ["c1", "c2", "c3"]);
    }
}

#[test]
fn the_same_words_of_the_run_before_are_not_taken_for_the_messages_of_a_request() {
    let mut world = Fixture::new();
    world.see(Fact::ConversationCreated { messages: vec![born("yes")], messages_lost: false });
    let old = message("msg_old", Role::User, "yes", world.second(), None);
    world.create_run("run_1", false);
    world.poll("run_1", RunStatus::Failed);
    let early = listed(&world, vec![old.clone()]);
    world.wait(1);
    let run = world.run("run_2", RunStatus::Failed);
    let own = message("msg_own", Role::User, "yes", run.created_at.unwrap(), None);
    world.see(seen(run, created_with(&world, vec![born("yes")])));
    // One that was asked for before the run, and answered after it.
    world.see(Fact::MessagesListed(early));
    let page = listed(&world, vec![own, old]);
    world.see(Fact::MessagesListed(page));
    world.wait(31);
    let ids = |run: &Interaction| run.inputs.iter().map(|input| input.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&world.interactions[1]), [Some("msg_own".to_owned())]);
}

#[test]
fn the_same_page_again_and_again_does_not_hold_a_record_back() {
    let mut world = Fixture::new();
    world.create_run("run_1", false);
    world.poll("run_1", RunStatus::Completed);
    let second = world.second();
    for _ in 0..7 {
        let mut page = listed(&world, vec![answer("msg_2", second, "run_1")]);
        page.has_more = Some(true);
        world.see(Fact::MessagesListed(page));
        world.wait(9);
    }
    assert_eq!(world.only().outputs.len(), 1);
}

#[test]
fn a_server_that_named_runs_once_is_not_paired_by_place() {
    let mut world = Fixture::new();
    world.ask("msg_1", "a question");
    world.create_run("run_1", false);
    let page = listed(&world, vec![answer("msg_2", world.second(), "run_1")]);
    world.see(Fact::MessagesListed(page));
    let apps = message("msg_3", Role::Assistant, "the app's own words", world.second(), None);
    let page = MessagePage { has_more: Some(true), ..listed(&world, vec![apps]) };
    world.see(Fact::MessagesListed(page));
    world.poll("run_1", RunStatus::Completed);
    world.wait(31);
    assert_eq!((world.only().pairing, world.only().outputs.len()), (Pairing::Exact, 1));
}

#[test]
fn what_was_posted_after_an_answer_is_not_its_question() {
    let mut world = Fixture::new();
    world.see(Fact::ConversationCreated { messages: vec![], messages_lost: false });
    world.create_run("run_1", false);
    let second = world.second();
    world.poll("run_1", RunStatus::Completed);
    let late = message("msg_3", Role::User, "the next question", second - 1.0, None);
    let page = listed(&world, vec![late, answer("msg_2", second - 1.0, "run_1")]);
    world.see(Fact::MessagesListed(page));
    assert!(world.only().inputs.is_empty());
}

fn input_ids(run: &Interaction) -> Vec<Option<&str>> {
    run.inputs.iter().map(|input| input.id.as_deref()).collect()
}

#[test]
fn messages_of_a_request_that_are_listed_before_it_is_answered_are_inputs_once() {
    for polled_first in [false, true] {
        let mut world = Fixture::new();
        world.see(Fact::ConversationCreated { messages: vec![], messages_lost: false });
        world.ask("msg_1", "yes");
        let origin = created_with(&world, vec![born("yes"), born("no")]);
        let run = world.run("run_1", active("queued"));
        if polled_first {
            world.see(seen(run.clone(), RunOrigin::Seen));
        }
        let own = |id, text| message(id, Role::User, text, run.created_at.unwrap(), None);
        let page = listed(&world, vec![own("msg_3", "no"), own("msg_2", "yes")]);
        world.see(Fact::MessagesListed(page));
        world.see(seen(run, origin));
        world.poll("run_1", RunStatus::Failed);
        world.wait(31);
        assert_eq!(input_ids(world.only()), [Some("msg_1"), Some("msg_2"), Some("msg_3")]);
        assert!(world.only().inputs_complete);
    }
}

#[test]
fn a_listed_message_is_not_taken_for_one_of_a_request_that_it_cannot_have_come_with() {
    for listed_too_early in [false, true] {
        let mut world = Fixture::new();
        world.see(Fact::ConversationCreated { messages: vec![], messages_lost: false });
        let early = world.now;
        world.wait(1);
        let origin = created_with(&world, vec![born("yes")]);
        let run = world.run("run_1", active("queued"));
        let other = message("msg_1", Role::User, "yes", run.created_at.unwrap(), None);
        let page = listed(&world, vec![other.clone()]);
        let requested_at = if listed_too_early { early } else { page.requested_at };
        world.see(Fact::MessagesListed(MessagePage { requested_at, ..page }));
        if !listed_too_early {
            let (message, origin) = (other, MessageOrigin::Created);
            world.see(Fact::MessageSeen { message, origin, requested_at: Some(requested_at) });
        }
        world.see(seen(run, origin));
        world.poll("run_1", RunStatus::Failed);
        world.wait(31);
        assert_eq!(input_ids(world.only()), [Some("msg_1"), None]);
    }
}

#[test]
fn a_run_created_with_messages_for_which_there_is_no_room_does_not_claim_to_have_all_inputs() {
    for polled_first in [false, true] {
        let limits = Limits { conversation_messages: 1, ..Limits::default() };
        let mut world = Fixture::with(Config { first_used: UnixMillis(START), limits, ..Config::default() });
        world.see(Fact::ConversationCreated { messages: vec![], messages_lost: false });
        world.ask("msg_1", "yes");
        let run = world.run("run_1", active("queued"));
        if polled_first {
            world.see(seen(run.clone(), RunOrigin::Seen));
        }
        let origin = created_with(&world, vec![born("no")]);
        world.see(seen(run, origin));
        world.poll("run_1", RunStatus::Failed);
        world.wait(31);
        assert_eq!(
            (texts(&world.only().inputs), world.only().inputs_complete),
            (vec!["yes".to_owned()], false)
        );
        assert_eq!(world.notes, [Note::MessagesFull]);
    }
}

#[test]
fn a_run_whose_creation_is_answered_after_a_later_one_was_polled_has_its_own_inputs() {
    for over in [false, true] {
        let mut world = Fixture::new();
        world.see(Fact::ConversationCreated { messages: vec![born("one")], messages_lost: false });
        world.ask("msg_2", "two");
        let (origin, first) = (created_with(&world, vec![]), world.run("run_1", active("queued")));
        world.wait(2);
        world.ask("msg_3", "three");
        world.poll("run_2", if over { RunStatus::Failed } else { active("queued") });
        world.see(seen(first, origin));
        world.poll("run_1", RunStatus::Failed);
        world.poll("run_2", RunStatus::Failed);
        world.wait(31);
        let mut inputs: Vec<_> =
            world.interactions.iter().map(|run| (&*run.run, texts(&run.inputs))).collect();
        inputs.sort();
        let expected = [vec!["one".to_owned(), "two".to_owned()], vec!["three".to_owned()]];
        let [first, second] = expected;
        assert_eq!(inputs, [("run_1", first), ("run_2", second)]);
    }
}

#[test]
fn what_the_run_before_answered_without_its_id_being_known_is_not_the_next_ones_input() {
    let mut world = Fixture::new();
    world.see(Fact::ConversationCreated { messages: vec![born("hello")], messages_lost: false });
    let hello = message("msg_1", Role::User, "hello", world.second(), None);
    world.create_run("run_1", false);
    world.poll("run_1", RunStatus::Cancelled);
    world.wait(31);
    world.poll("run_2", active("queued"));
    let page = listed(&world, vec![hello]);
    world.see(Fact::MessagesListed(page));
    world.poll("run_2", RunStatus::Failed);
    world.wait(31);
    assert_eq!(texts(&world.interactions[0].inputs), ["hello"]);
    assert!(world.interactions[1].inputs.is_empty());
}

#[test]
fn metadata_that_is_taken_back_from_an_output_that_was_cut_short_is_gone() {
    let mut world = Fixture::new();
    world.create_run("run_1", false);
    let cut = |metadata: serde_json::Value| {
        let whole = answer("msg_1", START as f64 / 1000.0, "run_1");
        let mut object: serde_json::Value = serde_json::from_str(whole.object.get()).unwrap();
        object["metadata"] = metadata;
        Message { status: MessageStatus::Incomplete, object: to_raw_value(&object).unwrap(), ..whole }
    };
    for metadata in [json!({"n": "7"}), json!({})] {
        let page = listed(&world, vec![cut(metadata)]);
        world.see(Fact::MessagesListed(page));
    }
    world.poll("run_1", RunStatus::Failed);
    world.wait(31);
    let object: serde_json::Value = serde_json::from_str(world.only().outputs[0].object.get()).unwrap();
    assert_eq!(object["metadata"], json!({}));
}

#[test]
fn a_run_whose_creation_is_answered_after_its_thread_was_deleted_does_not_claim_to_have_all_inputs() {
    let mut world = Fixture::new();
    world.see(Fact::ConversationCreated { messages: vec![born("hello")], messages_lost: false });
    let (origin, run) = (created_with(&world, vec![]), world.run("run_1", active("queued")));
    world.see(Fact::ConversationDeleted);
    world.see(seen(run, origin));
    world.poll("run_1", RunStatus::Failed);
    world.wait(31);
    assert!(world.only().inputs.is_empty() && !world.only().inputs_complete);
}

#[test]
fn a_message_listed_before_its_answer_is_not_the_input_of_a_run_seen_before_it_was_asked_for() {
    let mut world = Fixture::new();
    world.see(Fact::ConversationCreated { messages: vec![], messages_lost: false });
    let message = message("msg_1", Role::User, "hello", world.second(), None);
    world.create_run("run_1", false);
    let requested_at = Some(world.now);
    let page = listed(&world, vec![message.clone()]);
    world.see(Fact::MessagesListed(page));
    world.see(Fact::MessageSeen { message, origin: MessageOrigin::Created, requested_at });
    world.poll("run_1", RunStatus::Failed);
    world.create_run("run_2", false);
    world.poll("run_2", RunStatus::Failed);
    world.wait(31);
    let inputs: Vec<_> = world.interactions.iter().map(input_ids).collect();
    assert_eq!(inputs, [vec![], vec![Some("msg_1")]]);
}

#[test]
fn a_deadline_is_acted_on_at_the_very_time_that_was_asked_for() {
    let mut world = Fixture::new();
    world.ask("msg_1", "a question");
    world.create_run("run_1", false);
    // The run's end is given up, then the conversation is forgotten: whoever calls back on time does so twice.
    for conversations in [1, 0] {
        let at = world.correlator.poll_timeout().unwrap();
        world.correlator.handle_timeout(at);
        assert_eq!(world.correlator.conversations(), conversations);
    }
    assert_eq!(world.correlator.poll_timeout(), None);
    world.collect();
    assert_eq!(world.only().status, Status::UnknownFinal);
}

/// Adds a fact whose text is a thousand bytes long, and tells how much more is held.
fn growth(world: &mut Fixture, fact: Fact) -> usize {
    let before = world.correlator.text_bytes();
    assert!(world.see(fact), "something new is a change");
    world.correlator.text_bytes() - before
}

#[test]
fn all_that_is_held_is_counted_once() {
    let mut world = Fixture::new();
    let long = "x".repeat(1000);
    let check = |world: &mut Fixture, what: &str, fact: Fact| {
        let growth = growth(world, fact);
        assert!((1000..2500).contains(&growth), "{what}: {growth} bytes");
    };
    let asked = message("msg_1", Role::User, &long, 1.0, None);
    check(
        &mut world,
        "a message",
        Fact::MessageSeen { message: asked, origin: MessageOrigin::Created, requested_at: None },
    );
    let run_seen = |run: Run, origin| Fact::RunSeen {
        run: Box::new(run),
        origin,
        first_token_at: None,
        streamed: false,
    };
    let origin = RunOrigin::Created {
        messages: vec![],
        request_at: world.now,
        trace_id: None,
        streamed: false,
        new_conversation: false,
        messages_lost: false,
        instructions: Some(long.clone()),
        additional_instructions: None,
    };
    let run = world.run("run_1", active("queued"));
    check(&mut world, "instructions", run_seen(run, origin));
    let metadata = to_raw_value(&json!({ "a": long })).unwrap();
    let run = Run { metadata: Some(metadata.clone()), ..world.run("run_1", active("queued")) };
    check(&mut world, "metadata", run_seen(run, RunOrigin::Seen));
    let run = Run { error: Some(metadata.clone()), ..world.run("run_1", active("queued")) };
    check(&mut world, "an error", run_seen(run, RunOrigin::Seen));
    let ended = Fact::StreamEnded {
        run: "run_1".to_owned(),
        ending: StreamEnding::Truncated,
        first_token_at: None,
        error: Some(metadata),
    };
    check(&mut world, "a stream's error", ended);
    let step = |id: &str, message: Option<&str>, tool_calls| {
        let (id, run, message) = (id.to_owned(), "run_1".to_owned(), message.map(str::to_owned));
        Fact::StepSeen(Box::new(Step { id, run, message, tool_calls }))
    };
    check(&mut world, "a step's id", step(&long, None, vec![]));
    check(&mut world, "a step's message", step("step_2", Some(&long), vec![]));
    let call = ToolCall {
        id: "call_1".to_owned(),
        kind: "function".to_owned(),
        server: None,
        name: None,
        arguments: Some(long.clone()),
        output: None,
    };
    check(&mut world, "a tool call", step("step_3", None, vec![call]));
    let outputs = vec![ToolOutput { call: "call_1".to_owned(), output: long.clone() }];
    check(&mut world, "a tool's output", Fact::ToolOutputsSubmitted { run: "run_1".to_owned(), outputs });
    let said = message("msg_2", Role::Assistant, &long, 2.0, Some("run_1"));
    check(
        &mut world,
        "an output",
        Fact::MessageSeen { message: said, origin: MessageOrigin::Streamed, requested_at: None },
    );
    // The conversation and the run each know whose they are.
    world.attribution.session = Some(long[..500].into());
    let run = world.run("run_1", RunStatus::RequiresAction);
    check(&mut world, "whose it is", run_seen(run, RunOrigin::Seen));
    // What is settled leaves little.
    world.see(Fact::ConversationDeleted);
    let left = world.correlator.text_bytes();
    assert!((1000..2500).contains(&left), "{left} bytes are left");
    assert!(world.only().instructions.as_ref() == Some(&long));
}

#[test]
fn a_fact_that_brings_two_things_is_a_change() {
    let mut world = Fixture::new();
    let mut run = world.run("run_1", active("in_progress"));
    let seen = |run: &Run, first_token_at| Fact::RunSeen {
        run: Box::new(run.clone()),
        origin: RunOrigin::Seen,
        first_token_at,
        streamed: true,
    };
    assert!(world.see(seen(&run, Some(world.now))));
    run.status = RunStatus::Failed;
    run.created_at = None;
    assert!(world.see(seen(&run, None)));
    assert_eq!(world.correlator.open_runs(), 1, "what came before it was created was not told by its stream");
    let over = world.run("run_2", RunStatus::Completed);
    let polled = Fact::RunSeen {
        run: Box::new(over.clone()),
        origin: RunOrigin::Seen,
        first_token_at: None,
        streamed: false,
    };
    assert!(world.see(polled), "a run that is over is new");
    let streamed = Fact::RunSeen {
        run: Box::new(over),
        origin: RunOrigin::Seen,
        first_token_at: Some(world.now),
        streamed: true,
    };
    assert!(world.see(streamed), "that its stream told it, and when text came, is new");
    let steps = |steps: &[&str], whole, world: &Fixture| Fact::StepsListed {
        run: "run_1".to_owned(),
        steps: steps
            .iter()
            .map(|id| Step {
                id: (*id).to_owned(),
                run: "run_1".to_owned(),
                message: None,
                tool_calls: vec![],
            })
            .collect(),
        whole,
        requested_at: world.now,
        follows: None,
        precedes: None,
    };
    assert!(world.see(steps(&["step_1"], false, &world)), "a step is new");
    assert!(!world.see(steps(&["step_1"], false, &world)));
    let open = world.correlator.open_runs();
    assert!(world.see(steps(&["step_1"], true, &world)), "that there is no other is new");
    assert_eq!(world.correlator.open_runs(), open - 1);
}

#[test]
fn a_look_at_a_known_conversation_says_whose_it_is() {
    let mut world = Fixture::new();
    world.attribution.session = Some("s1".into());
    assert!(!world.see(Fact::ConversationSeen), "nothing is known of it");
    assert_eq!(world.correlator.conversations(), 0);
    world.attribution.session = None;
    world.ask("msg_1", "a question");
    assert!(!world.see(Fact::ConversationSeen), "it says nothing");
    world.attribution.session = Some("s1".into());
    assert!(world.see(Fact::ConversationSeen));
    assert!(!world.see(Fact::ConversationSeen), "that is known");
    world.attribution.session = None;
    world.create_run("run_1", false);
    world.see(Fact::ConversationDeleted);
    assert_eq!(world.only().attribution.session.as_deref(), Some("s1"));
    world.attribution.session = Some("s2".into());
    assert!(world.see(Fact::ConversationSeen), "a settled run is known too");
}

#[test]
fn messages_a_request_carries_in_the_assistants_name_are_kept_if_they_are_wanted() {
    for (app_messages, expected) in
        [(AppMessages::Include, vec!["hello", "a question"]), (AppMessages::Drop, vec!["a question"])]
    {
        let mut world =
            Fixture::with(Config { app_messages, first_used: UnixMillis(START), ..Config::default() });
        let born = |role, text| Message { id: None, created_at: None, ..message("", role, text, 0.0, None) };
        let messages = vec![born(Role::Assistant, "hello"), born(Role::User, "a question")];
        world.see(Fact::ConversationCreated { messages, messages_lost: false });
        world.create_run("run_1", false);
        world.see(Fact::ConversationDeleted);
        assert_eq!(texts(&world.only().inputs), expected);
    }
}

#[test]
fn an_answer_that_is_repeated_leaves_the_books_as_they_are() {
    let mut world = Fixture::new();
    world.create_run("run_1", false);
    let second = world.second() - 1.0;
    // Seen late, which leaves room for more.
    world.see(Fact::MessagesListed(listed(
        &world,
        vec![message("msg_1", Role::User, "a question", second, None)],
    )));
    world.create_run("run_1", false);
    world.correlator.finish(world.now);
    world.wait(3600);
    world.only();
    world.wait(48 * 3600);
    assert_eq!((world.correlator.text_bytes(), world.correlator.open_runs()), (0, 0));
}

#[test]
fn a_users_message_that_names_an_open_run_is_its_input_and_takes_the_place_of_one_without_id() {
    let mut world = Fixture::new();
    let born = Message { id: None, created_at: None, ..message("", Role::User, "hello", 0.0, None) };
    world.see(Fact::ConversationCreated { messages: vec![born], messages_lost: false });
    world.create_run("run_1", false);
    let fetched = |world: &Fixture, id: &str, text: &str| Fact::MessageSeen {
        message: message(id, Role::User, text, world.second(), Some("run_1")),
        origin: MessageOrigin::Fetched,
        requested_at: None,
    };
    let hello = fetched(&world, "msg_1", "hello");
    assert!(world.see(hello.clone()) && !world.see(hello));
    let more = fetched(&world, "msg_2", "and more");
    assert!(world.see(more));
    world.see(Fact::ConversationDeleted);
    assert_eq!(texts(&world.only().inputs), ["hello", "and more"]);
    assert!(world.only().outputs.is_empty());
}

#[test]
fn a_new_message_is_a_further_one_even_if_its_words_were_said_before() {
    let mut world = Fixture::new();
    let born = Message { id: None, created_at: None, ..message("", Role::User, "hello", 0.0, None) };
    world.see(Fact::ConversationCreated { messages: vec![born], messages_lost: false });
    world.ask("msg_1", "hello");
    world.create_run("run_1", false);
    world.see(Fact::ConversationDeleted);
    assert_eq!(texts(&world.only().inputs), ["hello", "hello"]);
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

#[test]
fn a_listed_question_that_nobody_answered_waits_for_the_next_run() {
    let newer = |world: &Fixture| world.second();
    let older = |_: &Fixture| START as f64 / 1000.0;
    for (order, has_more, second, waits) in [
        (PageOrder::Descending, Some(true), newer as fn(&Fixture) -> f64, true),
        (PageOrder::Descending, Some(true), older, false),
        (PageOrder::Ascending, Some(false), newer, true),
        (PageOrder::Ascending, Some(true), newer, false),
        (PageOrder::Ascending, None, newer, false),
    ] {
        let mut world = answered();
        let question = message("msg_2", Role::User, "second", second(&world), None);
        let page = MessagePage { order, has_more, ..listed(&world, vec![question]) };
        assert_eq!(world.see(Fact::MessagesListed(page)), waits, "{order:?} {has_more:?}");
        world.create_run("run_2", false);
        world.see(Fact::ConversationDeleted);
        assert_eq!(!texts(&world.interactions[1].inputs).is_empty(), waits, "{order:?} {has_more:?}");
    }
}

#[test]
fn a_listed_question_whose_own_answer_was_lost_is_an_input_of_the_run_that_came_next() {
    let boundary = answered().correlator.conversations[&key()].state.boundary.unwrap();
    for (second, expected) in [(boundary + 1.0, vec!["second"]), (boundary, vec![])] {
        let mut world = answered();
        world.create_run("run_2", false);
        let question = message("msg_2", Role::User, "second", second, None);
        let page = listed(&world, vec![question]);
        world.see(Fact::MessagesListed(page));
        world.see(Fact::ConversationDeleted);
        assert_eq!(texts(&world.interactions[1].inputs), expected);
    }
}

#[test]
fn a_deleted_message_that_was_never_seen_may_have_been_an_output_of_any_open_run() {
    let mut world = Fixture::new();
    world.create_run("run_1", false);
    world.create_run("run_2", false);
    assert!(world.see(Fact::MessageDeleted { id: "msg_1".to_owned() }));
    assert!(!world.see(Fact::MessageDeleted { id: "msg_1".to_owned() }));
}

#[test]
fn an_output_that_is_listed_after_its_run_was_recorded_is_noted_once() {
    let mut world = answered();
    let late = answer("msg_9", world.second(), "run_1");
    let page = listed(&world, vec![late]);
    assert!(world.see(Fact::MessagesListed(page.clone())) && !world.see(Fact::MessagesListed(page)));
    assert_eq!(world.notes, [Note::LateOutput]);
    // By now it is no news that the server names runs.
    let page = listed(&world, vec![answer("msg_10", world.second(), "run_1")]);
    assert!(world.see(Fact::MessagesListed(page)));
    assert_eq!((world.notes.len(), world.interactions.len()), (2, 1));
}

#[test]
fn an_output_that_names_no_run_stays_with_the_run_it_was_first_seen_to_answer() {
    let mut world = Fixture::new();
    world.ask("msg_1", "first");
    world.create_run("run_1", false);
    let second = world.second();
    let asked = world.correlator.conversations[&key()].runs[0].inputs.messages[0].clone();
    let said = |text| message("msg_9", Role::Assistant, text, second, None);
    let page = listed(&world, vec![said("an"), asked]);
    world.see(Fact::MessagesListed(page));
    world.ask("msg_2", "second");
    world.create_run("run_2", false);
    let page = listed(&world, vec![said("an answer")]);
    assert!(world.see(Fact::MessagesListed(page)));
    world.see(Fact::ConversationDeleted);
    let outputs: Vec<_> = world.interactions.iter().map(|run| texts(&run.outputs)).collect();
    assert_eq!(outputs, [vec!["an answer".to_owned()], vec![]]);
}

#[test]
fn every_new_word_on_a_run_is_a_change_and_no_old_one() {
    let raw = || Some(to_raw_value(&json!({"a": 1})).unwrap());
    let call = || ToolCall {
        id: "call_1".to_owned(),
        kind: "function".to_owned(),
        server: None,
        name: None,
        arguments: None,
        output: None,
    };
    let words: [fn(&mut Run); 6] = [
        |run| run.assistant = Some("asst_1".to_owned()),
        |run| run.model = Some("gpt-4o".to_owned()),
        |run| run.created_at = Some(1.0),
        |run| run.started_at = Some(1.0),
        |run| run.ended_at = Some(1.0),
        |run| run.expires_at = Some(1.0),
    ];
    let mut world = Fixture::new();
    let mut run =
        Run { assistant: None, model: None, created_at: None, ..world.run("run_1", active("queued")) };
    let see = |world: &mut Fixture, run: &Run| {
        let (run, origin) = (Box::new(run.clone()), RunOrigin::Seen);
        world.see(Fact::RunSeen { run, origin, first_token_at: None, streamed: false })
    };
    assert!(see(&mut world, &run) && !see(&mut world, &run));
    for (place, word) in words.into_iter().enumerate() {
        word(&mut run);
        assert!(see(&mut world, &run) && !see(&mut world, &run), "word {place}");
    }
    run.usage = raw();
    assert!(see(&mut world, &run) && !see(&mut world, &run));
    run.error = raw();
    assert!(see(&mut world, &run) && !see(&mut world, &run));
    run.metadata = raw();
    assert!(see(&mut world, &run) && !see(&mut world, &run));
    run.tool_calls.push(call());
    assert!(see(&mut world, &run) && !see(&mut world, &run));
    // Two new words are no less than one.
    let none = Run { assistant: None, model: None, created_at: None, ..world.run("run_2", active("queued")) };
    assert!(see(&mut world, &none));
    let (assistant, model) = (Some("asst_1".to_owned()), Some("gpt-4o".to_owned()));
    let words = Run { assistant, model, ..none.clone() };
    assert!(see(&mut world, &words));
    let times = Run { started_at: Some(1.0), ended_at: Some(1.0), ..none.clone() };
    assert!(see(&mut world, &times));
    let objects = Run { usage: raw(), error: raw(), ..none };
    assert!(see(&mut world, &objects));
}

#[test]
fn a_list_oldest_first_proves_outputs_only_where_it_shows_them_and_goes_beyond_the_end() {
    for (ended_after, last_after, own_is_shown, proves) in [
        (Some(10.0), 5.0, true, false),
        (Some(10.0), 10.0, true, true),
        (Some(10.0), 10.0, false, false),
        (None, 0.0, true, false),
        (None, 1.0, true, true),
    ] {
        let mut world = Fixture::new();
        world.create_run("run_1", false);
        let created = world.correlator.conversations[&key()].runs[0].created_second().unwrap();
        let own = answer("msg_1", created, "run_1");
        world.see(Fact::MessageSeen {
            message: own.clone(),
            origin: MessageOrigin::Fetched,
            requested_at: None,
        });
        let ended_at = ended_after.map(|seconds| created + seconds);
        let run = Box::new(Run { ended_at, ..world.run("run_1", RunStatus::Completed) });
        world.see(Fact::RunSeen { run, origin: RunOrigin::Seen, first_token_at: None, streamed: false });
        let last = message("msg_2", Role::User, "later", created + last_after, None);
        let messages = if own_is_shown { vec![own, last] } else { vec![last] };
        let page = MessagePage {
            order: PageOrder::Ascending,
            has_more: Some(true),
            requested_at: world.now,
            ..listed(&world, messages)
        };
        world.see(Fact::MessagesListed(page));
        assert_eq!(
            world.interactions.len(),
            usize::from(proves),
            "{ended_after:?} {last_after} {own_is_shown}"
        );
    }
}

#[test]
fn every_input_that_fuzzing_kept_is_sound() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/observers");
    let mut inputs = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        assert_traffic_is_sound(&std::fs::read(entry.unwrap().path()).unwrap());
        inputs += 1;
    }
    assert!(inputs > 20, "the corpus was not found");
}
