//! Questions: which run they belong to, in which order, and whether they are all.

use super::*;

fn posted(id: &str, second: f64, requested_at: Option<UnixMillis>) -> Fact {
    let message = message(id, Role::User, id, second, None);
    Fact::MessageSeen { message, origin: MessageOrigin::Created, requested_at }
}

fn ids(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.id.as_deref().unwrap_or("none")).collect()
}

fn created(world: &mut Fixture, id: &str, second: f64, messages: Vec<Message>) {
    let run = Run { created_at: Some(second), ..world.run(id, active("queued")) };
    world.see(seen(run, created_with(world, messages)));
}

#[test]
fn a_message_is_a_runs_if_it_is_not_younger() {
    let mut world = Fixture::new();
    for (id, second) in [("msg_1", 100.0), ("msg_2", 101.0), ("msg_3", 101.9), ("msg_4", 102.0)] {
        world.see(posted(id, second, None));
    }
    created(&mut world, "run_1", 101.5, vec![]);
    created(&mut world, "run_2", 103.0, vec![]);
    world.see(Fact::ConversationDeleted);
    let inputs: Vec<_> = world.interactions.iter().map(|run| ids(&run.inputs)).collect();
    // Whole seconds are what servers can be trusted to order by.
    assert_eq!(inputs, [vec!["msg_1", "msg_2", "msg_3"], vec!["msg_4"]]);
}

#[test]
fn a_message_that_was_posted_while_its_run_was_created_is_its_input() {
    for (second, posted_before, taken) in [
        (104.0, true, true),
        (104.9, true, true),
        (105.0, true, false),
        (106.0, true, false),
        (104.0, false, false),
        // What the run before claimed lies up to its own second.
        (100.0, true, true),
        (99.0, true, false),
    ] {
        let mut world = Fixture::new();
        created(&mut world, "run_0", 100.0, vec![]);
        world.poll("run_0", RunStatus::Failed);
        world.wait(31);
        let before = world.now;
        created(&mut world, "run_1", 105.0, vec![]);
        // That is the time the run was first seen, which is not before itself.
        let requested_at = if posted_before { before } else { world.now };
        world.see(posted("msg_1", second, Some(requested_at)));
        world.see(Fact::ConversationDeleted);
        let expected: &[&str] = if taken { &["msg_1"] } else { &[] };
        assert_eq!(ids(&world.interactions[1].inputs), expected, "{second} {posted_before}");
    }
    let mut world = Fixture::new();
    created(&mut world, "run_1", 105.0, vec![]);
    world.see(posted("msg_1", 104.0, None));
    world.see(Fact::ConversationDeleted);
    assert!(world.only().inputs.is_empty(), "nobody knows when it was posted");
}

#[test]
fn inputs_that_come_late_stand_in_their_time_before_those_of_the_runs_own_request() {
    let mut world = Fixture::new();
    let before = world.now;
    world.see(posted("msg_1", 100.0, None));
    world.see(posted("msg_4", 103.0, None));
    let own = |id: &str| Message { created_at: Some(101.0), ..message(id, Role::User, id, 0.0, None) };
    created(&mut world, "run_1", 105.0, vec![own("msg_7"), own("msg_8")]);
    for (id, second) in [("msg_5", 104.0), ("msg_2", 101.0), ("msg_3", 101.0), ("msg_6", 104.0)] {
        world.see(posted(id, second, Some(before)));
    }
    world.see(Fact::ConversationDeleted);
    assert_eq!(
        ids(&world.only().inputs),
        ["msg_1", "msg_2", "msg_3", "msg_4", "msg_5", "msg_6", "msg_7", "msg_8"]
    );
}

/// Whether a listed message takes the place of the one that came with a run's request, in the second 200. The run before was
/// created in the second `claimed`.
fn takes_the_place(claimed: Option<f64>, second: Option<f64>, behind: Vec<Message>, early: bool) -> bool {
    let mut world = Fixture::new();
    if let Some(claimed) = claimed {
        created(&mut world, "run_0", claimed, vec![]);
        world.poll("run_0", RunStatus::Failed);
        world.wait(31);
    }
    let before = world.now;
    world.wait(1);
    created(&mut world, "run_1", 200.0, vec![born("hello")]);
    let listed_one = Message { created_at: second, ..message("msg_1", Role::User, "hello", 0.0, None) };
    let mut messages = vec![listed_one];
    messages.extend(behind);
    messages.reverse();
    let requested_at = if early { before } else { world.now };
    let page = MessagePage { has_more: Some(true), requested_at, ..listed(&world, messages) };
    world.see(Fact::MessagesListed(page));
    world.see(Fact::ConversationDeleted);
    ids(&world.interactions.last().unwrap().inputs).contains(&"msg_1")
        && world.interactions.last().unwrap().inputs.len() == 1
}

