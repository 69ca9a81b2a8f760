//! What becomes of that for which there is no room.

use super::*;

fn limited(limits: Limits) -> Fixture {
    Fixture::with(Config { limits, first_used: UnixMillis(START), ..Config::default() })
}

#[test]
fn messages_beyond_a_conversations_limit_are_left_out_and_make_the_record_incomplete() {
    for (limit, inputs) in [(1, 1), (2, 2), (3, 2)] {
        let mut world = limited(Limits { conversation_messages: limit, ..Limits::default() });
        world.see(Fact::ConversationCreated { messages: vec![], messages_lost: false });
        world.ask("msg_1", "first");
        world.ask("msg_2", "second");
        world.create_run("run_1", false);
        let message = answer("msg_3", world.second(), "run_1");
        let said = Fact::MessageSeen { message, origin: MessageOrigin::Streamed, requested_at: None };
        assert!(world.see(said.clone()), "it came, or it is known to be lost");
        assert!(!world.see(said), "that is known");
        assert_eq!(world.notes.contains(&Note::MessagesFull), limit < 3);
        world.poll("run_1", RunStatus::Failed);
        let page = listed(&world, vec![]);
        world.see(Fact::MessagesListed(page));
        let run = world.only();
        assert_eq!((run.inputs.len(), run.inputs_complete), (inputs, inputs == 2), "{limit}");
        assert_eq!(
            (run.outputs.len(), run.outputs_complete),
            (usize::from(limit == 3), limit == 3),
            "{limit}"
        );
    }
}

#[test]
fn text_beyond_a_conversations_limit_is_left_out_and_counted() {
    let long = "x".repeat(4000);
    let mut world = limited(Limits { conversation_text_bytes: 10_000, ..Limits::default() });
    for id in ["msg_1", "msg_2", "msg_3"] {
        world.ask(id, &long);
    }
    assert_eq!(world.notes, [Note::TextFull]);
    world.ask("msg_4", "a short one");
    world.create_run("run_1", false);
    // A run holds what it claimed.
    world.ask("msg_5", &long);
    assert_eq!(world.notes.len(), 2);
    world.see(Fact::ConversationDeleted);
    assert_eq!(world.only().inputs.len(), 3);
    // What was recorded takes no room.
    world.ask("msg_6", &long);
    world.ask("msg_7", &long);
    assert_eq!(world.notes.len(), 2);
}

#[test]
fn the_messages_of_one_request_share_the_room() {
    let long = "x".repeat(4000);
    let mut world = limited(Limits { conversation_text_bytes: 10_000, ..Limits::default() });
    let messages = vec![born(&long), born(&long), born(&long)];
    world.see(Fact::ConversationCreated { messages, messages_lost: false });
    assert_eq!(world.notes, [Note::TextFull]);
    world.create_run("run_1", false);
    world.see(Fact::ConversationDeleted);
    assert_eq!((world.only().inputs.len(), world.only().inputs_complete), (2, false));
}

#[test]
fn the_oldest_run_goes_when_a_conversation_has_too_many() {
    for (limit, open) in [(0, 1), (1, 1), (2, 2), (3, 3)] {
        let mut world = limited(Limits { conversation_runs: limit, ..Limits::default() });
        for id in ["run_1", "run_2", "run_3"] {
            world.poll(id, active("in_progress"));
        }
        assert_eq!(world.correlator.open_runs(), open, "{limit}");
        let gone: Vec<_> = world.interactions.iter().map(|run| (run.run.as_str(), run.status)).collect();
        let expected = [("run_1", Status::UnknownFinal), ("run_2", Status::UnknownFinal)];
        assert_eq!(gone, expected[..3 - open], "{limit}");
        assert_eq!(world.notes, vec![Note::RunsFull; 3 - open], "{limit}");
    }
}

#[test]
fn every_note_has_a_name_of_its_own() {
    let notes =
        [Note::ConversationEvicted, Note::LateOutput, Note::MessagesFull, Note::RunsFull, Note::TextFull];
    assert_eq!(
        notes.map(Note::as_str),
        ["conversation_evicted", "late_output", "messages_full", "runs_full", "text_full"]
    );
}

/// A fact of some conversation.
fn of(id: &str, at: UnixMillis, fact: Fact) -> Observation {
    let conversation = ConversationKey { id: id.into(), ..key() };
    Observation { conversation, at, attribution: Attribution::default(), fact }
}

