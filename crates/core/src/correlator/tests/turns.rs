//! Turns: runs that one exchange tells as a whole, and the chains they make.

use super::*;
use crate::observation::{Api, Reasoning, Turn};

/// A turn of Responses, in its first state: nothing is known of its conversation.
pub(super) fn turn(world: &Fixture, id: &str, asked: &[&str], status: RunStatus) -> Turn {
    let origin = RunOrigin::Created {
        messages: asked.iter().map(|text| said(None, Role::User, text)).collect(),
        request_at: world.now,
        trace_id: None,
        streamed: false,
        new_conversation: true,
        messages_lost: false,
        instructions: None,
        additional_instructions: None,
    };
    let whole = status.is_terminal();
    let outputs =
        if whole { vec![said(Some(&format!("{id}#0")), Role::Assistant, "answer")] } else { vec![] };
    Turn { outputs, whole, ..Turn::new(Api::Responses, world.run(id, status), origin) }
}

pub(super) fn said(id: Option<&str>, role: Role, text: &str) -> Message {
    let mut message = message(id.unwrap_or("none"), role, text, 1.0, None);
    message.id = id.map(str::to_owned);
    message.created_at = None;
    message
}

pub(super) fn calls(turn: Turn, ids: &[&str]) -> Turn {
    let tool_calls = ids.iter().map(|id| ToolCall {
        id: (*id).to_owned(),
        kind: "function".to_owned(),
        ..ToolCall::default()
    });
    let run = Run { tool_calls: tool_calls.collect(), ..turn.run };
    Turn { run, outputs: Vec::new(), ..turn }
}

pub(super) fn answers(turn: Turn, calls: &[&str]) -> Turn {
    Turn { answers: calls.iter().map(|call| (*call).to_owned()).collect(), ..turn }
}

pub(super) fn after(turn: Turn, previous: &str) -> Turn {
    Turn { previous: Some(previous.to_owned()), ..turn }
}

impl Fixture {
    /// Sees a turn whose dialect knows no conversation by name.
    pub(super) fn turn(&mut self, turn: Turn) -> bool {
        let id = turn.run.id.clone();
        self.see_of(&id, Fact::TurnSeen(Box::new(turn)))
    }

    pub(super) fn see_of(&mut self, conversation: &str, fact: Fact) -> bool {
        self.now = self.now.after(Duration::from_secs(1));
        let conversation = ConversationKey { upstream: key().upstream, id: conversation.into() };
        self.tell(Observation { conversation, at: self.now, attribution: Attribution::default(), fact })
    }

    fn stream_ended(&mut self, run: &str, ending: StreamEnding) {
        let fact = Fact::StreamEnded { run: run.to_owned(), ending, first_token_at: None, error: None };
        self.see_of(run, fact);
    }
}

fn conversation_of(interaction: &Interaction) -> &str {
    &interaction.conversation.id
}

#[test]
fn a_turn_told_at_once_is_recorded_at_once_and_once() {
    let mut world = Fixture::new();
    let told = turn(&world, "resp_1", &["question"], RunStatus::Completed);
    assert!(world.turn(told.clone()));
    assert!(!world.turn(Turn { origin: RunOrigin::Seen, ..told }), "a poll of it tells nothing new");
    let record = world.only();
    assert_eq!(
        (record.api, record.run.as_str(), record.turn_id.as_deref()),
        (Api::Responses, "resp_1", Some("resp_1"))
    );
    assert_eq!((record.parent_id.as_deref(), conversation_of(record)), (None, "resp_1"));
    assert_eq!((record.inputs[0].text(), record.outputs[0].text()), ("question".into(), "answer".into()));
    assert!(record.inputs_complete && record.outputs_complete && !record.assumed);
    assert_eq!(record.tokens.map(|tokens| (tokens.input, tokens.output)), Some((Some(1), Some(2))));
}

