//! Random legal exchanges, sent directly and through threadtap, must look the same at both ends, save for what
//! [`allowed::ALLOWED`] lists.
//!
//! `THREADTAP_DIFFERENTIAL_CASES` and `THREADTAP_DIFFERENTIAL_SEED` make another run of it (`scripts/differential`);
//! `THREADTAP_DIFFERENTIAL_ONLY` plays one case alone.

mod allowed;
mod case;
mod http2;
mod play;
mod wire;

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::strategy::{BoxedStrategy, Strategy, ValueTree};
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use tokio::task::JoinSet;

use self::allowed::{ALLOWED, Pair};
use self::case::Case;
use self::play::{Seen, World};
use crate::support::Rig;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_exchanges_look_the_same_directly_and_through_threadtap() {
    let count = setting("THREADTAP_DIFFERENTIAL_CASES").unwrap_or(CASES);
    let seed = setting("THREADTAP_DIFFERENTIAL_SEED").unwrap_or(SEED);
    let only = setting("THREADTAP_DIFFERENTIAL_ONLY");
    let world = World::start().await;
    let mut rig = Rig::start_with(|settings| {
        settings.proxy.upstream = format!("http://{}", world.address).parse().unwrap();
    })
    .await;
    let captured = rig.captured.take().unwrap();
    std::thread::spawn(move || while captured.recv().is_ok() {});
    let bench = Arc::new(Bench::new(world, rig.address));
    let next = Arc::new(AtomicU64::new(0));
    let failed = Arc::new(Mutex::new(BTreeMap::new()));
    let mut lanes = JoinSet::new();
    for _ in 0..LANES {
        let (bench, next, failed) = (Arc::clone(&bench), Arc::clone(&next), Arc::clone(&failed));
        lanes.spawn(async move {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    return;
                }
                if only.is_none_or(|only| only == index) {
                    let case = tree(seed, index).current();
                    if let Some(difference) = bench.difference(&case, is_http2(index)).await {
                        failed.lock().unwrap().insert(index, difference);
                    }
                }
            }
        });
    }
    while let Some(lane) = lanes.join_next().await {
        lane.unwrap();
    }
    let failed = std::mem::take(&mut *failed.lock().unwrap());
    let exchanges = bench.exchanges.load(Ordering::Relaxed);
    let summary = format!("seed {seed}: {count} cases, {exchanges} exchanges, {} differences", failed.len());
    report(&summary);
    for (index, difference) in failed.iter().take(REPORTED) {
        let (case, difference) = bench.smallest(seed, *index, difference).await;
        report(&format!(
            "\nseed {seed}, case {index}, made as small as it would go:\n{difference}\n{case:?}"
        ));
    }
    assert!(failed.is_empty(), "{summary}; cases {:?}", failed.keys());
    if only.is_none() && count >= CASES {
        let used = bench.used.lock().unwrap();
        let idle = ALLOWED
            .iter()
            .filter(|allowance| !used.contains(allowance.name) && !RACES.contains(&allowance.name));
        let idle: Vec<_> = idle.map(|allowance| (allowance.name, allowance.reason)).collect();
        assert!(idle.is_empty(), "allowed without need: {idle:?}");
    }
}

/// Allowances a run may do without: whether an answer overtakes the upload it answers, and whether a connection that upstream closes
/// was used before, is the scheduler's choice.
const RACES: &[&str] = &["a second try", "an upload after its answer"];

/// An upstream, and a threadtap in front of it.
struct Bench {
    world: World,
    proxy: SocketAddr,
    exchanges: AtomicU64,
    /// The names of the allowances that were needed.
    used: Mutex<HashSet<&'static str>>,
}

impl Bench {
    fn new(world: World, proxy: SocketAddr) -> Self {
        Self { world, proxy, exchanges: AtomicU64::new(0), used: Mutex::default() }
    }

