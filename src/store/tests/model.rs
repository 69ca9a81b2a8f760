//! Any sequence of operations, batches, closings and crashes leaves what a plain map would hold.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_store_holds_what_a_map_would(steps in prop::collection::vec(step(), 1..24)) {
        let mut dirs = vec![TempDir::new().unwrap()];
        let (mut store, _) = reopen(dirs[0].path());
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Batch(ops) => {
                    ops.iter().for_each(|op| model.apply(op));
                    write(&store, ops);
                    continue;
                }
                Step::Close => {
                    store.close();
                    store = reopen(dirs.last().unwrap().path()).0;
                }
                Step::Crash => {
                    let next = TempDir::new().unwrap();
                    copy_files(dirs.last().unwrap().path(), next.path());
                    store = reopen(next.path()).0;
                    dirs.push(next);
                }
            }
            check(&store, &dirs, &model)?;
        }
        store.close();
        let path = dirs.last().unwrap().path().to_owned();
        let (store, recovered) = reopen(&path);
        prop_assert_eq!(journal_of(&recovered), model.journal.clone());
        prop_assert_eq!(states_of(&recovered).into_iter().collect::<BTreeMap<_, _>>(), model.states.clone());
        let histories: Vec<String> = recovered.histories().map(Result::unwrap).collect();
        prop_assert_eq!(histories, model.histories.clone());
        check(&store, &dirs, &model)?;
    }
}

#[derive(Clone, Debug)]
enum Step {
    Batch(Vec<Op>),
    Close,
    Crash,
}

#[derive(Default)]
struct Model {
    journal: Vec<(String, String)>,
    states: BTreeMap<String, String>,
    histories: Vec<String>,
    events: BTreeSet<String>,
    /// Sink and attempts, by delivery.
    deliveries: BTreeMap<u64, (String, u32)>,
    dead: BTreeMap<String, u64>,
    next_delivery: u64,
}

impl Model {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Journal { conversation, body, .. } => {
                self.journal.push((conversation.id.to_string(), body.clone()));
            }
            Op::Remember { body, .. } => self.histories.push(body.clone()),
            Op::Hold { .. } | Op::Release { .. } | Op::Session { .. } | Op::User { .. } => {}
            Op::Settle { conversation, state } => {
                self.journal.retain(|(id, _)| **id != *conversation.id);
                match state {
                    Some(state) => self.states.insert(conversation.id.to_string(), state.clone()),
                    None => self.states.remove(&*conversation.id),
                };
            }
            Op::Event(event) => {
                if self.events.insert(event.key.clone()) {
                    for sink in &event.sinks {
                        self.next_delivery += 1;
                        self.deliveries.insert(self.next_delivery, (sink.to_string(), 0));
                    }
                }
            }
            Op::Delivered { id } => {
                self.deliveries.remove(id);
            }
            Op::Failed { id, attempts, .. } => {
                if let Some((_, made)) = self.deliveries.get_mut(id) {
                    *made = *attempts;
                }
            }
            Op::Dead { id, .. } => {
                if let Some((sink, _)) = self.deliveries.remove(id) {
                    *self.dead.entry(sink).or_default() += 1;
                }
            }
        }
    }
}

/// Without syncing each commit: what a dead process leaves is the same, and this is about nothing else.
fn reopen(path: &Path) -> (Store, Recovered) {
    let config = Config { sync_every: Some(Duration::from_secs(1)), ..on_disk(path) };
    Store::open(config, Metrics::new().0, Clock::start()).unwrap()
}

fn check(store: &Store, dirs: &[TempDir], model: &Model) -> Result<(), TestCaseError> {
    let backlog = wait(store.backlog()).unwrap().sinks;
    for sink in SINKS {
        let page = wait(store.due(sink.into(), None, 0, 999)).unwrap();
        let found: Vec<_> = page.rows.iter().map(|due| (due.id, due.attempts)).collect();
        let expected: Vec<_> = model
            .deliveries
            .iter()
            .filter(|(_, (of, _))| of == sink)
            .map(|(id, (_, attempts))| (*id, *attempts))
            .collect();
        let waiting = backlog.get(sink).copied().unwrap_or_default();
        prop_assert_eq!(waiting.deliveries, expected.len() as u64);
        prop_assert_eq!(waiting.dead_letters, model.dead.get(sink).copied().unwrap_or_default());
        prop_assert_eq!(found, expected);
    }
    prop_assert_eq!(wait(store.interactions(999, None)).unwrap().len(), model.events.len());
    prop_assert_eq!(dirs.iter().map(|dir| set_aside(dir.path())).sum::<usize>(), 0);
    Ok(())
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(op(), 0..8).prop_map(Step::Batch),
        1 => Just(Step::Close),
        1 => Just(Step::Crash),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let thread = || prop::sample::select(vec!["t1", "t2", "t3"]);
    prop_oneof![
        4 => (thread(), "[a-z]{1,3}").prop_map(|(id, body)| journal(id, &body)),
        1 => (thread(), "[a-z]{1,3}").prop_map(|(id, body)| remember(id, UnixMillis(4_000_000_000_000), &body)),
        2 => (thread(), prop::option::of("[a-z]{1,3}")).prop_map(|(id, state)| settle(id, state.as_deref())),
        3 => (0..20u8, thread(), prop::sample::subsequence(SINKS.to_vec(), 0..=2))
            .prop_map(|(key, id, sinks)| event(&format!("k{key}"), id, &sinks)),
        1 => (1..20u64).prop_map(|id| Op::Delivered { id }),
        1 => (1..20u64, 1..9u32).prop_map(|(id, attempts)| Op::Failed { id, attempts, failure: "no".to_owned() }),
        1 => (1..20u64).prop_map(|id| dead(id, "answer")),
    ]
}

const SINKS: [&str; 2] = ["a", "b"];
