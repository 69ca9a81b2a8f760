//! How long what is not settled is waited for, and what is too old to be recorded.

use super::*;

/// How long after a run was first seen it is given up, in milliseconds.
fn given_up_after(created_at: Option<f64>, expires_at: Option<f64>) -> u64 {
    let mut world = Fixture::new();
    let run = Run { created_at, expires_at, ..world.run("run_1", active("queued")) };
    world.see(seen(run, RunOrigin::Seen));
    world.correlator.poll_timeout().unwrap().0 - world.now.0
}

#[test]
fn a_run_is_waited_for_a_minute_beyond_the_time_it_may_take_by_the_apis_clock() {
    const MONTH: f64 = 30.0 * 24.0 * 3600.0;
    for (created_at, expires_at, seconds) in [
        (Some(5000.0), Some(5100.0), 160),
        (Some(5000.0), Some(5001.0), 61),
        (Some(5000.0), Some(5000.0 + MONTH - 1.0), MONTH as u64 + 59),
        // What is not said, or nonsense, is ten minutes.
        (Some(5000.0), None, 660),
        (None, Some(5100.0), 660),
        (Some(5000.0), Some(5000.0), 660),
        (Some(5000.0), Some(4999.0), 660),
        (Some(5000.0), Some(5000.0 + MONTH), 660),
        (Some(5000.0), Some(5000.0 + 2.0 * MONTH), 660),
    ] {
        assert_eq!(given_up_after(created_at, expires_at), seconds * 1000, "{created_at:?} {expires_at:?}");
    }
}

#[test]
fn deadlines_that_have_all_passed_are_acted_on_in_their_order() {
    let recorded = |waits: &[u64]| {
        let mut world = Fixture::new();
        world.create_run("run_1", false);
        world.create_run("run_2", false);
        world.poll("run_2", RunStatus::Completed);
        waits.iter().for_each(|seconds| world.wait(*seconds));
        world.interactions.iter().map(|interaction| interaction.run.clone()).collect::<Vec<_>>()
    };
    // The second waits for its messages, the first for its end: much longer.
    assert_eq!(recorded(&[60, 3600]), ["run_2", "run_1"]);
    assert_eq!(recorded(&[3660]), ["run_2", "run_1"], "as after a night in which the process was not there");
}

#[test]
fn a_run_that_is_seen_to_go_on_is_waited_for_a_minute_longer() {
    let mut world = Fixture::new();
    let run = Run { created_at: Some(0.0), expires_at: Some(10.0), ..world.run("run_1", active("queued")) };
    world.see(seen(run, RunOrigin::Seen));
    let goes_on = || Fact::RunGoesOn { run: "run_1".to_owned() };
    assert!(!world.see(Fact::RunGoesOn { run: "run_2".to_owned() }), "nobody knows that one");
    assert!(!world.see(goes_on()), "it was waited for as long anyway");
    world.wait(60);
    assert!(world.see(goes_on()));
    assert_eq!(world.correlator.poll_timeout().unwrap().0 - world.now.0, 60_000);
    world.poll("run_1", RunStatus::Completed);
    world.wait(5);
    assert!(!world.see(goes_on()), "it is over");
    assert_eq!(world.correlator.poll_timeout().unwrap().0 - world.now.0, 24_000);
}

#[test]
fn a_run_first_seen_over_is_recorded_if_it_ended_after_capture_began_and_at_most_a_quarter_of_an_hour_ago() {
    for (age, since_first_used, recorded) in [
        (0, 10_000, true),
        (900, 10_000, true),
        (901, 10_000, false),
        (2000, 10_000, false),
        // The API tells whole seconds: the run may have ended within the second it names.
        (5, 5, true),
        (5, 4, false),
        (5, 3, false),
    ] {
        let now = UnixMillis(START + 1000);
        let first_used = UnixMillis(now.0 - since_first_used * 1000);
        let mut world = Fixture::with(Config { first_used, ..Config::default() });
        let run = world.run("run_1", RunStatus::Completed);
        let ended_at = Some((now.0 / 1000 - age) as f64);
        world.see(seen(Run { ended_at, ..run.clone() }, RunOrigin::Seen));
        world.wait(40);
        assert_eq!(world.interactions.len(), usize::from(recorded), "{age} {since_first_used}");
        // Without an end its creation counts.
        let mut world = Fixture::with(Config { first_used, ..Config::default() });
        world.see(seen(Run { ended_at: None, created_at: ended_at, ..run }, RunOrigin::Seen));
        world.wait(40);
        assert_eq!(world.interactions.len(), usize::from(recorded), "{age} {since_first_used}");
    }
}

