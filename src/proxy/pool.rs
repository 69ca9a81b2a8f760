//! The idle connections to upstream.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::connection::Connection;
use super::room::Room;

/// Keeps connections for reuse, the latest one first. Each worker has its own pool, so a connection
/// is always polled by the thread that waits for its socket.
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
    /// In the order in which they became idle.
    idle: Vec<Idle>,
    /// Whether a task is running that closes expired connections.
    swept: bool,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    /// Keeps up to this many connections for up to this long, unless others need their `room`.
    pub(super) fn new(max_idle: usize, idle_timeout: Duration, room: &Arc<Room>) -> Self {
        let shared = Shared { max_idle, idle_timeout, room: Arc::downgrade(room), state: Mutex::default() };
        let pool = Self { shared: Arc::new(shared) };
        room.add(pool.clone());
        pool
    }

    /// Takes a connection that upstream has not closed, as far as is known.
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

    /// Keeps a connection whose exchange is over, if the connection can carry another.
    pub(super) fn put(&self, mut connection: Connection) {
        if !is_idle(&mut connection) || self.shared.max_idle == 0 {
            return;
        }
        let mut state = self.shared.lock();
        // Checked under the lock: a request that waits for room first registers, and then looks in
        // here.
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

    /// Closes the connection that has been idle longest. Returns whether there was one.
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

/// Closes connections that expired or that upstream has closed, until none is left.
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

/// Whether a connection can carry another exchange. An idle connection must not wake any task.
fn is_idle(connection: &mut Connection) -> bool {
    connection.poll_is_idle(&mut Context::from_waker(Waker::noop()))
}

#[expect(clippy::disallowed_methods, reason = "it is for how long a connection has been idle")]
fn now() -> Instant {
    Instant::now()
}

/// How often to look for connections to close.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
