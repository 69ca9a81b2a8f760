//! Listed messages: whose they are, and what they prove.

use super::*;

/// A world whose run was created in the second that is returned, and is over.
fn over() -> (Fixture, f64) {
    let mut world = Fixture::new();
    world.create_run("run_1", false);
    let created = world.correlator.conversations[&key()].runs[0].created_second().unwrap();
    world.poll("run_1", RunStatus::Completed);
    (world, created)
}

fn nameless(id: &str, role: Role, second: f64) -> Message {
    message(id, role, id, second, None)
}

/// The outputs a page gives the only run, and whether they are known to be all.
#[track_caller]
fn check_outputs(mut world: Fixture, page: MessagePage, outputs: &[&str], proves: bool, what: &str) {
    world.see(Fact::MessagesListed(page));
    assert_eq!(world.interactions.len(), usize::from(proves), "{what}");
    if !proves {
        world.see(Fact::ConversationDeleted);
    }
    let ids: Vec<&str> = world.only().outputs.iter().map(|output| output.id.as_deref().unwrap()).collect();
    assert_eq!(ids, outputs, "{what}");
    assert_eq!(world.only().outputs_complete, proves, "{what}");
}

#[test]
fn a_list_newest_first_proves_outputs_where_it_goes_beyond_the_runs_beginning() {
    for (last_before, proves) in [(-1.0, true), (0.0, false), (1.0, false)] {
        let (world, created) = over();
        let other = message("msg_1", Role::Assistant, "", created + last_before, Some("run_0"));
        let page = MessagePage {
            has_more: Some(true),
            ..listed(&world, vec![answer("msg_2", created, "run_1"), other])
        };
        check_outputs(world, page, &["msg_2"], proves, &format!("{last_before}"));
    }
    // A run's own question lies beyond its outputs in the same second too.
    let mut world = Fixture::new();
    world.ask("msg_1", "a question");
    world.create_run("run_1", false);
    world.poll("run_1", RunStatus::Completed);
    let runs = &world.correlator.conversations[&key()].runs;
    let (created, mut asked) = (runs[0].created_second().unwrap(), runs[0].inputs.messages[0].clone());
    asked.created_at = Some(created);
    let page = MessagePage {
        has_more: Some(true),
        ..listed(&world, vec![answer("msg_2", created, "run_1"), asked])
    };
    check_outputs(world, page, &["msg_2"], true, "a question");
    // Its own output does not.
    let (world, created) = over();
    let page =
        MessagePage { has_more: Some(true), ..listed(&world, vec![answer("msg_2", created - 9.0, "run_1")]) };
    check_outputs(world, page, &["msg_2"], false, "an output");
}

#[test]
fn where_no_times_are_told_a_list_proves_outputs_that_something_else_lies_beyond() {
    let (world, created) = over();
    let untimed = |id, run| Message { created_at: None, ..message(id, Role::Assistant, id, 0.0, run) };
    let answer = answer("msg_2", created, "run_1");
    for (messages, outputs, proves) in [
        (vec![answer.clone(), untimed("msg_1", Some("run_0"))], &["msg_2"][..], true),
        (vec![untimed("msg_1", Some("run_0"))], &[], false),
        (vec![answer.clone(), untimed("msg_1", Some("run_1"))], &["msg_1", "msg_2"], false),
    ] {
        let (mut world, _) = over();
        world.now = UnixMillis(world.now.0 + 1000);
        let page = MessagePage { has_more: Some(true), ..listed(&world, messages) };
        check_outputs(world, page, outputs, proves, &format!("{outputs:?}"));
    }
    drop(world);
    // Nor does a run without a time.
    for (shown, proves) in [(true, true), (false, false)] {
        let mut world = Fixture::new();
        let run = Run { created_at: None, ..world.run("run_1", RunStatus::Completed) };
        world.see(seen(run, created_with(&world, vec![])));
        let other = message("msg_1", Role::Assistant, "", created, Some("run_0"));
        let messages = if shown { vec![answer.clone(), other] } else { vec![other] };
        let page = MessagePage { has_more: Some(true), ..listed(&world, messages) };
        let outputs: &[&str] = if shown { &["msg_2"] } else { &[] };
        check_outputs(world, page, outputs, proves, &format!("{shown}"));
    }
}

