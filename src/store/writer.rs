//! The thread that owns the database. It takes waiting operations, commits them together,
//! acknowledges them, and does maintenance between commits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::TransactionBehavior;
use threadtap_core::time::UnixMillis;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::metrics::{KindLabel, Metrics};
use crate::store::apply::{self, Effects};
use crate::store::budget::{History, Step};
use crate::store::database::{Database, OpenError};
use crate::store::inbox::{Inbox, Write};
use crate::store::ledger::{self, Ledger};
use crate::store::retention::{MIN_RETAIN, Trim};
use crate::store::syncer::Syncer;
use crate::store::trouble::{Failure, Trouble, is_hopeless};
use crate::store::{Config, Op};

mod care;
mod freeing;
mod full;

use care::before;
use full::Tried;

pub(super) struct Writer {
    config: Config,
    database: Database,
    inbox: Arc<Inbox>,
    announce: watch::Sender<u64>,
    metrics: Metrics,
    clock: Clock,
    /// Taken, but not written yet.
    pending: Vec<Write>,
    /// How many of them the next transaction takes. Each failure halves it, because a smaller
    /// transaction may fit where a larger one did not.
    group: usize,
    failures: u32,
    /// Since when the first of them has been waiting for a successful write.
    stuck_since: UnixMillis,
    retry_at: UnixMillis,
    /// Whether a write failure was logged and the recovery was not yet logged, and when it may be
    /// logged again.
    told_failing: bool,
    tell_at: UnixMillis,
    /// What was tried since the last failure, if that was caused by a lack of room.
    full: Option<Tried>,
    /// What happened to the last database, until a new one is created.
    lost_by: Option<&'static str>,
    ledger: Ledger,
    gauges_at: UnixMillis,
    trim: Trim,
    trim_at: UnixMillis,
    /// Deletes history to stay within `retain_bytes`, and to make room.
    trim_bytes: History,
    make_room: History,
    /// `None` in memory.
    syncer: Option<Syncer>,
}

impl Writer {
    pub(super) fn new(
        config: Config,
        database: Database,
        inbox: Arc<Inbox>,
        announce: watch::Sender<u64>,
        metrics: Metrics,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        let syncer =
            database.path().map(|path| Syncer::start(path.to_owned(), config.sync_every, metrics.clone()));
        let mut writer = Self {
            ledger: Ledger::new(metrics.clone()),
            config,
            database,
            inbox,
            announce,
            metrics,
            clock,
            pending: Vec::new(),
            group: usize::MAX,
            failures: 0,
            stuck_since: UnixMillis::default(),
            retry_at: UnixMillis::default(),
            told_failing: false,
            tell_at: UnixMillis::default(),
            full: None,
            lost_by: None,
            gauges_at: UnixMillis::default(),
            trim: Trim::default(),
            trim_at: clock.now().after(TRIM_EVERY),
            trim_bytes: History::default(),
            make_room: History::default(),
            syncer: syncer.transpose().map_err(OpenError::Thread)?,
        };
        if let Some(lost) = writer.database.take_lost() {
            let label = KindLabel { kind: Trouble::Corrupt.as_str() };
            writer.metrics.store_recreated.get_or_create(&label).inc();
            ledger::count_lost(&writer.metrics, &lost, Trouble::Corrupt.as_str());
        }
        let now = writer.clock.now();
        writer.ledger.recount(writer.database.connection(), now).map_err(OpenError::Database)?;
        writer.show_state();
        Ok(writer)
    }

