use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use threadtap_testkit::assistants::{ExpectedRun, Pace, Script};
use threadtap_testkit::client::Client;
use threadtap_testkit::collector::{Collector, Reaction};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::launch::Threadtap;
use super::talk::{Talk, read_deltas};
use super::world::{World, accepted, check_payload, check_record, payload_of};
use crate::support::soon;

#[tokio::test]
async fn a_kill_in_the_middle_of_a_stream_loses_neither_the_run_nor_its_input() {
    let script = Script { pace: Pace::Even(Duration::from_millis(40)), ..Script::default() };
    let world = World::with(script, []).await;
    let threadtap = world.start().await;
    let client =
        threadtap.client().with_header("x-threadtap-user", "ada").with_header("x-threadtap-session", "s-1");
    let talk = Talk::begin(client, &[]).await;
    // An echo that takes a few seconds.
    let question = "what was asked before the kill ".repeat(12);
    talk.say(&question).await;
    let mut stream = talk.open_stream("asst_echo").await;
    let run = read_deltas(&mut stream, 3).await;
    // Captures are written in the order they pass: once this is a record, what passed before it is on disk.
    Talk::begin(threadtap.client(), &["afterwards"]).await.stream("asst_echo").await;
    threadtap.records(1).await;
    threadtap.kill().await;

    let threadtap = world.start().await;
    let talk = Talk::resume(threadtap.client(), &talk.thread);
    assert_eq!(talk.poll(&run).await["status"], "completed");
    talk.list().await;
    let record = threadtap.records(2).await.remove(1);
    let truth = world.assistants.snapshot().remove(0);
    assert_eq!(truth.inputs[0].text, question);
    check_record(&record, &truth);
    let payload = payload_of(&world.delivered(2).await, &record);
    check_payload(&payload, &truth);
    assert_eq!((&payload["user"], &payload["session"]), (&json!({"userId": "ada"}), &json!("s-1")));
    talk.poll(&run).await;
    talk.list().await;
    threadtap.records(2).await;
    assert_eq!(world.deliveries()[record["key"].as_str().unwrap()], 1);
}

