use std::time::Duration;

use threadtap_testkit::assistants::{Pace, Script};

use super::talk::{Talk, finish, read_deltas};
use super::world::{World, check_record};
use crate::support::soon;

#[tokio::test]
async fn a_process_that_is_stopped_for_a_while_loses_nothing_and_gives_up_no_run() {
    let script = Script { pace: Pace::Even(Duration::from_millis(20)), ..Script::default() };
    let world = World::with(script, []).await;
    let threadtap = world.launch_with("[correlation]\noutputs_grace = \"8s\"\nSINK").start().await;
    let streamed = Talk::begin(threadtap.client(), &["this goes on while nobody listens"]).await;
    let mut stream = streamed.open_stream("asst_echo").await;
    read_deltas(&mut stream, 2).await;
    let polled = Talk::begin(threadtap.client(), &["whose messages are fetched after a sleep"]).await;
    let run = polled.start("asst_echo", &[]).await;
    assert_eq!(polled.poll(&run).await["status"], "completed");
    threadtap.signal("-STOP");
    // Its messages were waited for until now, and longer.
    tokio::time::sleep(Duration::from_secs(12)).await;
    threadtap.signal("-CONT");
    // Time was seen to pass again, and nobody has asked yet.
    for _ in 0..20 {
        threadtap.ask("/readyz").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(finish(stream).await["status"], "completed");
    polled.list().await;
    let mut records = threadtap.records(2).await;
    records.sort_by_key(|record| record["run"] == run.as_str());
    for (record, truth) in records.iter().zip(&world.assistants.snapshot()) {
        check_record(record, truth);
    }
    world.delivered(2).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_second_sigterm_ends_a_drain_at_once_and_what_was_captured_is_kept() {
    use threadtap_testkit::collector::Reaction;

    use super::disk::Faults;

    const TURNS: usize = 20;
    let faults = Faults::new();
    let world = World::with(Script::default(), Reaction::BlackHole.times(1000)).await;
    let launch = world.launch_with("[drain]\ngrace = \"1h\"\n[delivery]\nattempt_timeout = \"1h\"\nSINK");
    let mut threadtap = faults.below(&world.data_dir(), launch).start().await;
    faults.slow(15);
    let talk = Talk::begin(threadtap.client(), &["I wait for ever"]).await;
    let mut stream = talk.open_stream("asst_stall").await;
    read_deltas(&mut stream, 1).await;
    for turn in 0..TURNS {
        Talk::begin(threadtap.client(), &[&format!("turn {turn}")]).await.stream("asst_echo").await;
    }
    threadtap.terminate();
    threadtap.stderr.wait_for(|lines| lines.iter().any(|line| line.contains("draining"))).await;
    threadtap.terminate();
    assert_eq!(threadtap.ended().await.code(), Some(130), "{:#?}", threadtap.stderr.lines());
    soon("the cut", async { while let Ok(Some(_)) = stream.event().await {} }).await;
    let lost = |line: &String| line.contains("lost") || line.contains("takes nothing");
    assert!(!threadtap.stderr.lines().iter().any(lost), "{:#?}", threadtap.stderr.lines());

    world.collector.recover();
    let next = world.launch_with("SINK").start().await;
    next.records(TURNS).await;
    next.wait_for_metric("threadtap_open_runs", 1.0).await;
    world.delivered(TURNS).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_second_sigterm_does_not_wait_for_a_store_that_cannot_write_and_says_what_is_lost() {
    use super::disk::Faults;

    let faults = Faults::new();
    let world = World::new().await;
    let mut threadtap = faults.below(&world.data_dir(), world.launch_with("SINK")).start().await;
    faults.fail(5);
    Talk::begin(threadtap.client(), &["into the void"]).await.stream("asst_echo").await;
    threadtap.terminate();
    threadtap.stderr.wait_for(|lines| lines.iter().any(|line| line.contains("draining"))).await;
    threadtap.terminate();
    assert_eq!(threadtap.ended().await.code(), Some(130), "{:#?}", threadtap.stderr.lines());
    let lines = threadtap.stderr.lines();
    assert!(lines.iter().any(|line| line.contains("waiting writes are lost")), "{lines:#?}");
}