#[test]
fn a_message_of_a_request_is_written_down_within_a_second_of_its_run() {
    for (second, taken) in [(198.0, false), (199.0, true), (199.5, true), (201.0, true), (202.0, false)] {
        assert_eq!(takes_the_place(None, Some(second), vec![], false), taken, "{second}");
        assert_eq!(takes_the_place(Some(100.0), Some(second), vec![], false), taken, "{second}");
    }
    assert!(takes_the_place(None, None, vec![], false));
    // Where the run before lies, the same words may be its own.
    assert!(!takes_the_place(Some(199.0), Some(199.0), vec![], false));
    assert!(takes_the_place(Some(199.0), Some(200.0), vec![], false));
    assert!(takes_the_place(Some(198.0), Some(199.0), vec![], false));
    // A list that was asked for before the run was cannot show it.
    assert!(!takes_the_place(None, Some(200.0), vec![], true));
}

#[test]
fn what_another_run_answered_before_is_not_this_runs_question() {
    let said = |second: Option<f64>, run: Option<&str>| {
        vec![Message { created_at: second, ..message("msg_2", Role::Assistant, "", 0.0, run) }]
    };
    for (second, run, taken) in [
        (Some(200.0), Some("run_9"), false),
        (Some(199.0), Some("run_9"), false),
        (Some(201.0), Some("run_9"), true),
        (None, Some("run_9"), true),
        (Some(200.0), Some("run_1"), true),
    ] {
        assert_eq!(takes_the_place(None, Some(200.0), said(second, run), false), taken, "{second:?} {run:?}");
    }
}

#[test]
fn a_message_of_the_threads_own_creation_is_taken_from_the_run_before_on() {
    // It was not carried by the run: whatever lies between the runs may be it.
    for (second, taken) in [(99.0, false), (100.0, true), (150.0, true), (201.0, true), (202.0, false)] {
        let mut world = Fixture::new();
        let run = Run { created_at: Some(100.0), ..world.run("run_0", active("queued")) };
        world.see(seen(run, RunOrigin::Seen));
        world.poll("run_0", RunStatus::Failed);
        world.wait(31);
        world.see(Fact::ConversationCreated { messages: vec![born("hello")], messages_lost: true });
        created(&mut world, "run_1", 200.0, vec![]);
        let page = MessagePage {
            has_more: Some(true),
            ..listed(&world, vec![message("msg_1", Role::User, "hello", second, None)])
        };
        world.see(Fact::MessagesListed(page));
        world.see(Fact::ConversationDeleted);
        assert_eq!(ids(&world.interactions[1].inputs) == ["msg_1"], taken, "{second}");
    }
}

#[test]
fn words_are_the_same_only_if_the_same_role_said_them() {
    for (role, text, taken) in
        [(Role::User, "hello", true), (Role::User, "hallo", false), (Role::Assistant, "hello", false)]
    {
        let mut world = Fixture::new();
        created(&mut world, "run_1", 200.0, vec![born("other words"), born("hello")]);
        let listed_one = message("msg_1", role, text, 200.0, None);
        let message = listed_one;
        world.see(Fact::MessageSeen { message, origin: MessageOrigin::Fetched, requested_at: None });
        world.see(Fact::ConversationDeleted);
        let expected = if taken { "msg_1" } else { "none" };
        assert_eq!(ids(&world.only().inputs), ["none", expected], "{role:?} {text}");
    }
}

#[test]
fn a_message_that_is_fetched_by_itself_brings_nothing_new_but_what_it_says_of_a_known_one() {
    let fetched = |text: &str| Fact::MessageSeen {
        message: message("msg_1", Role::User, text, 1.0, None),
        origin: MessageOrigin::Fetched,
        requested_at: None,
    };
    let mut world = Fixture::new();
    assert!(!world.see(fetched("a question")));
    world.ask("msg_1", "a question");
    assert!(!world.see(fetched("a question")));
    let changed = |text: &str| Fact::MessageSeen {
        message: Message {
            object: to_raw_value(
                &json!({"id": "msg_1", "content": [{"type": "text", "text": {"value": text}}]}),
            )
            .unwrap(),
            ..message("msg_1", Role::User, text, 1.0, None)
        },
        origin: MessageOrigin::Fetched,
        requested_at: None,
    };
    assert!(world.see(changed("a question of more words")));
    assert!(!world.see(changed("a question of more words")));
    assert!(!world.see(changed("fewer")), "a shorter text is an older state");
    world.create_run("run_1", false);
    assert!(world.see(changed("a question of even more words")), "a run has claimed it");
    world.see(Fact::ConversationDeleted);
    assert_eq!(texts(&world.only().inputs), ["a question of even more words"]);
    assert!(!world.see(changed("a question of the most words of all")), "its record is written");
}

