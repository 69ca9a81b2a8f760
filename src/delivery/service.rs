//! Delivery that goes on with other sinks and settings when these change.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use threadtap_core::sink::Sink;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::{Config, Delivery};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::store::Store;

/// What it is connected to.
#[derive(Debug)]
pub struct Ports {
    /// Its settings, which may change.
    pub config: watch::Receiver<Config>,
    /// The sinks, which may change.
    pub sinks: watch::Receiver<Vec<Arc<Sink>>>,
    /// What is delivered.
    pub store: Store,
    /// What is counted.
    pub metrics: Metrics,
    /// The time.
    pub clock: Clock,
}

/// The running delivery.
#[derive(Debug)]
pub struct Service {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Service {
    /// Starts it on the current runtime.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start(ports: Ports) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop, task: tokio::spawn(deliver(ports, stopped)) }
    }

    /// Makes a last attempt at all that is due, for at most ten seconds and no longer than until `hurried` completes. Attempts that
    /// are cut short are repeated at the next start.
    pub async fn shutdown(self, hurried: impl Future<Output = ()>) {
        let Self { stop, mut task } = self;
        stop.send(()).ok();
        tokio::select! {
            biased;
            () = hurried => {
                task.abort();
                task.await.ok();
            }
            ended = &mut task => if ended.is_err() {
                tracing::error!("delivery panicked");
            },
        }
    }
}

async fn deliver(ports: Ports, mut stopped: oneshot::Receiver<()>) {
    let Ports { mut config, mut sinks, store, metrics, clock } = ports;
    loop {
        let (now, to) = (config.borrow_and_update().clone(), sinks.borrow_and_update().clone());
        let delivery = Delivery::start(now.clone(), &to, &store, &metrics, clock);
        // Cancel safe, all three. An error means that nobody is left to tell, which is a wish to stop too.
        let grace = tokio::select! {
            _ = &mut stopped => Some(LAST_ATTEMPT_GRACE),
            Ok(()) = config.changed() => None,
            Ok(()) = sinks.changed() => None,
        };
        // What is under way may take as long as an attempt: cut short, it would be sent twice.
        delivery.shutdown(grace.unwrap_or(now.attempt_timeout)).await;
        if grace.is_some() {
            return;
        }
    }
}

/// How long the last delivery attempts of a process may take; what they do not reach goes at the next start.
const LAST_ATTEMPT_GRACE: Duration = Duration::from_secs(10);
