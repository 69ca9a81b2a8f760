//! A disk that is full, broken or gone: nothing waits for ever, what is lost is counted, and it goes on by itself.

use super::*;
use crate::metrics::{KindLabel, LossLabel, StateLabel};

struct Watched {
    store: Store,
    metrics: Metrics,
}

impl Watched {
    fn open(config: Config) -> Self {
        let (metrics, _registry) = Metrics::new();
        let (store, _) = Store::open(config, metrics.clone(), Clock::start()).unwrap();
        Self { store, metrics }
    }

    fn lost(&self, reason: &'static str) -> u64 {
        self.metrics.deliveries_lost.get_or_create(&LossLabel { sink: "s".to_owned(), reason }).get()
    }

    fn conversations(&self) -> i64 {
        let counted = self.store.read(|connection| {
            connection.query_row("SELECT count(*) FROM conversations", [], |row| row.get(0))
        });
        wait(counted).unwrap()
    }

    fn recreated(&self, kind: &'static str) -> u64 {
        self.metrics.store_recreated.get_or_create(&KindLabel { kind }).get()
    }

    fn is_failing(&self) -> bool {
        self.metrics.store_state.get_or_create(&StateLabel { state: "failing" }).get() > 0
    }

    /// Journals one row in each of as many conversations as there is room for, in the database and before it, and tells how many.
    fn fill_with_journals(&self, body: &str) -> usize {
        let mut taken = 0;
        loop {
            match self.store.commit(vec![journal(&taken.to_string(), body)], Duration::from_millis(50)) {
                Ok(()) => taken += 1,
                Err(_) if self.is_failing() => return taken,
                // The machine is busy.
                Err(_) => {}
            }
        }
    }