#[test]
fn history_is_neither_recorded_later_nor_the_next_runs_question() {
    let mut world = Fixture::new();
    world.wait(3600);
    let asked = message("msg_1", Role::User, "an old question", world.second() - 2000.0, None);
    world.see(Fact::MessageSeen {
        message: asked.clone(),
        origin: MessageOrigin::Created,
        requested_at: None,
    });
    let second = world.second() - 1900.0;
    let old =
        Run { created_at: Some(second), ended_at: Some(second), ..world.run("run_1", RunStatus::Completed) };
    assert!(world.see(seen(old.clone(), RunOrigin::Seen)));
    assert!(!world.see(seen(old, RunOrigin::Seen)), "it is known");
    // Its outputs are no late ones, for there is no record.
    let page = listed(&world, vec![answer("msg_2", second, "run_1"), asked]);
    world.see(Fact::MessagesListed(page));
    assert!(world.notes.is_empty());
    world.create_run("run_2", false);
    world.see(Fact::ConversationDeleted);
    assert!(world.only().inputs.is_empty());
}

#[test]
fn an_answer_that_is_being_fetched_keeps_a_run_open_for_as_long_again() {
    let mut world = Fixture::new();
    world.create_run("run_1", false);
    let second = world.second();
    let fetched = |id: &str| Fact::MessageSeen {
        message: answer(id, second, "run_1"),
        origin: MessageOrigin::Fetched,
        requested_at: None,
    };
    let left = |world: &Fixture| (world.correlator.poll_timeout().unwrap().0 - world.now.0) / 1000;
    world.see(fetched("msg_1"));
    assert!(left(&world) > 600, "an output does not end a run");
    world.poll("run_1", RunStatus::Completed);
    assert_eq!(left(&world), 30);
    world.wait(20);
    assert!(!world.see(fetched("msg_1")));
    assert_eq!(left(&world), 9, "what is known brings nothing");
    assert!(world.see(fetched("msg_2")));
    assert_eq!(left(&world), 30);
}

#[test]
fn several_runs_of_a_conversation_each_have_a_deadline() {
    let mut world = Fixture::new();
    for (id, takes) in [("run_1", 100.0), ("run_2", 50.0)] {
        let run =
            Run { created_at: Some(5.0), expires_at: Some(5.0 + takes), ..world.run(id, active("queued")) };
        world.see(seen(run, RunOrigin::Seen));
    }
    world.wait(115);
    let runs = |world: &Fixture| world.interactions.iter().map(|run| run.run.clone()).collect::<Vec<_>>();
    assert_eq!((runs(&world), world.correlator.open_runs()), (vec!["run_2".to_owned()], 1));
    world.wait(60);
    assert_eq!(runs(&world), ["run_2", "run_1"]);
    assert_eq!(world.correlator.open_runs(), 0);
}

#[test]
fn a_conversation_is_remembered_for_a_day_after_the_last_word_on_it() {
    let mut world = Fixture::new();
    world.ask("msg_1", "a question");
    world.wait(20 * 3600);
    assert_eq!(world.correlator.conversations(), 1);
    world.ask("msg_2", "another one");
    world.wait(24 * 3600 - 1);
    assert_eq!(world.correlator.conversations(), 1);
    world.wait(1);
    assert_eq!((world.correlator.conversations(), world.correlator.text_bytes()), (0, 0));
    assert!(matches!(world.settled[..], [None]));
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
