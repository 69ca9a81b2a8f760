//! Room for connections to upstream: each needs an open file, of which there is a limited number.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::pool::Pool;
use crate::metrics::Metrics;

/// Room for so many connections to upstream, those that are unused included. Who finds none waits for it, however long that takes,
/// and unused connections give way.
pub(super) struct Room {
    free: Arc<Semaphore>,
    /// How many requests wait.
    wanted: AtomicUsize,
    /// Where unused connections are, of all workers.
    pools: Mutex<Vec<Pool>>,
    open: Gauge,
    waiting: Gauge,
}

/// What a connection to upstream takes of it, for as long as this lives.
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

    /// The unused connections of a worker give way from now on.
    pub(super) fn add(&self, pool: Pool) {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).push(pool);
    }

    /// Waits for room.
    ///
    /// # Cancel safety
    /// Who stops waiting takes none.
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
            // Another request may have been quicker.
            if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
                return permit;
            }
        }
        Arc::clone(&self.free).acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Closes an unused connection, of whatever worker. Tells whether there was one.
    fn close_unused(&self) -> bool {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).iter().any(Pool::drop_oldest)
    }

    /// Whether requests wait, so that no connection should be kept unused.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::SeqCst) > 0
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// Counts a request that waits.
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
