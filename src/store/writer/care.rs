//! What the writer does about trouble, and what it tidies up between two commits.

use super::*;
use crate::metrics::{FileLabel, StateLabel};
use crate::store::inbox::Change;
use crate::store::{budget, gauge, renumber};

impl Writer {
    /// Runs a change asked for by an operator.
    pub(super) fn change(&mut self, change: Change) {
        let now = self.clock.now();
        match change(self.database.connection_mut(), now) {
            Ok(effects) => {
                if let Some(syncer) = &self.syncer {
                    syncer.committed(CHANGE_BYTES);
                }
                self.emit(effects);
            }
            Err(failure) => self.failed_aside(&failure),
        }
    }

    /// A read or a change failed: whoever asked has been told. Only what concerns everybody is acted on.
    pub(super) fn failed_aside(&mut self, failure: &Failure) {
        if self.database.is_missing() {
            return;
        }
        self.count(failure);
        if failure.trouble == Trouble::Corrupt {
            self.begin_anew(failure);
        }
    }

    /// A write failed: it stays, and is tried again after a pause.
    pub(super) fn failed(&mut self, failure: &Failure, now: UnixMillis) {
        self.count(failure);
        // A full database may go back and forth many times a second.
        if !self.told_failing && now >= self.tell_at {
            (self.told_failing, self.tell_at) = (true, now.after(TELL_EVERY));
            tracing::error!(error = %failure.text, "the store cannot write; it retries, and new work waits in memory");
        }
        self.failures = self.failures.saturating_add(1);
        self.group = (self.grouped() / 2).max(1);
        self.pause(now);
        if failure.trouble != Trouble::Full {
            self.full = None;
        }
        match failure.trouble {
            Trouble::Corrupt | Trouble::Vanished => self.begin_anew(failure),
            Trouble::Full => {
                if self.make_room(now) || self.refuse_first(now) {
                    self.retry_at = now;
                }
            }
            Trouble::Io | Trouble::ReadOnly | Trouble::Other if self.failures >= RECONNECT_AFTER => {
                if let Err(error) = self.database.reconnect() {
                    tracing::debug!(%error, "the database cannot be opened again");
                }
            }
            Trouble::Busy | Trouble::Io | Trouble::ReadOnly | Trouble::Other => {}
        }
        self.show_state();
    }

    pub(super) fn works_again(&mut self) {
        if std::mem::take(&mut self.told_failing) {
            tracing::info!("the store can write again");
        }
        let failed = std::mem::take(&mut self.failures) > 0;
        self.group = usize::MAX;
        self.full = None;
        self.retry_at = UnixMillis::default();
        if failed {
            self.show_state();
        }
    }

    /// What can wait until nobody does.
    pub(super) fn tidy(&mut self) {
        let now = self.clock.now();
        if self.database.is_missing() && now >= self.retry_at {
            self.try_again_to_begin(now);
        }
        if now >= self.gauges_at.after(GAUGES_EVERY) {
            self.gauges_at = now;
            if !self.database.is_in_place() {
                self.failed(&Failure::vanished(), now);
            }
            self.ledger.show_ages(self.database.connection(), now);
            self.show_sizes();
        }
        if now >= self.trim_at {
            self.trim_at = now.after(TRIM_EVERY);
            // While the disk fails, there are other worries.
            if self.pending.is_empty() && !self.database.is_missing() {
                self.trim(now);
            }
        }
    }

    pub(super) fn show_state(&self) {
        let failing = self.failures > 0 || self.database.is_missing();
        for (state, value) in [("ok", !failing), ("failing", failing)] {
            self.metrics.store_state.get_or_create(&StateLabel { state }).set(value.into());
        }
    }

    fn count(&self, failure: &Failure) {
        self.metrics.store_errors.get_or_create(&KindLabel { kind: failure.trouble.as_str() }).inc();
    }