    fn eventually(&self, what: &str, fact: impl Fn(&Self) -> bool) {
        for _ in 0..1000 {
            if fact(self) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{what} did not come about");
    }
}

#[test]
fn a_database_full_of_what_waits_still_records_what_was_delivered_and_takes_up_where_it_was() {
    let queue_bytes = 256 << 10;
    let watched = Watched::open(Config { max_bytes: Some(1 << 20), queue_bytes, ..Config::default() });
    let body = "x".repeat(10_000);
    let mut taken = 0;
    while watched
        .store
        .commit(vec![event_with(&format!("k{taken}"), "t", &["s"], &body)], WITHOUT_ROOM)
        .is_ok()
    {
        taken += 1;
    }
    assert_eq!(watched.lost("refused"), 1, "the one that was refused is counted for its sink");
    // As delivery does: one at a time, each waiting until it is written.
    let mut delivered = 0;
    while delivered < taken {
        let page = wait(watched.store.due("s".into(), None, 0, 1)).unwrap();
        let Some(due) = page.rows.first() else {
            watched.store.flush(PATIENCE).unwrap();
            continue;
        };
        wait(watched.store.apply(vec![Op::Delivered { id: due.id }])).unwrap();
        delivered += 1;
    }
    watched.store.flush(PATIENCE).unwrap();
    assert!(!watched.is_failing());
    assert!(due(&watched.store, "s").is_empty());
}

#[test]
fn a_database_full_of_journals_is_freed_by_settling_also_where_that_was_refused() {
    let watched =
        Watched::open(Config { max_bytes: Some(1 << 20), queue_bytes: 64 << 10, ..Config::default() });
    let body = "x".repeat(10_000);
    let conversations = watched.fill_with_journals(&body);
    for n in 0..conversations {
        let batch = vec![event_with(&format!("k{n}"), "t", &[], &body), settle(&n.to_string(), None)];
        // Refused or not, as there is room.
        watched.store.commit(batch, Duration::ZERO).ok();
    }
    watched.store.flush(PATIENCE).unwrap();
    assert!(!watched.is_failing());
    let left = wait(watched.store.read(|connection| reads::journal(connection, 0, 9999, 9999))).unwrap();
    assert!(left.is_empty(), "{} rows", left.len());
}

#[test]
fn a_settling_that_itself_needs_room_has_history_make_way() {
    let watched = Watched::open(Config { max_bytes: Some(1 << 20), ..Config::default() });
    for n in 0..600 {
        write(&watched.store, vec![event_with(&format!("k{n}"), "t", &[], &"x".repeat(2000))]);
    }
    // More than one step of making room frees.
    let state = "y".repeat(700_000);
    watched.store.commit(vec![settle("t", Some(&state)), settle("u", None)], Duration::ZERO).unwrap();
    watched.eventually("the settling", |watched| watched.conversations() == 1);
    assert!(!watched.is_failing());
}

#[test]
fn what_was_given_up_or_failed_keeps_nothing_that_was_delivered_from_making_room() {
    let watched =
        Watched::open(Config { max_bytes: Some(1 << 20), queue_bytes: 256 << 10, ..Config::default() });
    let body = "x".repeat(10_000);
    for n in 0..200 {
        watched.store.commit(vec![event_with(&format!("k{n}"), "t", &["s"], &body)], Duration::ZERO).ok();
    }
    // As lanes do: several, each waiting until it is written what became of what it tried.
    let outcome = |id: u64| match id % 3 {
        0 => Op::Delivered { id },
        1 => Op::Failed { id, attempts: 1, failure: "f".repeat(3000) },
        _ => dead(id, &"a".repeat(4096)),
    };
    let ids = due(&watched.store, "s");
    assert!(ids.len() > 20, "{}", ids.len());
    std::thread::scope(|lanes| {
        for lane in ids.chunks(ids.len().div_ceil(8)) {
            let store = &watched.store;
            lanes.spawn(move || lane.iter().for_each(|id| write(store, vec![outcome(*id)])));
        }
    });
    watched.store.flush(PATIENCE).unwrap();
    assert!(!watched.is_failing());
}

#[test]
fn what_settles_nothing_does_not_stop_later_settlings_from_making_room() {
    let watched =
        Watched::open(Config { max_bytes: Some(1 << 20), queue_bytes: 256 << 10, ..Config::default() });
    let ids = watched.fill_with_journals(&"x".repeat(10_000));
    // Somebody waits for this, so it is not refused; and it stands before all that comes.
    let waiting =
        watched.store.write_acknowledged(vec![event_with("k", "t", &[], &"x".repeat(200_000))]).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    for id in 0..ids {
        watched.store.commit(vec![settle(&id.to_string(), None)], Duration::from_millis(50)).ok();
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(waiting.blocking_recv(), Ok(()));
    assert!(!watched.is_failing());
}

#[test]
fn what_nobody_waits_for_any_more_is_refused_as_anything() {
    let watched = Watched::open(Config { max_bytes: Some(1 << 20), ..Config::default() });
    let hopeless = || watched.store.write_acknowledged(vec![journal("t", &"x".repeat(2 << 20))]).unwrap();
    drop(hopeless());
    assert_eq!(watched.store.flush(PATIENCE), Ok(()));
    let _waiting = hopeless();
    assert_eq!(watched.store.flush(Duration::from_secs(1)), Err(Refused::Full));
}

#[test]
fn settlings_that_find_no_room_are_refused_one_by_one() {
    let watched = Watched::open(Config { max_bytes: Some(1 << 20), ..Config::default() });
    let state = "y".repeat(200_000);
    let settlings = (0..20).map(|n| settle(&format!("t{n}"), Some(&state)));
    watched.store.commit(settlings.collect(), Duration::ZERO).unwrap();
    watched.store.flush(PATIENCE).unwrap();
    let kept = watched.conversations();
    assert!((2..5).contains(&kept), "{kept}");
    assert!(watched.is_failing(), "as far as is known");
    write(&watched.store, vec![settle("t", None)]);
    assert!(!watched.is_failing());
}

#[test]
fn corruption_that_shows_in_a_read_first_has_the_database_set_aside_and_its_loss_counted() {
    let dir = TempDir::new().unwrap();
    let (store, _) = open(dir.path());
    let body = |n| format!("body {n} {}", "y".repeat(3000));
    write(&store, (0..500).map(|n| event_with(&format!("k{n}"), "t", &["s"], &body(n))).collect());
    store.close();
    // One page that opening does not look at.
    let path = dir.path().join("threadtap.db");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(9).position(|window| window == b"body 250 ").unwrap() / 4096 * 4096;
    bytes[at..at + 4096].fill(0xA5);
    fs::write(&path, bytes).unwrap();

    let watched = Watched::open(on_disk(dir.path()));
    let read = wait(watched.store.interactions(500, None));
    assert!(matches!(read, Err(ReadError::Database(_))), "{read:?}");
    watched.eventually("a new database", |watched| watched.recreated("corrupt") == 1);
    assert_eq!((watched.lost("corrupt"), set_aside(dir.path())), (500, 1));
    write(&watched.store, vec![event("new", "t", &["s"])]);
    assert_eq!(due(&watched.store, "s").len(), 1);
    assert!(!watched.is_failing());
}

#[test]
fn corruption_found_at_opening_is_set_aside_and_what_can_be_counted_is() {
    let dir = TempDir::new().unwrap();
    let (store, _) = open(dir.path());
    write(&store, (0..20).map(|n| event(&format!("k{n}"), "t", &["s"])).collect());
    let page = wait(store.read(|connection| {
        connection
            .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'journal'", [], |row| row.get(0))
    }));
    let page: u64 = page.map(|page: i64| page.unsigned_abs()).unwrap();
    store.close();
    let path = dir.path().join("threadtap.db");
    let mut bytes = fs::read(&path).unwrap();
    let at = usize::try_from(page - 1).unwrap() * 4096;
    bytes[at..at + 4096].fill(0xA5);
    fs::write(&path, bytes).unwrap();

    let watched = Watched::open(on_disk(dir.path()));
    assert_eq!((watched.lost("corrupt"), watched.recreated("corrupt"), set_aside(dir.path())), (20, 1, 1));
    write(&watched.store, vec![event("new", "t", &["s"])]);
}

#[test]
fn a_directory_that_was_deleted_is_made_again_and_what_is_acknowledged_is_in_it() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let watched = Watched::open(on_disk(&data));
    write(&watched.store, vec![event("old", "t", &["s"])]);
    fs::remove_dir_all(&data).unwrap();
    write(&watched.store, vec![event("new", "t", &["s"])]);
    assert_eq!((watched.recreated("vanished"), watched.lost("vanished")), (1, 1));
    let copy = TempDir::new().unwrap();
    copy_files(&data, copy.path());
    assert_eq!(due(&open(copy.path()).0, "s").len(), 1);
    let refused = Store::open(on_disk(&data), Metrics::new().0, Clock::start()).unwrap_err();
    assert!(matches!(refused, OpenError::Locked { .. }), "the new directory is held: {refused}");
}

#[test]
fn a_number_a_courier_has_passed_is_never_given_again_not_even_by_another_database() {
    let dir = TempDir::new().unwrap();
    let (data, backup) = (dir.path().join("data"), dir.path().join("backup"));
    let (store, _) = open(&backup);
    write(&store, vec![event("from a backup", "t", &["s"])]);
    store.close();
    drop(store);

    let watched = Watched::open(on_disk(&data));
    write(&watched.store, (0..9).map(|n| event(&format!("k{n}"), "t", &["s"])).collect());
    let passed = *due(&watched.store, "s").last().unwrap();
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&backup, &data).unwrap();
    let mut announced = watched.store.deliveries();
    announced.mark_unchanged();
    watched.eventually("the backup to be opened", |watched| watched.recreated("vanished") == 1);
    write(&watched.store, vec![event("new", "t", &["s"])]);
    assert!(announced.has_changed().unwrap());
    let found = due(&watched.store, "s");
    assert!(found.len() == 2 && found[0] > passed, "{found:?} after {passed}");
    let bodies = records(&watched.store, found);
    assert_eq!(bodies.iter().map(|record| &*record.body).collect::<Vec<_>>(), ["from a backup", "new"]);
}

