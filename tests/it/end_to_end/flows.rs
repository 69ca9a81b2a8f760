use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use serde_json::json;
use threadtap_testkit::assistants::{LineEnd, Progress, Script, Split, WireShape};

use super::launch::Threadtap;
use super::talk::{Talk, finish, post, read_deltas, text, users};
use super::world::{World, check_payload, check_record, payload_of};

/// Every run of the world has one record and one payload, and both say what the server says happened.
async fn check(world: &World, threadtap: &Threadtap) {
    let truths = world.assistants.snapshot();
    let delivered = world.delivered(truths.len()).await;
    let records = threadtap.records(truths.len()).await;
    for truth in &truths {
        let record = records.iter().find(|record| record["run"] == *truth.run).unwrap();
        check_record(record, truth);
        check_payload(&payload_of(&delivered, record), truth);
    }
    assert!(world.deliveries().values().all(|count| *count == 1));
}

async fn polled(talk: &Talk, assistant: &str, additional: &[&str]) {
    let run = talk.start(assistant, additional).await;
    talk.poll(&run).await;
    talk.list().await;
}

#[tokio::test]
async fn user_text_by_all_four_routes_is_what_the_run_was_asked() {
    let world = World::new().await;
    let threadtap = world.start().await;
    let client = threadtap.client();

    let created = Talk::begin(client.clone(), &[]).await;
    created.say("by a message").await;
    created.stream("asst_echo").await;
    created.say("by a message, polled").await;
    polled(&created, "asst_echo", &[]).await;

    let thread = Talk::begin(client.clone(), &["by a thread", "with two"]).await;
    thread.stream("asst_echo").await;
    polled(&Talk::begin(client.clone(), &["by a thread, polled"]).await, "asst_echo", &[]).await;

    for streamed in [true, false] {
        let body = json!({
            "assistant_id": "asst_echo", "thread": {"messages": users(&["by thread and run"])}, "stream": streamed,
        });
        if streamed {
            let sent = client.send(Method::POST, "/threads/runs", &body).await.unwrap();
            finish(sent).await;
        } else {
            let run = post(&client, "/threads/runs", &body).await;
            let talk = Talk::resume(client.clone(), &text(&run["thread_id"]));
            talk.poll(&text(&run["id"])).await;
            talk.list().await;
        }
    }

    let additional = Talk::begin(client, &[]).await;
    polled(&additional, "asst_echo", &["by additional messages", "of which two"]).await;
    check(&world, &threadtap).await;
}

#[tokio::test]
async fn several_inputs_and_outputs_of_one_run_are_one_record() {
    let world = World::new().await;
    let threadtap = world.start().await;
    let talk = Talk::begin(threadtap.client(), &["one", "two"]).await;
    talk.say("three").await;
    polled(&talk, "asst_messages", &["four"]).await;
    talk.say("five").await;
    talk.say("six").await;
    talk.stream("asst_messages").await;
    check(&world, &threadtap).await;
}

#[tokio::test]
async fn a_run_that_calls_tools_is_one_record_with_its_calls() {
    let world = World::new().await;
    let threadtap = world.start().await;
    for assistant in ["asst_tool", "asst_tools", "asst_tool_twice", "asst_code"] {
        let talk = Talk::begin(threadtap.client(), &[]).await;
        talk.say("streamed").await;
        talk.stream(assistant).await;
        talk.say("polled").await;
        let run = talk.start(assistant, &[]).await;
        talk.poll(&run).await;
        if assistant == "asst_code" {
            // The server's own tools are seen in steps alone.
            let steps = talk.path(&format!("/runs/{run}/steps"));
            talk.client.json(Method::GET, &steps, &serde_json::Value::Null).await.unwrap();
        }
        talk.list().await;
    }
    check(&world, &threadtap).await;
}

#[tokio::test]
async fn runs_that_do_not_complete_are_recorded_and_sent_where_statuses_say_so() {
    let world = World::new().await;
    let settings = "[correlation]\noutputs_grace = \"300ms\"\nSINKfilter.statuses = [\"completed\", \"failed\", \"cancelled\", \
                    \"expired\", \"incomplete\"]";
    let threadtap = world.launch_with(settings).start().await;
    let endings = [
        ("asst_fail", "failed"),
        ("asst_fail_early", "failed"),
        ("asst_cancel", "cancelled"),
        ("asst_expire", "expired"),
        ("asst_incomplete", "incomplete"),
        ("asst_refuse", "completed"),
        ("asst_empty", "completed"),
    ];
    for (assistant, status) in endings {
        let talk = Talk::begin(threadtap.client(), &[]).await;
        talk.say("how will this end?").await;
        assert_eq!(talk.stream(assistant).await["status"], status);
        talk.list().await;
        talk.say("and this?").await;
        polled(&talk, assistant, &[]).await;
    }
    let talk = Talk::begin(threadtap.client(), &["an error in the stream"]).await;
    let run = {
        let mut stream = talk.open_stream("asst_error").await;
        let run = read_deltas(&mut stream, 1).await;
        finish(stream).await;
        run
    };
    assert_eq!(talk.poll(&run).await["status"], "failed");
    talk.list().await;
    check(&world, &threadtap).await;
}

