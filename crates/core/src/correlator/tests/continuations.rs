//! Turns that end in calls of the app's tools, held for the ones that hand in what these returned.

use super::turns::{after, answers, calls, said, turn};
use super::*;
use crate::observation::{Api, Turn};

fn holding(limits: Limits) -> Fixture {
    let continuation_grace = Duration::from_secs(600);
    Fixture::with(Config { continuation_grace, limits, first_used: UnixMillis(START), ..Config::default() })
}

impl Fixture {
    fn calls(&mut self, id: &str) {
        let told = turn(self, id, &["question"], RunStatus::Completed);
        self.turn(calls(told, &[&format!("call of {id}")]));
    }

    /// A turn that hands in what the tools of another returned.
    fn handed_in(&self, id: &str, of: &str) -> Turn {
        let call = format!("call of {of}");
        let mut told = answers(turn(self, id, &[], RunStatus::Completed), &[&call]);
        let mut message = said(None, Role::Tool, "output");
        message.object = to_raw_value(&json!({"tool_call_id": call, "content": "output"})).unwrap();
        let RunOrigin::Created { messages, .. } = &mut told.origin else { panic!("it is created") };
        messages.push(message);
        told
    }

    fn hands_in(&mut self, id: &str, of: &str) {
        let told = self.handed_in(id, of);
        self.turn(told);
    }

    /// Begins a new process with what was journaled.
    fn replayed(&self, config: Config) -> Self {
        let mut later = Self::with(config);
        later.now = self.now;
        for placed in &self.journal {
            later.correlator.replay(placed);
            later.collect();
        }
        later
    }

    fn told(&self) -> Vec<(&str, &[String])> {
        self.interactions
            .iter()
            .map(|record| (record.run.as_str(), record.continuations.as_slice()))
            .collect()
    }
}

#[test]
fn what_goes_on_with_a_turn_becomes_part_of_it() {
    for api in [Api::Chat, Api::Responses] {
        let mut world = holding(Limits::default());
        let mut first =
            calls(turn(&world, "resp_1", &["question"], RunStatus::Completed), &["call of resp_1"]);
        first.api = api;
        world.turn(first);
        let second = Turn { api, ..world.handed_in("resp_2", "resp_1") };
        world.turn(calls(second, &["call of resp_2"]));
        assert!(world.interactions.is_empty() && world.correlator.open_runs() == 2);
        let third = Turn { api, ..world.handed_in("resp_3", "resp_2") };
        world.turn(third);
        let record = world.only();
        assert_eq!(record.continuations, ["resp_2", "resp_3"], "{api:?}");
        let outputs: Vec<_> = record.tool_calls.iter().map(|call| call.output.as_deref()).collect();
        assert_eq!(outputs, [Some("output"); 2]);
        assert_eq!(
            (texts(&record.inputs), texts(&record.outputs)),
            (vec!["question".into()], vec!["answer".into()])
        );
        assert_eq!(record.tokens.map(|tokens| (tokens.input, tokens.output)), Some((Some(3), Some(6))));
        assert_eq!(world.correlator.open_runs(), 0);
    }
}

#[test]
fn what_names_an_older_run_becomes_part_of_the_turn_whose_calls_it_answers() {
    let mut world = holding(Limits::default());
    let first = turn(&world, "resp_1", &["question"], RunStatus::Completed);
    world.turn(first);
    let second = after(turn(&world, "resp_2", &["more"], RunStatus::Completed), "resp_1");
    world.turn(calls(second, &["call of resp_2"]));
    let third = after(world.handed_in("resp_3", "resp_2"), "resp_1");
    world.turn(third);
    assert_eq!(world.told(), [("resp_1", &[][..]), ("resp_2", &["resp_3".to_owned()])]);
}

