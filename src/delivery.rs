//! Brings what the store holds to the sinks: at least once, in order within a conversation, for as long as it takes.
//!
//! Each sink has one task, its *courier*, so a dead or slow backend delays no other. The courier reads deliveries from the
//! store in order and puts them on *lanes* by conversation. A lane has one delivery in flight and goes on when the store has
//! recorded what became of it; lanes run side by side.
//!
//! # What becomes of an attempt
//!
//! | verdict | what happens |
//! |---|---|
//! | ack | the store removes the delivery |
//! | retry, or no answer | its lane waits with full jitter. When heads of two lanes fail with no success between, the *sink* is failing: one probe at a time, at the sink's own pace, until one succeeds. `Retry-After` binds the whole sink |
//! | misconfigured | everything is kept; one probe every [`Config::misconfigured_pause`] |
//! | dead letter, or too large by itself | kept aside with reason and answer; its lane goes on |
//!
//! A payload that fails [`Config::stuck_after`] times, while others of its sink succeed in between, is a dead letter `stuck`.
//! Nothing is given up by age or number of attempts otherwise.
//!
//! # Invariants
//!
//! * A delivery leaves the store only after a 2xx was in hand, or as a dead letter.
//! * After a crash at most one delivery per lane is made twice; it carries the same key and the same bytes.
//! * Memory: a few dozen bytes for at most 256 deliveries per lane; bodies only for those in flight.
//! * Redirects are never followed. Nothing of a payload is logged.

pub mod backoff;

mod attempt;
mod client;
mod courier;
mod gate;
mod lanes;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::sink::Sink;
use crate::store::Store;

pub use self::backoff::{Backoff, InvalidBackoff};

use self::client::Client;
use self::courier::Courier;

/// Settings of delivery, the same for all sinks.
#[derive(Clone, Debug)]
pub struct Config {
    /// Lanes per sink: deliveries in flight at once. At least 1.
    pub lanes: u32,
    /// How long one attempt may take, from connecting to the end of the answer.
    pub attempt_timeout: Duration,
    /// The pauses between attempts.
    pub backoff: Backoff,
    /// The pause between probes of a sink that refuses our settings.
    pub misconfigured_pause: Duration,
    /// Failures of one payload, while others succeed, after which it is set aside.
    pub stuck_after: u32,
    /// The longest `Retry-After` that is honoured.
    pub max_retry_after: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lanes: 8,
            attempt_timeout: Duration::from_secs(30),
            backoff: Backoff::default(),
            misconfigured_pause: Duration::from_secs(300),
            stuck_after: 8,
            max_retry_after: Duration::from_secs(3600),
        }
    }
}

/// The running couriers. Dropping it stops them where they are, which loses nothing.
#[derive(Debug)]
pub struct Delivery {
    couriers: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Delivery {
    /// Starts a courier per sink on the current runtime, beginning with what earlier processes left.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start(
        config: Config,
        sinks: &[Arc<Sink>],
        store: &Store,
        metrics: &Metrics,
        clock: Clock,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let client = Client::new(config.attempt_timeout, config.lanes);
        let mut couriers = JoinSet::new();
        for sink in sinks {
            let courier = Courier::new(
                config.clone(),
                Arc::clone(sink),
                store.clone(),
                client.clone(),
                metrics.clone(),
                clock,
                stopped.clone(),
            );
            couriers.spawn(courier.run());
        }
        Self { couriers, stop }
    }

    /// Makes one last attempt at all that is due, going on as long as attempts succeed, and stops; at the latest after `grace`.
    /// What remains is delivered by the next process.
    pub async fn shutdown(mut self, grace: Duration) {
        self.stop.send_replace(true);
        let all = async { while self.couriers.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, all).await.is_err() {
            tracing::warn!(
                "deliveries were still in flight at the end of the grace; they are repeated at the next start"
            );
            self.couriers.shutdown().await;
        }
    }
}

#[cfg(test)]
mod tests;