#[test]
fn conversations_beyond_the_limit_go_by_what_would_be_lost() {
    let mut world = limited(Limits { conversations: 3, ..Limits::default() });
    let ask = |world: &Fixture, id: &str| {
        let message = message("msg_1", Role::User, "a question", world.second(), None);
        of(id, world.now, Fact::MessageSeen { message, origin: MessageOrigin::Created, requested_at: None })
    };
    let run = |world: &Fixture, id: &str, status| {
        of(id, world.now, seen(world.run("run_1", status), created_with(world, vec![])))
    };
    let known = |world: &Fixture| {
        let mut ids: Vec<String> =
            world.correlator.conversations.keys().map(|key| key.id.to_string()).collect();
        ids.sort();
        ids
    };
    let second = |world: &mut Fixture| world.now = world.now.after(Duration::from_secs(1));
    world.tell(run(&world, "a_run", active("queued")));
    second(&mut world);
    world.tell(ask(&world, "a_question"));
    second(&mut world);
    world.tell(run(&world, "an_idle_one", active("queued")));
    world.tell(of("an_idle_one", world.now, Fact::ConversationDeleted));
    second(&mut world);
    world.tell(run(&world, "an_ended_one", RunStatus::Failed));
    // Nothing is lost with the idle one.
    assert_eq!(known(&world), ["a_question", "a_run", "an_ended_one"]);
    second(&mut world);
    world.collect();
    assert_eq!(world.interactions.len(), 1);
    world.tell(ask(&world, "b_question"));
    // The run that is over is recorded first, and then idle.
    assert_eq!(known(&world), ["a_question", "a_run", "b_question"]);
    world.collect();
    assert_eq!(world.interactions.last().unwrap().status, Status::Failed);
    second(&mut world);
    world.tell(ask(&world, "c_question"));
    assert_eq!(known(&world), ["a_run", "b_question", "c_question"]);
    second(&mut world);
    world.tell(run(&world, "b_run", active("queued")));
    second(&mut world);
    world.tell(run(&world, "c_run", active("queued")));
    assert_eq!(known(&world), ["a_run", "b_run", "c_run"]);
    second(&mut world);
    world.tell(ask(&world, "d_question"));
    // The latest stays, although only a question would be lost.
    assert_eq!(known(&world), ["b_run", "c_run", "d_question"]);
    world.collect();
    assert_eq!(world.interactions.last().unwrap().status, Status::UnknownFinal);
    assert_eq!(world.notes, [Note::ConversationEvicted; 6]);
    assert_eq!(world.correlator.open_runs(), 2);
}

#[test]
fn all_conversations_together_keep_to_the_bytes_they_may_take() {
    let mut world = limited(Limits { text_bytes: 100_000, ..Limits::default() });
    for at in 0..100 {
        world.now = world.now.after(Duration::from_secs(1));
        let message = message("msg_1", Role::User, &"x".repeat(3000), world.second(), None);
        let fact = Fact::MessageSeen { message, origin: MessageOrigin::Created, requested_at: None };
        world.tell(of(&format!("thread_{at}"), world.now, fact));
        assert!(world.correlator.text_bytes() <= 100_000);
        assert!(world.correlator.conversations.keys().any(|key| *key.id == *format!("thread_{at}")));
    }
    let held = world.correlator.conversations();
    assert!((10..33).contains(&held), "{held}");
    world.collect();
    assert_eq!(world.notes.len(), 100 - held);
    // The longest idle went.
    assert!(world.correlator.conversations.keys().all(|key| key.id.len() == "thread_99".len()));
    // A single one that is too large goes too.
    let mut world = limited(Limits { text_bytes: 2000, ..Limits::default() });
    world.ask("msg_1", &"x".repeat(3000));
    assert_eq!((world.correlator.conversations(), world.correlator.text_bytes()), (0, 0));
}

#[test]
fn what_is_read_back_at_the_start_counts_and_keeps_to_the_limits() {
    let state = answered().settled.into_iter().flatten().next_back().unwrap();
    let mut world = limited(Limits { conversations: 2, ..Limits::default() });
    for at in 0..3 {
        let key = ConversationKey { id: format!("thread_{at}").into(), ..key() };
        world.correlator.restore(key, state.clone());
    }
    assert_eq!(world.correlator.conversations(), 2);
    let bytes = world.correlator.text_bytes();
    assert!(bytes > 1000);
    assert_eq!(world.correlator.poll_timeout(), Some(state_end(&world)));
    // Everything that is counted is given back.
    world.correlator.forget_where(|key| &*key.id == "thread_1");
    assert_eq!(world.correlator.text_bytes(), bytes / 2);
    world.correlator.forget_where(|_| true);
    assert_eq!((world.correlator.text_bytes(), world.correlator.poll_timeout()), (0, None));
}

