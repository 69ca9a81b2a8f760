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