#[test]
fn a_list_oldest_first_does_not_end_within_the_run() {
    let (world, created) = over();
    let messages = vec![answer("msg_1", created, "run_1"), answer("msg_2", created + 99.0, "run_1")];
    let page =
        MessagePage { order: PageOrder::Ascending, has_more: Some(true), ..listed(&world, messages.clone()) };
    check_outputs(world, page, &["msg_1", "msg_2"], false, "more may follow");
    // An output this program left out is one all the same.
    let limits = Limits { conversation_messages: 1, ..Limits::default() };
    let mut world = Fixture::with(Config { limits, first_used: UnixMillis(START), ..Config::default() });
    world.create_run("run_1", false);
    world.poll("run_1", RunStatus::Completed);
    let page = MessagePage { order: PageOrder::Ascending, has_more: Some(true), ..listed(&world, messages) };
    world.see(Fact::MessagesListed(page));
    assert!(world.interactions.is_empty());
    world.wait(60);
    assert!(!world.only().outputs_complete);
    assert_eq!(world.notes, [Note::MessagesFull]);
}

#[test]
fn a_list_of_one_run_only_proves_that_runs_outputs() {
    for (filter, shown, has_more, proves) in [
        (Some("run_1"), Some("run_1"), Some(false), true),
        (Some("run_1"), Some("run_1"), Some(true), false),
        (Some("run_1"), Some("run_1"), None, false),
        (Some("run_2"), Some("run_2"), Some(false), false),
        // The server takes no notice of the filter.
        (Some("run_2"), Some("run_1"), Some(false), true),
        (None, Some("run_1"), Some(false), true),
    ] {
        let (world, created) = over();
        let messages = vec![message("msg_1", Role::Assistant, "", created, shown)];
        let run_filter = filter.map(str::to_owned);
        let page = MessagePage { run_filter, has_more, ..listed(&world, messages) };
        let outputs: &[&str] = if shown == Some("run_1") { &["msg_1"] } else { &[] };
        check_outputs(world, page, outputs, proves, &format!("{filter:?} {shown:?} {has_more:?}"));
    }
    // A list of one run never goes beyond it.
    let (world, created) = over();
    let messages = vec![answer("msg_2", created + 1.0, "run_1"), answer("msg_1", created - 1.0, "run_1")];
    let run_filter = Some("run_1".to_owned());
    let page = MessagePage { run_filter, has_more: Some(true), ..listed(&world, messages) };
    check_outputs(world, page, &["msg_1", "msg_2"], false, "its own");
}

#[test]
fn only_pages_that_follow_each_other_make_a_list() {
    for (start, order, filtered, proves) in [
        (PageStart::After("msg_3".to_owned()), PageOrder::Descending, false, true),
        (PageStart::After("msg_2".to_owned()), PageOrder::Descending, false, false),
        (PageStart::After("msg_3".to_owned()), PageOrder::Ascending, false, false),
        (PageStart::After("msg_3".to_owned()), PageOrder::Descending, true, false),
        (PageStart::Unknown, PageOrder::Descending, false, false),
        (PageStart::Beginning, PageOrder::Ascending, true, true),
    ] {
        let (mut world, created) = over();
        let page =
            MessagePage { has_more: Some(true), ..listed(&world, vec![answer("msg_3", created, "run_1")]) };
        world.see(Fact::MessagesListed(page));
        let run_filter = filtered.then(|| "run_1".to_owned());
        let what = format!("{start:?} {order:?} {filtered}");
        let page = MessagePage {
            start,
            order,
            run_filter,
            ..listed(&world, vec![answer("msg_1", created, "run_1")])
        };
        world.see(Fact::MessagesListed(page));
        assert_eq!(world.interactions.len(), usize::from(proves), "{what}");
    }
}

#[test]
fn a_completed_run_that_shows_no_output_is_waited_for_and_a_failed_one_is_not() {
    for (status, proves) in [(RunStatus::Completed, false), (RunStatus::Failed, true)] {
        let mut world = Fixture::new();
        world.create_run("run_1", false);
        world.poll("run_1", status);
        let page = listed(&world, vec![]);
        assert_eq!(world.see(Fact::MessagesListed(page)), proves);
        assert_eq!(world.interactions.len(), usize::from(proves));
    }
}

