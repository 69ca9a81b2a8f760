//! A client connection, as seen by who answers its requests.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::places::Place;

/// What the connections of a server are told. Whoever holds a receiver is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Serving,
    /// End what is in progress; begin nothing.
    Draining,
    /// The grace is over.
    Cut,
}

/// A client connection, as seen by who answers its requests. It counts as open for as long as the link lives, which is as long
/// as its socket does, be it as a tunnel.
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

    /// Makes the connection close with a reset. It is for a response that only the closing of the connection delimits: a plain
    /// close would make its truncation look like its end.
    pub(super) fn reset_on_close(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }

    /// Runs what goes on beside the connection or after it: a tunnel, the rest of an upload. A drain waits for it, and drops it when
    /// the grace is over.
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
