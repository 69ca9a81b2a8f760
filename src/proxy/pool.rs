//! The unused connections to upstream.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::connection::Connection;
use super::room::Room;

/// Keeps connections that may be used again, the latest one first. There is one for each worker, so that a connection is always
/// polled by the thread that waits for its socket.
#[derive(Clone)]
pub(super) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    max_idle: usize,
    idle_timeout: Duration,
    room: Weak<Room>,
    state: Mutex<PoolState>,
}

#[derive(Default)]
struct PoolState {
    /// In the order they became idle.
    idle: Vec<Idle>,
    /// Whether there is a task that closes what is too old.
    swept: bool,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    /// Keeps so many connections for so long, unless others need their `room`.
    pub(super) fn new(max_idle: usize, idle_timeout: Duration, room: &Arc<Room>) -> Self {
        let shared = Shared { max_idle, idle_timeout, room: Arc::downgrade(room), state: Mutex::default() };
        let pool = Self { shared: Arc::new(shared) };
        room.add(pool.clone());
        pool
    }

    /// A connection upstream has not closed, as far as is known.
    pub(super) async fn take(&self) -> Option<Connection> {
        poll_fn(|cx| {
            let mut state = self.shared.lock();
            while let Some(Idle { mut connection, .. }) = state.idle.pop() {
                if connection.poll_is_idle(cx) {
                    return Some(connection).into();
                }
            }
            None.into()
        })
        .await
    }

    /// Keeps a connection whose exchange is over, if it can carry another.
    pub(super) fn put(&self, mut connection: Connection) {
        if !is_idle(&mut connection) || self.shared.max_idle == 0 {
            return;
        }
        let mut state = self.shared.lock();
        // Under the lock: who waits for room first says so, and then looks here.
        if self.shared.room.upgrade().is_some_and(|room| room.is_wanted()) {
            return;
        }
        if state.idle.len() >= self.shared.max_idle {
            state.idle.remove(0);
        }
        state.idle.push(Idle { connection, since: now() });
        if !state.swept {
            state.swept = true;
            let shared = Arc::downgrade(&self.shared);
            tokio::spawn(sweep(shared, self.shared.idle_timeout.min(SWEEP_INTERVAL)));
        }
    }

    /// Closes the connection that was unused longest. Tells whether there was one.
    pub(super) fn drop_oldest(&self) -> bool {
        let mut state = self.shared.lock();
        if state.idle.is_empty() {
            return false;
        }
        state.idle.remove(0);
        true
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes what is too old, and what upstream has closed, until nothing is left.
async fn sweep(pool: Weak<Shared>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let Some(pool) = pool.upgrade() else { return };
        let (now, timeout) = (now(), pool.idle_timeout);
        let mut state = pool.lock();
        state
            .idle
            .retain_mut(|idle| is_idle(&mut idle.connection) && now.duration_since(idle.since) < timeout);
        if state.idle.is_empty() {
            state.swept = false;
            return;
        }
    }
}

/// Whether a connection can carry another exchange. Nobody is to be woken by one that nobody uses.
fn is_idle(connection: &mut Connection) -> bool {
    connection.poll_is_idle(&mut Context::from_waker(Waker::noop()))
}

#[expect(clippy::disallowed_methods, reason = "it is for how long a connection has been idle")]
fn now() -> Instant {
    Instant::now()
}

/// How often it looks for connections that are to be closed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
