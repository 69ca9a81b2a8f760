use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use proptest::prelude::*;
use rusqlite::Connection;
use tempfile::TempDir;
use threadtap_core::event::SessionKey;
use threadtap_core::observation::ConversationKey;
use threadtap_core::time::UnixMillis;

use super::*;

mod full;
mod memory;
mod model;
mod operator;
mod trouble;

#[test]
fn what_was_acknowledged_is_found_again_without_an_orderly_close() {
    let (live, copy) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (store, _) = open(live.path());
    write(
        &store,
        vec![journal("t1", "a"), event("k1", "t1", &["s"]), journal("t2", "b"), settle("t2", Some("st"))],
    );
    copy_files(live.path(), copy.path());

    let (copied, recovered) = open(copy.path());
    assert_eq!(journal_of(&recovered), [("t1".to_owned(), "a".to_owned())]);
    assert_eq!(states_of(&recovered), [("t2".to_owned(), "st".to_owned())]);
    assert_eq!(due(&copied, "s"), [1]);
    assert_eq!(records(&copied, vec![1])[0].body, "k1");
}

#[test]
fn dropping_the_last_handle_writes_what_waits_and_gives_up_the_lock() {
    let dir = TempDir::new().unwrap();
    let (store, recovered) = open(dir.path());
    store.commit(vec![journal("t", "a")], Duration::ZERO).unwrap();
    drop((store, recovered));
    let (_store, recovered) = open(dir.path());
    assert_eq!(journal_of(&recovered), [("t".to_owned(), "a".to_owned())]);
}

#[test]
fn a_second_process_is_told_who_holds_the_directory() {
    let dir = TempDir::new().unwrap();
    let config = Config { holder: "127.0.0.1:8080".to_owned(), ..on_disk(dir.path()) };
    let first = Store::open(config.clone(), Metrics::new().0, Clock::start()).unwrap();
    let refused = Store::open(config.clone(), Metrics::new().0, Clock::start()).unwrap_err().to_string();
    assert!(refused.contains(&format!("process {} since 20", std::process::id())), "{refused}");
    assert!(refused.ends_with("listening on 127.0.0.1:8080"), "{refused}");
    drop(first);
    assert!(Store::open(config, Metrics::new().0, Clock::start()).is_ok());
}

#[test]
fn files_are_for_the_owner_only() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let (store, _) = open(&data);
    write(&store, vec![journal("t", "a")]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    let files: Vec<_> = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 4, "{files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{file:?}");
    }
}

#[test]
fn an_event_is_stored_once_and_brings_its_deliveries_once() {
    let (store, _) = in_memory();
    write(&store, vec![event("k", "t", &["a", "b"]), event("k", "t", &["a", "c"])]);
    write(&store, vec![Op::Delivered { id: 1 }, Op::Delivered { id: 1 }, event("k", "t", &["a"])]);
    assert!(due(&store, "a").is_empty());
    assert_eq!(due(&store, "b"), [2]);
    assert!(due(&store, "c").is_empty());
    assert_eq!(wait(store.interactions(9, None)).unwrap().len(), 1);
}

#[test]
fn journal_rows_and_their_settling_in_one_batch_never_touch_the_disk() {
    let (store, recovered) = in_memory();
    write(&store, vec![journal("t", "a"), settle("t", None), journal("t", "b"), settle("u", None)]);
    write(&store, vec![journal("t", "c")]);
    let seqs = wait(store.read(|connection| reads::journal(connection, 0, 99, 9))).unwrap();
    assert_eq!(
        seqs.iter().map(|(seq, row)| (*seq, row.body.as_str())).collect::<Vec<_>>(),
        [(1, "b"), (2, "c")]
    );
    assert_eq!(journal_of(&recovered), [], "it held nothing at opening");
}

#[test]
fn a_lane_is_read_to_its_end_however_much_waits_in_others() {
    let (store, _) = in_memory();
    let ops = (0..5000).map(|n| event(&format!("k{n}"), if n == 4999 { "rare" } else { "busy" }, &["s"]));
    write(&store, ops.collect());
    let number = |id: u64| wait(store.due("s".into(), None, id - 1, 1)).unwrap().rows[0].lane;
    let of = 64;
    let lane = Lane { index: number(5000) % of, of };
    assert!(!lane.holds(number(1)), "the two share a lane of {of}");
    let first = wait(store.due("s".into(), Some(lane), 0, 10)).unwrap();
    assert_eq!((first.rows.len(), first.more, first.next_after), (0, true, 4096));
    let second = wait(store.due("s".into(), Some(lane), first.next_after, 10)).unwrap();
    assert_eq!((second.rows[0].id, second.more, second.next_after), (5000, false, 5000));
}

