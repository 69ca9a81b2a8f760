//! What the store sustains, on a disk of your choice: `cargo run --release --example store [DIRECTORY]`.
//!
//! Writes interactions as the pipeline and delivery do (journal, event, settling, delivered), as fast as they are taken, and prints
//! rows a second and the processor's time for each. Then lets the store trim most of it, and prints how long the slowest
//! of the small commits took that were made meanwhile, beside those made without.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use threadtap::clock::Clock;
use threadtap::metrics::{KindLabel, Metrics};
use threadtap::store::{Config, NewEvent, Op, Store};
use threadtap_core::observation::ConversationKey;
use threadtap_core::time::UnixMillis;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let directory = std::env::args().nth(1).map_or_else(|| home.path().join("data"), PathBuf::from);
    let config = Config { data_dir: Some(directory), ..Config::default() };
    fill(&config).await?;
    trim(config).await
}

async fn fill(config: &Config) -> anyhow::Result<()> {
    let clock = Clock::start();
    let (store, recovered) = Store::open(config.clone(), Metrics::new().0, clock)?;
    drop(recovered);
    let (begun, cpu) = (now(), cpu_seconds()?);
    let mut delivery = 0;
    for batch in 0..INTERACTIONS / BATCH {
        let interactions = batch * BATCH..(batch + 1) * BATCH;
        store.apply(interactions.clone().flat_map(|n| interaction(n, clock.now())).collect()).await?;
        store.apply(interactions.map(|_| Op::Delivered { id: next(&mut delivery) }).collect()).await?;
    }
    let (seconds, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds()? - cpu);
    let count = f64::from(INTERACTIONS);
    say(&format!(
        "{INTERACTIONS} interactions of {ROWS} rows in batches of {BATCH}: {:.0} interactions/s, {:.0} rows/s, {:.0} µs of CPU each",
        count / seconds,
        count * f64::from(ROWS) / seconds,
        cpu / count * 1e6,
    ))?;
    store.close();
    Ok(())
}

async fn trim(config: Config) -> anyhow::Result<()> {
    let clock = Clock::start();
    let (metrics, _registry) = Metrics::new();
    let (store, recovered) =
        Store::open(Config { retain_bytes: Some(1 << 20), ..config }, metrics.clone(), clock)?;
    drop(recovered);
    let trimmed = || metrics.store_evicted.get_or_create(&KindLabel { kind: "size" }).get();
    let (mut quiet, mut during) = (Vec::new(), Vec::new());
    let mut number = INTERACTIONS;
    // The first step comes a minute after opening.
    while trimmed() < u64::from(INTERACTIONS) - 2000 {
        number += 1;
        let begun = now();
        store.apply(interaction(number, clock.now())).await?;
        let took = begun.elapsed();
        if trimmed() > 0 {
            during.push(took)
        } else {
            quiet.push(took)
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for (what, mut times) in [("without a trim", quiet), ("while trimming", during)] {
        times.sort();
        let at = |share: f64| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "an index"
            )]
            let index = (share * (times.len() - 1) as f64) as usize;
            times[index]
        };
        say(&format!(
            "{} commits {what}: median {:?}, p99 {:?}, longest {:?}",
            times.len(),
            at(0.5),
            at(0.99),
            at(1.0)
        ))?;
    }
    say(&format!("{} records were trimmed", trimmed()))?;
    store.close();
    Ok(())
}

/// What one run of a conversation has written: it is created, goes on, ends, is recorded and due at one sink.
fn interaction(number: u32, at: UnixMillis) -> Vec<Op> {
    let conversation = ConversationKey { upstream: "bench".into(), id: format!("thread_{number}").into() };
    let journal = || Op::Journal { conversation: conversation.clone(), at, body: "o".repeat(1000) };
    let event = Op::Event(Box::new(NewEvent {
        key: format!("key-{number}"),
        kind: "interaction",
        conversation: Some(conversation.clone()),
        session: None,
        messages: 0,
        refs: Vec::new(),
        lane: number,
        at,
        body: "e".repeat(3000),
        sinks: vec![Arc::from("sink")],
    }));
    let settle = Op::Settle { conversation: conversation.clone(), state: Some("s".repeat(200)) };
    vec![journal(), journal(), event, settle]
}

fn next(number: &mut u64) -> u64 {
    *number += 1;
    *number
}

/// The processor's time this process has had, in its user's and the system's name (proc(5)).
fn cpu_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / TICKS_PER_SECOND)
}

fn say(line: &str) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{line}")
}

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn now() -> Instant {
    Instant::now()
}

const INTERACTIONS: u32 = 60_000;
const BATCH: u32 = 20;
/// Two of the journal, an event, a delivery, a state, and the delivery's end.
const ROWS: u32 = 6;
const TICKS_PER_SECOND: f64 = 100.0;