#[test]
fn a_chain_is_one_conversation_known_by_its_first_run() {
    let mut world = Fixture::new();
    for at in 1..=100 {
        let told = turn(&world, &format!("resp_{at}"), &["question"], RunStatus::Completed);
        world.turn(if at > 1 { after(told, &format!("resp_{}", at - 1)) } else { told });
    }
    assert!(world.interactions.iter().all(|record| conversation_of(record) == "resp_1"));
    assert_eq!(world.interactions[99].parent_id.as_deref(), Some("resp_99"));
    assert_eq!(world.interactions[99].turn_id.as_deref(), Some("resp_100"), "it asks itself");
    assert_eq!(world.correlator.conversations(), 1);
    // A restart knows it from what was stored.
    let state = world.settled.pop().flatten().unwrap();
    let state: ConversationState = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
    let mut later = Fixture::new();
    let conversation = ConversationKey { upstream: key().upstream, id: "resp_1".into() };
    later.correlator.restore(conversation, state);
    let told = after(turn(&later, "resp_101", &["question"], RunStatus::Completed), "resp_100");
    later.turn(told);
    assert_eq!(conversation_of(later.only()), "resp_1");
    // What lies too far back begins anew.
    let told = after(turn(&later, "resp_102", &["question"], RunStatus::Completed), "resp_9");
    later.turn(told);
    assert_eq!(conversation_of(&later.interactions[1]), "resp_9");
}

#[test]
fn runs_that_name_one_nobody_saw_share_it() {
    let mut world = Fixture::new();
    for id in ["resp_2", "resp_3"] {
        let told = after(turn(&world, id, &["question"], RunStatus::Completed), "resp_1");
        world.turn(told);
    }
    assert!(world.interactions.iter().all(|record| conversation_of(record) == "resp_1"));
}

#[test]
fn what_hands_in_tool_outputs_goes_on_with_the_turn_that_asked() {
    for api in [Api::Chat, Api::Responses] {
        let mut world = Fixture::new();
        let told = [
            calls(turn(&world, "resp_1", &["question"], RunStatus::Completed), &["call_1"]),
            calls(answers(turn(&world, "resp_2", &[], RunStatus::Completed), &["call_1"]), &["call_2"]),
            answers(turn(&world, "resp_3", &[], RunStatus::Completed), &["call_2"]),
            // With a new question it begins a turn of its own, though it answers a call as well.
            answers(turn(&world, "resp_4", &["more"], RunStatus::Completed), &["call_2"]),
        ];
        for turn in told {
            world.turn(Turn { api, ..turn });
        }
        let shown = world.interactions.iter().map(|record| {
            (conversation_of(record), record.turn_id.as_deref().unwrap(), record.parent_id.as_deref())
        });
        let shown: Vec<_> = shown.collect();
        assert_eq!(
            shown,
            [
                ("resp_1", "resp_1", None),
                ("resp_1", "resp_1", Some("resp_1")),
                ("resp_1", "resp_1", Some("resp_2")),
                ("resp_1", "resp_4", Some("resp_2")),
            ],
            "{api:?}"
        );
    }
}

#[test]
fn what_a_run_called_after_the_one_that_is_named_is_gone_on_with() {
    // Two agents take turns, and each names its own last run only, whatever the other called meanwhile.
    let mut world = Fixture::new();
    world.turn(calls(turn(&world, "resp_1", &["question"], RunStatus::Completed), &["call_1"]));
    world.turn(answers(turn(&world, "resp_2", &[], RunStatus::Completed), &["call_1"]));
    let third = after(turn(&world, "resp_3", &["more"], RunStatus::Completed), "resp_2");
    world.turn(calls(third, &["call_2"]));
    let fourth = answers(turn(&world, "resp_4", &[], RunStatus::Completed), &["call_2"]);
    world.turn(after(fourth, "resp_1"));
    // What the named run called itself, or what was called before it, leads nowhere else.
    for (id, previous, call) in [("resp_5", "resp_3", "call_2"), ("resp_6", "resp_4", "call_2")] {
        let told = answers(turn(&world, id, &[], RunStatus::Completed), &[call]);
        world.turn(after(told, previous));
    }
    let placed = world.interactions.iter().map(|record| {
        (conversation_of(record), record.turn_id.as_deref().unwrap(), record.parent_id.as_deref())
    });
    assert_eq!(
        placed.collect::<Vec<_>>(),
        [
            ("resp_1", "resp_1", None),
            ("resp_1", "resp_1", Some("resp_1")),
            ("resp_1", "resp_3", Some("resp_2")),
            ("resp_1", "resp_3", Some("resp_3")),
            ("resp_1", "resp_3", Some("resp_3")),
            ("resp_1", "resp_4", Some("resp_4")),
        ]
    );
}

