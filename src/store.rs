//! Stores what must survive a restart: journal, events, pending deliveries and dead letters.
//!
//! There is one SQLite database in the data directory, in WAL mode, owned by one thread
//! (`threadtap-store`). All other code holds a [`Store`], a cheap handle. Writes go through a
//! bounded queue. Reads are closures that the thread runs between two commits.
//!
//! # Files
//!
//! ```text
//! <data_dir>/                 0700 when we make it
//!   threadtap.lock            held by one process; names it: pid, since when, where it listens, where its admin listener is
//!   threadtap.db (-wal, -shm) 0600
//!   threadtap.db.corrupt-<ms> a database that could not be read, set aside
//! ```
//!
//! # Tables
//!
//! ```text
//! meta           key, value                                         first_used_at
//! journal        seq, upstream, conversation, at, body              an observation of an unsettled conversation
//! conversations  id, upstream, conversation, state, updated_at      what the correlator must remember of a settled one
//! histories      id, upstream, conversation, at, body              what a run's conversation added up to: the last ones
//! events         id, key UNIQUE, kind, upstream, conversation, at, body, session_scope, session, first_message
//! deliveries     id, event, sink, lane, queued_at, attempts, failure    UNIQUE(event, sink); still to be made
//! dead_letters   id, event, sink, lane, queued_at, attempts, died_at, reason, answer   UNIQUE(event, sink); given up
//! sessions       scope, id, next, state, updated_at                 the next message's number; state while it is open
//! refs           event, id, message                                 the ids of runs, messages, … an event is found by
//! held           id, reference, body, at                            feedback whose record is still waited for
//! users          id, body, updated_at                               what is known of a user
//! ```
//!
//! Bodies are JSON text. Times are Unix milliseconds by the proxy's clock. `user_version` is the
//! schema version: an older database is migrated when it is opened, a newer one is refused.
//!
//! # Rules
//!
//! * **Group commit.** The thread takes all waiting operations (at most [`Config::batch_bytes`]),
//!   applies them in order in one transaction, then acknowledges them. It commits as soon as it is
//!   free: batches grow with the load, never by a timer.
//! * **Settling.** [`Op::Settle`] deletes the conversation's journal rows written so far. If the
//!   rows and the settling are in the same group, they cancel out and never reach the disk.
//! * **Once.** An event with a known key is ignored, together with its deliveries. A key is known
//!   while its event is kept: [`Config::retain`], at least 24 hours.
//! * **Numbers.** An event's messages are numbered within its session in the transaction that
//!   writes the event. Numbers are unique and have no gaps, even if an event is derived again or a
//!   write is refused.
//! * **Retention.** Events older than [`Config::retain`] are deleted in small steps between
//!   commits, unless a delivery or a dead letter still refers to them. Beyond
//!   [`Config::retain_bytes`], and in a full database, the text of the oldest delivered events is
//!   deleted, whatever their age. Keys stay for 24 hours, unless there is no room even for them.
//! * **Room.** When the database or the disk is full, the store makes room in this order, and takes
//!   the next step only if the previous one was not enough. It records delivery results ahead of
//!   other writes and in short form (no failed attempts, no responses for dead letters). It settles
//!   conversations ahead of other writes. It writes the log back and reuses it. It deletes the text
//!   of delivered events, then their keys, then expired data. After that, it refuses new operations
//!   except settlings. It also refuses waiting operations if no stored delivery could still make
//!   room: at once if the budget is full, or after a minute if the disk is full, because others may
//!   free space there.
//! * **Trouble.** A failed transaction is rolled back and retried, with growing pauses, until it
//!   succeeds. Meanwhile the queue fills and refuses batches ([`Refused::Full`]), which is counted.
//!   An operation that can never succeed is dropped alone, counted and logged. A database found
//!   corrupt by a write, by a read or at opening is set aside and replaced by a new one. A missing
//!   or replaced file is noticed within a second, and before anything more is acknowledged. A new
//!   database is created as soon as the directory can be created and locked again.
//! * **Loss.** `threadtap_deliveries_lost_total` counts lost deliveries by sink and reason.
//! * **Synced.** By default, a separate thread syncs every commit as soon as the disk allows.
//!   [`Config::sync_every`] syncs less often. Surviving a process crash needs no sync.
//!
//! # Invariants
//!
//! * Acknowledged data survives `kill -9`, and a power cut once the next sync has finished.
//! * Only [`Op::Delivered`] or [`Op::Dead`] remove a delivery. A dead letter keeps its event.
//! * Memory is bounded by [`Config::queue_bytes`] plus one group, whatever the disk does.
//! * The store knows nothing about HTTP, dialects or sinks. It sees only names and JSON text.

