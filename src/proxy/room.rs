//! Limits the connections to upstream: each needs an open file, and the number of open files is
//! limited.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::pool::Pool;
use crate::metrics::Metrics;

/// Room for a number of connections to upstream, idle ones included. A request that finds no room
/// waits, however long that takes, and idle connections are closed for it.
pub(super) struct Room {
    free: Arc<Semaphore>,
    /// How many requests are waiting.
    wanted: AtomicUsize,
    /// The idle connections of all workers.
    pools: Mutex<Vec<Pool>>,
    open: Gauge,
    waiting: Gauge,
}

/// The room that one connection to upstream takes, as long as this lives.
#[derive(Debug)]
pub(super) struct Taken {
    open: Gauge,
    _permit: OwnedSemaphorePermit,
}

impl Room {
    pub(super) fn new(connections: usize, metrics: &Metrics) -> Self {
        Self {
            free: Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS))),
            wanted: AtomicUsize::new(0),
            pools: Mutex::default(),
            open: metrics.upstream_connections.clone(),
            waiting: metrics.upstream_waiting.clone(),
        }
    }

    /// Adds a worker's pool, whose idle connections may be closed from now on.
    pub(super) fn add(&self, pool: Pool) {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).push(pool);
    }

    /// Waits for room.
    ///
    /// # Cancel safety
    /// If the future is dropped, no room is taken.
    pub(super) async fn take(&self) -> Taken {
        let permit = match Arc::clone(&self.free).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.wait().await,
        };
        self.open.inc();
        Taken { open: self.open.clone(), _permit: permit }
    }

    async fn wait(&self) -> OwnedSemaphorePermit {
        let _wanted = Wanted::new(&self.wanted, &self.waiting);
        while self.close_unused() {
            // Another request may have taken the room first.
            if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
                return permit;
            }
        }
        Arc::clone(&self.free).acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Closes an idle connection of any worker. Returns whether there was one.
    fn close_unused(&self) -> bool {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).iter().any(Pool::drop_oldest)
    }

    /// Whether requests are waiting, so that no connection should be kept idle.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::SeqCst) > 0
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// Counts a waiting request.
struct Wanted<'a> {
    count: &'a AtomicUsize,
    waiting: &'a Gauge,
}

impl<'a> Wanted<'a> {
    fn new(count: &'a AtomicUsize, waiting: &'a Gauge) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        waiting.inc();
        Self { count, waiting }
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::SeqCst);
        self.waiting.dec();
    }
}