#[test]
fn a_list_that_goes_on_is_waited_for() {
    let left = |world: &Fixture| (world.correlator.poll_timeout().unwrap().0 - world.now.0) / 1000;
    let (mut world, created) = over();
    world.wait(10);
    // Nothing of the run, but a list that may come to it.
    let other = |id: &str| message(id, Role::Assistant, "", created + 50.0, Some("run_9"));
    let page = |world: &Fixture, id: &str, start| MessagePage {
        has_more: Some(true),
        start,
        ..listed(world, vec![other(id)])
    };
    let first = page(&world, "msg_9", PageStart::Beginning);
    assert!(world.see(Fact::MessagesListed(first.clone())));
    assert_eq!(left(&world), 30);
    world.wait(10);
    assert!(!world.see(Fact::MessagesListed(first)), "the same page again");
    assert_eq!(left(&world), 19);
    let second = page(&world, "msg_8", PageStart::After("msg_9".to_owned()));
    assert!(world.see(Fact::MessagesListed(second)));
    assert_eq!(left(&world), 30);
}

#[test]
fn an_answer_that_names_no_run_is_the_only_runs_unless_it_is_older() {
    for (after, outputs) in [(-1.0, 0), (0.0, 1), (1.0, 1)] {
        let (mut world, created) = over();
        let page = listed(&world, vec![nameless("msg_1", Role::Assistant, created + after)]);
        world.see(Fact::MessagesListed(page));
        world.see(Fact::ConversationDeleted);
        assert_eq!(world.only().outputs.len(), outputs, "{after}");
        let pairing = if outputs == 1 { Pairing::Heuristic } else { Pairing::Exact };
        assert_eq!(world.only().pairing, pairing);
    }
    // With a choice of runs, or without times, it is nobody's.
    let (mut world, created) = over();
    let second = world.run("run_2", active("queued"));
    world.see(seen(second, RunOrigin::Seen));
    let page = listed(&world, vec![nameless("msg_1", Role::Assistant, created + 99.0)]);
    world.see(Fact::MessagesListed(page));
    world.see(Fact::ConversationDeleted);
    assert!(world.interactions.iter().all(|run| run.outputs.is_empty()));
    let (mut world, _) = over();
    let untimed = Message { created_at: None, ..nameless("msg_1", Role::Assistant, 0.0) };
    let page = listed(&world, vec![untimed]);
    world.see(Fact::MessagesListed(page));
    world.see(Fact::ConversationDeleted);
    assert!(world.only().outputs.is_empty());
}

#[test]
fn an_answer_that_names_no_run_is_that_of_the_question_before_it() {
    let mut world = Fixture::new();
    world.ask("msg_1", "first");
    world.create_run("run_1", false);
    world.poll("run_1", RunStatus::Failed);
    world.wait(31);
    world.ask("msg_3", "second");
    world.create_run("run_2", false);
    let created = world.correlator.conversations[&key()].runs[0].created_second().unwrap();
    let question = |id: &str, after| nameless(id, Role::User, created + after);
    let said = |id: &str, after| nameless(id, Role::Assistant, created + after);
    // Newest first: what follows the second question, older words behind it, what no run asked, and what was settled.
    let page = listed(
        &world,
        vec![
            said("msg_9", 3.0),
            question("msg_8", 2.0),
            said("msg_5", 1.0),
            said("msg_4", -1.0),
            question("msg_3", -1.0),
            said("msg_2", -9.0),
            question("msg_1", -9.0),
        ],
    );
    world.see(Fact::MessagesListed(page));
    world.see(Fact::ConversationDeleted);
    let run = &world.interactions[1];
    let ids: Vec<_> = run.outputs.iter().map(|output| output.id.as_deref().unwrap()).collect();
    assert_eq!((run.run.as_str(), ids), ("run_2", vec!["msg_5"]));
}