mod apply;
mod budget;
mod database;
mod dead_letters;
mod erase;
mod file;
mod history;
mod inbox;
mod ledger;
mod lock;
mod lookup;
mod op;
mod overview;
mod reads;
mod recovered;
mod renumber;
mod requests;
mod retention;
mod schema;
mod syncer;
mod trouble;
mod writer;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::metrics::Metrics;

pub use self::database::OpenError;
pub use self::dead_letters::{DeadLetter, DeadLetters};
pub use self::erase::{Erased, Subject};
pub use self::history::{Cursor, Period, StoredPage};
pub use self::inbox::Refused;
pub use self::lookup::{Found, Held, Mention};
pub(crate) use self::op::json;
pub use self::op::{NewEvent, Op, Ref};
pub use self::overview::Overview;
pub use self::reads::{Backlog, Due, DuePage, DueRecord, DueRecords, JournalRow, Stored, Waiting};
pub use self::recovered::Recovered;

use self::database::Database;
use self::inbox::Inbox;
use self::writer::Writer;

/// Settings of the store.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directory of the files. `None` keeps everything in memory until the process ends.
    pub data_dir: Option<PathBuf>,
    /// Why a configured directory is not used; reported by [`Store::overview`].
    pub instead_of: Option<String>,
    /// How this process identifies itself to another one that finds the directory locked, for
    /// example by its listen address.
    pub holder: String,
    /// Where this process can be asked about the directory, for example its admin listener's
    /// address.
    pub admin: String,
    /// The sync interval: a power cut may lose that much. `None` syncs after every commit.
    pub sync_every: Option<Duration>,
    /// How long delivered events are kept; less than 24 hours counts as 24 hours.
    pub retain: Duration,
    /// How long the state of an idle conversation is kept.
    pub conversation_ttl: Duration,
    /// How many run histories are kept (the newest ones).
    pub remembered_turns: usize,
    /// Bytes of operations that may wait for the thread. Beyond this, operations are refused.
    pub queue_bytes: usize,
    /// Bytes of operations in one transaction, but always at least one batch.
    pub batch_bytes: usize,
    /// Maximum size of the database in bytes. `None` means no limit on disk, and 64 MiB in memory.
    pub max_bytes: Option<u64>,
    /// Bytes of stored data above which the oldest delivered events are deleted. `None` means nine
    /// tenths of [`Self::max_bytes`].
    pub retain_bytes: Option<u64>,
}

impl Config {
    /// The size that delivered events are trimmed to. `None` means no limit.
    fn retained_bytes(&self) -> Option<u64> {
        // Below the limit, so that a commit does not normally reach it.
        self.retain_bytes.or_else(|| self.max_bytes.map(|bytes| bytes / 10 * 9))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: None,
            instead_of: None,
            holder: String::new(),
            admin: String::new(),
            sync_every: None,
            retain: Duration::from_secs(30 * 24 * 3600),
            conversation_ttl: Duration::from_secs(24 * 3600),
            remembered_turns: 50_000,
            queue_bytes: 32 << 20,
            batch_bytes: 8 << 20,
            max_bytes: None,
            retain_bytes: None,
        }
    }
}

/// A handle on the store. Dropping the last one closes the store.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

impl Store {
    /// Opens the data directory, or memory, and starts the thread. The caller reads the data of an
    /// earlier process through [`Recovered`], at its own pace.
    ///
    /// # Errors
    /// If another process holds the directory, the directory cannot be used, or a newer version
    /// wrote it. A corrupt database is not an error: it is set aside.
    pub fn open(config: Config, metrics: Metrics, clock: Clock) -> Result<(Self, Recovered), OpenError> {
        let database = Database::open(&config, clock)?;
        let first_used_at = reads::first_used_at(database.connection()).map_err(OpenError::Database)?;
        let journal_end = reads::journal_end(database.connection()).map_err(OpenError::Database)?;
        let inbox = Arc::new(Inbox::new(config.queue_bytes));
        let (data_dir, instead_of) = (config.data_dir.clone(), config.instead_of.clone());
        metrics.store_in_memory.set(instead_of.is_some().into());
        let (announce, deliveries) = watch::channel(0);
        let writer = Writer::new(config, database, Arc::clone(&inbox), announce, metrics.clone(), clock)?;
        let thread = std::thread::Builder::new()
            .name("threadtap-store".to_owned())
            .spawn(move || writer.run())
            .map_err(OpenError::Thread)?;
        let thread = Mutex::new(Some(thread));
        let store =
            Self { shared: Arc::new(Shared { inbox, deliveries, metrics, data_dir, instead_of, thread }) };
        let recovered = Recovered { store: store.clone(), first_used_at, journal_end };
        Ok((store, recovered))
    }

