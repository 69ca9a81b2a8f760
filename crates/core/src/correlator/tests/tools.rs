//! Steps and tool calls: what is kept of them, and how much.

use super::*;

fn call(id: &str, arguments: Option<&str>, output: Option<&str>) -> ToolCall {
    ToolCall {
        id: id.to_owned(),
        kind: "function".to_owned(),
        server: None,
        name: None,
        arguments: arguments.map(str::to_owned),
        output: output.map(str::to_owned),
    }
}

fn step(id: &str, message: Option<&str>, tool_calls: Vec<ToolCall>) -> Fact {
    let (run, message) = ("run_1".to_owned(), message.map(str::to_owned));
    Fact::StepSeen(Box::new(Step { id: id.to_owned(), run, message, tool_calls }))
}

fn running() -> Fixture {
    let mut world = Fixture::new();
    world.create_run("run_1", false);
    world
}

fn lost(world: &mut Fixture) -> usize {
    world.see(Fact::ConversationDeleted);
    assert!(world.notes.iter().all(|note| *note == Note::TextFull));
    world.notes.len()
}

#[test]
fn steps_beyond_the_limit_are_left_out_and_counted() {
    for (steps, expected) in [(1024, 0), (1025, 1), (1027, 3)] {
        let mut world = running();
        for at in 0..steps {
            let step = observed(&world, step(&format!("step_{at}"), None, vec![]));
            assert_eq!(world.tell(step), at < 1024);
        }
        assert!(world.see(step("step_7", Some("msg_1"), vec![])), "a known step still says more");
        assert_eq!(lost(&mut world), expected);
    }
}

#[test]
fn tool_calls_beyond_the_limit_are_left_out_and_counted() {
    for (calls, expected) in [(1024, 0), (1025, 1), (1027, 3)] {
        let mut world = running();
        for at in 0..calls {
            let mut run = world.run("run_1", RunStatus::RequiresAction);
            run.tool_calls.push(call(&format!("call_{at}"), None, None));
            // The first one also says that the run waits.
            let told = observed(&world, seen(run, RunOrigin::Seen));
            assert_eq!(world.tell(told), at < 1024);
        }
        assert_eq!(lost(&mut world), expected);
        assert_eq!(world.only().tool_calls.len(), 1024);
    }
}

/// A fact that takes no time.
fn observed(world: &Fixture, fact: Fact) -> Observation {
    Observation { conversation: key(), at: world.now, attribution: Attribution::default(), fact }
}

#[test]
fn the_longest_texts_of_tool_calls_go_when_there_are_too_many() {
    let text = |mebibytes: usize| "x".repeat(mebibytes << 20);
    let mut world = running();
    world.see(step("step_1", None, vec![call("call_1", Some(&text(1)), None)]));
    world.see(step("step_1", None, vec![call("call_2", None, Some(&text(2)))]));
    let before = world.correlator.text_bytes();
    // Together they are beyond four mebibytes, and the longest goes.
    assert!(world.see(step("step_1", None, vec![call("call_3", Some(&text(3)), Some("short"))])));
    let grown = world.correlator.text_bytes() - before;
    assert!(grown < 1000, "{grown} bytes");
    // What went makes room.
    world.see(step("step_1", None, vec![call("call_4", Some("small"), None)]));
    assert_eq!(lost(&mut world), 1);
    let kept: Vec<_> = world
        .only()
        .tool_calls
        .iter()
        .map(|call| (call.arguments.as_ref().map(String::len), call.output.as_ref().map(String::len)))
        .collect();
    assert_eq!(kept, [(Some(1 << 20), None), (None, Some(2 << 20)), (None, Some(5)), (Some(5), None)]);
}

