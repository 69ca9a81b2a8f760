//! Keeps what must outlive the process: the journal, the events, what is still to be delivered, and what was given up.
//!
//! One SQLite database in the data directory, in WAL mode, owned by one thread (`threadtap-store`). Everybody else holds a
//! [`Store`], a cheap handle: writes go through a bounded queue, reads are closures the thread runs between two commits.
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
//! Bodies are JSON text. Times are Unix milliseconds by the proxy's clock. `user_version` is the schema's version: an older one
//! is brought up to date at opening, a newer one is refused.
//!
//! # Rules
//!
//! * **Group commit.** The thread takes all that waits (at most [`Config::batch_bytes`]), applies it in order in one
//!   transaction, and acknowledges it afterwards. It commits whenever it is free; batches come from load, never from a timer.
//! * **Settling.** [`Op::Settle`] deletes the conversation's journal rows so far. Journal rows and the settling that follows
//!   them within one group cancel out and never touch the disk.
//! * **Once.** An event whose key is known is ignored, with the deliveries that came with it. The key is known as long as the
//!   event is kept: [`Config::retain`], at least 24 hours.
//! * **Numbers.** The messages of an event are numbered in its session when it is written, in the same transaction: without a
//!   gap and never twice, also where an event is derived again or a write was refused.
//! * **Retention.** Events older than that go in small steps between two commits, unless a delivery or a dead letter still
//!   refers to them. Beyond [`Config::retain_bytes`], and in a full database, the text of the oldest delivered ones goes,
//!   whatever their age; their key stays for its 24 hours, unless there is no room even for keys.
//! * **Room.** A full database or disk makes room in this order, each only where the one before was not enough: what became of
//!   deliveries is recorded, before its turn and in short (failed attempts are not, and answers to what was given up are not
//!   kept); conversations are settled, before their turn; the log is written back and used again; the text of delivered events
//!   goes; their keys go; what is aged goes. Then new operations are refused, but for settlings; and what waits
//!   already, where nothing is stored whose delivery could still make room: at once where the budget is full, after a minute where
//!   the disk is, which others may free.
//! * **Trouble.** A failed transaction leaves nothing behind and is tried again, with growing pauses, until it succeeds; the
//!   queue fills meanwhile and refuses ([`Refused::Full`]), which is counted. An operation that can never succeed is
//!   dropped by itself, counted and logged. A database found corrupt, by a write, a read or at opening, is set aside and a new
//!   one begun. One that is gone from its directory, or was replaced there, is noticed within a second, and before anything more
//!   is acknowledged; a new one is begun as soon as the directory can be made and held again.
//! * **Loss** of deliveries, in whatever way, is counted by sink and reason: `threadtap_deliveries_lost_total`.
//! * **Synced.** Every commit is, by default, by a thread of its own as soon as the disk lets it; [`Config::sync_every`] trades
//!   that for fewer syncs. Surviving the death of the process never needs a sync, so nothing waits for one.
//!
//! # Invariants
//!
//! * What was acknowledged survives `kill -9`, and a power cut once the sync that follows it is through.
//! * A delivery leaves only by [`Op::Delivered`] or [`Op::Dead`]; a dead letter keeps its event.
//! * Memory is bounded by [`Config::queue_bytes`] and one group, whatever the disk does.
//! * The store does not know HTTP, dialects or sinks: names and JSON text only.

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
    /// Where the files are; none keeps everything in memory, where it ends with the process.
    pub data_dir: Option<PathBuf>,
    /// Why there is no directory although one was meant; told by [`Store::overview`].
    pub instead_of: Option<String>,
    /// How this process is named to another that finds the directory locked; for example its listen address.
    pub holder: String,
    /// Where this process can be asked about the directory; for example its admin listener's address.
    pub admin: String,
    /// None syncs after every commit. Some syncs at this interval: a power cut may lose that much, a killed process nothing.
    pub sync_every: Option<Duration>,
    /// How long delivered events are kept; less than 24 hours counts as 24 hours.
    pub retain: Duration,
    /// How long the state of an idle conversation is kept.
    pub conversation_ttl: Duration,
    /// How many runs' histories are kept: the last ones.
    pub remembered_turns: usize,
    /// Bytes of operations that may wait for the thread; beyond it they are refused.
    pub queue_bytes: usize,
    /// Bytes of operations one transaction takes, at least one batch.
    pub batch_bytes: usize,
    /// Bytes the database may grow to; none is no limit on disk, and 64 MiB in memory.
    pub max_bytes: Option<u64>,
    /// Bytes the database may hold before delivered events go, oldest first; none is nine tenths of [`Self::max_bytes`].
    pub retain_bytes: Option<u64>,
}

