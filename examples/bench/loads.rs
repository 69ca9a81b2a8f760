//! The loads, and what is measured under each.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::task::JoinSet;

use crate::client::{Ask, Client, Target};
use crate::others::Other;
use crate::proxies::{Proxy, Row};
use crate::upstream::{LARGE_BODY_BYTES, World};

/// A load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// Create-message requests, as fast as they are answered.
    Message,
    /// The same at a fixed rate, for latency.
    MessageRate,
    /// Streamed runs, as fast as they come.
    Stream,
    /// Create message, streamed run, list messages.
    Turn,
    /// Create message, create run, polls, list messages.
    Polled,
    /// Create-message requests to an upstream with TLS.
    Tls,
    /// Many streams of a few events a second each.
    Events,
    /// Streams that are open and silent.
    Idle,
    /// Large answers.
    Download,
    /// Large requests.
    Upload,
    /// Nothing but starting.
    Start,
    /// Create-message requests, with one worker and with two.
    Workers,
    /// Whole turns, when something behind capture is broken.
    Trouble,
}

/// How long and how much.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    /// How long a closed loop runs each time.
    pub(crate) window: Duration,
    /// Create-message requests a second where the rate is fixed.
    pub(crate) rate: u32,
    /// How many streams are paced at a time, and how long.
    pub(crate) streams: u64,
    pub(crate) stream_time: Duration,
    /// How many streams are idle at a time.
    pub(crate) idle: u64,
    /// How many large bodies there are in a window.
    pub(crate) large: u64,
}

/// A figure's name and its value in one measurement.
pub(crate) type Figures = Vec<(&'static str, f64)>;

impl Load {
    pub(crate) const ALL: [Self; 13] = [
        Self::Message,
        Self::MessageRate,
        Self::Stream,
        Self::Turn,
        Self::Polled,
        Self::Events,
        Self::Idle,
        Self::Download,
        Self::Upload,
        Self::Tls,
        Self::Workers,
        Self::Trouble,
        Self::Start,
    ];

    /// The word that selects it on the command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::MessageRate => "rate",
            Self::Stream => "stream",
            Self::Turn => "turn",
            Self::Polled => "polled",
            Self::Tls => "tls",
            Self::Events => "events",
            Self::Idle => "idle",
            Self::Download => "download",
            Self::Upload => "upload",
            Self::Start => "start",
            Self::Workers => "workers",
            Self::Trouble => "trouble",
        }
    }

    /// What it is, in a few words.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Message => "Create message, 32 connections",
            Self::MessageRate => "Create message at a fixed rate",
            Self::Stream => "Streamed run of 200 deltas, unpaced",
            Self::Turn => "Whole turn: create message, streamed run, list",
            Self::Polled => "Polled turn: create message, create run, 10 polls, list",
            Self::Tls => "Create message, TLS to upstream",
            Self::Events => "Paced streams of 20 events a second, delay per event",
            Self::Idle => "Idle streams",
            Self::Download => "Downloads of 64 MB",
            Self::Upload => "Uploads of 64 MB",
            Self::Start => "Cold start",
            Self::Workers => "Two workers",
            Self::Trouble => "Whole turn, in trouble",
        }
    }

    /// What is compared under it.
    pub(crate) fn rows(self, other: bool) -> Vec<Row> {
        let mut rows = match self {
            Self::Workers => return vec![Row::On, Row::OnTwoWorkers],
            Self::Trouble => return vec![Row::On, Row::OnSinkDead, Row::OnSlowDisk, Row::OnTinyQueues],
            // There is nothing to measure of no proxy; and the load itself speaks no TLS.
            Self::Idle | Self::Start | Self::Tls => vec![Row::Nginx, Row::Off, Row::On],
            _ => vec![Row::Direct, Row::Nginx, Row::Off, Row::On],
        };
        if matches!(self, Self::Message | Self::Stream) {
            let installed = Other::ALL.into_iter().filter(|other| other.version().is_some());
            rows.splice(2..2, installed.map(Row::Beside));
        }
        if other {
            rows.extend([Row::OtherOff, Row::OtherOn]);
        }
        rows
    }

    /// Measures once.
    pub(crate) async fn measure(
        self,
        bench: &Bench,
        row: Row,
        proxy: &Proxy,
        window: Duration,
    ) -> Result<Figures> {
        match self {
            Self::Message | Self::Tls | Self::Workers => {
                bench.closed(row, proxy, 32, window, Unit::Message).await
            }
            Self::MessageRate => bench.rate(proxy, window).await,
            Self::Stream => bench.closed(row, proxy, 16, window, Unit::Stream).await,
            Self::Turn | Self::Trouble => bench.closed(row, proxy, 16, window, Unit::Turn).await,
            Self::Polled => bench.closed(row, proxy, 32, window, Unit::Polled).await,
            Self::Events => bench.events(row, proxy).await,
            Self::Idle => bench.idle(proxy).await,
            Self::Download => bench.large(proxy, Ask::Download).await,
            Self::Upload => bench.large(proxy, Ask::Upload(LARGE_BODY_BYTES)).await,
            Self::Start => bench.start(proxy).await,
        }
    }
}

