//! The thread that owns the database: takes what waits, commits it as one, acknowledges, and tidies up in between.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{ErrorCode, TransactionBehavior};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::metrics::{KindLabel, Metrics, SinkLabel};
use crate::store::apply::{self, Effects};
use crate::store::database::{Database, OpenError, is_corrupt};
use crate::store::inbox::{Inbox, Write};
use crate::store::reads::{self, Waiting};
use crate::store::retention::{self, Trim};
use crate::store::syncer::Syncer;
use crate::store::{Config, Op};
use crate::time::UnixMillis;

pub(super) struct Writer {
    config: Config,
    database: Database,
    inbox: Arc<Inbox>,
    announce: watch::Sender<u64>,
    metrics: Metrics,
    clock: Clock,
    /// Taken and not written yet.
    pending: Vec<Write>,
    /// How many of them the next transaction takes. Halved by each failure: a smaller one may fit where a larger did not.
    group: usize,
    failures: u32,
    retry_at: UnixMillis,
    sinks: BTreeMap<Arc<str>, Waiting>,
    gauges_at: UnixMillis,
    trim: Trim,
    trim_at: UnixMillis,
    /// None in memory.
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
            config,
            database,
            inbox,
            announce,
            metrics,
            clock,
            pending: Vec::new(),
            group: usize::MAX,
            failures: 0,
            retry_at: UnixMillis::default(),
            sinks: BTreeMap::new(),
            gauges_at: UnixMillis::default(),
            trim: Trim::default(),
            trim_at: clock.now().after(TRIM_EVERY),
            syncer: syncer.transpose().map_err(OpenError::Thread)?,
        };
        writer.count_backlog().map_err(OpenError::Database)?;
        Ok(writer)
    }

    /// Runs until the inbox is closed and empty.
    pub(super) fn run(mut self) {
        // Also after a panic: senders must be refused, not left waiting.
        let _closing = CloseOnDrop(Arc::clone(&self.inbox));
        let mut closing_since = None;
        loop {
            let patience = self.patience();
            let limit = if self.pending.is_empty() { self.config.batch_bytes.max(1) } else { 0 };
            let taken = self.inbox.take(limit, patience);
            self.pending.extend(taken.writes);
            let now = self.clock.now();
            if !self.pending.is_empty() && now >= self.retry_at {
                self.write();
            }
            for read in taken.reads {
                read(self.database.connection());
            }
            self.tidy(patience);
            if taken.ended && self.pending.is_empty() {
                break;
            }
            if self.inbox.is_closed() && !self.pending.is_empty() {
                let since = *closing_since.get_or_insert(now);
                if self.clock.now().since(since) >= CLOSING_PATIENCE {
                    self.abandon();
                    break;
                }
                // There is no more to wait for: `take` returns at once from a closed inbox.
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        if let Err(error) = self.database.checkpoint() {
            tracing::warn!(%error, "the last checkpoint failed; it is made up for at the next start");
        }
    }

    /// How long there is nothing to do but wait for work.
    fn patience(&self) -> Duration {
        let now = self.clock.now();
        let mut next = self.trim_at;
        if !self.pending.is_empty() {
            next = next.min(self.retry_at);
        }
        if self.sinks.values().any(|waiting| waiting.deliveries > 0) {
            next = next.min(self.gauges_at.after(GAUGES_EVERY));
        }
        next.since(now)
    }

    fn write(&mut self) {
        let started = now();
        let now = self.clock.now();
        let grouped = self.grouped();
        match self.transaction(now) {
            Ok(effects) => {
                self.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
                if self.failures > 0 {
                    tracing::info!("the store can write again");
                }
                self.failures = 0;
                self.group = usize::MAX;
                self.retry_at = UnixMillis::default();
                let bytes = self.acknowledge(grouped);
                if let Some(syncer) = &self.syncer {
                    syncer.committed(bytes);
                }
                self.tell(effects);
            }
            Err(error) => self.failed(&error, now),
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

    /// Finds the operation that can never succeed, and writes all others.
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
                    tracing::error!(%error, "the database refuses an operation for good; it is dropped");
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
                // Who no longer waits need not be told.
                let _ = written.send(());
            }
        }
        self.inbox.release(bytes);
        bytes
    }

    fn tell(&mut self, effects: Effects) {
        let changed = !effects.sinks.is_empty();
        for (sink, change) in effects.sinks {
            let waiting = self.sinks.entry(sink).or_default();
            waiting.deliveries = waiting.deliveries.saturating_add_signed(change.waiting);
            waiting.dead_letters = waiting.dead_letters.saturating_add_signed(change.dead);
        }
        if changed {
            self.show_counts();
        }
        if let Some(newest) = effects.newest_delivery {
            self.announce.send_replace(newest);
        }
    }

    fn failed(&mut self, error: &rusqlite::Error, now: UnixMillis) {
        self.metrics.store_errors.get_or_create(&KindLabel { kind: kind(error) }).inc();
        if self.failures == 0 {
            tracing::error!(%error, "the store cannot write; it keeps trying, and what comes waits in memory");
        }
        self.failures = self.failures.saturating_add(1);
        self.group = (self.grouped() / 2).max(1);
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(10)).min(LONGEST_PAUSE);
        self.retry_at = now.after(pause);
        if is_corrupt(error) || self.database.is_missing() {
            self.begin_anew(error);
        } else if error.sqlite_error_code() == Some(ErrorCode::DiskFull) {
            match retention::make_room(self.database.connection()) {
                Ok(0) => {}
                Ok(_) => self.retry_at = now,
                Err(error) => tracing::debug!(%error, "no room could be made"),
            }
        }
    }

    fn begin_anew(&mut self, error: &rusqlite::Error) {
        if let Err(error) = self.database.begin_anew(error) {
            tracing::error!(%error, "no new database could be begun");
            return;
        }
        self.retry_at = UnixMillis::default();
        if let Err(error) = self.count_backlog() {
            tracing::error!(%error, "the new database cannot be read");
        }
    }

    /// What can wait until nobody does.
    fn tidy(&mut self, waited: Duration) {
        let now = self.clock.now();
        if now >= self.gauges_at.after(GAUGES_EVERY) {
            self.gauges_at = now;
            self.show_ages(now);
        }
        if now >= self.trim_at && !waited.is_zero() {
            self.trim_at = now.after(TRIM_EVERY);
            match self.trim.step(self.database.connection(), &self.config, now) {
                Ok(true) => self.trim_at = now.after(TRIM_PAUSE),
                Ok(false) => {}
                Err(error) => {
                    self.metrics.store_errors.get_or_create(&KindLabel { kind: kind(&error) }).inc();
                    tracing::debug!(%error, "old records could not be trimmed");
                }
            }
        }
    }

    fn count_backlog(&mut self) -> rusqlite::Result<()> {
        for waiting in self.sinks.values_mut() {
            *waiting = Waiting::default();
        }
        self.sinks.extend(reads::backlog(self.database.connection())?.sinks);
        self.show_counts();
        self.show_ages(self.clock.now());
        Ok(())
    }

    fn show_counts(&self) {
        for (sink, waiting) in &self.sinks {
            let label = SinkLabel { sink: sink.to_string() };
            self.metrics.delivery_queue.get_or_create(&label).set(gauge(waiting.deliveries));
            self.metrics.dead_letters.get_or_create(&label).set(gauge(waiting.dead_letters));
        }
    }

    fn show_ages(&self, now: UnixMillis) {
        for (sink, waiting) in &self.sinks {
            let oldest = if waiting.deliveries > 0 {
                reads::oldest(self.database.connection(), sink).ok().flatten()
            } else {
                None
            };
            let age_secs = oldest.map_or(0, |oldest| now.since(oldest).as_secs());
            let label = SinkLabel { sink: sink.to_string() };
            self.metrics.delivery_queue_age_seconds.get_or_create(&label).set(gauge(age_secs));
        }
    }

    fn abandon(&mut self) {
        let taken: usize = self.pending.drain(..).map(|write| write.ops.len()).sum();
        let lost = taken + self.inbox.abandon();
        tracing::error!(lost, "the disk kept failing while closing; what waited is lost");
    }
}