    /// Runs until the inbox is closed and empty.
    pub(super) fn run(mut self) {
        // Also after a panic: senders must be refused and not left waiting.
        let _closing = CloseOnDrop(Arc::clone(&self.inbox));
        let mut closing_since = None;
        loop {
            let patience = self.patience();
            let limit = if self.pending.is_empty() { self.config.batch_bytes.max(1) } else { 0 };
            let taken = self.inbox.take(limit, patience);
            let room_again = self.put_first(taken.freeing);
            self.pending.extend(taken.writes);
            let now = self.clock.now();
            let due = now >= self.retry_at || room_again;
            if !self.pending.is_empty() && due && !self.database.is_missing() {
                self.write();
            }
            for read in taken.reads {
                if let Err(failure) = read(self.database.connection()) {
                    self.failed_aside(&failure);
                }
            }
            for change in taken.changes {
                self.change(change);
            }
            self.tidy();
            if taken.ended && self.pending.is_empty() {
                break;
            }
            if self.inbox.is_closed() && !self.pending.is_empty() {
                let since = *closing_since.get_or_insert(now);
                if self.clock.now().since(since) >= CLOSING_PATIENCE {
                    self.abandon();
                    break;
                }
                // There is nothing more to wait for: `take` returns at once if the inbox is closed.
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        if let Err(error) = self.database.checkpoint() {
            tracing::warn!(%error, "the last checkpoint failed; the next start repeats it");
        }
    }

    /// How long the thread has nothing to do except wait for work.
    fn patience(&self) -> Duration {
        let mut next = self.trim_at.min(self.gauges_at.after(GAUGES_EVERY));
        if !self.pending.is_empty() || self.database.is_missing() {
            next = next.min(self.retry_at);
        }
        next.since(self.clock.now())
    }

    fn write(&mut self) {
        let started = now();
        let now = self.clock.now();
        let grouped = self.grouped();
        match self.transaction(now) {
            // Only data that the next process will find is acknowledged.
            Ok(_) if !self.database.is_in_place() => self.failed(&Failure::vanished(), now),
            Ok(effects) => {
                self.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
                // An empty group was not tried.
                if self.pending[..grouped].iter().any(|write| !write.ops.is_empty()) {
                    self.works_again();
                }
                let bytes = self.acknowledge(grouped);
                self.forgets_when_idle();
                if let Some(syncer) = &self.syncer {
                    syncer.committed(bytes);
                }
                self.emit(effects);
            }
            Err(error) => self.failed(&Failure::from(&error), now),
        }
    }

    fn transaction(&mut self, now: UnixMillis) -> rusqlite::Result<Effects> {
        let ops: Vec<&Op> = self.pending[..self.grouped()].iter().flat_map(|write| &write.ops).collect();
        if ops.is_empty() {
            return Ok(Effects::default());
        }
        let transaction =
            self.database.connection_mut().transaction_with_behavior(TransactionBehavior::Immediate)?;
        let effects = match apply::all(&transaction, &ops, now) {
            Err(error) if is_hopeless(&error) => {
                transaction.rollback()?;
                return self.one_by_one(now);
            }
            applied => applied?,
        };
        transaction.commit()?;
        Ok(effects)
    }

    /// Finds the operation that can never succeed, and writes all the others.
    fn one_by_one(&mut self, now: UnixMillis) -> rusqlite::Result<Effects> {
        let grouped = self.grouped();
        let mut transaction =
            self.database.connection_mut().transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut effects = Effects::default();
        for op in self.pending[..grouped].iter().flat_map(|write| &write.ops) {
            let savepoint = transaction.savepoint()?;
            let mut own = Effects::default();
            match apply::one(&savepoint, op, now, &mut own) {
                Ok(()) => {
                    savepoint.commit()?;
                    effects.merge(own);
                }
                Err(error) if is_hopeless(&error) => {
                    drop(savepoint);
                    self.metrics.store_errors.get_or_create(&KindLabel { kind: "rejected" }).inc();
                    ledger::count_lost_ops(&self.metrics, std::slice::from_ref(op), "rejected");
                    tracing::error!(%error, "the database rejects an operation permanently; dropped it");
                }
                Err(error) => return Err(error),
            }
        }
        transaction.commit()?;
        Ok(effects)
    }

    fn grouped(&self) -> usize {
        self.group.min(self.pending.len())
    }

    fn acknowledge(&mut self, grouped: usize) -> usize {
        let now = self.clock.now();
        let mut bytes = 0;
        for write in self.pending.drain(..grouped) {
            bytes += write.bytes;
            for op in &write.ops {
                if let Op::Journal { at, .. } = op {
                    self.metrics.written_seconds.observe(now.since(*at).as_secs_f64());
                }
            }
            if let Some(written) = write.written {
                // A caller that no longer waits needs no reply.
                let _ = written.send(());
            }
        }
        self.inbox.release(bytes);
        bytes
    }

    fn emit(&mut self, effects: Effects) {
        if effects.history || effects.sinks.values().any(|change| change.waiting < 0 || change.dead < 0) {
            self.make_room.begin_again();
        }
        self.ledger.enter(effects.sinks);
        if let Some(newest) = effects.newest_delivery {
            self.announce.send_replace(newest);
        }
    }

    fn abandon(&mut self) {
        let taken = std::mem::take(&mut self.pending);
        let mut lost = 0;
        for write in taken.into_iter().chain(self.inbox.abandon()) {
            lost += write.ops.len();
            ledger::count_lost_ops(&self.metrics, &write.ops, "closing");
        }
        tracing::error!(lost, "the disk kept failing while closing; waiting writes are lost");
    }
}

struct CloseOnDrop(Arc<Inbox>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
        self.0.abandon();
    }
}

#[expect(clippy::disallowed_methods, reason = "commits take less than the clock's millisecond")]
fn now() -> Instant {
    Instant::now()
}

const CLOSING_PATIENCE: Duration = Duration::from_secs(5);
const GAUGES_EVERY: Duration = Duration::from_secs(1);
const TRIM_EVERY: Duration = Duration::from_secs(60);