#[tokio::test]
async fn a_run_the_app_cancels_is_a_record_of_that() {
    let world = World::new().await;
    let threadtap = world
        .launch_with("[correlation]\noutputs_grace = \"300ms\"\nSINKfilter.statuses = [\"cancelled\"]")
        .start()
        .await;
    let talk = Talk::begin(threadtap.client(), &["never mind"]).await;
    let run = talk.start("asst_slow", &[]).await;
    post(&talk.client, &talk.path(&format!("/runs/{run}/cancel")), &json!({})).await;
    assert_eq!(talk.poll(&run).await["status"], "cancelled");
    talk.list().await;
    check(&world, &threadtap).await;
}

#[tokio::test]
async fn without_a_setting_only_completed_runs_are_sent_and_all_are_recorded() {
    let world = World::new().await;
    let threadtap = world.start().await;
    for assistant in ["asst_fail", "asst_echo", "asst_cancel"] {
        Talk::begin(threadtap.client(), &["hello"]).await.stream(assistant).await;
    }
    let records = threadtap.records(3).await;
    let by_status: BTreeMap<&str, &serde_json::Value> =
        records.iter().map(|record| (record["status"].as_str().unwrap(), &record["key"])).collect();
    assert_eq!(by_status.keys().collect::<Vec<_>>(), [&"cancelled", &"completed", &"failed"]);
    let delivered = world.delivered(1).await;
    assert_eq!(delivered.keys().next().unwrap(), by_status["completed"].as_str().unwrap());
}

#[tokio::test]
async fn polling_and_listing_over_and_over_makes_one_record() {
    let world = World::new().await;
    let threadtap = world.start().await;
    let talk = Talk::begin(threadtap.client(), &["again and again"]).await;
    let run = talk.start("asst_echo", &[]).await;
    for _ in 0..5 {
        talk.poll(&run).await;
    }
    talk.list().await;
    world.delivered(1).await;
    for _ in 0..5 {
        talk.poll(&run).await;
        talk.list().await;
    }
    talk.say("next").await;
    talk.stream("asst_echo").await;
    talk.poll(&text(&json!(world.assistants.snapshot()[1].run))).await;
    check(&world, &threadtap).await;
}

#[tokio::test]
async fn a_polled_run_whose_messages_nobody_fetches_is_recorded_when_the_grace_is_over() {
    let world = World::new().await;
    let threadtap = world.launch_with("[correlation]\noutputs_grace = \"100ms\"\nSINK").start().await;
    let talk = Talk::begin(threadtap.client(), &["fire and forget"]).await;
    let run = talk.start("asst_echo", &[]).await;
    talk.poll(&run).await;
    let record = threadtap.records(1).await.remove(0);
    assert_eq!((&record["status"], &record["outputs_complete"]), (&json!("completed"), &json!(false)));
    assert_eq!(record["inputs"][0]["object"]["content"][0]["text"]["value"], "fire and forget");
    assert_eq!(world.delivered(1).await.len(), 1);
}

#[tokio::test]
async fn streams_in_any_shape_and_any_pieces_make_the_same_records() {
    let shapes = [
        WireShape { split: Split::Bytes, ..WireShape::default() },
        WireShape {
            line_end: LineEnd::CrLf,
            comments: true,
            split: Split::Random(7),
            ..WireShape::default()
        },
        WireShape { line_end: LineEnd::Cr, split: Split::Random(30), ..WireShape::default() },
        WireShape { done: false, ..WireShape::default() },
    ];
    let world = World::with(Script { progress: Progress::Immediate, ..Script::default() }, []).await;
    let threadtap = world.start().await;
    for shape in shapes {
        world.assistants.reshape(shape);
        let talk = Talk::begin(threadtap.client(), &["déjà vu — 既視感"]).await;
        let run = json!({"assistant_id": "asst_echo", "stream": true});
        let answered = talk.client.send(Method::POST, &talk.path("/runs"), &run).await.unwrap();
        tokio::time::timeout(Duration::from_secs(10), answered.bytes()).await.unwrap().unwrap();
    }
    check(&world, &threadtap).await;
}

#[tokio::test]
async fn the_apps_headers_say_whose_run_it_is_and_do_not_reach_upstream() {
    let world = World::with(Script { keep_requests: true, ..Script::default() }, []).await;
    let threadtap = world.start().await;
    let client = threadtap
        .client()
        .with_header("x-threadtap-user", r#"{"userId":"ada","email":"ada@example.org"}"#)
        .with_header("x-threadtap-session", "s-1")
        .with_header("x-threadtap-session-timeout", "15");
    Talk::begin(client, &["who am I?"]).await.stream("asst_echo").await;
    Talk::begin(threadtap.client().with_header("x-threadtap-user", "ben"), &["and I?"])
        .await
        .stream("asst_echo")
        .await;
    let records = threadtap.records(2).await;
    let delivered = world.delivered(2).await;
    let attributed = |at: usize| {
        let payload = payload_of(&delivered, &records[at]);
        [payload["user"].clone(), payload["session"].clone(), payload["sessionTimeout"].clone()]
    };
    assert_eq!(
        attributed(0),
        [json!({"userId": "ada", "email": "ada@example.org"}), json!("s-1"), json!(15)]
    );
    assert_eq!(attributed(1), [json!({"userId": "ben"}), json!(null), json!(null)]);
    for request in world.assistants.requests() {
        assert!(request.headers.iter().all(|(name, _)| !name.starts_with("x-threadtap")), "{request:?}");
    }
}