#[test]
fn a_question_that_is_deleted_before_a_run_is_no_input_even_if_an_old_list_shows_it() {
    let mut world = Fixture::new();
    world.ask("msg_1", "first");
    world.ask("msg_2", "second");
    let old = listed(&world, vec![message("msg_1", Role::User, "first", world.second(), None)]);
    assert!(world.see(Fact::MessageDeleted { id: "msg_1".to_owned() }));
    assert!(!world.see(Fact::MessageDeleted { id: "msg_1".to_owned() }));
    assert!(!world.see(Fact::MessagesListed(old)));
    world.create_run("run_1", false);
    assert!(!world.see(Fact::MessageDeleted { id: "msg_2".to_owned() }), "the model has seen it");
    world.see(Fact::ConversationDeleted);
    assert_eq!(texts(&world.only().inputs), ["second"]);
}

#[test]
fn a_question_listed_late_is_that_of_the_run_it_can_only_be_of() {
    let said = |second: Option<f64>, run: Option<&str>| {
        Some(Message { created_at: second, ..message("msg_9", Role::Assistant, "", 0.0, run) })
    };
    for (second, behind, taken) in [
        (Some(200.0), None, true),
        (Some(199.0), None, true),
        (Some(201.0), None, false),
        (None, None, true),
        // Nothing of another run may lie between.
        (Some(199.0), said(Some(200.0), Some("run_1")), true),
        (Some(199.0), said(Some(199.0), Some("run_9")), false),
        (Some(199.0), said(Some(200.0), None), true),
        (Some(199.0), said(Some(199.0), None), false),
        (Some(199.0), said(None, None), false),
    ] {
        let mut world = Fixture::new();
        let run = Run { created_at: Some(200.0), ..world.run("run_1", active("queued")) };
        world.see(seen(run, RunOrigin::Seen));
        let question = Message { created_at: second, ..message("msg_1", Role::User, "late", 0.0, None) };
        let what = format!("{second:?} {behind:?}");
        let mut messages = vec![question];
        messages.extend(behind);
        messages.reverse();
        let page = MessagePage { has_more: Some(true), ..listed(&world, messages) };
        world.see(Fact::MessagesListed(page));
        world.see(Fact::ConversationDeleted);
        assert_eq!(ids(&world.only().inputs) == ["msg_1"], taken, "{what}");
    }
}

#[test]
fn a_run_whose_questions_are_known_takes_a_late_one_only_behind_those_of_the_run_before() {
    for (second, unnamed, taken) in [
        (Some(101.0), false, true),
        (Some(100.0), false, false),
        (Some(99.0), false, false),
        (None, false, false),
        // One without id may be it, under other words.
        (Some(101.0), true, false),
    ] {
        let mut world = Fixture::new();
        world.see(Fact::ConversationCreated { messages: vec![], messages_lost: false });
        created(&mut world, "run_0", 100.0, vec![]);
        world.poll("run_0", RunStatus::Failed);
        world.wait(31);
        let own = if unnamed { vec![born("other words")] } else { vec![] };
        created(&mut world, "run_1", 200.0, own);
        let question = Message { created_at: second, ..message("msg_1", Role::User, "late", 0.0, None) };
        let page = MessagePage { has_more: Some(true), ..listed(&world, vec![question]) };
        world.see(Fact::MessagesListed(page));
        world.see(Fact::ConversationDeleted);
        assert_eq!(ids(&world.interactions[1].inputs).contains(&"msg_1"), taken, "{second:?} {unnamed}");
    }
}