#[test]
fn a_completion_that_called_nothing_leaves_no_trace() {
    let mut world = Fixture::new();
    let told = turn(&world, "chat_1", &["question"], RunStatus::Completed);
    world.turn(Turn { api: Api::Chat, ..told });
    assert_eq!((world.interactions.len(), world.correlator.conversations()), (1, 0));
    assert!(matches!(world.settled[..], [None]), "nothing of it is stored");
}

#[test]
fn a_client_that_leaves_its_turn_leaves_a_record_of_what_passed() {
    let mut world = Fixture::new();
    let told = turn(&world, "resp_1", &["question"], active("in_progress"));
    world.turn(told.clone());
    let mut part = said(Some("msg_1"), Role::Assistant, "half an");
    part.status = MessageStatus::InProgress;
    let reasoning = vec![Reasoning { id: None, text: "hm".to_owned() }];
    world.turn(Turn { origin: RunOrigin::Seen, outputs: vec![part], reasoning, ..told });
    assert!(world.interactions.is_empty());
    world.stream_ended("resp_1", StreamEnding::ClientGone);
    let record = world.only();
    assert_eq!((record.status, record.assumed), (Status::ClientDisconnected, true));
    assert_eq!(record.usage_absent, Some(UsageAbsent::ClientDisconnected));
    assert_eq!((record.outputs[0].text(), record.outputs_complete), ("half an".to_owned(), false));
    assert_eq!(record.reasoning[0].text, "hm");
}

#[test]
fn a_background_turn_goes_on_without_its_client_and_is_polled() {
    let mut world = Fixture::new();
    let told = Turn { background: true, ..turn(&world, "resp_1", &["question"], active("queued")) };
    world.turn(told);
    world.stream_ended("resp_1", StreamEnding::ClientGone);
    world.wait(300);
    assert!(world.interactions.is_empty());
    let told = turn(&world, "resp_1", &[], RunStatus::Completed);
    world.turn(Turn { origin: RunOrigin::Seen, background: true, ..told });
    let record = world.only();
    assert_eq!((record.status, record.outputs_complete), (Status::Completed, true));
    assert_eq!(record.inputs[0].text(), "question");
}

#[test]
fn a_turn_upstream_broke_off_is_waited_for_a_minute() {
    let mut world = Fixture::new();
    let told = turn(&world, "resp_1", &["question"], active("in_progress"));
    world.turn(told);
    world.stream_ended("resp_1", StreamEnding::Truncated);
    world.wait(59);
    assert!(world.interactions.is_empty());
    world.wait(2);
    assert_eq!(world.only().status, Status::UnknownFinal);
    assert_eq!(world.only().usage_absent, Some(UsageAbsent::EndNotSeen));
}

#[test]
fn why_there_is_no_usage_is_what_the_dialect_says() {
    let mut world = Fixture::new();
    let mut told = turn(&world, "chat_1", &["question"], RunStatus::Completed);
    told.run.usage = None;
    told.usage_absent = Some(UsageAbsent::StreamWithoutIncludeUsage);
    world.turn(told);
    assert_eq!(world.only().usage_absent, Some(UsageAbsent::StreamWithoutIncludeUsage));
}

#[test]
fn the_key_of_a_turn_does_not_depend_on_what_is_known_of_its_chain() {
    let (mut knowing, mut other) = (Fixture::new(), Fixture::new());
    let first = turn(&knowing, "resp_1", &["question"], RunStatus::Completed);
    knowing.turn(first);
    for world in [&mut knowing, &mut other] {
        let told = after(turn(world, "resp_2", &["question"], RunStatus::Completed), "resp_1");
        world.turn(after(told, "resp_1"));
    }
    assert_eq!(knowing.interactions[1].key, other.interactions[0].key);
}

#[test]
fn a_background_turn_that_is_looked_at_now_and_then_is_waited_for() {
    let mut world = Fixture::new();
    let told =
        |world: &Fixture, status| Turn { background: true, ..turn(world, "resp_1", &["question"], status) };
    let queued = told(&world, active("queued"));
    world.turn(queued.clone());
    for _ in 0..12 {
        world.wait(600);
        world.turn(Turn { origin: RunOrigin::Seen, ..queued.clone() });
    }
    let done = told(&world, RunStatus::Completed);
    world.turn(Turn { origin: RunOrigin::Seen, ..done });
    assert_eq!(world.only().status, Status::Completed);
}