#[test]
fn an_idle_store_notices_by_itself_that_its_directory_was_replaced() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let watched = Watched::open(on_disk(&data));
    write(&watched.store, vec![event("old", "t", &["s"])]);
    fs::rename(&data, dir.path().join("elsewhere")).unwrap();
    fs::create_dir(&data).unwrap();
    watched
        .eventually("a new database", |watched| watched.recreated("vanished") == 1 && !watched.is_failing());
    assert!(data.join("threadtap.db").exists());
}

#[test]
fn a_directory_that_cannot_be_made_again_is_waited_for_in_bounded_memory() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let watched = Watched::open(Config { queue_bytes: 1 << 20, ..on_disk(&data) });
    fs::remove_dir_all(&data).unwrap();
    fs::write(&data, "a file is in the way").unwrap();
    let body = "x".repeat(10_000);
    let mut taken = 0;
    while watched
        .store
        .commit(vec![event_with(&format!("k{taken}"), "t", &["s"], &body)], WITHOUT_ROOM)
        .is_ok()
    {
        taken += 1;
    }
    assert!((50..150).contains(&taken), "about 1 MiB: {taken}");
    watched.eventually("trouble", Watched::is_failing);
    fs::remove_file(&data).unwrap();
    watched.store.flush(PATIENCE).unwrap();
    assert_eq!(due(&watched.store, "s").len(), taken);
    watched.eventually("the end of trouble", |watched| !watched.is_failing());
}

#[test]
fn retention_by_size_lets_go_of_text_and_remembers_keys() {
    let watched = Watched::open(Config::default());
    let clock = Clock::start();
    let body = "x".repeat(4000);
    let young = |key: &str, sinks: &[&str]| match event_with(key, "t", sinks, &body) {
        Op::Event(event) => Op::Event(Box::new(NewEvent { at: clock.now(), ..*event })),
        other => other,
    };
    let mut ops = vec![young("waiting", &["s"])];
    ops.extend((0..600).map(|n| young(&format!("k{n}"), &[])));
    write(&watched.store, ops);
    let now = clock.now();
    let used = wait(watched.store.read(move |connection| {
        let mut history = budget::History::default();
        while budget::used_bytes(connection)? > 1 << 20
            && history.step_of_bodies(connection, 64, UnixMillis(now.0 - 1000))? != budget::Step::Exhausted
        {
        }
        budget::used_bytes(connection)
    }))
    .unwrap();
    assert!(used <= 1 << 20, "{used}");
    let kept = wait(watched.store.interactions(999, None)).unwrap();
    assert!((150..300).contains(&kept.len()), "{}", kept.len());
    assert_eq!(kept.last().unwrap().id, 1, "what waits is kept, however old");
    write(&watched.store, vec![young("k0", &["s"])]);
    assert_eq!(due(&watched.store, "s"), [1], "a run whose text is gone is not recorded again");
}