#[tokio::test]
async fn a_turn_that_is_held_for_its_tools_outlives_a_kill_and_is_one_record() {
    let world = World::new().await;
    let launch = || world.launch_with("[correlation]\ncontinuation_grace = \"10m\"\nSINK");
    let create = async |threadtap: &Threadtap, body: Value| {
        threadtap.client().json(Method::POST, "/v1/responses", &body).await.unwrap()
    };
    let threadtap = launch().start().await;
    let model = "fake-tool";
    let first = create(&threadtap, json!({"model": model, "input": "what is it like outside?"})).await;
    // What passed before a record is on disk when that is.
    create(&threadtap, json!({"model": "fake-echo", "input": "afterwards"})).await;
    threadtap.records(1).await;
    threadtap.kill().await;

    let threadtap = launch().start().await;
    let call =
        first["output"].as_array().unwrap().iter().find(|item| item["type"] == "function_call").unwrap();
    let output = json!({"type": "function_call_output", "call_id": call["call_id"], "output": "rain"});
    let input = json!({"model": model, "previous_response_id": first["id"], "input": [output]});
    let second = create(&threadtap, input).await;
    let record = threadtap.records(2).await.into_iter().find(|record| record["run"] == first["id"]).unwrap();
    assert_eq!(record["continuations"], json!([second["id"]]));
    assert_eq!(record["tool_calls"][0]["output"], "rain");
    let sum = |name: &str| first["usage"][name].as_u64().unwrap() + second["usage"][name].as_u64().unwrap();
    assert_eq!(record["tokens"]["total"], sum("total_tokens"));
    assert_eq!(world.delivered(2).await.len(), 2);
    assert_eq!(world.deliveries()[record["key"].as_str().unwrap()], 1);
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

/// Two sinks, one of which gathers batches. `scripts/crash` runs it for longer: `THREADTAP_CRASH_KILLS` says how often it kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_kill_after_kill_loses_nothing_that_was_received() {
    let kills = std::env::var("THREADTAP_CRASH_KILLS").ok().map_or(5, |kills| kills.parse().unwrap());
    let script = Script { pace: Pace::Even(Duration::from_millis(3)), ..Script::default() };
    let world = World::with(script, []).await;
    let align = Collector::start([]).await.unwrap();
    let start = async || {
        let launch =
            world.launch().variable("ALIGNAI_API_KEY", "key").variable("ALIGNAI_PROJECT_ID", "project");
        launch.variable("ALIGNAI_HOST", align.url("")).start().await
    };
    let log = Log::default();
    let (address, addresses) = watch::channel(None);
    let mut apps = JoinSet::new();
    for number in 0..APPS {
        apps.spawn(use_assistant(number, addresses.clone(), log.clone()));
    }
    let (mut in_time, mut written) = (0.0, 0.0);
    for kill in 0..kills {
        let threadtap = start().await;
        address.send_replace(Some(threadtap.client()));
        // Not the same moment twice, but the same moments in every run of this test.
        let life = Duration::from_millis(250 + kill * 173 % 700);
        let born = now();
        tokio::time::timeout(life, log.watch(&threadtap, None)).await.ok();
        // However slow the machine is, each life leaves something to lose.
        soon("a run of this life to be written", log.watch(&threadtap, Some(born))).await;
        let bucket =
            format!("threadtap_store_written_seconds_bucket{{le=\"{}\"}}", WRITTEN_WITHIN.as_secs_f64());
        in_time += threadtap.metric(&bucket).await;
        written += threadtap.metric("threadtap_store_written_seconds_count").await;
        log.note_kill();
        threadtap.kill().await;
    }
    let threadtap = start().await;
    address.send_replace(Some(threadtap.client()));
    log.stop();
    while let Some(app) = apps.join_next().await {
        app.unwrap();
    }

    let runs = log.runs();
    let truths = world.assistants.snapshot();
    let of = |wanted: &dyn Fn(&Judged) -> bool| -> Vec<&ExpectedRun> {
        let ids: BTreeSet<&str> = runs.iter().filter(|run| wanted(run)).map(|run| &*run.id).collect();
        truths.iter().filter(|truth| ids.contains(&*truth.run)).collect()
    };
    let received = of(&|run| run.received);
    let is_early = |run: &Judged| run.margin.is_none_or(|margin| margin > WRITTEN_WITHIN);
    let early = of(&is_early);
    let everything = of(&|run| run.received || is_early(run));
    // What is lost never comes; the judgement below says so. Of the early ones some may be, on a busy machine.
    for (runs, patience) in [(&received, 120), (&everything, 20)] {
        let delivery = async {
            while !judge(&threadtap, &world, &align, runs).await.lost.is_empty() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(patience), delivery).await.ok();
    }
    let verdict = judge(&threadtap, &world, &align, &received).await;
    let lost_early = judge(&threadtap, &world, &align, &early).await.lost;
    let margins = runs.iter().filter(|run| lost_early.contains(&&*run.id)).filter_map(|run| run.margin);
    let latest =
        margins.max().map_or_else(String::new, |margin| format!(", none received {margin:.0?} before it"));
    let deliveries = world.deliveries();
    let repeated: usize = deliveries.values().map(|count| count - 1).sum();
    let repeated_events = repeated_events(&align);
    let unknown = deliveries.len().saturating_sub(truths.len());
    let report = format!(
        "{} runs, {kills} kills, 2 sinks. {} runs on disk for sure: {} lost, {} without their input. {} runs received more than 50 ms \
         before a kill: {} lost{latest}; {in_time} of {written} captures were written within 50 ms. Delivered again under the same key: {repeated} records to one, {repeated_events} events to the other\n",
        truths.len(),
        received.len(),
        verdict.lost.len(),
        verdict.wrong.len(),
        early.len(),
        lost_early.len(),
    );
    std::io::stdout().write_all(report.as_bytes()).unwrap();
    assert!(verdict.lost.is_empty() && verdict.wrong.is_empty() && unknown == 0, "{report}: {verdict:?}");
    // Only a machine that keeps the bound can be held to it.
    assert!(lost_early.is_empty() || in_time < written, "{report}: {lost_early:?}");
    assert!(received.len() >= usize::try_from(kills).unwrap(), "{report}");
}