#[test]
fn a_turn_that_was_looked_at_before_its_creation_was_answered_has_its_place_and_inputs() {
    let mut world = Fixture::new();
    let first = calls(turn(&world, "resp_1", &["question"], RunStatus::Completed), &["call_1"]);
    world.turn(first);
    let told = Turn { background: true, ..turn(&world, "resp_2", &[], active("queued")) };
    world.turn(Turn { origin: RunOrigin::Seen, previous: Some("resp_1".to_owned()), ..told.clone() });
    world.turn(after(answers(told, &["call_1"]), "resp_1"));
    let done = turn(&world, "resp_2", &[], RunStatus::Completed);
    world.turn(Turn { origin: RunOrigin::Seen, ..done });
    let record = &world.interactions[1];
    assert_eq!((record.turn_id.as_deref(), record.parent_id.as_deref()), (Some("resp_1"), Some("resp_1")));
    assert!(record.inputs_complete, "{record:#?}");
}

#[test]
fn calls_that_are_told_otherwise_later_leave_no_link() {
    let mut world = Fixture::new();
    let told = turn(&world, "resp_1", &["question"], active("in_progress"));
    world.turn(calls(told.clone(), &["call_1"]));
    world.turn(Turn { origin: RunOrigin::Seen, ..calls(told, &["call_2", "call_3"]) });
    assert_eq!(world.correlator.chains.len(), 3, "the run and its calls");
}

/// A turn that put out an item, after a history that has some.
fn item(turn: Turn, last_item: &str, history: &[&str]) -> Turn {
    let history = history.iter().map(|item| (*item).to_owned()).collect();
    Turn { last_item: Some(last_item.to_owned()), history, ..turn }
}

#[test]
fn a_turn_that_repeats_an_item_goes_on_with_the_run_that_put_it_out() {
    let mut world = Fixture::new();
    for (id, last_item, history) in [
        ("resp_1", "msg_1", &[][..]),
        ("resp_2", "msg_2", &["msg_1"]),
        // The app left out the last turn, and then asked it otherwise.
        ("resp_3", "msg_3", &["msg_unknown", "msg_2", "msg_1"]),
        ("resp_4", "msg_4", &["msg_2", "msg_1"]),
        ("resp_5", "msg_5", &["msg_unknown"]),
    ] {
        let told = turn(&world, id, &["question"], RunStatus::Completed);
        world.turn(item(told, last_item, history));
    }
    let placed: Vec<_> = world
        .interactions
        .iter()
        .map(|record| (conversation_of(record), record.parent_id.as_deref()))
        .collect();
    assert_eq!(
        placed,
        [
            ("resp_1", None),
            ("resp_1", Some("resp_1")),
            ("resp_1", Some("resp_2")),
            ("resp_1", Some("resp_2")),
            ("resp_5", None)
        ]
    );
    let turns = world.interactions.iter().map(|record| record.turn_id.as_deref());
    assert!(turns.eq(world.interactions.iter().map(|record| Some(&*record.run))), "each was asked by a user");
}

#[test]
fn what_a_request_names_and_hands_in_goes_before_what_it_repeats() {
    let mut world = Fixture::new();
    let first = turn(&world, "resp_1", &["question"], RunStatus::Completed);
    world.turn(item(calls(first, &["call_1"]), "fc_1", &[]));
    let other = turn(&world, "resp_2", &["question"], RunStatus::Completed);
    world.turn(item(other, "msg_2", &[]));
    let told = turn(&world, "resp_3", &["question"], RunStatus::Completed);
    world.turn(after(item(told, "msg_3", &["msg_2"]), "resp_1"));
    let told = turn(&world, "resp_4", &[], RunStatus::Completed);
    world.turn(answers(item(told, "msg_4", &["msg_2"]), &["call_1"]));
    let placed: Vec<_> = world.interactions[2..]
        .iter()
        .map(|record| (conversation_of(record), record.parent_id.as_deref()))
        .collect();
    assert_eq!(placed, [("resp_1", Some("resp_1")); 2]);
}