    /// Queues a batch and returns. The batch is written soon after. Waits at most `patience` for
    /// room, so call it only on a thread that may block.
    ///
    /// # Errors
    /// If there is no room because the disk is slow or failing. No part of the batch is kept.
    pub fn commit(&self, ops: Vec<Op>, patience: Duration) -> Result<(), Refused> {
        self.shared.inbox.put(ops, patience).map_err(|(refused, ops)| {
            ledger::count_lost_ops(&self.shared.metrics, &ops, "refused");
            // Otherwise their journal rows would stay forever.
            let settlings = ops.into_iter().filter(|op| matches!(op, Op::Settle { .. }));
            self.shared.inbox.put_settlings(settlings.collect());
            refused
        })
    }

    /// Queues a batch and waits until it is written, however long that takes. For a few callers
    /// that wait, like delivery lanes: delivery results are never refused for lack of room.
    ///
    /// # Errors
    /// If the store is closed; the batch may or may not have been written. Other batches than
    /// delivery results also fail if twice the queue limit is waiting.
    ///
    /// # Cancel safety
    /// The batch is written even if the future is dropped.
    pub async fn apply(&self, ops: Vec<Op>) -> Result<(), Refused> {
        self.write_acknowledged(ops)?.await.map_err(|_| Refused::Closed)
    }

    /// Blocks the thread for at most `patience` until everything queued before is written.
    ///
    /// # Errors
    /// If the store is closed, or the data was not written in time.
    pub fn flush(&self, patience: Duration) -> Result<(), Refused> {
        let mut written = self.write_acknowledged(Vec::new())?;
        let mut waited = Duration::ZERO;
        loop {
            match written.try_recv() {
                Ok(()) => return Ok(()),
                Err(TryRecvError::Closed) => return Err(Refused::Closed),
                Err(TryRecvError::Empty) if waited >= patience => return Err(Refused::Full),
                Err(TryRecvError::Empty) => {
                    std::thread::sleep(FLUSH_LOOK);
                    waited += FLUSH_LOOK;
                }
            }
        }
    }

    /// Deliveries of one sink after the delivery `after`, oldest first. `lane` restricts them to
    /// one lane.
    ///
    /// # Errors
    /// When the database cannot be read, or the store is closed.
    pub async fn due(
        &self,
        sink: Arc<str>,
        lane: Option<Lane>,
        after: u64,
        limit: usize,
    ) -> Result<DuePage, ReadError> {
        self.read(move |connection| reads::due(connection, &sink, lane, after, limit)).await
    }

    /// The events of deliveries, in the order of the deliveries. Deleted events are missing. Stops
    /// before the event that would make the bodies exceed `max_bytes` in total. If that is the
    /// first event, only its length is returned and no body is read.
    ///
    /// # Errors
    /// When the database cannot be read, or the store is closed.
    pub async fn records(&self, deliveries: Vec<u64>, max_bytes: usize) -> Result<DueRecords, ReadError> {
        self.read(move |connection| reads::records(connection, &deliveries, max_bytes)).await
    }

    /// Interactions older than the event `before`, newest first. May return fewer than `limit` if
    /// records are large, but at least one if any exists.
    ///
    /// # Errors
    /// When the database cannot be read, or the store is closed.
    pub async fn interactions(&self, limit: usize, before: Option<u64>) -> Result<Vec<Stored>, ReadError> {
        self.read(move |connection| reads::interactions(connection, limit, before)).await
    }

    /// Pending deliveries and dead letters, by sink.
    ///
    /// # Errors
    /// When the database cannot be read, or the store is closed.
    pub async fn backlog(&self) -> Result<Backlog, ReadError> {
        self.read(reads::backlog).await
    }

    /// Changes whenever new deliveries are written.
    #[must_use]
    pub fn deliveries(&self) -> watch::Receiver<u64> {
        self.shared.deliveries.clone()
    }

    /// Writes what is waiting, makes a checkpoint, releases the lock and blocks until the thread
    /// ends. If the disk fails, it gives up after a few seconds and reports how much was lost.
    /// Remaining handles are refused from then on.
    pub fn close(&self) {
        self.shared.close();
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

/// One of several lanes of a sink: the deliveries whose lane number modulo `of` is `index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Counts from 0.
    pub index: u32,
    /// How many lanes there are; at least 1.
    pub of: u32,
}

impl Lane {
    /// Whether a lane number belongs to this lane.
    #[must_use]
    pub fn holds(self, number: u32) -> bool {
        number % self.of.max(1) == self.index
    }
}

/// The store is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the store is closed")]
pub struct Closed;

/// Why something could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
    /// The database failed.
    #[error("the database cannot be read")]
    Database(#[source] rusqlite::Error),
}

struct Shared {
    inbox: Arc<Inbox>,
    deliveries: watch::Receiver<u64>,
    metrics: Metrics,
    data_dir: Option<PathBuf>,
    instead_of: Option<String>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Shared {
    fn close(&self) {
        self.inbox.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the store's thread panicked");
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.close();
    }
}

/// Interval for checking whether everything is written.
const FLUSH_LOOK: Duration = Duration::from_millis(1);

fn gauge(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
