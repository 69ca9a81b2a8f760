//! Runs from their beginning to their record: what is a change, and that there is one record whatever is seen.

use proptest::prelude::*;

use super::*;

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
fn every_input_that_fuzzing_kept_is_sound() {
    threadtap_corpus::replay("observers", assert_invariants);
}
