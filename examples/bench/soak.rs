//! The soak: whole turns at half of what the machine can do, for long, watched for what grows and what is lost.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::task::JoinSet;

use crate::client::Client;
use crate::loads::{Bench, Load, Unit, exchange, join};
use crate::machine;
use crate::plot;
use crate::proxies::{Proxy, Row, Site};

/// What was seen at one moment.
struct Moment {
    at: Duration,
    rss_megabytes: f64,
    descriptors: usize,
    turns: u64,
    delivered: u64,
}

/// Runs it, and writes `soak.md` and a plot to `out`.
///
/// # Errors
/// When a record was lost or something grew: memory by more than a twentieth an hour, or descriptors at all.
pub(crate) async fn soak(bench: &Bench, site: &Site, length: Duration, out: &Path) -> Result<()> {
    let proxy = Proxy::start(Row::On, site, false)?;
    let figures = Load::Turn.measure(bench, Row::On, &proxy, CALIBRATION).await?;
    let capacity = figures.iter().find(|figure| figure.0 == "turns/s").map_or(0.0, |figure| figure.1);
    let rate = capacity / 2.0;
    let (delivered, done) = (bench.world.delivered(), Arc::new(AtomicU64::new(0)));
    let began = Instant::now();
    let workers = turns(bench, &proxy, rate, began, length, &done);
    let mut moments = Vec::new();
    let every = (length / MOMENTS).max(Duration::from_secs(1));
    while began.elapsed() < length {
        tokio::time::sleep(every).await;
        let moment = Moment {
            at: began.elapsed(),
            rss_megabytes: proxy.rss() as f64 / 1e6,
            descriptors: proxy.descriptors(),
            turns: done.load(Ordering::Relaxed),
            delivered: bench.world.delivered() - delivered,
        };
        writeln!(
            std::io::stdout(),
            "{:5.0} s  RSS {:.1} MB  descriptors {}  turns {}  delivered {}",
            moment.at.as_secs_f64(),
            moment.rss_megabytes,
            moment.descriptors,
            moment.turns,
            moment.delivered
        )?;
        moments.push(moment);
    }
    join(workers).await?;
    let done = done.load(Ordering::Relaxed);
    bench.drain(delivered + done).await;
    let lost = done.saturating_sub(bench.world.delivered() - delivered);
    // The beginning is the warming up of caches and the allocator.
    let settled = &moments[moments.len() / 3..];
    let (Some(first), Some(last)) = (settled.first(), settled.last()) else { bail!("it was too short") };
    let slope = slope(settled);
    let grown = slope / first.rss_megabytes;
    let page = format!(
        "# Soak\n\n{}\n- {:.1} minutes of whole turns at {rate:.0} a second, half of what this machine could do at the start\n\n\
         | figure | value |\n|---|--:|\n| turns | {done} |\n| records lost | {lost} |\n| RSS at the end, MB | {:.1} |\n\
         | RSS slope after the first third, MB an hour | {slope:.2} |\n| descriptors, after the first third and at the end | {}, {} |\n\n\
         ![RSS over time](soak.svg)\n",
        machine::describe(&site.binary, None),
        length.as_secs_f64() / 60.0,
        last.rss_megabytes,
        first.descriptors,
        last.descriptors,
    );
    fs::create_dir_all(out)?;
    fs::write(out.join("soak.md"), &page)?;
    let points: Vec<(f64, f64)> =
        moments.iter().map(|moment| (moment.at.as_secs_f64() / 60.0, moment.rss_megabytes)).collect();
    fs::write(out.join("soak.svg"), plot::line("RSS in MB, over minutes", &points))?;
    writeln!(std::io::stdout(), "{page}")?;
    let mut complaints = String::new();
    if lost > 0 {
        write!(complaints, "{lost} records were lost; ")?;
    }
    if grown > MOST_GROWTH && length >= SHORTEST_JUDGED {
        write!(complaints, "memory grows by {slope:.1} MB an hour; ")?;
    }
    if last.descriptors > first.descriptors + 16 {
        write!(complaints, "descriptors grew from {} to {}; ", first.descriptors, last.descriptors)?;
    }
    if complaints.is_empty() { Ok(()) } else { bail!(complaints) }
}

/// Starts turns at a fixed rate, whether or not those before are over sooner.
fn turns(
    bench: &Bench,
    proxy: &Proxy,
    rate: f64,
    began: Instant,
    length: Duration,
    done: &Arc<AtomicU64>,
) -> JoinSet<Result<()>> {
    let interval = Duration::from_secs_f64(f64::from(CONNECTIONS) / rate);
    let mut workers = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let (target, world, numbers, done) =
            (proxy.target, Arc::clone(&bench.world), Arc::clone(&bench.turns), Arc::clone(done));
        workers.spawn(async move {
            let mut client = Client::connect(target).await?;
            let mut due = began + interval * connection / CONNECTIONS;
            while due < began + length {
                world.pacer.until(due).await;
                let turn = numbers.fetch_add(1, Ordering::Relaxed);
                // A fixed set of threads, so that conversations do not add up.
                let thread = (1 << 53) + u64::from(connection) * 64 + turn % 64;
                exchange(&mut client, Unit::Turn, thread, turn).await?;
                done.fetch_add(1, Ordering::Relaxed);
                due += interval;
            }
            anyhow::Ok(())
        });
    }
    workers
}

/// Megabytes an hour, by least squares.
fn slope(moments: &[Moment]) -> f64 {
    let count = moments.len() as f64;
    let hours = |moment: &Moment| moment.at.as_secs_f64() / 3600.0;
    let middle_x = moments.iter().map(hours).sum::<f64>() / count;
    let middle_y = moments.iter().map(|moment| moment.rss_megabytes).sum::<f64>() / count;
    let (mut over, mut under) = (0.0, f64::MIN_POSITIVE);
    for moment in moments {
        let x = hours(moment) - middle_x;
        over += x * (moment.rss_megabytes - middle_y);
        under += x * x;
    }
    over / under
}

const CONNECTIONS: u32 = 32;
const CALIBRATION: Duration = Duration::from_secs(5);
/// How often it looks.
const MOMENTS: u32 = 120;
/// Share of the memory in use that may come on top in an hour.
const MOST_GROWTH: f64 = 0.05;
/// In less time than this, the noise of the allocator is larger than any slope.
const SHORTEST_JUDGED: Duration = Duration::from_secs(600);
