use std::time::Duration;

use serde_json::Value;
use threadtap_testkit::assistants::{Pace, Script};
use threadtap_testkit::collector::Reaction;

use super::talk::{Talk, finish, read_deltas};
use super::world::{API_KEY, APP_KEY, World, check_record};
use crate::support::{Raw, soon};

#[tokio::test]
async fn sigterm_lets_a_stream_end_and_delivers_it_before_the_process_does() {
    let script = Script { pace: Pace::Even(Duration::from_millis(30)), ..Script::default() };
    let world = World::with(script, []).await;
    let mut threadtap = world.start().await;
    assert_eq!(threadtap.ask("/readyz").await, (200, "ready\n".to_owned()));
    let talk = Talk::begin(threadtap.client(), &["let me finish, if you please, and take your time"]).await;
    let mut stream = talk.open_stream("asst_echo").await;
    read_deltas(&mut stream, 2).await;
    threadtap.terminate();
    threadtap.stderr.wait_for(|lines| lines.iter().any(|line| line.contains("draining"))).await;
    assert_eq!(threadtap.ask("/readyz").await, (503, "draining\n".to_owned()));
    assert_eq!(threadtap.ask("/healthz").await.0, 200);
    assert_eq!(finish(stream).await["status"], "completed");
    assert_eq!(threadtap.ended().await.code(), Some(0));
    assert_eq!(world.collector.accepted().len(), 1);
}

#[tokio::test]
async fn readiness_fails_before_connections_do() {
    let world = World::new().await;
    let mut threadtap = world.launch_with("[drain]\ndelay = \"5s\"\nSINK").start().await;
    threadtap.terminate();
    threadtap.stderr.wait_for(|lines| lines.iter().any(|line| line.contains("draining"))).await;
    assert_eq!(threadtap.ask("/readyz").await.0, 503);
    Talk::begin(threadtap.client(), &["still there?"]).await.stream("asst_echo").await;
    assert_eq!(threadtap.ended().await.code(), Some(0));
    assert_eq!(world.collector.accepted().len(), 1);
}

