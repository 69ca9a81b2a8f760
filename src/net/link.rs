//! A client connection, as seen by who answers its requests.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// What the connections of a server are told. Whoever holds a receiver is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Serving,
    /// End what is in progress; begin nothing.
    Draining,
    /// The grace is over.
    Cut,
}

/// A client connection, as seen by who answers its requests.
#[derive(Debug)]
pub struct Link {
    peer: SocketAddr,
    phase: watch::Receiver<Phase>,
    greeted: AtomicBool,
    reset: AtomicBool,
}

impl Link {
    pub(super) fn new(peer: SocketAddr, phase: watch::Receiver<Phase>) -> Self {
        Self { peer, phase, greeted: AtomicBool::new(false), reset: AtomicBool::new(false) }
    }

    /// The client's address.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Makes the connection close with a reset. It is for an answer that only the closing of the connection delimits: a plain
    /// close would make its truncation look like its end.
    pub fn reset_on_close(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }

    /// Runs what goes on after an upgrade. A drain waits for it, and drops it when the grace is over.
    pub fn spawn(&self, tunnel: impl Future<Output = ()> + Send + 'static) {
        let mut phase = self.phase.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = tunnel => {}
                _ = phase.wait_for(|phase| *phase == Phase::Cut) => {}
            }
        });
    }

    pub(super) fn resets_on_close(&self) -> bool {
        self.reset.load(Ordering::Relaxed)
    }

    /// Notes that the client has begun to speak a protocol.
    pub(super) fn greet(&self) {
        self.greeted.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_greeted(&self) -> bool {
        self.greeted.load(Ordering::Relaxed)
    }
}