/// What is wrong with some runs.
#[derive(Debug)]
struct Verdict<'a> {
    /// A sink did not take them.
    lost: Vec<&'a str>,
    /// Their record has another input.
    wrong: Vec<&'a str>,
}

async fn judge<'a>(
    threadtap: &Threadtap,
    world: &World,
    align: &Collector,
    runs: &[&'a ExpectedRun],
) -> Verdict<'a> {
    let records = threadtap.all_records().await;
    let payloads = accepted(&world.collector.received());
    let told: BTreeSet<String> = events(align).map(|event| said(&event)).collect();
    let mut verdict = Verdict { lost: Vec::new(), wrong: Vec::new() };
    for truth in runs {
        let record = records.iter().find(|record| record["run"] == *truth.run);
        let key = record.and_then(|record| record["key"].as_str());
        let is_told = inputs(truth).iter().all(|input| told.contains(input));
        match (record, key.and_then(|key| payloads.get(key))) {
            (Some(record), Some(_)) if is_told && texts(&record["inputs"]) == inputs(truth) => {}
            (Some(_), Some(_)) if is_told => verdict.wrong.push(&*truth.run),
            _ => verdict.lost.push(&*truth.run),
        }
    }
    verdict
}

/// How many events Align was told again; that each is told as before, and each message is one event.
fn repeated_events(align: &Collector) -> usize {
    let (mut by_id, mut ids) = (HashMap::new(), HashMap::new());
    let mut repeated = 0;
    for event in events(align) {
        let id = event["id"].as_str().unwrap().to_owned();
        let message = &event["properties"]["messageProperties"];
        if !message.is_null() {
            let number = (message["sessionId"].to_string(), message["messageIndexHint"].to_string());
            assert_eq!(*ids.entry(number).or_insert_with(|| id.clone()), id, "one number, two messages");
        }
        match by_id.get(&id) {
            Some(known) => {
                assert_eq!(*known, event, "a repeated event differs");
                repeated += 1;
            }
            None => drop(by_id.insert(id, event)),
        }
    }
    repeated
}

/// The events Align has taken.
fn events(align: &Collector) -> impl Iterator<Item = Value> {
    align.accepted().into_iter().flat_map(|mut body| match body["events"].take() {
        Value::Array(events) => events,
        other => panic!("not a list of events: {other}"),
    })
}

fn said(event: &Value) -> String {
    event["properties"]["messageProperties"]["messageContent"].as_str().unwrap_or_default().to_owned()
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
        let mut entry = Entry { run: String::new(), begun: now(), answers: Vec::new() };
        let Ok(thread) = begin(&mut addresses, &question, streamed, &mut entry, &log).await else { continue };
        let path = format!("/threads/{thread}");
        for step in [format!("/runs/{}", entry.run), "/messages".to_owned()] {
            while attempt(&mut addresses, &format!("{path}{step}")).await.is_err() {}
            entry.note_answer();
        }
        log.note(entry);
    }
}