/// When the conversations that were read back are to be forgotten.
fn state_end(world: &Fixture) -> UnixMillis {
    let (at, _) = world.correlator.deadlines.first().unwrap();
    at
}

#[test]
fn a_conversation_may_hold_its_bytes_to_the_last_one() {
    let asked = message("msg_1", Role::User, "a question", 1.0, None);
    let takes = size_of::<Message>() + heap_size::message(&asked);
    for (limit, fits) in [(takes, true), (takes - 1, false), (takes + 1, true)] {
        let mut world = limited(Limits { conversation_text_bytes: limit, ..Limits::default() });
        world.see(Fact::MessageSeen {
            message: asked.clone(),
            origin: MessageOrigin::Created,
            requested_at: None,
        });
        assert_eq!(world.notes.is_empty(), fits, "{limit}");
    }
}

#[test]
fn that_a_message_was_left_out_is_a_change_if_something_seemed_complete() {
    let full = || {
        let mut world = limited(Limits { conversation_messages: 1, ..Limits::default() });
        world.see(Fact::ConversationCreated { messages: vec![born("hello")], messages_lost: false });
        world
    };
    let more = |world: &Fixture| Fact::MessageSeen {
        message: message("msg_1", Role::User, "more", world.second(), None),
        origin: MessageOrigin::Created,
        requested_at: None,
    };
    // The next run's inputs were known to be all.
    let mut world = full();
    assert!(world.see(more(&world)) && !world.see(more(&world)));
    // Those of an open run were, not those of one whose creation was missed.
    let mut world = full();
    world.create_run("run_1", false);
    world.poll("run_2", active("queued"));
    assert!(world.see(more(&world)) && !world.see(more(&world)));
    world.see(Fact::ConversationDeleted);
    assert!(world.interactions.iter().all(|run| !run.inputs_complete));
    // An output that is left out says nothing about inputs.
    let mut world = full();
    world.create_run("run_1", false);
    let message = answer("msg_2", world.second(), "run_1");
    world.see(Fact::MessageSeen { message, origin: MessageOrigin::Streamed, requested_at: None });
    world.see(Fact::ConversationDeleted);
    assert!(world.only().inputs_complete && !world.only().outputs_complete);
}

#[test]
fn what_is_forgotten_with_an_open_run_is_taken_off_the_books() {
    let mut world = Fixture::new();
    for (id, run) in [("thread_1", "run_1"), ("thread_2", "run_2")] {
        let run = world.run(run, active("queued"));
        world.tell(of(id, world.now, seen(run, RunOrigin::Seen)));
    }
    world.correlator.forget_where(|key| &*key.id == "thread_1");
    assert_eq!((world.correlator.open_runs(), world.correlator.conversations()), (1, 1));
    world.correlator.forget_where(|_| true);
    assert_eq!((world.correlator.open_runs(), world.correlator.text_bytes()), (0, 0));
    world.collect();
    assert!(world.interactions.is_empty(), "nothing is concluded about it");
}

#[test]
fn the_memory_of_a_settled_conversation_is_counted_part_by_part() {
    let bytes = |runs: usize, learnt: usize, messages: usize, session: &str| {
        let ids = |count| (0..count as u64).collect::<Vec<_>>();
        let state = json!({"runs": ids(runs), "learnt": ids(learnt), "messages": ids(messages),
            "attribution": (!session.is_empty()).then(|| json!({"session": session})),
            "boundary": null, "history_known": false, "last_seen": 0});
        let mut correlator = Correlator::new(Config::default());
        correlator.restore(key(), serde_json::from_value(state).unwrap());
        correlator.text_bytes()
    };
    let (none, session) = (bytes(0, 0, 0, ""), "s".repeat(1000));
    let parts = [bytes(100, 0, 0, ""), bytes(0, 50, 0, ""), bytes(0, 0, 25, ""), bytes(0, 0, 0, &session)];
    for (part, least) in parts.iter().zip([800, 400, 200, 1000]) {
        assert!((least..2 * least + 100).contains(&(part - none)), "{}", part - none);
    }
    let all = bytes(100, 50, 25, &session);
    assert_eq!(all - none, parts.iter().map(|part| part - none).sum::<usize>());
    // A conversation's own id counts as well.
    let of_id = |id: &str| {
        let mut world = Fixture::new();
        let run = world.run("run_1", active("queued"));
        world.tell(of(id, world.now, seen(run, RunOrigin::Seen)));
        world.correlator.text_bytes()
    };
    let longer = of_id(&"x".repeat(1001)) - of_id("x");
    assert!((960..1040).contains(&longer), "{longer}");
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
