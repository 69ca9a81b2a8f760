use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use threadtap::demo::assistants::{Pace, RunTruth, Script};
use threadtap::demo::client::Client;
use threadtap::demo::collector::Reaction;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::launch::Threadtap;
use super::talk::{Talk, read_deltas};
use super::world::{World, accepted, check_payload, check_record, payload_of};
use crate::support::soon;

#[tokio::test]
async fn a_kill_in_the_middle_of_a_stream_loses_neither_the_run_nor_its_input() {
    let script = Script { pace: Pace::Even(Duration::from_millis(10)), ..Script::default() };
    let world = World::with(script, []).await;
    let threadtap = world.start().await;
    let client =
        threadtap.client().with_header("x-threadtap-user", "ada").with_header("x-threadtap-session", "s-1");
    let talk = Talk::begin(client, &[]).await;
    talk.say("what was asked before the kill").await;
    let mut stream = talk.open_stream("asst_echo").await;
    let run = read_deltas(&mut stream, 3).await;
    // The record of the input is on disk once this was counted; a kill before that may lose it.
    written(&threadtap).await;
    threadtap.kill().await;

    let threadtap = world.start().await;
    let talk = Talk::resume(threadtap.client(), &talk.thread);
    assert_eq!(talk.poll(&run).await["status"], "completed");
    talk.list().await;
    let record = threadtap.records(1).await.remove(0);
    let truth = world.assistants.snapshot().remove(0);
    assert_eq!(truth.inputs[0].text, "what was asked before the kill");
    check_record(&record, &truth);
    let payload = payload_of(&world.delivered(1).await, &record);
    check_payload(&payload, &truth);
    assert_eq!((&payload["user"], &payload["session"]), (&json!({"userId": "ada"}), &json!("s-1")));
    talk.poll(&run).await;
    talk.list().await;
    threadtap.records(1).await;
    assert_eq!(world.deliveries().into_values().collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn runs_that_wait_for_a_backend_that_is_down_survive_kills_and_are_delivered_once() {
    let world = World::with(Script::default(), Reaction::Status(503, None).times(10_000)).await;
    let mut expected = BTreeSet::new();
    for _ in 0..3 {
        let threadtap = world.start().await;
        for _ in 0..4 {
            Talk::begin(threadtap.client(), &["keep this"]).await.stream("asst_echo").await;
        }
        let records = threadtap.records(expected.len() + 4).await;
        expected.extend(records.iter().map(|record| record["key"].as_str().unwrap().to_owned()));
        threadtap.kill().await;
    }
    assert!(world.collector.accepted().is_empty());
    world.collector.recover();
    let threadtap = world.start().await;
    let delivered = world.delivered(expected.len()).await;
    assert!(delivered.keys().eq(&expected));
    threadtap.wait_for_metric("threadtap_delivery_queue_depth{sink=\"reconify\"}", 0.0).await;
    assert!(world.deliveries().values().all(|count| *count == 1), "{:?}", world.deliveries());
    // What was tried in vain before a kill was the same, under the same keys.
    accepted(&world.collector.received());
    for (record, truth) in threadtap.records(expected.len()).await.iter().zip(&world.assistants.snapshot()) {
        check_record(record, truth);
        check_payload(&payload_of(&delivered, record), truth);
    }
}

/// `scripts/crash` runs it for longer: `THREADTAP_CRASH_KILLS` says how often it kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_kill_after_kill_loses_nothing_that_was_received() {
    let kills = std::env::var("THREADTAP_CRASH_KILLS").ok().map_or(5, |kills| kills.parse().unwrap());
    let script = Script { pace: Pace::Even(Duration::from_millis(3)), ..Script::default() };
    let world = World::with(script, []).await;
    let log = Log::default();
    let (address, addresses) = watch::channel(None);
    let mut apps = JoinSet::new();
    for number in 0..APPS {
        apps.spawn(use_assistant(number, addresses.clone(), log.clone()));
    }
    for kill in 0..kills {
        let threadtap = world.start().await;
        address.send_replace(Some(threadtap.client()));
        // Not the same moment twice, but the same moments in every run of this test.
        tokio::time::sleep(Duration::from_millis(250 + kill * 173 % 700)).await;
        log.mark_kill();
        threadtap.kill().await;
    }
    let threadtap = world.start().await;
    address.send_replace(Some(threadtap.client()));
    log.stop();
    while let Some(app) = apps.join_next().await {
        app.unwrap();
    }

    let runs = log.runs();
    let received: BTreeSet<&str> = runs.iter().filter(|run| run.received).map(|run| &*run.id).collect();
    let truths = world.assistants.snapshot();
    let received: Vec<&RunTruth> = truths.iter().filter(|truth| received.contains(&*truth.run)).collect();
    let delivery = async {
        while !judge(&threadtap, &world, &received).await.0.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    // What is lost never comes; the judgement below says so.
    tokio::time::timeout(Duration::from_secs(20), delivery).await.ok();
    let (lost, wrong) = judge(&threadtap, &world, &received).await;
    let deliveries = world.deliveries();
    let duplicates: usize = deliveries.values().map(|count| count - 1).sum();
    let unknown = deliveries.len().saturating_sub(truths.len());
    let report = format!(
        "{} runs, {} received for sure, {kills} kills: {} lost, {} without their input, {duplicates} delivered twice under one key, {} in the last {} ms before a kill",
        truths.len(),
        received.len(),
        lost.len(),
        wrong.len(),
        runs.len() - received.len(),
        WRITTEN_WITHIN.as_millis(),
    );
    writeln!(std::io::stdout(), "{report}").unwrap();
    assert!(lost.is_empty() && wrong.is_empty() && unknown == 0, "{report}: {lost:?} {wrong:?}");
    assert!(received.len() >= 10, "{report}");
}

/// The runs of which no payload was taken, and those whose record has another input.
async fn judge<'a>(
    threadtap: &Threadtap,
    world: &World,
    received: &[&'a RunTruth],
) -> (Vec<&'a str>, Vec<&'a str>) {
    let records = threadtap.all_records().await;
    let payloads = accepted(&world.collector.received());
    let (mut lost, mut wrong) = (Vec::new(), Vec::new());
    for truth in received {
        let record = records.iter().find(|record| record["run"] == *truth.run);
        let key = record.and_then(|record| record["key"].as_str());
        match (record, key.and_then(|key| payloads.get(key))) {
            (Some(record), Some(_)) if texts(&record["inputs"]) == inputs(truth) => {}
            (Some(_), Some(_)) => wrong.push(&*truth.run),
            _ => lost.push(&*truth.run),
        }
    }
    (lost, wrong)
}

/// An app that asks, streams or polls, and goes on where it was when threadtap is back.
async fn use_assistant(number: usize, mut addresses: watch::Receiver<Option<Client>>, log: Log) {
    for turn in 0.. {
        if log.is_stopped() {
            return;
        }
        let streamed = (number + turn).is_multiple_of(2);
        let question = format!("app {number} turn {turn}");
        // A request whose answer is lost may have been served: what follows is a new thread, and a new run.
        let Ok((thread, run)) = begin(&mut addresses, &question, streamed).await else { continue };
        let asked = log.note_asked(&run);
        let path = format!("/threads/{thread}");
        for step in [format!("/runs/{run}"), "/messages".to_owned()] {
            while attempt(&mut addresses, &format!("{path}{step}")).await.is_err() {}
        }
        log.note_answered(asked);
    }
}

/// Asks a question in a new thread and runs it: the thread and the run, once the run is known to the app.
async fn begin(
    addresses: &mut watch::Receiver<Option<Client>>,
    question: &str,
    streamed: bool,
) -> std::io::Result<(String, String)> {
    let client = current(addresses).await;
    let id = |object: &Value| object["id"].as_str().unwrap().to_owned();
    let thread = id(&client.json(Method::POST, "/threads", &json!({})).await?);
    let path = format!("/threads/{thread}");
    let message = json!({"role": "user", "content": question});
    client.json(Method::POST, &format!("{path}/messages"), &message).await?;
    let run = json!({"assistant_id": "asst_echo", "stream": streamed});
    if !streamed {
        return Ok((thread, id(&client.json(Method::POST, &format!("{path}/runs"), &run).await?)));
    }
    let mut stream = client.send(Method::POST, &format!("{path}/runs"), &run).await?;
    let mut seen = None;
    // Once its id is known, how the stream ends does not matter: the run is polled.
    while let Ok(Some(event)) = stream.event().await {
        let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
        if data["object"] == "thread.run" {
            seen.get_or_insert_with(|| id(&data));
        }
    }
    let lost = || std::io::Error::other("the stream broke before it told its run");
    seen.map(|run| (thread, run)).ok_or_else(lost)
}

/// Polls or lists once more; an error where threadtap went away.
async fn attempt(addresses: &mut watch::Receiver<Option<Client>>, path: &str) -> std::io::Result<()> {
    let client = current(addresses).await;
    let result = match path.contains("/runs/") {
        true => client.poll(path).await.map(drop),
        false => client.json(Method::GET, path, &Value::Null).await.map(drop),
    };
    if result.is_err() {
        // Gone: until it is back there is nothing to do.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    result
}

async fn current(addresses: &mut watch::Receiver<Option<Client>>) -> Client {
    let there = soon("threadtap to start", addresses.wait_for(Option::is_some)).await.unwrap();
    there.clone().expect("it was waited for")
}

/// What the apps know they were answered, written before each kill.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Entries>>);

#[derive(Default)]
struct Entries {
    runs: Vec<Entry>,
    kills: Vec<Instant>,
    stopped: bool,
}

#[derive(Clone)]
struct Entry {
    id: String,
    asked_at: Instant,
    answered_at: Option<Instant>,
}

/// A run of the log, judged.
struct Judged {
    id: String,
    /// Whether neither its creation nor its last answer passed so shortly before a kill that it need not be on disk yet.
    received: bool,
}

impl Log {
    fn note_asked(&self, run: &str) -> usize {
        let mut entries = self.0.lock().unwrap();
        entries.runs.push(Entry { id: run.to_owned(), asked_at: now(), answered_at: None });
        entries.runs.len() - 1
    }

    fn note_answered(&self, at: usize) {
        self.0.lock().unwrap().runs[at].answered_at = Some(now());
    }

    fn mark_kill(&self) {
        self.0.lock().unwrap().kills.push(now());
    }

    fn stop(&self) {
        self.0.lock().unwrap().stopped = true;
    }

    fn is_stopped(&self) -> bool {
        self.0.lock().unwrap().stopped
    }

    fn runs(&self) -> Vec<Judged> {
        let entries = self.0.lock().unwrap();
        let safe = |time: Instant| {
            entries.kills.iter().all(|kill| *kill < time || kill.duration_since(time) > WRITTEN_WITHIN)
        };
        let judge = |entry: &Entry| Judged {
            id: entry.id.clone(),
            received: safe(entry.asked_at) && entry.answered_at.is_some_and(safe),
        };
        entries.runs.iter().map(judge).collect()
    }
}

#[expect(clippy::disallowed_methods, reason = "the log says what came before a kill")]
fn now() -> Instant {
    Instant::now()
}

fn texts(messages: &Value) -> Vec<String> {
    let messages = messages.as_array().unwrap().iter();
    messages.map(|message| threadtap::message::content_text(&message["object"]["content"])).collect()
}

fn inputs(truth: &RunTruth) -> Vec<String> {
    truth.inputs.iter().map(|input| input.text.clone()).collect()
}

/// Waits until what the proxy handed over is on disk: the pipeline's queue is empty, and the run was observed.
async fn written(threadtap: &Threadtap) {
    threadtap.wait_for_metric("threadtap_open_runs", 1.0).await;
    let committed = |text: &str| text.contains("threadtap_store_commit_seconds_count");
    assert!(committed(&threadtap.ask("/metrics").await.1));
    tokio::time::sleep(WRITTEN_WITHIN).await;
}

const APPS: usize = 6;
/// The bound of "written" is 50 ms at p99.9; a debug build on a busy machine gets more.
const WRITTEN_WITHIN: Duration = Duration::from_millis(150);
