//! Answers: in which order they stand, which state of them is kept, and what a run's words change.

use super::*;

fn outputs(world: &mut Fixture) -> Vec<String> {
    world.see(Fact::ConversationDeleted);
    world.only().outputs.iter().map(|output| output.id.clone().unwrap()).collect()
}

fn fetched(message: Message) -> Fact {
    Fact::MessageSeen { message, origin: MessageOrigin::Fetched, requested_at: None }
}

#[test]
fn answers_of_one_second_stand_as_they_were_listed_however_pages_brought_them() {
    let page = |world: &Fixture, start: Option<&str>, ids: &[&str]| MessagePage {
        has_more: Some(true),
        start: start.map_or(PageStart::Beginning, |id| PageStart::After(id.to_owned())),
        ..listed(world, ids.iter().map(|id| answer(id, 200.0, "run_1")).collect())
    };
    for pages in [
        vec![(None, vec!["msg_5", "msg_4", "msg_3", "msg_2", "msg_1"])],
        vec![
            (None, vec!["msg_5", "msg_4"]),
            (Some("msg_4"), vec!["msg_3", "msg_2"]),
            (Some("msg_2"), vec!["msg_1"]),
        ],
        // A page that shows more between what is known.
        vec![
            (None, vec!["msg_5", "msg_3", "msg_1"]),
            (None, vec!["msg_5", "msg_4", "msg_3", "msg_2", "msg_1"]),
        ],
    ] {
        let mut world = Fixture::new();
        world.create_run("run_1", false);
        for (start, ids) in &pages {
            let page = page(&world, *start, ids);
            world.see(Fact::MessagesListed(page));
        }
        assert_eq!(outputs(&mut world), ["msg_1", "msg_2", "msg_3", "msg_4", "msg_5"], "{pages:?}");
    }
    // A list oldest first goes on behind.
    let mut world = Fixture::new();
    world.create_run("run_1", false);
    for (start, id) in [(None, "msg_1"), (Some("msg_1"), "msg_2")] {
        let page = MessagePage { order: PageOrder::Ascending, ..page(&world, start, &[id]) };
        world.see(Fact::MessagesListed(page));
    }
    assert_eq!(outputs(&mut world), ["msg_1", "msg_2"]);
}

#[test]
fn answers_of_one_second_stand_in_the_order_of_the_steps_that_made_them() {
    let mut world = Fixture::new();
    world.create_run("run_1", false);
    for id in ["msg_3", "msg_2", "msg_1"] {
        world.see(fetched(answer(id, 200.0, "run_1")));
    }
    for (step, message) in [("step_0", None), ("step_1", Some("msg_1")), ("step_2", Some("msg_2"))] {
        let (run, message) = ("run_1".to_owned(), message.map(str::to_owned));
        world.see(Fact::StepSeen(Box::new(Step { id: step.to_owned(), run, message, tool_calls: vec![] })));
    }
    assert_eq!(outputs(&mut world), ["msg_1", "msg_2", "msg_3"]);
}

#[test]
fn the_last_word_on_a_whole_message_counts_and_the_longest_on_one_that_is_being_written() {
    let state = |status, text: &str, extra: &str| {
        let object =
            json!({"content": [{"type": "text", "text": {"value": text}}], "metadata": {"a": extra}});
        let object = to_raw_value(&object).unwrap();
        Message { status, object, ..answer("msg_1", 200.0, "run_1") }
    };
    let (writing, whole) = (MessageStatus::InProgress, MessageStatus::Completed);
    for (known, newer, changes) in [
        // An app may take metadata back, but text does not go.
        (state(whole, "text", "long"), state(whole, "text", ""), true),
        (state(whole, "text", ""), state(whole, "text", "long"), true),
        (state(whole, "text", "long"), state(whole, "tex", "longer"), false),
        (state(whole, "text", "long"), state(whole, "text", "long"), false),
        (state(writing, "text", "long"), state(writing, "text", ""), false),
        (state(writing, "text", ""), state(writing, "text", "long"), true),
        (state(writing, "text", "long"), state(writing, "texts", ""), true),
        // Whole is later than being written, whatever it says.
        (state(writing, "text", "long"), state(whole, "t", ""), true),
        (state(whole, "t", ""), state(writing, "text", "long"), false),
    ] {
        let mut world = Fixture::new();
        world.create_run("run_1", false);
        world.see(fetched(known.clone()));
        assert_eq!(world.see(fetched(newer.clone())), changes, "{known:?} {newer:?}");
        world.see(Fact::ConversationDeleted);
        let expected = if changes { newer } else { known };
        assert_eq!(world.only().outputs[0].object.get(), expected.object.get());
    }
}