#[tokio::test]
async fn a_stream_that_does_not_end_is_cut_when_the_grace_is_over() {
    let world = World::new().await;
    let mut threadtap = world.launch_with("[drain]\ngrace = \"100ms\"\nSINK").start().await;
    let talk = Talk::begin(threadtap.client(), &["this takes for ever"]).await;
    let mut stream = talk.open_stream("asst_stall").await;
    read_deltas(&mut stream, 1).await;
    threadtap.terminate();
    let cut = soon("the cut", async { while let Ok(Some(_)) = stream.event().await {} }).await;
    assert_eq!(cut, ());
    assert_eq!(threadtap.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_polled_run_that_waits_for_its_messages_is_recorded_at_the_end_of_the_process() {
    let world = World::new().await;
    let mut threadtap = world.start().await;
    let talk = Talk::begin(threadtap.client(), &["and then I left"]).await;
    let run = talk.start("asst_echo", &[]).await;
    talk.poll(&run).await;
    threadtap.terminate();
    assert_eq!(threadtap.ended().await.code(), Some(0));
    assert_eq!(world.collector.accepted().len(), 1);
}

#[tokio::test]
async fn what_the_backend_does_not_take_before_the_end_is_delivered_by_the_next_process() {
    let world = World::with(Script::default(), Reaction::Status(503, None).times(1000)).await;
    let mut threadtap = world.start().await;
    Talk::begin(threadtap.client(), &["later, then"]).await.stream("asst_echo").await;
    threadtap.records(1).await;
    threadtap.terminate();
    assert_eq!(threadtap.ended().await.code(), Some(0));
    assert!(world.collector.accepted().is_empty());
    world.collector.recover();
    let _next = world.start().await;
    world.delivered(1).await;
}

#[tokio::test]
async fn metrics_tell_exchanges_captures_interactions_deliveries_and_queues() {
    let world = World::with(Script::default(), Reaction::Status(503, Some(0)).times(1)).await;
    let threadtap = world.start().await;
    let talk = Talk::begin(threadtap.client(), &["count me"]).await;
    talk.stream("asst_echo").await;
    talk.stream("asst_fail").await;
    world.delivered(1).await;
    threadtap.wait_for_metric("threadtap_delivery_queue_depth{sink=\"reconify\"}", 0.0).await;
    for (name, value) in [
        ("threadtap_exchanges_total{result=\"2xx\"}", 3.0),
        ("threadtap_captured_exchanges_total", 3.0),
        ("threadtap_interactions_total{status=\"completed\"}", 1.0),
        ("threadtap_interactions_total{status=\"failed\"}", 1.0),
        ("threadtap_deliveries_total{sink=\"reconify\",verdict=\"retry\"}", 1.0),
        ("threadtap_deliveries_total{sink=\"reconify\",verdict=\"ack\"}", 1.0),
        ("threadtap_delivery_queue_age_seconds{sink=\"reconify\"}", 0.0),
        ("threadtap_open_runs", 0.0),
    ] {
        threadtap.wait_for_metric(name, value).await;
    }
    let (status, text) = threadtap.ask("/metrics").await;
    assert_eq!(status, 200);
    assert!(text.ends_with("# EOF\n"), "{text}");
    for family in [
        "threadtap_capture_dropped",
        "threadtap_dead_letters",
        "threadtap_pipeline_queue_depth",
        "threadtap_store_written_seconds",
    ] {
        assert!(text.contains(&format!("# TYPE {family} ")), "{family} is missing in {text}");
    }
    assert!(!text.contains("count me") && !text.contains("sk-demo"), "{text}");
}

#[tokio::test]
async fn a_waiting_queue_shows_its_depth_and_age() {
    let world = World::with(Script::default(), Reaction::BlackHole.times(100)).await;
    let threadtap = world.start().await;
    for _ in 0..3 {
        Talk::begin(threadtap.client(), &["waiting"]).await.stream("asst_echo").await;
    }
    threadtap.wait_for_metric("threadtap_delivery_queue_depth{sink=\"reconify\"}", 3.0).await;
    let (_, deliveries) = threadtap.ask("/api/v1/deliveries").await;
    let deliveries: Value = serde_json::from_str(&deliveries).unwrap();
    assert_eq!(
        (&deliveries["data"][0]["sink"], &deliveries["data"][0]["waiting"]),
        (&"reconify".into(), &3.into())
    );
    soon("the queue to age", async {
        while threadtap.metric("threadtap_delivery_queue_age_seconds{sink=\"reconify\"}").await < 1.0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn without_a_sink_records_are_kept_and_can_be_read() {
    let world = World::new().await;
    let threadtap = world.launch_without_sink().start().await;
    for question in ["first", "second", "third"] {
        Talk::begin(threadtap.client(), &[question]).await.stream("asst_echo").await;
    }
    let records = threadtap.records(3).await;
    for (record, truth) in records.iter().zip(&world.assistants.snapshot()) {
        check_record(record, truth);
    }
    // Newest first, a page at a time.
    let (_, page) = threadtap.ask("/api/v1/interactions?limit=2").await;
    let page: Value = serde_json::from_str(&page).unwrap();
    let (_, rest) = threadtap.ask(&format!("/api/v1/interactions?limit=2&before={}", page["before"])).await;
    let rest: Value = serde_json::from_str(&rest).unwrap();
    let runs = |page: &Value| {
        let records = page["data"].as_array().unwrap().iter();
        records.map(|record| record["interaction"]["run"].clone()).collect::<Vec<_>>()
    };
    let all: Vec<Value> = records.iter().rev().map(|record| record["run"].clone()).collect();
    assert_eq!([runs(&page), runs(&rest)].concat(), all);
    // Nobody watches: no line is printed, for standard output is no terminal.
    assert!(threadtap.stdout.lines().is_empty());
    threadtap.kill().await;
    world.launch_without_sink().start().await.records(3).await;
}

#[tokio::test]
async fn each_interaction_is_one_line_where_the_log_is_told_so() {
    let world = World::new().await;
    let mut threadtap = world.launch_with("[log]\ninteractions = \"always\"\nSINK").start().await;
    let client = threadtap.client().with_header("x-threadtap-user", "ada");
    Talk::begin(client, &["How long\nis a line?"]).await.stream("asst_echo").await;
    Talk::begin(threadtap.client(), &["And this?"]).await.stream("asst_fail").await;
    let lines = threadtap.stdout.wait_for(|lines| lines.len() >= 2).await;
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with("completed "), "{lines:?}");
    for part in ["ada: How long is a line?", "gpt-4o-mini: You said: How long is a line?", "tokens"] {
        assert!(lines[0].contains(part), "{part} is not in {lines:?}");
    }
    assert!(lines[1].starts_with("failed ") && lines[1].contains("user: And this?"), "{lines:?}");
}

#[tokio::test]
async fn logs_are_json_off_a_terminal_and_hold_neither_content_nor_keys() {
    let world = World::with(Script::default(), Reaction::Status(400, None).times(1)).await;
    let settings = "[log]\nlevel = \"trace\"\n[admin]\ntoken = \"admin-token-of-the-tests\"\nSINK";
    let mut threadtap = world.launch_with(settings).start().await;
    let client = threadtap.client().with_header("x-threadtap-user", "user-of-the-tests");
    let talk = Talk::begin(client.clone(), &["content-of-the-tests"]).await;
    talk.stream("asst_echo").await;
    talk.stream("asst_echo").await;
    // Things that go wrong are logged as well.
    let mut odd = Raw::connect(threadtap.listen).await;
    odd.send("POST /v1/threads HTTP/1.1\r\nHost: a\r\nHost: b\r\nAuthorization: Bearer sk-demo\r\n\r\n")
        .await;
    odd.head().await;
    drop(odd);
    soon("two attempts", world.collector.wait_for(2)).await;
    threadtap.terminate();
    assert_eq!(threadtap.ended().await.code(), Some(0));
    let lines = threadtap.stderr.lines();
    assert!(lines.len() > 3, "{lines:?}");
    let secrets = [
        "content-of-the-tests",
        "user-of-the-tests",
        "sk-demo",
        APP_KEY,
        API_KEY,
        "admin-token-of-the-tests",
    ];
    for line in &lines {
        let parsed: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        assert!(parsed["level"].is_string() && parsed["message"].is_string(), "{line}");
        for secret in secrets {
            assert!(!line.contains(secret), "{secret} is in {line}");
        }
    }
}