#[test]
fn new_deliveries_are_announced_and_counted() {
    let (metrics, _registry) = Metrics::new();
    let (store, _) = Store::open(Config::default(), metrics.clone(), Clock::start()).unwrap();
    let mut announced = store.deliveries();
    write(&store, vec![journal("t", "a")]);
    assert!(!announced.has_changed().unwrap());
    write(&store, vec![event("k1", "t", &["s"]), event("k2", "t", &["s"])]);
    wait(announced.changed()).unwrap();
    assert_eq!(*announced.borrow(), 2);
    let label = crate::metrics::SinkLabel { sink: "s".to_owned() };
    let queue = || metrics.delivery_queue.get_or_create(&label).get();
    store.flush(PATIENCE).unwrap();
    assert_eq!(queue(), 2);

    write(&store, vec![dead(1, "x"), Op::Delivered { id: 2 }]);
    store.flush(PATIENCE).unwrap();
    assert_eq!((queue(), metrics.dead_letters.get_or_create(&label).get()), (0, 1));
    let backlog = wait(store.backlog()).unwrap().sinks;
    assert_eq!(backlog["s"], Waiting { deliveries: 0, oldest: None, dead_letters: 1 });
}

#[test]
fn an_answer_is_cut_at_a_character() {
    let (store, _) = in_memory();
    write(&store, vec![event("k", "t", &["s"]), dead(1, &format!("x{}", "é".repeat(4000)))]);
    let answer: String =
        wait(store.read(|connection| {
            connection.query_row("SELECT answer FROM dead_letters", [], |row| row.get(0))
        }))
        .unwrap();
    assert_eq!(answer.len(), 4095);
}

#[test]
fn a_file_that_is_no_database_is_set_aside() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("threadtap.db"), "nothing of the sort ".repeat(500)).unwrap();
    let (store, _) = open(dir.path());
    write(&store, vec![journal("t", "a")]);
    assert_eq!(set_aside(dir.path()), 1);
}

#[test]
fn a_database_that_breaks_in_use_is_set_aside_and_nothing_that_waits_is_lost() {
    let dir = TempDir::new().unwrap();
    let (store, _) = open(dir.path());
    write(&store, (0..500).map(|n| event(&format!("k{n}"), "t", &["s"])).collect());
    store.close();
    // Pages that opening does not look at: all but the schema and the tables' roots.
    let path = dir.path().join("threadtap.db");
    let mut bytes = fs::read(&path).unwrap();
    let from = 4096 * 24;
    bytes[from..].fill(0xA5);
    fs::write(&path, bytes).unwrap();

    let (store, _) = open(dir.path());
    write(&store, (0..500).map(|n| event(&format!("k{n}"), "t", &["s"])).collect());
    assert_eq!(due(&store, "s").len(), 500);
    assert_eq!(set_aside(dir.path()), 1);
}

#[test]
fn what_version_1_wrote_is_brought_up_to_date_and_delivered() {
    let dir = TempDir::new().unwrap();
    {
        let old = Connection::open(dir.path().join("threadtap.db")).unwrap();
        old.pragma_update(None, "auto_vacuum", "INCREMENTAL").unwrap();
        old.execute_batch(schema::STEPS[0]).unwrap();
        old.execute_batch(
            "INSERT INTO meta VALUES ('first_used_at', 7);
             INSERT INTO events VALUES (5, 'k', 'interaction', 'u', 't', 1, 'body');
             INSERT INTO deliveries VALUES (9, 5, 's', 3, 1, 2, NULL);
             PRAGMA user_version = 1;",
        )
        .unwrap();
    }
    let (store, recovered) = open(dir.path());
    assert_eq!(recovered.first_used_at(), UnixMillis(7));
    assert_eq!(due(&store, "s"), [9]);
    let expected = DueRecord { delivery: 9, body: "body".to_owned(), first_message: None };
    assert_eq!(records(&store, vec![9]), [expected]);
    write(&store, vec![numbered("k2", "t", 2)]);
    assert_eq!(first_message(&store, "k2"), Some(1));
}