#[test]
fn a_list_that_goes_back_beyond_a_runs_inputs_has_shown_them_all() {
    let own = |world: &Fixture| message("msg_1", Role::User, "a question", world.second(), None);
    for (order, start, has_more, filter, older, whole) in [
        (PageOrder::Descending, PageStart::Beginning, Some(true), None, true, true),
        (PageOrder::Descending, PageStart::Beginning, Some(true), None, false, false),
        (PageOrder::Descending, PageStart::Beginning, Some(false), None, false, true),
        (PageOrder::Descending, PageStart::Beginning, None, None, false, false),
        (PageOrder::Ascending, PageStart::Beginning, Some(true), None, false, true),
        (PageOrder::Ascending, PageStart::Unknown, Some(false), None, false, false),
        (PageOrder::Ascending, PageStart::Unknown, Some(true), None, true, true),
    ] {
        let mut world = Fixture::new();
        world.ask("msg_1", "a question");
        let asked = own(&world);
        world.create_run("run_1", false);
        let second = world.second();
        let mut messages = vec![asked];
        if older {
            messages.insert(0, message("msg_0", Role::Assistant, "", second - 99.0, Some("run_0")));
        }
        if order == PageOrder::Descending {
            messages.reverse();
        }
        let run_filter: Option<String> = filter;
        let what = format!("{order:?} {start:?} {has_more:?} {older}");
        let page = MessagePage { order, start, has_more, run_filter, ..listed(&world, messages) };
        assert_eq!(world.see(Fact::MessagesListed(page)), whole, "{what}");
        world.see(Fact::ConversationDeleted);
        assert_eq!(world.only().inputs_complete, whole, "{what}");
    }
    // One that shows nothing of them has not, nor one whose answers stand behind them.
    for shown in [vec![], vec!["msg_1"]] {
        let mut world = Fixture::new();
        world.ask("msg_1", "a question");
        let asked = own(&world);
        world.create_run("run_1", false);
        let second = world.second();
        let mut messages = vec![message("msg_2", Role::Assistant, "", second, Some("run_0"))];
        messages.extend(shown.iter().map(|_| asked.clone()));
        let page = MessagePage { has_more: Some(shown.is_empty()), ..listed(&world, messages) };
        let page = if shown.is_empty() { page } else { MessagePage { has_more: Some(true), ..page } };
        world.see(Fact::MessagesListed(page));
        world.see(Fact::ConversationDeleted);
        assert!(!world.only().inputs_complete, "{shown:?}");
    }
}

#[test]
fn that_a_server_names_runs_is_remembered_with_what_is_worth_it() {
    let mut world = Fixture::new();
    let page = listed(&world, vec![answer("msg_1", world.second(), "run_0")]);
    assert!(!world.see(Fact::MessagesListed(page.clone())), "nothing is known of that thread");
    assert_eq!(world.correlator.conversations(), 0);
    world.ask("msg_2", "a question");
    assert!(world.see(Fact::MessagesListed(page.clone())), "a question waits");
    assert!(!world.see(Fact::MessagesListed(page.clone())));
    let mut world = answered();
    assert!(world.see(Fact::MessagesListed(page.clone())), "a run is known");
    assert!(!world.see(Fact::MessagesListed(page)));
    let page = listed(&world, vec![nameless("msg_3", Role::User, world.second())]);
    let mut world = answered();
    world.see(Fact::MessagesListed(page));
    let (_, conversation) = world.correlator.conversations.iter().next().unwrap();
    assert!(!conversation.state.names_runs, "nobody named one");
}

#[test]
fn an_answer_that_names_no_run_and_stands_behind_a_settled_runs_question_is_the_only_open_runs() {
    for (asked, outputs) in [("msg_1", 1), ("msg_8", 0)] {
        let mut world = answered();
        world.create_run("run_2", false);
        let created = world.correlator.conversations[&key()].runs[0].created_second().unwrap();
        // A question nobody knows may be that of a run nobody knows.
        let page = MessagePage {
            has_more: Some(true),
            ..listed(
                &world,
                vec![
                    nameless("msg_9", Role::Assistant, created + 1.0),
                    nameless(asked, Role::User, created + 1.0),
                ],
            )
        };
        world.see(Fact::MessagesListed(page));
        world.see(Fact::ConversationDeleted);
        assert_eq!(world.interactions[1].outputs.len(), outputs, "{asked}");
    }
}

#[test]
fn where_a_list_stopped_is_counted() {
    let (mut world, created) = over();
    let long = "x".repeat(1000);
    let page = MessagePage {
        has_more: Some(true),
        ..listed(&world, vec![message(&long, Role::Assistant, "", created + 9.0, Some("run_9"))])
    };
    let growth = growth(&mut world, Fact::MessagesListed(page));
    assert!((1000..1300).contains(&growth), "{growth} bytes");
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