#[test]
fn several_texts_go_if_one_is_not_enough() {
    let text = "x".repeat(3 << 20);
    let mut world = running();
    world.see(step("step_1", None, vec![call("call_1", Some(&text), Some("a"))]));
    world.see(step("step_1", None, vec![call("call_2", Some(&text), Some(&text))]));
    assert_eq!(lost(&mut world), 2);
    let texts = world.only().tool_calls.iter().map(|call| {
        call.arguments.as_ref().map_or(0, String::len) + call.output.as_ref().map_or(0, String::len)
    });
    assert_eq!(texts.sum::<usize>(), (3 << 20) + 1);
}

#[test]
fn a_step_or_call_that_says_more_is_a_change_and_one_that_says_less_is_none() {
    let mut world = running();
    assert!(world.see(step("step_1", None, vec![])));
    assert!(!world.see(step("step_1", None, vec![])));
    assert!(world.see(step("step_1", Some("msg_1"), vec![])));
    assert!(!world.see(step("step_1", Some("msg_1"), vec![])));
    assert!(world.see(step("step_1", None, vec![call("call_1", None, None)])));
    assert!(!world.see(step("step_1", None, vec![call("call_1", None, None)])));
    assert!(world.see(step("step_1", None, vec![call("call_1", Some("{}"), None)])));
    assert!(!world.see(step("step_1", None, vec![call("call_1", Some("{}"), None)])));
    assert!(!world.see(step("step_1", None, vec![call("call_1", Some("{"), None)])), "it is shorter");
    assert!(world.see(step("step_1", None, vec![call("call_1", Some("{ }"), None)])), "it has grown");
    let output = |call: &str, output: &str| Fact::ToolOutputsSubmitted {
        run: "run_1".to_owned(),
        outputs: vec![ToolOutput { call: call.to_owned(), output: output.to_owned() }],
    };
    assert!(world.see(output("call_1", "sunny")) && !world.see(output("call_1", "sunny")));
    assert!(!world.see(output("call_2", "rainy")), "nobody asked for it");
    // Two changes are no less than one.
    let named =
        ToolCall { name: Some("weather".to_owned()), ..call("call_1", Some("{   }"), Some("very sunny")) };
    assert!(world.see(step("step_1", None, vec![named.clone()])));
    let named =
        ToolCall { name: Some("weather_of".to_owned()), arguments: Some("{    }".to_owned()), ..named };
    assert!(world.see(step("step_1", None, vec![named])));
    assert!(world.see(step("step_2", None, vec![])));
    assert!(world.see(step("step_2", Some("msg_2"), vec![call("call_2", None, None)])));
    // A step's calls are told in other ways too, and then only the step is news.
    assert!(world.see(step("step_3", None, vec![call("call_2", None, None)])));
    assert!(world.see(step("step_3", None, vec![call("call_1", None, None)])), "the step made another call");
    assert!(!world.see(step("step_3", None, vec![call("call_1", None, None)])));
    assert!(world.see(step("step_4", None, vec![])));
    assert!(world.see(step("step_4", Some("msg_4"), vec![call("call_1", None, None)])));
    assert!(world.see(step("step_4", None, vec![call("call_2", Some("{}"), Some("rainy"))])));
    assert!(world.see(step("step_4", None, vec![call("call_2", Some("{ }"), Some("very rainy"))])));
    // That a list is whole says nothing as long as the run goes on.
    let requested_at = world.now;
    assert!(!world.see(Fact::StepsListed {
        run: "run_1".to_owned(),
        steps: vec![],
        whole: true,
        requested_at,
        follows: None,
        precedes: None,
    }));
    world.see(Fact::ConversationDeleted);
    let calls = &world.only().tool_calls;
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0].output.as_deref(), Some("very sunny"));
}

#[test]
fn a_list_that_orders_known_steps_anew_is_a_change() {
    let list = |ids: &[&str]| Fact::StepsListed {
        run: "run_1".to_owned(),
        steps: ids.iter().map(|id| tool_step(id, &format!("call of {id}"))).collect(),
        whole: false,
        requested_at: UnixMillis(START),
        follows: None,
        precedes: None,
    };
    let mut world = running();
    assert!(world.see(list(&["s2", "s1"])));
    assert!(!world.see(list(&["s2", "s1"])));
    assert!(world.see(list(&["s1", "s2"])));
    assert!(!world.see(list(&["s1", "s2"])));
    world.see(Fact::ConversationDeleted);
    let calls: Vec<&str> = world.only().tool_calls.iter().map(|call| call.id.as_str()).collect();
    assert_eq!(calls, ["call of s1", "call of s2"]);
}