#[test]
fn what_else_was_new_when_tools_returned_is_not_lost() {
    let mut world = holding(Limits::default());
    let first = calls(turn(&world, "resp_1", &["question"], RunStatus::Completed), &["call of resp_1"]);
    world.see_of("conv", Fact::TurnSeen(Box::new(first)));
    let message = said(Some("msg_1"), Role::User, "meanwhile");
    let requested_at = Some(world.now);
    world.see_of("conv", Fact::MessageSeen { message, origin: MessageOrigin::Created, requested_at });
    let mut second = world.handed_in("resp_2", "resp_1");
    let RunOrigin::Created { messages, .. } = &mut second.origin else { panic!() };
    let mut unknown = messages[0].clone();
    unknown.object = to_raw_value(&json!({"tool_call_id": "another", "content": "of another"})).unwrap();
    messages.extend([unknown, said(None, Role::System, "be brief")]);
    world.see_of("conv", Fact::TurnSeen(Box::new(second)));
    let record = world.only();
    assert_eq!(texts(&record.inputs), ["question", "meanwhile", "of another", "be brief"]);
    assert_eq!(record.tool_calls[0].output.as_deref(), Some("output"));
}

#[test]
fn usage_that_one_of_them_does_not_tell_is_absent_for_its_reason() {
    for silent in [0, 1] {
        let mut world = holding(Limits::default());
        let mut told = [
            calls(turn(&world, "resp_1", &["question"], RunStatus::Completed), &["call of resp_1"]),
            world.handed_in("resp_2", "resp_1"),
        ];
        told[silent].run.usage = None;
        told[silent].usage_absent = Some(UsageAbsent::StreamWithoutIncludeUsage);
        for turn in told {
            world.turn(turn);
        }
        let record = world.only();
        assert!(record.usage.is_none() && record.tokens.is_none());
        assert_eq!(record.usage_absent, Some(UsageAbsent::StreamWithoutIncludeUsage));
    }
}

#[test]
fn what_was_recorded_takes_in_nothing_more_in_a_later_process() {
    let mut world = holding(Limits::default());
    world.calls("resp_1");
    let mut later = world.replayed(world.config.clone());
    later.correlator.let_go_where(|_| false);
    later.collect();
    assert!(later.interactions.is_empty());
    let mut keys = Vec::new();
    later.correlator.let_go_where(|key| {
        keys.push(key.to_owned());
        true
    });
    later.collect();
    assert_eq!(keys, [later.only().key.clone()]);
    later.hands_in("resp_2", "resp_1");
    assert_eq!(later.told(), [("resp_1", &[][..]), ("resp_2", &[])]);
    assert_eq!(later.interactions[1].parent_id.as_deref(), Some("resp_1"));
}

#[test]
fn a_shutdown_records_what_is_held_unless_a_later_process_would_hold_it_again() {
    let mut world = holding(Limits::default());
    world.calls("resp_1");
    world.correlator.finish(world.now);
    world.collect();
    assert_eq!(world.told(), [("resp_1", &[][..])]);
    let mut world = holding(Limits::default());
    let open = Turn { background: true, ..turn(&world, "resp_0", &["question"], active("queued")) };
    world.see_of("conv", Fact::TurnSeen(Box::new(open)));
    let held = calls(turn(&world, "resp_1", &["question"], RunStatus::Completed), &["call of resp_1"]);
    world.see_of("conv", Fact::TurnSeen(Box::new(held)));
    world.correlator.finish(world.now);
    world.collect();
    assert!(world.interactions.is_empty());
    let mut later = world.replayed(world.config.clone());
    let second = later.handed_in("resp_2", "resp_1");
    later.see_of("conv", Fact::TurnSeen(Box::new(second)));
    assert_eq!(later.told(), [("resp_1", &["resp_2".to_owned()][..])]);
}

#[test]
fn a_replay_with_other_settings_says_the_same() {
    let (mut on, mut off) = (holding(Limits::default()), Fixture::new());
    for world in [&mut on, &mut off] {
        // Something that keeps the journal.
        let open = Turn { background: true, ..turn(world, "resp_0", &["question"], active("queued")) };
        world.see_of("conv", Fact::TurnSeen(Box::new(open)));
        let first = calls(turn(world, "resp_1", &["question"], RunStatus::Completed), &["call of resp_1"]);
        world.see_of("conv", Fact::TurnSeen(Box::new(first)));
        let second = world.handed_in("resp_2", "resp_1");
        world.see_of("conv", Fact::TurnSeen(Box::new(second)));
    }
    assert_eq!(on.replayed(off.config.clone()).told(), on.told());
    assert_eq!(off.replayed(on.config.clone()).told(), off.told());
    assert_eq!((on.interactions.len(), off.interactions.len()), (1, 2));
    assert_eq!(on.interactions[0].key, off.interactions[0].key);
}

