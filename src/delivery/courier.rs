//! The task that serves one sink.

mod settle;

use std::sync::Arc;
use std::time::Duration;

use threadtap_core::sink::Sink;
use threadtap_core::time::UnixMillis;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::delivery::Config;
use crate::delivery::attempt::{Attempt, Means, attempt};
use crate::delivery::budget::Share;
use crate::delivery::client::Client;
use crate::delivery::gate::{Gate, Health};
use crate::delivery::jitter::Jitter;
use crate::delivery::lanes::{Lanes, WINDOW};
use crate::metrics::Metrics;
use crate::store::{Closed, ReadError, Store};

pub(super) struct Courier {
    config: Config,
    sink: Arc<Sink>,
    store: Store,
    means: Means,
    metrics: Metrics,
    clock: Clock,
    stopped: watch::Receiver<bool>,
    announced: watch::Receiver<u64>,
    lanes: Lanes,
    gate: Gate,
    steps: JoinSet<Step>,
    in_flight: usize,
    /// Whether the store may hold deliveries that were not read yet.
    news: bool,
    /// After a failed read: when to try again.
    read_at: UnixMillis,
    last_call: bool,
    /// Whether the last answer about a payload was that it is refused; said once.
    rejecting: bool,
    jitter: Jitter,
}

/// What a spawned step of a lane came to.
enum Step {
    Attempted { lane: usize, start: Start, attempt: Attempt },
    Recorded { lanes: Vec<usize>, result: Result<(), Closed> },
}

/// What was known when an attempt was started.
#[derive(Clone, Copy)]
struct Start {
    /// The gate was closed and let this one through.
    probe: bool,
    /// There will be no other for this payload.
    last: bool,
}

impl Courier {
    #[expect(clippy::too_many_arguments, reason = "each part is handed over once, by name of its type")]
    pub(super) fn new(
        config: Config,
        sink: Arc<Sink>,
        store: Store,
        client: Client,
        share: Share,
        metrics: Metrics,
        clock: Clock,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        let lanes = Lanes::new(config.lanes, sink.batch());
        let announced = store.deliveries();
        let means = Means {
            store: store.clone(),
            client,
            share,
            sink: Arc::clone(&sink),
            clock,
            max_retry_after: config.max_retry_after,
        };
        Self {
            config,
            sink,
            store,
            means,
            metrics,
            clock,
            stopped,
            announced,
            lanes,
            gate: Gate::new(),
            steps: JoinSet::new(),
            in_flight: 0,
            news: true,
            read_at: UnixMillis::default(),
            last_call: false,
            rejecting: false,
            jitter: Jitter::new(),
        }
    }

    /// Runs until told to stop and nothing is left to try, or the store is closed.
    pub(super) async fn run(mut self) {
        loop {
            if self.refill().await.is_err() {
                return;
            }
            self.launch();
            if self.last_call && self.steps.is_empty() {
                return;
            }
            let pause = self.pause();
            // Each arm is cancel safe: a step that is not joined, a change that is not seen, stays.
            tokio::select! {
                Some(step) = self.steps.join_next() => {
                    // What came about at the same time is recorded together.
                    let steps = std::iter::once(step).chain(std::iter::from_fn(|| self.steps.try_join_next()));
                    let Ok(steps) = steps.collect::<Result<Vec<Step>, _>>() else {
                        // Not knowing which lane it was, going on could reorder: the next start begins afresh.
                        tracing::error!(sink = %self.sink.name(), "a delivery panicked; the sink stops");
                        return;
                    };
                    if self.finish(steps).is_err() {
                        return;
                    }
                }
                changed = self.announced.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.news = true;
                }
                changed = self.stopped.changed(), if !self.last_call => {
                    if changed.is_err() {
                        return;
                    }
                    self.last_call = true;
                    self.news = true;
                    self.lanes.release_all();
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Reads what the lanes have room for.
    async fn refill(&mut self) -> Result<(), Closed> {
        let now = self.clock.now();
        if now < self.read_at {
            return Ok(());
        }
        while let Some(wanted) = self.lanes.wanted(self.news) {
            let name = Arc::clone(self.sink.name());
            match self.store.due(name, wanted.lane, wanted.after, WINDOW).await {
                Ok(page) => {
                    if wanted.lane.is_none() {
                        self.news = page.more;
                    }
                    self.lanes.add(wanted, page, now);
                }
                Err(ReadError::Closed) => return Err(Closed),
                Err(error) => {
                    tracing::warn!(sink = %self.sink.name(), %error, "cannot read deliveries from the store");
                    self.read_at = now.after(READ_PAUSE);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Starts an attempt on each lane that may.
    fn launch(&mut self) {
        let now = self.clock.now();
        let paced = self.gate.health() != Health::Healthy;
        loop {
            let admitted = if self.last_call {
                self.gate.admits_last(now)
            } else {
                self.gate.admits(now, self.in_flight)
            };
            if !admitted {
                return;
            }
            let Some(lane) = self.lanes.ready(now, paced || self.last_call) else { return };
            self.in_flight += 1;
            let attempt = attempt(self.means.clone(), self.lanes.depart(lane));
            let start = Start { probe: paced, last: self.last_call };
            self.steps.spawn(async move { Step::Attempted { lane, start, attempt: attempt.await } });
        }
    }

    /// How long there is nothing to do unless something happens.
    fn pause(&self) -> Duration {
        let now = self.clock.now();
        let mut next = None;
        if let Some(lane_at) = self.lanes.next_at() {
            next = match self.gate.health() {
                Health::Healthy => Some(lane_at),
                _ if self.in_flight > 0 => None,
                _ => Some(self.gate.opens_at()),
            };
        }
        if self.read_at > now {
            next = Some(next.map_or(self.read_at, |next| next.min(self.read_at)));
        }
        // A millisecond at least: the clock's own grain.
        next.map_or(LONGEST_PAUSE, |next| next.since(now).clamp(Duration::from_millis(1), LONGEST_PAUSE))
    }

    fn finish(&mut self, steps: Vec<Step>) -> Result<(), Closed> {
        let (mut lanes, mut ops) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Attempted { lane, start, attempt } => {
                    self.in_flight -= 1;
                    let before = self.gate.health();
                    let settled = self.settle(lane, start, attempt);
                    self.tell_change(before);
                    if settled.is_empty() {
                        self.lanes.free(lane);
                    } else {
                        lanes.push(lane);
                        ops.extend(settled);
                    }
                }
                Step::Recorded { lanes, result } => {
                    lanes.into_iter().for_each(|lane| self.lanes.free(lane));
                    result?;
                }
            }
        }
        if !lanes.is_empty() {
            let store = self.store.clone();
            self.steps.spawn(async move {
                Step::Recorded { lanes, result: store.apply(ops).await.map_err(|_| Closed) }
            });
        }
        Ok(())
    }

    fn tell_change(&mut self, before: Health) {
        let after = self.gate.health();
        if before == after {
            return;
        }
        let sink = self.sink.name();
        match after {
            Health::Healthy => {
                // They waited for the sink, not for themselves.
                self.lanes.release_all();
                tracing::info!(%sink, "the sink accepts deliveries again");
            }
            Health::Failing => tracing::warn!(%sink, "the sink is failing; records are kept and retried"),
            Health::Misconfigured => tracing::error!(
                %sink,
                "the sink rejects the address or the credentials: check its settings; records are kept and retried every misconfigured_pause"
            ),
        }
    }
}

const READ_PAUSE: Duration = Duration::from_secs(1);
/// Only a bound for timers; whatever matters wakes the courier.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