#[test]
fn a_listed_message_that_names_its_run_is_that_runs_input() {
    let mut world = Fixture::new();
    created(&mut world, "run_1", 200.0, vec![]);
    let named = |id: &str, run: &str| message(id, Role::User, id, 999.0, Some(run));
    for (page, changed) in [
        (vec![named("msg_1", "run_1")], true),
        (vec![named("msg_1", "run_1")], false),
        (vec![named("msg_2", "run_9")], false),
    ] {
        let page = MessagePage { has_more: Some(true), ..listed(&world, page) };
        assert_eq!(world.see(Fact::MessagesListed(page)), changed);
    }
    world.see(Fact::ConversationDeleted);
    assert_eq!(ids(&world.only().inputs), ["msg_1"]);
}

#[test]
fn a_creation_that_lost_messages_leaves_its_runs_inputs_incomplete() {
    let origin = |world: &Fixture, new_conversation, messages_lost| RunOrigin::Created {
        messages: vec![],
        request_at: world.now,
        trace_id: None,
        streamed: false,
        new_conversation,
        messages_lost,
        instructions: Some("be brief".to_owned()),
        additional_instructions: None,
    };
    for (known, new, lost, polled_before, whole) in [
        (true, false, false, false, true),
        (true, false, true, false, false),
        (false, true, false, false, true),
        (false, true, true, false, false),
        (false, false, false, false, false),
        (true, false, false, true, true),
        (true, false, true, true, false),
        (false, true, false, true, true),
        (true, true, false, true, true),
        (false, false, false, true, false),
    ] {
        let what = format!("{known} {new} {lost} {polled_before}");
        let mut world = Fixture::new();
        world.see(Fact::ConversationCreated { messages: vec![born("hello")], messages_lost: !known });
        if polled_before {
            world.poll("run_1", active("queued"));
        }
        let run = world.run("run_1", active("queued"));
        let (one, again) = (origin(&world, new, lost), origin(&world, new, lost));
        assert!(world.see(seen(run.clone(), one)));
        assert!(!world.see(seen(run, again)), "{what}: the same answer to a repeated request");
        // The next run's are known in any case.
        world.poll("run_1", RunStatus::Failed);
        let run = world.run("run_2", active("queued"));
        world.see(seen(run, created_with(&world, vec![])));
        world.see(Fact::ConversationDeleted);
        let found: Vec<bool> = world.interactions.iter().map(|run| run.inputs_complete).collect();
        assert_eq!(found, [whole, true], "{what}");
        assert_eq!(world.interactions[0].instructions.as_deref(), Some("be brief"));
    }
}

#[test]
fn a_list_that_was_asked_for_with_the_run_may_show_its_message() {
    let mut world = Fixture::new();
    let requested_at = world.now;
    created(&mut world, "run_1", 200.0, vec![born("hello")]);
    let page = listed(&world, vec![message("msg_1", Role::User, "hello", 200.0, None)]);
    world.see(Fact::MessagesListed(MessagePage { requested_at, ..page }));
    world.see(Fact::ConversationDeleted);
    assert_eq!(ids(&world.only().inputs), ["msg_1"]);
}

#[test]
fn a_listed_question_is_the_next_runs_if_it_is_younger_than_every_run() {
    for (second, expected) in [(201.0, vec!["msg_1"]), (200.0, vec![])] {
        for open in [true, false] {
            let mut world = Fixture::new();
            // One without id may be any question that is older than the run.
            created(&mut world, "run_1", 200.0, vec![born("hello")]);
            if !open {
                world.poll("run_1", RunStatus::Failed);
                world.wait(31);
            }
            let question = message("msg_1", Role::User, "next", second, None);
            let known = world.correlator.open_runs() > 0 && second <= 200.0;
            let page = listed(&world, vec![question]);
            let changed = world.see(Fact::MessagesListed(page));
            assert_eq!(changed, known || second > 200.0, "{second} {open}");
            created(&mut world, "run_2", 300.0, vec![]);
            world.see(Fact::ConversationDeleted);
            assert_eq!(ids(&world.interactions[1].inputs), expected, "{second} {open}");
        }
    }
}

#[test]
fn an_apps_own_words_take_their_id_from_a_list() {
    let mut world = Fixture::new();
    let hello = Message { role: Role::Assistant, ..born("hello") };
    world.see(Fact::ConversationCreated { messages: vec![hello], messages_lost: false });
    let said = message("msg_1", Role::Assistant, "hello", world.second(), None);
    let page = listed(&world, vec![said]);
    assert!(world.see(Fact::MessagesListed(page.clone())) && !world.see(Fact::MessagesListed(page)));
    world.create_run("run_1", false);
    world.see(Fact::ConversationDeleted);
    assert_eq!(ids(&world.only().inputs), ["msg_1"]);
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
