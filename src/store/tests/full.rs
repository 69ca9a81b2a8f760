//! However a small database is filled, it comes to an end with it: nothing waits for ever, and no room is lost.

use std::sync::mpsc;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_full_store_goes_on_by_itself_once_all_is_delivered(batches in prop::collection::vec(batch(), 1..60)) {
        let (metrics, _registry) = Metrics::new();
        let config = Config { max_bytes: Some(1 << 20), queue_bytes: 256 << 10, ..Config::default() };
        let (store, _) = Store::open(config, metrics, Clock::start()).unwrap();
        for (index, batch) in batches.into_iter().enumerate() {
            let ops = batch.into_iter().enumerate();
            let ops = ops.map(|(place, piece)| piece.op(&format!("{index}-{place}"))).collect();
            // Taken or refused, as there is room.
            store.commit(ops, Duration::from_millis(2)).ok();
        }
        // As of a backend that is down, or refuses much: none of it makes room, nor may it stand in the way.
        for id in due(&store, SINK).into_iter().filter(|id| id % 4 != 0) {
            let outcome = match id % 2 {
                0 => Op::Failed { id, attempts: 1, failure: "x".repeat(3000) },
                _ => dead(id, &"x".repeat(4096)),
            };
            drop(store.write_acknowledged(vec![outcome]).unwrap());
        }
        let written = flushed(&store);
        loop {
            match written.recv_timeout(Duration::from_millis(1)) {
                Ok(flushed) => break prop_assert_eq!(flushed, Ok(()), "what waits is not written"),
                Err(_) => drop(deliver(&store)),
            }
        }
        while deliver(&store) {}
        // It takes what it took when it was empty, history aside.
        prop_assert_eq!(store.commit(vec![event_with("last", "t", &[SINK], &"x".repeat(50_000))], PATIENCE), Ok(()));
        prop_assert_eq!(store.flush(PATIENCE), Ok(()));
    }
}

/// Something to write, and how long its text is.
#[derive(Clone, Debug)]
enum Piece {
    History(usize),
    Due(usize),
    Journal(u8, usize),
    Settle(u8, Option<usize>),
}

impl Piece {
    fn op(self, key: &str) -> Op {
        let text = |bytes| "x".repeat(bytes);
        match self {
            Self::History(bytes) => event_with(key, "t", &[], &text(bytes)),
            Self::Due(bytes) => event_with(key, key, &[SINK], &text(bytes)),
            Self::Journal(id, bytes) => journal(&id.to_string(), &text(bytes)),
            Self::Settle(id, bytes) => settle(&id.to_string(), bytes.map(text).as_deref()),
        }
    }
}

fn batch() -> impl Strategy<Value = Vec<Piece>> {
    prop::collection::vec(piece(), 1..8)
}

fn piece() -> impl Strategy<Value = Piece> {
    let bytes = || prop_oneof![4 => 0..4000_usize, 2 => 4000..40_000_usize, 1 => 40_000..300_000_usize];
    prop_oneof![
        bytes().prop_map(Piece::History),
        bytes().prop_map(Piece::Due),
        (0..6_u8, bytes()).prop_map(|(id, bytes)| Piece::Journal(id, bytes)),
        (0..6_u8, prop::option::of(bytes())).prop_map(|(id, bytes)| Piece::Settle(id, bytes)),
    ]
}

/// Tells when all that was handed over is written, or given up.
fn flushed(store: &Store) -> mpsc::Receiver<Result<(), Refused>> {
    let (sender, written) = mpsc::channel();
    let store = store.clone();
    std::thread::spawn(move || {
        sender.send(store.flush(PATIENCE)).ok();
    });
    written
}

/// Delivers what is due, as a courier does. Tells whether anything was.
fn deliver(store: &Store) -> bool {
    let due = due(store, SINK);
    let any = !due.is_empty();
    if any {
        write(store, due.into_iter().map(|id| Op::Delivered { id }).collect());
    }
    any
}

const SINK: &str = "s";
