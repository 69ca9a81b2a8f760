//! What runs behind the proxy on one thread of its own: delivery, the admin listener, and intake.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use threadtap_core::sink::Sink;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot, watch};

use crate::admin;
use crate::clock::Clock;
use crate::delivery::{self, Delivery};
use crate::intake::{Answer, Intake};
use crate::metrics::Metrics;
use crate::proxy::{OwnAnswer, OwnRequest};
use crate::store::Store;

/// All that it needs.
pub(super) struct Back {
    pub(super) delivery: delivery::Config,
    pub(super) sinks: watch::Receiver<Vec<Arc<Sink>>>,
    pub(super) store: Store,
    pub(super) metrics: Metrics,
    pub(super) clock: Clock,
    pub(super) admin_listener: std::net::TcpListener,
    pub(super) admin: admin::Ports,
    pub(super) intake: Intake,
    pub(super) own_requests: mpsc::Receiver<OwnRequest>,
}

impl Back {
    /// Starts the thread. It runs until `stopped` resolves, and then as long as the last attempts take, but no longer than until
    /// `hurried` resolves.
    pub(super) fn start(
        self,
        stopped: oneshot::Receiver<()>,
        hurried: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<JoinHandle<io::Result<()>>> {
        std::thread::Builder::new().name("threadtap-back".to_owned()).spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(self.run(stopped, hurried))
        })
    }

    async fn run(self, stopped: oneshot::Receiver<()>, hurried: impl Future<Output = ()>) -> io::Result<()> {
        let Self { delivery, sinks, store, metrics, clock, admin_listener, admin, intake, own_requests } =
            self;
        let admin_listener = TcpListener::from_std(admin_listener)?;
        let (close_admin, admin_closed) = oneshot::channel::<()>();
        let closed = async {
            admin_closed.await.ok();
        };
        let serving = tokio::spawn(admin::serve(admin_listener, admin, closed));
        let answering = tokio::spawn(answer(intake.clone(), own_requests));
        let resolving = tokio::spawn(async move { intake.resolve().await });
        // Attempts that are cut short are repeated at the next start.
        tokio::select! {
            () = deliver(delivery, sinks, &store, &metrics, clock, stopped) => {}
            () = hurried => {}
        }
        resolving.abort();
        drop(close_admin);
        // A client that keeps its connection to the admin listener must not keep the process.
        tokio::time::timeout(ADMIN_GRACE, serving).await.ok();
        // The proxy, which alone sends to it, is gone.
        answering.abort();
        Ok(())
    }
}

/// Answers requests for threadtap itself, one after the other: what they cost is bounded however many come.
async fn answer(intake: Intake, mut requests: mpsc::Receiver<OwnRequest>) {
    while let Some(OwnRequest { head, body, answer }) = requests.recv().await {
        let Answer { status, body } = intake.answer(&head, &body).await;
        // A client that went away needs no answer.
        let _ = answer.send(OwnAnswer { status, body });
    }
}

/// Delivers until told to stop, to whatever sinks there are.
async fn deliver(
    config: delivery::Config,
    mut sinks: watch::Receiver<Vec<Arc<Sink>>>,
    store: &Store,
    metrics: &Metrics,
    clock: Clock,
    stopped: oneshot::Receiver<()>,
) {
    let mut stopped = pin!(stopped);
    loop {
        let now = sinks.borrow_and_update().clone();
        let delivery = Delivery::start(config.clone(), &now, store, metrics, clock);
        // Cancel safe, both. An error means that the main thread is gone, which is a wish to stop too.
        let grace = tokio::select! {
            _ = &mut stopped => Some(LAST_ATTEMPT_GRACE),
            Ok(()) = sinks.changed() => None,
        };
        // What is under way may take as long as an attempt: cut short, it would be sent twice.
        delivery.shutdown(grace.unwrap_or(config.attempt_timeout)).await;
        if grace.is_some() {
            return;
        }
    }
}

/// How long the last delivery attempts of a process may take; what they do not reach goes at the next start.
const LAST_ATTEMPT_GRACE: Duration = Duration::from_secs(10);
const ADMIN_GRACE: Duration = Duration::from_secs(1);