#[test]
fn an_item_that_several_conversations_put_out_leads_to_none() {
    let mut world = Fixture::new();
    for id in ["resp_1", "resp_2"] {
        let told = turn(&world, id, &["question"], RunStatus::Completed);
        world.turn(item(told, "msg_same", &[]));
    }
    let told = turn(&world, "resp_3", &["question"], RunStatus::Completed);
    world.turn(item(told, "msg_3", &["msg_same"]));
    let record = &world.interactions[2];
    assert_eq!((conversation_of(record), record.parent_id.as_deref()), ("resp_3", None));
    world.now = world.now.after(Duration::from_secs(48 * 3600));
    world.correlator.handle_timeout(world.now);
    assert_eq!(world.correlator.chains.len(), 0, "nothing is left of conversations that are forgotten");
}

#[test]
fn items_are_known_after_a_restart() {
    let mut world = Fixture::new();
    let told = turn(&world, "resp_1", &["question"], RunStatus::Completed);
    world.turn(item(told, "msg_1", &[]));
    let key = ConversationKey { upstream: key().upstream, id: "resp_1".into() };
    let state = world.correlator.conversations[&key].state();
    let mut again = Fixture::new();
    again.now = world.now;
    let state = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
    again.correlator.restore(key, state);
    let told = turn(&again, "resp_2", &["question"], RunStatus::Completed);
    again.turn(item(told, "msg_2", &["msg_1"]));
    let record = again.only();
    assert_eq!((conversation_of(record), record.parent_id.as_deref()), ("resp_1", Some("resp_1")));
}

/// What a tool returned, as a request has it.
fn returned(call: &str) -> Message {
    Message { role: Role::Tool, ..said(None, Role::Tool, &format!("of {call}")) }
}

#[test]
fn what_a_client_repeats_although_it_names_the_run_before_is_not_new() {
    for repeats in [true, false] {
        let mut world = Fixture::new();
        let question = || said(None, Role::User, "question");
        let asks = |mut turn: Turn, asked: Vec<Message>| {
            if let RunOrigin::Created { messages, .. } = &mut turn.origin {
                *messages = asked;
            }
            turn
        };
        let first = turn(&world, "resp_1", &["question"], RunStatus::Completed);
        world.turn(calls(first, &["call_1"]));
        let told = after(turn(&world, "resp_2", &[], RunStatus::Completed), "resp_1");
        let (asked, answered) = match repeats {
            true => (vec![question(), returned("call_1")], &["call_1"][..]),
            false => (vec![returned("call_1")], &["call_1"][..]),
        };
        world.turn(calls(answers(asks(told, asked), answered), &["call_2"]));
        let told = after(turn(&world, "resp_3", &[], RunStatus::Completed), "resp_2");
        let (asked, answered) = match repeats {
            true => (vec![question(), returned("call_1"), returned("call_2")], &["call_1", "call_2"][..]),
            false => (vec![returned("call_2")], &["call_2"][..]),
        };
        world.turn(answers(asks(told, asked), answered));
        // The same words after the answer are a question of their own.
        let again = after(turn(&world, "resp_4", &["question"], RunStatus::Completed), "resp_3");
        world.turn(again);
        let inputs: Vec<Vec<String>> = world
            .interactions
            .iter()
            .map(|record| record.inputs.iter().map(Message::text).collect())
            .collect();
        assert_eq!(
            inputs,
            [vec!["question"], vec!["of call_1"], vec!["of call_2"], vec!["question"]],
            "{repeats}"
        );
        let turns: Vec<_> = world.interactions.iter().map(|record| record.turn_id.as_deref()).collect();
        assert_eq!(turns, [Some("resp_1"), Some("resp_1"), Some("resp_1"), Some("resp_4")], "{repeats}");
    }
}

#[test]
fn what_is_repeated_in_part_or_otherwise_is_new() {
    let mut world = Fixture::new();
    let first = turn(&world, "resp_1", &["question", "and more"], RunStatus::Completed);
    world.turn(calls(first, &["call_1"]));
    for (id, asked) in [("resp_2", &["question", "other"][..]), ("resp_3", &["question", "and more"])] {
        world.turn(after(turn(&world, id, asked, RunStatus::Completed), "resp_1"));
    }
    assert_eq!(world.interactions[1].inputs.len(), 2);
    assert_eq!(world.interactions[2].inputs.len(), 2, "nothing would be left of it");
}