#[test]
fn a_line_that_is_longer_than_the_limit_of_runs_is_recorded_as_far_as_it_is() {
    let mut world = holding(Limits { conversation_runs: 3, ..Limits::default() });
    world.calls("resp_1");
    for at in 2..=4 {
        let told = world.handed_in(&format!("resp_{at}"), &format!("resp_{}", at - 1));
        world.turn(calls(told, &[&format!("call of resp_{at}")]));
    }
    assert_eq!(world.notes, [Note::RunsFull]);
    assert_eq!(world.told(), [("resp_1", &["resp_2".to_owned(), "resp_3".to_owned()][..])]);
    world.hands_in("resp_5", "resp_4");
    assert_eq!(world.told()[1], ("resp_4", &["resp_5".to_owned()][..]));
    assert_eq!(world.interactions[1].turn_id.as_deref(), Some("resp_1"));
    assert_eq!(world.interactions[1].parent_id.as_deref(), Some("resp_3"));
}

#[test]
fn what_is_held_is_recorded_when_there_is_no_room_and_when_its_conversation_is_deleted() {
    let mut world = holding(Limits { conversations: 1, ..Limits::default() });
    world.calls("resp_1");
    world.calls("resp_2");
    assert_eq!(world.told(), [("resp_1", &[][..])]);
    let mut world = holding(Limits::default());
    let held = calls(turn(&world, "resp_1", &["question"], RunStatus::Completed), &["call of resp_1"]);
    world.see_of("conv", Fact::TurnSeen(Box::new(held)));
    world.see_of("conv", Fact::ConversationDeleted);
    assert_eq!((world.only().status, world.only().assumed), (Status::Completed, false));
}

#[test]
fn a_turn_that_was_not_told_as_a_whole_is_still_looked_at_while_it_is_held() {
    let mut world = holding(Limits::default());
    let told = calls(turn(&world, "resp_1", &["question"], RunStatus::Completed), &["call of resp_1"]);
    world.turn(Turn { whole: false, ..told.clone() });
    world.wait(300);
    world.turn(Turn { origin: RunOrigin::Seen, ..told });
    assert!(world.interactions.is_empty());
    world.wait(298);
    assert!(world.interactions.is_empty(), "its time counts from its end");
    world.wait(2);
    assert!(world.only().outputs_complete);
}

#[test]
fn only_what_completed_with_open_calls_of_the_apps_own_tools_is_held() {
    let mut world = holding(Limits::default());
    for (status, kind, output, held) in [
        (RunStatus::Completed, "function", None, true),
        (RunStatus::Completed, "custom_tool", None, true),
        (RunStatus::Completed, "mcp_approval_request", None, true),
        (RunStatus::Completed, "function", Some("known"), false),
        (RunStatus::Completed, "web_search", None, false),
        (RunStatus::Completed, "mcp", Some("known"), false),
        (RunStatus::Incomplete, "function", None, false),
        (RunStatus::Failed, "function", None, false),
    ] {
        let before = world.interactions.len();
        let id = format!("resp_{}", world.now.0);
        let mut told = calls(turn(&world, &id, &["question"], status.clone()), &["call"]);
        kind.clone_into(&mut told.run.tool_calls[0].kind);
        told.run.tool_calls[0].output = output.map(str::to_owned);
        world.turn(told);
        assert_eq!(world.interactions.len() == before, held, "{status:?} {kind} {output:?}");
    }
}

#[test]
fn what_asks_anew_or_names_another_response_is_no_continuation() {
    let mut world = holding(Limits::default());
    world.calls("resp_1");
    world.calls("resp_2");
    let asks = answers(turn(&world, "resp_3", &["and?"], RunStatus::Completed), &["call of resp_1"]);
    world.turn(asks);
    let elsewhere = after(world.handed_in("resp_4", "resp_1"), "resp_2");
    world.turn(elsewhere);
    let told = after(world.handed_in("resp_5", "resp_1"), "resp_1");
    world.turn(told);
    let shown = world.told();
    assert_eq!(shown[..2], [("resp_3", &[][..]), ("resp_4", &[])]);
    assert_eq!(shown[2], ("resp_1", &["resp_5".to_owned()][..]));
}