impl Config {
    /// What delivered events are trimmed to; none is no limit.
    fn retained_bytes(&self) -> Option<u64> {
        // Short of the limit, so that in the ordinary way no commit meets it.
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

/// A handle on the store. The last one to go closes it.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

impl Store {
    /// Opens the data directory, or memory, and starts the thread. What an earlier process left is read through
    /// [`Recovered`], at the caller's pace.
    ///
    /// # Errors
    /// When another process holds the directory, it cannot be used, or a newer version wrote it. A corrupt database is no
    /// error: it is set aside.
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

    /// Hands a batch over and returns; it is written soon after. Waits at most `patience` for room: for use on a thread that
    /// may block.
    ///
    /// # Errors
    /// When there is no room, which means that the disk does not keep up or fails; nothing of the batch is kept.
    pub fn commit(&self, ops: Vec<Op>, patience: Duration) -> Result<(), Refused> {
        self.shared.inbox.put(ops, patience).map_err(|(refused, ops)| {
            ledger::count_lost_ops(&self.shared.metrics, &ops, "refused");
            // Or their journal would stay for good.
            let settlings = ops.into_iter().filter(|op| matches!(op, Op::Settle { .. }));
            self.shared.inbox.put_settlings(settlings.collect());
            refused
        })
    }

    /// Hands a batch over and waits until it is written, however long that takes. For callers that are themselves few and wait,
    /// as delivery's lanes do: what became of deliveries is never refused for want of room.
    ///
    /// # Errors
    /// When the store is closed; the batch may or may not have been written. When twice what may wait does, for other batches.
    ///
    /// # Cancel safety
    /// The batch is written also when the future is dropped.
    pub async fn apply(&self, ops: Vec<Op>) -> Result<(), Refused> {
        self.write_acknowledged(ops)?.await.map_err(|_| Refused::Closed)
    }

    /// Waits, blocking the thread, until all that was handed over before is written, at most `patience`.
    ///
    /// # Errors
    /// When the store is closed, or it was not written by then.
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

    /// Deliveries of one sink after the delivery `after`, oldest first; with `lane` only those of one lane.
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

    /// The events of deliveries, in the deliveries' order; those that are gone are missing. It stops before the one with which the
    /// bodies would be longer than `max_bytes` together; is that the first one, its length is told and nothing is read.
    ///
    /// # Errors
    /// When the database cannot be read, or the store is closed.
    pub async fn records(&self, deliveries: Vec<u64>, max_bytes: usize) -> Result<DueRecords, ReadError> {
        self.read(move |connection| reads::records(connection, &deliveries, max_bytes)).await
    }

    /// Interactions, newest first, older than the event `before`. Fewer than `limit` where records are large, but at least one if
    /// there is one.
    ///
    /// # Errors
    /// When the database cannot be read, or the store is closed.
    pub async fn interactions(&self, limit: usize, before: Option<u64>) -> Result<Vec<Stored>, ReadError> {
        self.read(move |connection| reads::interactions(connection, limit, before)).await
    }

    /// What waits and what was given up, by sink.
    ///
    /// # Errors
    /// When the database cannot be read, or the store is closed.
    pub async fn backlog(&self) -> Result<Backlog, ReadError> {
        self.read(reads::backlog).await
    }

    /// Changes whenever new deliveries were written.
    #[must_use]
    pub fn deliveries(&self) -> watch::Receiver<u64> {
        self.shared.deliveries.clone()
    }

    /// Writes what waits, checkpoints, gives up the lock and waits for the thread, blocking. When the disk fails it gives up
    /// after a few seconds, saying how much was lost. Handles that remain are refused from then on.
    pub fn close(&self) {
        self.shared.close();
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

/// One of several lanes of a sink: the deliveries whose lane number leaves `index` when divided by `of`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Counts from 0.
    pub index: u32,
    /// How many lanes there are; at least 1.
    pub of: u32,
}

impl Lane {
    /// Whether a lane number belongs to it.
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

/// How often it is looked whether all is written.
const FLUSH_LOOK: Duration = Duration::from_millis(1);

fn gauge(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