#[test]
fn messages_are_numbered_without_a_gap_also_where_an_event_comes_twice() {
    let dir = TempDir::new().unwrap();
    let (store, recovered) = open(dir.path());
    write(&store, vec![numbered("a", "t", 2), numbered("b", "u", 3), numbered("a", "t", 2)]);
    write(&store, vec![numbered("a", "t", 2), numbered("c", "t", 1)]);
    drop((store, recovered));
    let (store, _) = open(dir.path());
    write(&store, vec![numbered("d", "t", 4), numbered("e", "t", 1)]);
    let numbers = ["a", "b", "c", "d", "e"].map(|key| first_message(&store, key));
    assert_eq!(numbers, [Some(1), Some(1), Some(3), Some(4), Some(8)]);
}

#[test]
fn a_newer_schema_is_refused() {
    let dir = TempDir::new().unwrap();
    open(dir.path()).0.close();
    let connection = Connection::open(dir.path().join("threadtap.db")).unwrap();
    connection.pragma_update(None, "user_version", 9).unwrap();
    drop(connection);
    let refused = Store::open(on_disk(dir.path()), Metrics::new().0, Clock::start()).unwrap_err();
    assert!(matches!(refused, OpenError::NewerSchema { found: 9, known: 3, .. }), "{refused}");
    assert_eq!(set_aside(dir.path()), 0);
}

#[test]
fn a_full_database_refuses_in_bounded_memory_and_goes_on_when_there_is_room() {
    let (metrics, _registry) = Metrics::new();
    let config = Config { max_bytes: Some(1 << 20), queue_bytes: 1 << 20, ..Config::default() };
    let (store, _) = Store::open(config, metrics.clone(), Clock::start()).unwrap();
    let body = "x".repeat(10_000);
    let full = || metrics.store_errors.get_or_create(&crate::metrics::KindLabel { kind: "full" }).get() > 0;
    let mut taken = 0;
    let refused = loop {
        match store.commit(vec![journal(&format!("t{taken}"), &body)], Duration::from_millis(100)) {
            Ok(()) => taken += 1,
            Err(refused) if full() => break refused,
            // The machine is busy.
            Err(_) => {}
        }
    };
    assert_eq!(refused, Refused::Full);
    assert!((150..250).contains(&taken), "about 1 MiB in the database and 1 MiB before it: {taken}");
    // What is in the database can still be read, and room is made as an operator would: by a larger limit.
    wait(
        store.read(|connection| connection.pragma_update_and_check(None, "max_page_count", 9999, |_| Ok(()))),
    )
    .unwrap();
    store.flush(PATIENCE).unwrap();
    let rows = wait(store.read(|connection| reads::journal(connection, 0, 9999, 9999))).unwrap();
    assert_eq!(rows.len(), taken);
}

#[test]
fn under_a_full_database_delivered_events_make_room() {
    let config = Config { max_bytes: Some(1 << 20), ..Config::default() };
    let (store, _) = Store::open(config, Metrics::new().0, Clock::start()).unwrap();
    let body = "x".repeat(4000);
    write(&store, vec![event_with("waiting", "t", &["s"], &body)]);
    for n in 0..1000 {
        write(&store, vec![event_with(&format!("k{n}"), "t", &[], &body)]);
    }
    assert_eq!(due(&store, "s"), [1]);
    assert_eq!(records(&store, vec![1]).len(), 1);
    let newest = wait(store.interactions(1, None)).unwrap();
    assert_eq!(newest[0].id, 1001);
}