/// Asks a question in a new thread and runs it: the thread, once the run is known to the app.
async fn begin(
    addresses: &mut watch::Receiver<Option<Client>>,
    question: &str,
    streamed: bool,
    entry: &mut Entry,
    log: &Log,
) -> std::io::Result<String> {
    let client = current(addresses).await;
    let id = |object: &Value| object["id"].as_str().unwrap().to_owned();
    let thread = id(&client.json(Method::POST, "/threads", &json!({})).await?);
    entry.note_answer();
    let path = format!("/threads/{thread}");
    let message = json!({"role": "user", "content": question});
    client.json(Method::POST, &format!("{path}/messages"), &message).await?;
    entry.note_answer();
    let run = json!({"assistant_id": "asst_echo", "stream": streamed});
    if !streamed {
        entry.run = id(&client.json(Method::POST, &format!("{path}/runs"), &run).await?);
        entry.note_answer();
        log.note_begun(entry);
        return Ok(thread);
    }
    let mut stream = client.send(Method::POST, &format!("{path}/runs"), &run).await?;
    // Once its id is known, how the stream ends does not matter: the run is polled.
    while let Ok(Some(event)) = stream.event().await {
        let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
        if data["object"] == "thread.run" && entry.run.is_empty() {
            entry.run = id(&data);
            entry.note_answer();
            log.note_begun(entry);
        }
    }
    if entry.run.is_empty() {
        return Err(std::io::Error::other("the stream broke before it told its run"));
    }
    Ok(thread)
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

/// What the apps were answered, and what of it must be on disk, written before each kill.
///
/// It takes no time for granted. Captures are written in the order they pass: when the record of a run can be read, every answer
/// that came before the run began is on disk.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Entries>>);

#[derive(Default)]
struct Entries {
    runs: Vec<Entry>,
    begun: HashMap<String, Instant>,
    /// Answers that came before this are on disk.
    written_until: Option<Instant>,
    kills: Vec<Kill>,
    stopped: bool,
}

struct Kill {
    at: Instant,
    written_until: Option<Instant>,
}

/// A run, when it began, and when each answer came that its record is made of.
struct Entry {
    run: String,
    begun: Instant,
    answers: Vec<Instant>,
}

impl Entry {
    fn note_answer(&mut self) {
        self.answers.push(now());
    }
}

/// A run of the log, judged.
struct Judged {
    id: String,
    /// Whether all its answers were on disk before the kill that came next.
    received: bool,
    /// How long before a kill the last of its answers came that one followed; none if none did.
    margin: Option<Duration>,
}

impl Log {
    fn note_begun(&self, entry: &Entry) {
        self.0.lock().unwrap().begun.insert(entry.run.clone(), entry.begun);
    }

    fn note(&self, entry: Entry) {
        self.0.lock().unwrap().runs.push(entry);
    }

    /// Notes what is on disk, over and over, until a run that began after `since` is.
    async fn watch(&self, threadtap: &Threadtap, since: Option<Instant>) {
        while since.is_none() || self.0.lock().unwrap().written_until < since {
            self.note_written(&threadtap.newest_records(20).await);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn note_written(&self, records: &[Value]) {
        let mut entries = self.0.lock().unwrap();
        let runs = records.iter().filter_map(|record| record["run"].as_str());
        let until = runs.filter_map(|run| entries.begun.get(run).copied()).max();
        entries.written_until = entries.written_until.max(until);
    }

    fn note_kill(&self) {
        let mut entries = self.0.lock().unwrap();
        let written_until = entries.written_until;
        entries.kills.push(Kill { at: now(), written_until });
    }

    fn stop(&self) {
        self.0.lock().unwrap().stopped = true;
    }

    fn is_stopped(&self) -> bool {
        self.0.lock().unwrap().stopped
    }

    fn runs(&self) -> Vec<Judged> {
        let entries = self.0.lock().unwrap();
        let next_kill = |answer: &Instant| entries.kills.iter().find(|kill| kill.at >= *answer);
        let is_written = |answer: &Instant| {
            next_kill(answer).is_none_or(|kill| kill.written_until.is_some_and(|until| *answer < until))
        };
        let margin = |answer: &Instant| next_kill(answer).map(|kill| kill.at - *answer);
        let judge = |entry: &Entry| Judged {
            id: entry.run.clone(),
            received: entry.answers.iter().all(is_written),
            margin: entry.answers.iter().filter_map(margin).min(),
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
    messages.map(|message| threadtap_core::message::content_text(&message["object"]["content"])).collect()
}

fn inputs(truth: &ExpectedRun) -> Vec<String> {
    truth.inputs.iter().map(|input| input.text.clone()).collect()
}

const APPS: usize = 6;
/// The design's bound. A busy machine breaks it: then only what is known to be on disk must be there.
const WRITTEN_WITHIN: Duration = Duration::from_millis(50);