    fn pause(&mut self, now: UnixMillis) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(10)).min(LONGEST_PAUSE);
        self.retry_at = now.after(pause);
    }

    /// Gives up the database there was, and begins a new one, at once if that can be done.
    fn begin_anew(&mut self, failure: &Failure) {
        let corrupt = (failure.trouble == Trouble::Corrupt).then_some(failure.text.as_str());
        if !self.database.is_missing() {
            let reason = failure.trouble.as_str();
            if corrupt.is_none() {
                tracing::error!(
                    "the data directory or the database in it is gone or was replaced; creating a new one"
                );
            }
            self.lost_by = Some(reason);
            self.ledger.lose(reason);
        }
        if let Err(error) = self.database.let_go(corrupt) {
            tracing::error!(%error, "the database could not be set aside");
        }
        self.failures = self.failures.max(1);
        self.told_failing = true;
        self.show_state();
        self.try_again_to_begin(self.clock.now());
    }

    fn try_again_to_begin(&mut self, now: UnixMillis) {
        match self.database.begin_anew() {
            Ok(()) => {
                if let Some(kind) = self.lost_by.take() {
                    self.metrics.store_recreated.get_or_create(&KindLabel { kind }).inc();
                }
                // One that cannot be written to either is not begun over and over without a pause.
                if self.failures <= 1 {
                    self.retry_at = UnixMillis::default();
                }
                self.full = None;
                self.trim = Trim::default();
                (self.trim_bytes, self.make_room) = (History::default(), History::default());
                // Couriers go on from the numbers they know.
                let renumbered = renumber::after(self.database.connection(), *self.announce.borrow(), now);
                match renumbered
                    .and_then(|newest| self.ledger.recount(self.database.connection(), now).map(|()| newest))
                {
                    Ok(newest) => drop(self.announce.send_replace(newest)),
                    Err(error) => tracing::error!(%error, "the new database cannot be read"),
                }
                if self.pending.iter().all(|write| write.ops.is_empty()) {
                    self.works_again();
                }
            }
            Err(error) => {
                if self.failures <= 1 {
                    tracing::error!(%error, "cannot create a new database; retrying");
                }
                self.failures = self.failures.saturating_add(1);
                self.pause(now);
            }
        }
        self.show_state();
    }

    fn trim(&mut self, now: UnixMillis) {
        let aged = self.trim_aged(now);
        let connection = self.database.connection();
        let sized = self.config.retained_bytes().map_or(Ok(Step::Exhausted), |limit| {
            if budget::used_bytes(connection)? <= limit {
                return Ok(Step::Exhausted);
            }
            let step = self.trim_bytes.step_of_bodies(connection, TRIMMED_ROWS, before(now, MIN_RETAIN))?;
            crate::store::retention::give_back(connection)?;
            Ok(step)
        });
        match (aged, sized) {
            (Ok(more), Ok(step)) => {
                if let Step::Freed(count) = step {
                    self.evicted("size", count);
                }
                if more || step != Step::Exhausted {
                    self.trim_at = now.after(TRIM_PAUSE);
                }
            }
            (Err(error), _) | (_, Err(error)) => {
                tracing::debug!(%error, "old records could not be trimmed");
                self.failed_aside(&Failure::from(&error));
            }
        }
    }

    /// Lets go of what is aged, a step of it. Tells whether there may be more at once.
    pub(super) fn trim_aged(&mut self, now: UnixMillis) -> rusqlite::Result<bool> {
        let more = self.trim.step(self.database.connection(), &self.config, now);
        let taken = std::mem::take(&mut self.trim.taken);
        self.evicted("age", taken);
        more
    }

    pub(super) fn evicted(&self, kind: &'static str, count: usize) {
        if count > 0 {
            self.metrics.store_evicted.get_or_create(&KindLabel { kind }).inc_by(count as u64);
        }
    }

    fn show_sizes(&mut self) {
        let connection = self.database.connection();
        if let Ok(used) = budget::used_bytes(connection) {
            self.metrics.store_used_bytes.set(gauge(used));
        }
        let Some((database, log)) = self.database.file_bytes() else { return };
        for (file, bytes) in [("database", database), ("log", log)] {
            self.metrics.store_file_bytes.get_or_create(&FileLabel { file }).set(gauge(bytes));
        }
        // Under a load without a gap the syncer's checkpoints never find the log at its end, and it would grow for ever.
        if log > LONGEST_LOG_BYTES
            && let Err(error) = self.database.checkpoint()
        {
            tracing::debug!(%error, "the log could not be written back");
        }
    }
}

pub(super) fn before(now: UnixMillis, age: Duration) -> UnixMillis {
    UnixMillis(now.0.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)))
}

const TELL_EVERY: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A connection that failed so often is not what it was.
const RECONNECT_AFTER: u32 = 4;
const TRIM_PAUSE: Duration = Duration::from_millis(20);
/// Some milliseconds of work.
const TRIMMED_ROWS: usize = 128;
const LONGEST_LOG_BYTES: u64 = 64 << 20;
/// What a change is taken to write, for the pace of checkpoints.
const CHANGE_BYTES: usize = 64 << 10;