#[test]
fn pages_are_bounded_in_bytes_and_lead_to_the_next_one() {
    let (store, recovered) = in_memory();
    let mebibyte = |key: &str| format!("{{\"{key}\":\"{}\"}}", "x".repeat(1 << 20));
    let keys: Vec<String> = (0..20).map(|number| format!("key{number}")).collect();
    for key in &keys {
        write(&store, vec![event_with(key, key, &[], &mebibyte(key)), journal("t", &mebibyte(key))]);
        write(&store, vec![settle(key, Some(&mebibyte(key)))]);
    }
    let (mut before, mut seen) = (None, Vec::new());
    loop {
        let page = wait(store.interactions(500, before)).unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        let bytes: usize = page.iter().map(|row| row.body.len()).sum();
        assert!(bytes < reads::PAGE_BYTES + (2 << 20), "{bytes}");
        seen.extend(page.into_iter().map(|row| row.body));
    }
    let newest_first: Vec<String> = keys.iter().rev().map(|key| mebibyte(key)).collect();
    assert!(seen == newest_first, "{} records", seen.len());
    let page = wait(store.read(|connection| reads::journal(connection, 0, 999, 256))).unwrap();
    assert_eq!(page.len(), 4);
    let page = wait(store.read(|connection| reads::conversations(connection, 0, 256))).unwrap();
    assert_eq!(page.len(), 4);
    assert_eq!(recovered.conversations().count(), keys.len());
}

#[test]
fn retention_takes_only_what_is_old_and_delivered() {
    let (store, _) = in_memory();
    let day = Duration::from_secs(24 * 3600);
    let now = UnixMillis(2_000_000_000_000);
    let at = |age: Duration| {
        UnixMillis(now.since(UnixMillis(u64::try_from(age.as_millis()).unwrap())).as_millis() as u64)
    };
    let aged = |key: &str, sinks: &[&str], age| match event(key, key, sinks) {
        Op::Event(event) => Op::Event(Box::new(NewEvent { at: at(age), ..*event })),
        other => other,
    };
    write(
        &store,
        vec![
            aged("old", &["s"], 40 * day),
            aged("old-waiting", &["s"], 40 * day),
            aged("old-dead", &["s"], 40 * day),
            aged("young", &[], 20 * day),
            Op::Delivered { id: 1 },
            dead(3, "no"),
        ],
    );
    let kept = move |retain| {
        wait(store.read(move |connection| {
            let config = Config { retain, ..Config::default() };
            while retention::Trim::default().step(connection, &config, now)? {}
            let mut keys = connection.prepare("SELECT key FROM events ORDER BY id")?;
            keys.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()
        }))
        .unwrap()
    };
    assert_eq!(kept(30 * day), ["old-waiting", "old-dead", "young"]);
    assert_eq!(kept(Duration::ZERO), ["old-waiting", "old-dead"]);
}

#[test]
fn of_what_is_remembered_the_last_and_the_young_is_kept() {
    let (store, recovered) = in_memory();
    let (hour, now) = (Duration::from_secs(3600), UnixMillis(2_000_000_000_000));
    let all = (0..600).map(|n| remember("t", now.before(hour * u32::from(n < 10)), &n.to_string()));
    write(&store, all.collect());
    let kept = |remembered_turns| {
        wait(store.read(move |connection| {
            let config = Config { conversation_ttl: hour / 2, remembered_turns, ..Config::default() };
            while retention::Trim::default().step(connection, &config, now)? {}
            Ok(())
        }))
        .unwrap();
        let kept: Vec<String> = recovered.histories().map(Result::unwrap).collect();
        (kept.len(), kept.first().cloned())
    };
    assert_eq!(kept(9999), (590, Some("10".to_owned())));
    assert_eq!(kept(50), (50, Some("550".to_owned())));
    assert_eq!(kept(0), (0, None));
}

#[test]
fn a_closed_store_refuses() {
    let (store, recovered) = in_memory();
    store.close();
    assert_eq!(store.commit(vec![journal("t", "a")], Duration::ZERO), Err(Refused::Closed));
    assert_eq!(store.flush(PATIENCE), Err(Refused::Closed));
    assert!(matches!(wait(store.backlog()), Err(ReadError::Closed)));
    assert!(matches!(recovered.journal().next(), Some(Err(ReadError::Closed))));
}

#[test]
fn with_an_interval_between_syncs_what_was_acknowledged_still_survives_the_process() {
    let (live, copy) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let config = Config { sync_every: Some(Duration::from_millis(1)), ..on_disk(live.path()) };
    let (store, _) = Store::open(config, Metrics::new().0, Clock::start()).unwrap();
    for n in 0..50 {
        write(&store, vec![journal("t", &n.to_string())]);
    }
    copy_files(live.path(), copy.path());
    assert_eq!(journal_of(&open(copy.path()).1).len(), 50);
}