#[test]
fn any_two_new_words_on_a_run_are_a_change() {
    let raw = || Some(to_raw_value(&json!({"a": 1})).unwrap());
    let words: [fn(&mut Run); 9] = [
        |run| run.assistant = Some("asst_1".to_owned()),
        |run| run.model = Some("gpt-4o".to_owned()),
        |run| run.created_at = Some(1.0),
        |run| run.started_at = Some(1.0),
        |run| run.ended_at = Some(1.0),
        |run| run.expires_at = Some(1.0),
        |run| run.usage = Some(to_raw_value("u").unwrap()),
        |run| run.error = Some(to_raw_value("e").unwrap()),
        |run| run.metadata = Some(to_raw_value("m").unwrap()),
    ];
    for (place, one) in words.iter().enumerate() {
        for other in &words[..place] {
            let mut world = Fixture::new();
            let mut run = Run {
                assistant: None,
                model: None,
                created_at: None,
                ..world.run("run_1", active("queued"))
            };
            assert!(world.see(seen(run.clone(), RunOrigin::Seen)));
            one(&mut run);
            other(&mut run);
            assert!(world.see(seen(run.clone(), RunOrigin::Seen)));
            assert!(!world.see(seen(run, RunOrigin::Seen)));
        }
    }
    // So are a word and that the run still goes on, late; and a new state that says more.
    let mut world = Fixture::new();
    let mut run = Run { metadata: None, ..world.run("run_1", active("queued")) };
    world.see(seen(run.clone(), RunOrigin::Seen));
    world.wait(630);
    run.metadata = raw();
    assert!(world.see(seen(run.clone(), RunOrigin::Seen)));
    world.wait(30);
    assert!(world.interactions.is_empty(), "it was seen to go on");
    run.error = raw();
    run.status = active("in_progress");
    assert!(world.see(seen(run, RunOrigin::Seen)));
}

#[test]
fn that_text_came_is_a_change_by_itself() {
    let mut world = Fixture::new();
    let run = world.run("run_1", active("in_progress"));
    world.see(seen(run.clone(), RunOrigin::Seen));
    let told = |first_token_at, streamed| Fact::RunSeen {
        run: Box::new(run.clone()),
        origin: RunOrigin::Seen,
        first_token_at,
        streamed,
    };
    assert!(!world.see(told(None, false)));
    let now = world.now;
    assert!(world.see(told(Some(now), false)));
    assert!(!world.see(told(Some(now), true)));
    world.see(Fact::ConversationDeleted);
    assert_eq!(world.only().times.first_token_at, Some(now));
}

#[test]
fn a_run_whose_last_part_was_not_streamed_waits_for_its_messages() {
    for (first, second, proves) in
        [(true, true, true), (true, false, false), (false, true, false), (false, false, false)]
    {
        let mut world = Fixture::new();
        world.create_run("run_1", first);
        world.see(fetched(answer("msg_1", world.second(), "run_1")));
        world.poll("run_1", RunStatus::RequiresAction);
        let run = world.run("run_1", active("in_progress"));
        world.see(Fact::RunSeen {
            run: Box::new(run),
            origin: RunOrigin::Continued { streamed: second },
            first_token_at: None,
            streamed: second,
        });
        world.streams = second;
        world.poll("run_1", RunStatus::Completed);
        assert_eq!(world.interactions.len(), usize::from(proves), "{first} {second}");
        world.wait(31);
        assert_eq!(world.only().outputs_complete, proves);
    }
}

#[test]
fn a_thread_that_is_deleted_leaves_the_status_of_a_run_that_is_over() {
    let mut world = Fixture::new();
    world.create_run("run_1", false);
    world.poll("run_1", RunStatus::Failed);
    let ended = world.now;
    world.see(Fact::ConversationDeleted);
    assert_eq!((world.only().status, world.only().assumed), (Status::Failed, false));
    assert_eq!(world.only().times.end_at, ended);
}

#[test]
fn that_a_run_was_continued_is_a_change_even_if_its_state_is_not() {
    let mut world = Fixture::new();
    world.create_run("run_1", true);
    world.see(fetched(answer("msg_1", world.second(), "run_1")));
    let run = world.run("run_1", active("queued"));
    assert!(!world.see(seen(run.clone(), RunOrigin::Seen)));
    assert!(world.see(seen(run, RunOrigin::Continued { streamed: false })));
    world.poll("run_1", RunStatus::Completed);
    assert!(world.interactions.is_empty(), "its end was not streamed");
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
fn a_deleted_message_that_was_never_seen_may_have_been_an_output_of_any_open_run() {
    let mut world = Fixture::new();
    world.create_run("run_1", false);
    world.create_run("run_2", false);
    assert!(world.see(Fact::MessageDeleted { id: "msg_1".to_owned() }));
    assert!(!world.see(Fact::MessageDeleted { id: "msg_1".to_owned() }));
}