/// What is counted in a closed loop.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Message,
    Polled,
    Stream,
    Turn,
}

/// Everything loads share.
pub(crate) struct Bench {
    pub(crate) world: Arc<World>,
    pub(crate) scale: Scale,
    /// The next turn's number: no id ever comes twice.
    pub(crate) turns: Arc<AtomicU64>,
}

impl Bench {
    pub(crate) fn new(world: Arc<World>, scale: Scale) -> Self {
        Self { world, scale, turns: Arc::new(AtomicU64::new(1)) }
    }

    async fn closed(
        &self,
        row: Row,
        proxy: &Proxy,
        connections: u64,
        window: Duration,
        unit: Unit,
    ) -> Result<Figures> {
        let (delivered, cpu, began) = (self.world.delivered(), proxy.cpu(), Instant::now());
        let end = began + window;
        let done = Arc::new(AtomicU64::new(0));
        let first = self.turns.load(Ordering::Relaxed);
        let mut workers = JoinSet::new();
        for connection in 0..connections {
            let (done, turns, target) = (Arc::clone(&done), Arc::clone(&self.turns), proxy.target);
            workers.spawn(async move {
                let mut client = Client::connect(target).await?;
                while Instant::now() < end {
                    let turn = turns.fetch_add(1, Ordering::Relaxed);
                    // Threads are used again, but a message nobody answers must not pile up in one.
                    let thread = match unit {
                        Unit::Message => (1 << 50) + turn / 4,
                        _ => first * 1000 + connection * THREADS + turn % THREADS,
                    };
                    exchange(&mut client, unit, thread, turn).await?;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                anyhow::Ok(())
            });
        }
        join(workers).await?;
        let took = began.elapsed();
        let done = done.load(Ordering::Relaxed);
        let mut figures = Figures::new();
        if unit != Unit::Message && row.delivers() {
            self.drain(delivered + done).await;
            figures.push((DELIVERED, (self.world.delivered() - delivered) as f64 / done as f64 * 100.0));
        }
        if row == Row::OnTinyQueues {
            figures
                .push(("captures dropped", proxy.counter("threadtap_capture_dropped_total").unwrap_or(0.0)));
        }
        let cpu = proxy.cpu() - cpu;
        let (per_unit, per_second) = match unit {
            Unit::Message => ("CPU µs per request", "requests/s"),
            Unit::Polled | Unit::Turn => ("CPU µs per turn", "turns/s"),
            Unit::Stream => ("CPU µs per stream", "streams/s"),
        };
        if row != Row::Direct {
            figures.insert(0, (per_unit, cpu.as_secs_f64() * 1e6 / done as f64));
            figures.push(("peak RSS MB", proxy.peak_rss() as f64 / 1e6));
        }
        figures.insert(figures.len().min(1), (per_second, done as f64 / took.as_secs_f64()));
        Ok(figures)
    }

    /// Sends at times that were settled before, so that a request that had to wait for the one before it counts its wait.
    async fn rate(&self, proxy: &Proxy, window: Duration) -> Result<Figures> {
        let connections = 32;
        let each = window.as_secs_f64() * f64::from(self.scale.rate) / f64::from(connections);
        let interval = Duration::from_secs_f64(f64::from(connections) / f64::from(self.scale.rate));
        let (cpu, began) = (proxy.cpu(), Instant::now() + Duration::from_millis(50));
        let mut workers = JoinSet::new();
        for connection in 0..connections {
            let (turns, target, world) = (Arc::clone(&self.turns), proxy.target, Arc::clone(&self.world));
            workers.spawn(async move {
                let mut client = Client::connect(target).await?;
                let mut delays = Vec::with_capacity(each as usize);
                for count in 0..each as u32 {
                    let due = began + interval * connection / connections + interval * count;
                    world.pacer.until(due).await;
                    let turn = turns.fetch_add(1, Ordering::Relaxed);
                    client.exchange(&Ask::CreateMessage, (1 << 50) + turn / 4, turn).await?;
                    delays.push(due.elapsed());
                }
                anyhow::Ok(delays)
            });
        }
        let mut delays = Vec::new();
        while let Some(worker) = workers.join_next().await {
            delays.extend(worker??);
        }
        let cpu = proxy.cpu() - cpu;
        let mut figures = percentiles(&mut delays);
        figures.push(("CPU µs per request", cpu.as_secs_f64() * 1e6 / delays.len() as f64));
        Ok(figures)
    }

    async fn events(&self, row: Row, proxy: &Proxy) -> Result<Figures> {
        let every = Duration::from_millis(50);
        let deltas = (self.scale.stream_time.as_millis() / every.as_millis()) as u32;
        let (delivered, cpu) = (self.world.delivered(), proxy.cpu());
        let mut workers = JoinSet::new();
        let first = self.turns.fetch_add(self.scale.streams, Ordering::Relaxed);
        for turn in first..first + self.scale.streams {
            let (target, world) = (proxy.target, Arc::clone(&self.world));
            workers.spawn(async move {
                let mut client = Client::connect(target).await?;
                let mut delays = Vec::with_capacity(deltas as usize);
                let ask = Ask::Stream { deltas, every_us: every.as_micros() as u64 };
                let mut on_stamp =
                    |stamp| delays.push(Duration::from_nanos(world.stamp().saturating_sub(stamp)));
                client.stream(&ask, (1 << 51) + turn, turn, &mut on_stamp).await?;
                anyhow::Ok(delays)
            });
        }
        let mut delays = Vec::new();
        while let Some(worker) = workers.join_next().await {
            delays.extend(worker??);
        }
        let mut figures = Figures::new();
        let seen = delays.len() as f64 / (f64::from(deltas) * self.scale.streams as f64);
        if row.delivers() {
            self.drain(delivered + self.scale.streams).await;
            let share = (self.world.delivered() - delivered) as f64 / self.scale.streams as f64;
            figures.push((DELIVERED, share * 100.0));
        }
        let cpu = proxy.cpu() - cpu;
        figures.splice(0..0, percentiles(&mut delays));
        if row != Row::Direct {
            figures.push(("CPU µs per event", cpu.as_secs_f64() * 1e6 / delays.len() as f64));
            figures.push(("peak RSS MB", proxy.peak_rss() as f64 / 1e6));
        }
        figures.push(("events seen %", seen * 100.0));
        Ok(figures)
    }

    async fn idle(&self, proxy: &Proxy) -> Result<Figures> {
        // What a first request brings about is not a stream's.
        check(proxy.target).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (before, descriptors) = (proxy.rss() as f64, proxy.descriptors());
        let mut held = Vec::new();
        while (held.len() as u64) < self.scale.idle {
            let mut openers = JoinSet::new();
            for _ in 0..100.min(self.scale.idle - held.len() as u64) {
                let (turn, target) = (self.turns.fetch_add(1, Ordering::Relaxed), proxy.target);
                openers.spawn(async move {
                    let mut client = Client::connect(target).await?;
                    client.hold((1 << 52) + turn, turn).await?;
                    anyhow::Ok(client)
                });
            }
            while let Some(client) = openers.join_next().await {
                held.push(client??);
            }
        }
        // What opening them took besides, an allocator gives back after a while.
        tokio::time::sleep(Duration::from_secs(15)).await;
        let during = proxy.rss() as f64;
        let streams = held.len() as f64;
        drop(held);
        wait_until(Duration::from_secs(20), || proxy.descriptors() <= descriptors + 2).await;
        // An allocator gives memory back after a while.
        wait_until(Duration::from_secs(30), || (proxy.rss() as f64) < before * 1.5).await;
        Ok(vec![
            ("RSS KB per stream", (during - before) / streams / 1e3),
            ("RSS MB with them", during / 1e6),
            ("RSS MB afterwards", proxy.rss() as f64 / 1e6),
            ("RSS MB before", before / 1e6),
        ])
    }

    async fn large(&self, proxy: &Proxy, ask: Ask) -> Result<Figures> {
        let (cpu, began) = (proxy.cpu(), Instant::now());
        let ask = Arc::new(ask);
        let connections = 4.min(self.scale.large);
        let mut workers = JoinSet::new();
        for _ in 0..connections {
            let (ask, target) = (Arc::clone(&ask), proxy.target);
            let bodies = self.scale.large / connections;
            workers.spawn(async move {
                let mut client = Client::connect(target).await?;
                for _ in 0..bodies {
                    client.exchange(&ask, 0, 0).await?;
                }
                anyhow::Ok(())
            });
        }
        join(workers).await?;
        let bytes = (self.scale.large * LARGE_BODY_BYTES as u64) as f64;
        let mut figures = vec![("GB/s", bytes / 1e9 / began.elapsed().as_secs_f64())];
        if proxy.rss() > 0 {
            figures.push(("CPU ms per GB", (proxy.cpu() - cpu).as_secs_f64() * 1e3 / (bytes / 1e9)));
            figures.push(("peak RSS MB", proxy.peak_rss() as f64 / 1e6));
        }
        Ok(figures)
    }

    async fn start(&self, proxy: &Proxy) -> Result<Figures> {
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(vec![
            ("ms to first connection", proxy.start_time.as_secs_f64() * 1e3),
            ("RSS MB at rest", proxy.rss() as f64 / 1e6),
        ])
    }

    /// Waits until so many records were delivered, as long as there is any progress.
    pub(crate) async fn drain(&self, expected: u64) {
        let mut seen = self.world.delivered();
        while seen < expected {
            let world = &self.world;
            wait_until(PATIENCE, || world.delivered() > seen).await;
            let now = self.world.delivered();
            if now == seen {
                return;
            }
            seen = now;
        }
    }
}

/// Does one unit of a load.
pub(crate) async fn exchange(client: &mut Client, unit: Unit, thread: u64, turn: u64) -> std::io::Result<()> {
    let stream = Ask::Stream { deltas: DELTAS, every_us: 0 };
    match unit {
        Unit::Message => client.exchange(&Ask::CreateMessage, thread, turn).await,
        Unit::Stream => client.exchange(&stream, thread, turn).await,
        Unit::Turn => {
            client.exchange(&Ask::CreateMessage, thread, turn).await?;
            client.exchange(&stream, thread, turn).await?;
            client.exchange(&Ask::List, thread, turn).await
        }
        Unit::Polled => {
            client.exchange(&Ask::CreateMessage, thread, turn).await?;
            client.exchange(&Ask::CreateRun, thread, turn).await?;
            for poll in 1..=POLLS {
                client.exchange(&Ask::Poll { last: poll == POLLS }, thread, turn).await?;
            }
            client.exchange(&Ask::List, thread, turn).await
        }
    }
}

/// Opens a connection for each, to see that a proxy answers at all.
pub(crate) async fn check(target: Target) -> Result<()> {
    let mut client = Client::connect(target).await?;
    client.exchange(&Ask::Poll { last: false }, 0, 0).await.context("a first request failed")
}

/// Waits for all of them.
pub(crate) async fn join(mut workers: JoinSet<Result<()>>) -> Result<()> {
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    Ok(())
}

async fn wait_until(most: Duration, fact: impl Fn() -> bool) {
    let waiting: std::pin::Pin<Box<dyn Future<Output = ()>>> = Box::pin(async {
        while !fact() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    tokio::time::timeout(most, waiting).await.ok();
}

fn percentiles(delays: &mut [Duration]) -> Figures {
    delays.sort_unstable();
    let at = |share: f64| {
        let index = (delays.len() as f64 * share) as usize;
        delays.get(index.min(delays.len().saturating_sub(1))).map_or(0.0, |delay| delay.as_secs_f64() * 1e6)
    };
    vec![("p50 µs", at(0.5)), ("p99 µs", at(0.99)), ("p99.9 µs", at(0.999))]
}

/// Share of the runs whose record arrived at the collector.
pub(crate) const DELIVERED: &str = "delivered %";
/// Deltas of an unpaced stream.
pub(crate) const DELTAS: u32 = 200;
const POLLS: u32 = 10;
/// Threads each connection uses in turn.
const THREADS: u64 = 16;
/// How long a record may take to arrive when none does.
const PATIENCE: Duration = Duration::from_secs(5);