struct CloseOnDrop(Arc<Inbox>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
        self.0.abandon();
    }
}

/// Whether trying again cannot help, whatever becomes of the disk.
fn is_hopeless(error: &rusqlite::Error) -> bool {
    use ErrorCode as Code;
    match error.sqlite_error_code() {
        Some(code) => matches!(
            code,
            Code::ApiMisuse
                | Code::ConstraintViolation
                | Code::ParameterOutOfRange
                | Code::TooBig
                | Code::TypeMismatch
        ),
        // The failure is not SQLite's: a value could not be converted.
        None => true,
    }
}

/// The label of an error.
fn kind(error: &rusqlite::Error) -> &'static str {
    use ErrorCode as Code;
    match error.sqlite_error_code() {
        Some(Code::DiskFull) => "full",
        Some(Code::DatabaseCorrupt | Code::NotADatabase) => "corrupt",
        Some(Code::DatabaseBusy | Code::DatabaseLocked) => "busy",
        Some(Code::ReadOnly | Code::PermissionDenied | Code::CannotOpen) => "read_only",
        Some(Code::SystemIoFailure) => "io",
        _ => "other",
    }
}

fn gauge(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "commits take less than the clock's millisecond")]
fn now() -> Instant {
    Instant::now()
}

const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const CLOSING_PATIENCE: Duration = Duration::from_secs(5);
const GAUGES_EVERY: Duration = Duration::from_secs(1);
const TRIM_EVERY: Duration = Duration::from_secs(60);
const TRIM_PAUSE: Duration = Duration::from_millis(20);