#[test]
fn steps_of_another_run_on_a_list_are_left_alone() {
    let mut world = running();
    let other = Step { run: "run_2".to_owned(), ..tool_step("step_1", "call_1") };
    let list = |steps: Vec<Step>| Fact::StepsListed {
        run: "run_1".to_owned(),
        steps,
        whole: false,
        requested_at: UnixMillis(START),
        follows: None,
        precedes: None,
    };
    assert!(!world.see(list(vec![other.clone()])));
    // One that is new, and one that is known behind it.
    assert!(world.see(list(vec![tool_step("step_2", "call_2")])));
    assert!(world.see(list(vec![tool_step("step_3", "call_3"), tool_step("step_2", "call_2"), other])));
    world.see(Fact::ConversationDeleted);
    let mut calls: Vec<&str> = world.only().tool_calls.iter().map(|call| call.id.as_str()).collect();
    calls.sort_unstable();
    assert_eq!(calls, ["call_2", "call_3"]);
}

#[test]
fn only_steps_listed_as_a_whole_after_the_end_prove_the_outputs_they_name() {
    for (whole, early, named_is_seen, proves) in [
        (true, false, true, true),
        (true, true, true, false),
        (false, false, true, false),
        (true, false, false, false),
    ] {
        let mut world = running();
        let before = world.now;
        world.poll("run_1", RunStatus::Completed);
        if named_is_seen {
            let message = answer("msg_1", world.second(), "run_1");
            world.see(Fact::MessageSeen { message, origin: MessageOrigin::Fetched, requested_at: None });
        }
        let steps = vec![Step { message: Some("msg_1".to_owned()), ..tool_step("step_1", "call_1") }];
        let requested_at = if early { before } else { world.now };
        let (follows, precedes) = (None, None);
        world.see(Fact::StepsListed {
            run: "run_1".to_owned(),
            steps,
            whole,
            requested_at,
            follows,
            precedes,
        });
        assert_eq!(world.interactions.len(), usize::from(proves), "{whole} {early} {named_is_seen}");
    }
    // A run that made no step proves nothing by that.
    let mut world = running();
    world.poll("run_1", RunStatus::Completed);
    let (steps, requested_at) = (vec![], world.now);
    world.see(Fact::StepsListed {
        run: "run_1".to_owned(),
        steps,
        whole: true,
        requested_at,
        follows: None,
        precedes: None,
    });
    assert!(world.interactions.is_empty());
}

#[test]
fn names_beyond_the_limit_leave_no_room_for_further_calls() {
    let mut world = running();
    let named = |id: &str, bytes| ToolCall { name: Some("x".repeat(bytes)), ..call(id, None, None) };
    assert!(world.see(step("step_1", None, vec![named("call_1", 5 << 20)])), "a name is not cut");
    assert!(world.see(step("step_1", None, vec![named("call_2", 1)])), "the step made another call");
    assert!(!world.see(step("step_1", None, vec![named("call_2", 1)])), "but there is no room for it");
    assert_eq!(lost(&mut world), 2);
    assert_eq!(world.only().tool_calls.len(), 1);
}

#[test]
fn a_step_holds_the_ids_of_its_calls() {
    let mut world = running();
    let long = "x".repeat(1000);
    world.see(step("step_1", None, vec![call(&long, None, None)]));
    world.see(step("step_2", None, vec![]));
    let growth = growth(&mut world, step("step_2", None, vec![call(&long, None, None)]));
    assert!((1000..1300).contains(&growth), "{growth} bytes");
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
