//! The pipeline as a thread.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use threadtap_core::correlator::Correlator;
use threadtap_core::sink::Sink;
use tokio::sync::watch;

use super::command::{self, Handle};
use super::emission::Emission;
use super::gaps::Gaps;
use super::sunset::Sunset;
use super::uncaptured::UncapturedApis;
use super::{Config, Pipeline, recovery};
use crate::capture::Receiver;
use crate::clock::Clock;
use crate::console::Console;
use crate::metrics::Metrics;
use crate::store::{Recovered, Store};
use crate::users::Users;

/// What the pipeline is connected to.
#[derive(Debug)]
pub struct Ports {
    /// Where captures come from.
    pub captures: Receiver,
    /// Where records go.
    pub store: Store,
    /// What an earlier process left there.
    pub recovered: Recovered,
    /// What is known of users.
    pub users: Users,
    /// Whose filters say where a record is due; they may change.
    pub sinks: watch::Receiver<Vec<Arc<Sink>>>,
    /// Where records are shown; that may change.
    pub console: watch::Receiver<Console>,
    /// What is counted.
    pub metrics: Metrics,
    /// The time.
    pub clock: Clock,
}

/// The running pipeline.
#[derive(Debug)]
pub struct Service {
    handle: Handle,
    thread: JoinHandle<()>,
}

impl Service {
    /// Starts it. What it reads is charged to the budget of capture.
    ///
    /// # Errors
    /// When there is no thread.
    pub fn start(mut config: Config, ports: Ports) -> io::Result<Self> {
        let Ports { captures, store, recovered, users, sinks, console, metrics, clock } = ports;
        config.dialect.budget = captures.budget().clone();
        config.correlation.first_used = recovered.first_used_at();
        let (handle, commands) = command::channel();
        let mut pipeline = Pipeline {
            correlator: Correlator::new(config.correlation.clone()),
            gaps: Gaps::new(config.correlation.unresolved_grace),
            told_ahead: false,
            emission: Emission::new(config.sessions.clone(), users, sinks, console, metrics.clone(), clock),
            config,
            observers: BTreeMap::new(),
            commands,
            store,
            metrics,
            clock,
            sunset: Sunset::default(),
            uncaptured: UncapturedApis::default(),
        };
        let thread = std::thread::Builder::new().name("threadtap-pipeline".to_owned()).spawn(move || {
            if let Err(error) = recovery::recover(&mut pipeline, &recovered) {
                tracing::error!(error = %error, "cannot restore the state of an earlier process; it stays on disk, and capture starts empty");
            }
            drop(recovered);
            pipeline.run(&captures);
        })?;
        Ok(Self { handle, thread })
    }

    /// What tells it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Waits until it has ended, which it does by itself when all taps and recorders are gone, and has handed everything to the store.
    pub async fn shutdown(self) {
        let ended = tokio::task::spawn_blocking(move || self.thread.join()).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::error!("the pipeline panicked");
        }
    }
}