    /// What differs, if anything does.
    async fn difference(&self, case: &Case, http2: bool) -> Option<String> {
        let expressible;
        let case = if http2 {
            expressible = http2::expressible(case);
            &expressible
        } else {
            case
        };
        self.exchanges.fetch_add(case.exchanges.len() as u64, Ordering::Relaxed);
        let direct = match self.play(case, self.world.address, false).await {
            Ok(direct) => direct,
            Err(direct) => return Some(format!("even directly, {}", stuck(case, &direct, &[]))),
        };
        let proxied = match self.play(case, self.proxy, http2).await {
            Ok(proxied) => proxied,
            Err(proxied) => return Some(stuck(case, &direct, &proxied)),
        };
        let host = self.world.address.to_string();
        for ((exchange, direct), proxied) in case.exchanges.iter().zip(direct).zip(proxied) {
            let mut pair = Pair { exchange, http2, host: &host, direct, proxied };
            for allowance in ALLOWED {
                let known = self.used.lock().unwrap().contains(allowance.name);
                let before = (!known).then(|| (pair.direct.clone(), pair.proxied.clone()));
                (allowance.apply)(&mut pair);
                if before.is_some_and(|(direct, proxied)| direct != pair.direct || proxied != pair.proxied) {
                    self.used.lock().unwrap().insert(allowance.name);
                }
            }
            if pair.direct != pair.proxied {
                let course = exchange.course();
                let how = changes(&pair.direct.transcript(), &pair.proxied.transcript());
                return Some(format!("{course:?}, HTTP/2: {http2}\n{how}"));
            }
        }
        None
    }

    /// Plays a case; what was seen of each exchange, in part only when it got stuck.
    async fn play(&self, case: &Case, to: SocketAddr, http2: bool) -> Result<Vec<Seen>, Vec<Seen>> {
        let scripts = self.world.expect(case);
        let playing = async {
            if http2 {
                http2::client(&scripts, to).await;
            } else {
                play::client(case, &scripts, to).await;
            }
            self.world.outcome(&scripts).await
        };
        let played = tokio::time::timeout(PATIENCE, playing).await;
        played.map_err(|_| self.world.give_up(&scripts))
    }

    /// Makes a case that differs smaller for as long as it differs.
    async fn smallest(&self, seed: u64, index: u64, difference: &str) -> (Case, String) {
        let mut tree = tree(seed, index);
        let mut smallest =
            (tree.current(), format!("it did not happen again; what was seen first:\n{difference}"));
        for _ in 0..SHRINKS {
            let case = tree.current();
            let went_on = match self.difference(&case, is_http2(index)).await {
                Some(difference) => {
                    smallest = (case, difference);
                    tree.simplify()
                }
                None => tree.complicate(),
            };
            if !went_on {
                break;
            }
        }
        smallest
    }
}

thread_local! {
    // It is costly to make, and cannot be shared.
    static STRATEGY: BoxedStrategy<Case> = case::case().boxed();
}

/// The case of this number.
fn tree(seed: u64, index: u64) -> impl ValueTree<Value = Case> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&index.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    case::case()
        .new_tree(&mut TestRunner::new_with_rng(proptest::test_runner::Config::default(), rng))
        .unwrap()
}

/// What a case that did not come to its end looked like.
fn stuck(case: &Case, direct: &[Seen], proxied: &[Seen]) -> String {
    let mut text = "stuck\n".to_owned();
    for (at, exchange) in case.exchanges.iter().enumerate() {
        text.push_str(&format!("{:?}\n", exchange.course()));
        for (side, seen) in [("direct", direct.get(at)), ("proxied", proxied.get(at))] {
            let lines = seen.map(Seen::transcript).unwrap_or_default();
            lines.iter().for_each(|line| text.push_str(&format!("{side} | {line}\n")));
        }
    }
    text
}

/// The lines that differ, with those on either side of them.
fn changes(expected: &[String], got: &[String]) -> String {
    let same =
        |pairs: &mut dyn Iterator<Item = (&String, &String)>| pairs.take_while(|(a, b)| a == b).count();
    let head = same(&mut expected.iter().zip(got));
    let tail = same(&mut expected[head..].iter().rev().zip(got[head..].iter().rev()));
    let marked = |mark: char, lines: &[String]| {
        lines.iter().map(|line| format!("{mark} {line}\n")).collect::<String>()
    };
    [
        marked(' ', &expected[head.saturating_sub(2)..head]),
        marked('-', &expected[head..expected.len() - tail]),
        marked('+', &got[head..got.len() - tail]),
    ]
    .concat()
}

/// Every fourth case comes over HTTP/2.
fn is_http2(index: u64) -> bool {
    index % 4 == 3
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

#[expect(clippy::print_stdout, reason = "a test's report goes where its runner's does")]
fn report(text: &str) {
    println!("{text}");
}

const CASES: u64 = 3000;
const SEED: u64 = 1;
const LANES: usize = 16;
/// So many differing cases are shown.
const REPORTED: usize = 3;
const SHRINKS: usize = 150;
/// How long a case may take.
const PATIENCE: Duration = Duration::from_secs(10);