fn on_disk(path: &Path) -> Config {
    Config { data_dir: Some(path.to_owned()), ..Config::default() }
}

fn open(path: &Path) -> (Store, Recovered) {
    Store::open(on_disk(path), Metrics::new().0, Clock::start()).unwrap()
}

fn in_memory() -> (Store, Recovered) {
    Store::open(Config::default(), Metrics::new().0, Clock::start()).unwrap()
}

fn write(store: &Store, ops: Vec<Op>) {
    wait(store.apply(ops)).unwrap();
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn conversation(id: &str) -> ConversationKey {
    ConversationKey { upstream: "u".into(), id: id.into() }
}

fn journal(id: &str, body: &str) -> Op {
    Op::Journal { conversation: conversation(id), at: UnixMillis(1), body: body.to_owned() }
}

fn remember(id: &str, at: UnixMillis, body: &str) -> Op {
    Op::Remember { conversation: conversation(id), at, body: body.to_owned() }
}

fn settle(id: &str, state: Option<&str>) -> Op {
    Op::Settle { conversation: conversation(id), state: state.map(str::to_owned) }
}

fn event(key: &str, id: &str, sinks: &[&str]) -> Op {
    event_with(key, id, sinks, key)
}

fn event_with(key: &str, id: &str, sinks: &[&str], body: &str) -> Op {
    Op::Event(Box::new(NewEvent {
        key: key.to_owned(),
        kind: "interaction",
        conversation: Some(conversation(id)),
        session: None,
        messages: 0,
        refs: Vec::new(),
        lane: lane(id),
        at: UnixMillis(1),
        body: body.to_owned(),
        sinks: sinks.iter().map(|sink| Arc::from(*sink)).collect(),
    }))
}

/// An event of a session with so many messages.
fn numbered(key: &str, session: &str, messages: u32) -> Op {
    let session = SessionKey { scope: "upstream:u".to_owned(), id: session.to_owned() };
    match event(key, &session.id.clone(), &[]) {
        Op::Event(event) => Op::Event(Box::new(NewEvent { session: Some(session), messages, ..*event })),
        other => other,
    }
}

fn first_message(store: &Store, key: &str) -> Option<i64> {
    let key = key.to_owned();
    let query = "SELECT first_message FROM events WHERE key = ?1";
    wait(store.read(move |connection| connection.query_row(query, [key], |row| row.get(0)))).unwrap()
}

/// As different as the conversations are.
fn lane(id: &str) -> u32 {
    id.bytes().fold(7, |lane, byte| lane * 31 % 65_521 + u32::from(byte))
}

fn dead(id: u64, answer: &str) -> Op {
    Op::Dead { id, attempts: 1, reason: "refused", answer: answer.to_owned() }
}

fn records(store: &Store, deliveries: Vec<u64>) -> Vec<DueRecord> {
    match wait(store.records(deliveries, usize::MAX)).unwrap() {
        DueRecords::Read(records) => records,
        DueRecords::TooLong { bytes } => panic!("{bytes} bytes are too long"),
    }
}

fn due(store: &Store, sink: &str) -> Vec<u64> {
    let page = wait(store.due(sink.into(), None, 0, 10_000)).unwrap();
    page.rows.iter().map(|due| due.id).collect()
}

fn journal_of(recovered: &Recovered) -> Vec<(String, String)> {
    recovered
        .journal()
        .map(|row| row.unwrap())
        .map(|row| (row.conversation.id.to_string(), row.body))
        .collect()
}

fn states_of(recovered: &Recovered) -> Vec<(String, String)> {
    recovered
        .conversations()
        .map(|row| row.unwrap())
        .map(|(key, state)| (key.id.to_string(), state))
        .collect()
}

fn copy_files(from: &Path, to: &Path) {
    for name in ["threadtap.db", "threadtap.db-wal"] {
        if from.join(name).exists() {
            fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}

fn set_aside(path: &Path) -> usize {
    let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name.contains(".corrupt-") && !name.ends_with("-wal") && !name.ends_with("-shm"))
        .count()
}

const PATIENCE: Duration = Duration::from_secs(30);
/// What a batch waits for room before a test takes the store for full: longer than a busy machine needs to write what came before.
const WITHOUT_ROOM: Duration = Duration::from_secs(2);
