//! Brings what the store holds to the sinks: at least once, in order within a conversation, for as long as it takes.
//!
//! Each sink has one task, its *courier*, so a dead or slow backend delays no other. The courier reads deliveries from the
//! store in order and puts them on *lanes* by conversation. A lane has one request in flight and goes on when the store has
//! recorded, in one transaction, what became of all that was in it; lanes run side by side.
//!
//! # Batches
//!
//! A sink that takes several events in one request gets the next ones of a lane together, as many as
//! [`Batch::events`](threadtap_core::sink::Batch::events) allows and 1 MiB of stored records hold. A record that is more than that by
//! itself goes alone. A batch that is not full waits until its oldest delivery is [`Batch::linger`](threadtap_core::sink::Batch::linger)
//! old; nothing waits for company that was tried before, that a sink which fails is probed with, or at the last call.
//!
//! # What becomes of an attempt
//!
//! | verdict | what happens |
//! |---|---|
//! | ack | the store removes the deliveries |
//! | retry, or no answer | its lane waits with full jitter. When heads of two lanes fail with no success between, the *sink* is failing: one probe at a time, at the sink's own pace, until one succeeds. `Retry-After` binds the whole sink |
//! | misconfigured | everything is kept; one probe every [`Config::misconfigured_pause`] |
//! | dead letter, or too large | a batch is tried again in halves, until what it was refused for is alone: that is kept aside with reason and answer, and its lane goes on |
//!
//! A payload that fails [`Config::stuck_after`] times, while others of its sink succeed in between, is a dead letter `stuck`; a
//! batch that fails like that twice is divided, so that what is stuck is found to be it. Nothing is given up by age or number of
//! attempts otherwise, unless [`Config::give_up_after_age`] or [`Config::give_up_after_attempts`] say so: then as a dead letter
//! `given_up`, and never without a failure: what an outage of threadtap made old is tried first.
//!
//! # Invariants
//!
//! * A delivery leaves the store only after a 2xx was in hand, or as a dead letter.
//! * After a crash at most one request per lane is made twice; its records carry the same keys.
//! * Memory: a few dozen bytes for at most 256 deliveries per lane, and one batch; records and payloads only for those in flight.
//!   They hold at most [`Config::budget_bytes`], and the copies of one larger record while it is encoded (`delivery/budget`).
//! * Of a response the head is read up to 64 KiB (HTTP/1 and HTTP/2) and the body up to 64 KiB; a longer head is no answer.
//! * Redirects are never followed. Nothing of a payload is logged.

pub mod backoff;

mod attempt;
mod batch;
mod budget;
mod client;
mod courier;
mod gate;
mod jitter;
mod lanes;
mod service;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use threadtap_core::sink::Sink;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::budget::Share;
use self::client::{Client, Connector};
use self::courier::Courier;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::store::Store;

pub use self::backoff::{Backoff, InvalidBackoff};
pub use self::service::{Ports, Service};
pub use self::settings::Settings;

/// Settings of delivery, the same for all sinks.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// What waits for so long and fails is given up; none never is.
    pub give_up_after_age: Option<Duration>,
    /// What failed so often is given up; none never is. At least 1.
    pub give_up_after_attempts: Option<u32>,
    /// Bytes that all deliveries in flight may hold, over all sinks. One per sink is let through whatever its size.
    pub budget_bytes: usize,
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
            give_up_after_age: None,
            give_up_after_attempts: None,
            budget_bytes: 48 << 20,
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
        let connector = Connector::new();
        let mut couriers = JoinSet::new();
        let shares = Share::divide(config.budget_bytes, sinks.len());
        for (sink, share) in sinks.iter().zip(shares) {
            // Connections of its own: what one backend does to them is not felt by another on the same host.
            let client = Client::new(connector.clone(), config.attempt_timeout, config.lanes);
            let courier = Courier::new(
                config.clone(),
                Arc::clone(sink),
                store.clone(),
                client,
                share,
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
                "deliveries were still in flight at the end of the grace; they are sent again at the next start"
            );
            self.couriers.shutdown().await;
        }
    }
}

#[cfg(test)]
mod tests;
