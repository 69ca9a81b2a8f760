//! A client connection, as the handler of its requests sees it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::places::Place;

/// The phase that the connections of a server follow. A drain waits for every holder of a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Serving,
    /// Finish what is in progress; start nothing new.
    Draining,
    /// The grace period is over.
    Cut,
}

/// A client connection, as the handler of its requests sees it. It counts as open as long as the
/// link lives. The link lives as long as the socket, also when that has become a tunnel.
#[derive(Debug)]
pub struct Link {
    peer: SocketAddr,
    open: Gauge,
    place: Place,
    phase: watch::Receiver<Phase>,
    reset: AtomicBool,
}

impl Link {
    pub(super) fn new(peer: SocketAddr, open: Gauge, place: Place, phase: watch::Receiver<Phase>) -> Self {
        open.inc();
        Self { peer, open, place, phase, reset: AtomicBool::new(false) }
    }

    /// The client's address.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Makes the connection close with a reset. This is for a response whose end is marked only by
    /// the closing of the connection: after a plain close, a truncated response would look
    /// complete.
    pub(super) fn reset_on_close(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }

    /// Runs work that continues beside the connection or after it, such as a tunnel or the rest of
    /// an upload. A drain waits for it, and drops it when the grace period is over.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let mut phase = self.phase.clone();
        let spawned = tokio::spawn(async move {
            tokio::select! {
                () = work => {}
                _ = phase.wait_for(|phase| *phase == Phase::Cut) => {}
            }
        });
        spawned.abort_handle()
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn resets_on_close(&self) -> bool {
        self.reset.load(Ordering::Relaxed)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.open.dec();
    }
}
