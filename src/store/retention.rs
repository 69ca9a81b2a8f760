//! Deletes expired data in steps that are small enough not to delay a commit.

use std::time::Duration;

use rusqlite::{Connection, params};
use threadtap_core::time::UnixMillis;

use crate::store::Config;
use crate::store::apply::{sql, unsql};

/// Position of the walk over old events.
#[derive(Debug, Default)]
pub(super) struct Trim {
    after_event: u64,
    /// Events deleted so far.
    pub(super) taken: usize,
}

impl Trim {
    /// Takes one step. Returns true if there may be more to do at once.
    pub(super) fn step(
        &mut self,
        connection: &Connection,
        config: &Config,
        now: UnixMillis,
    ) -> rusqlite::Result<bool> {
        let events_before = before(now, config.retain.max(MIN_RETAIN));
        let conversations_before = before(now, config.conversation_ttl);

        let forgotten = connection
            .prepare_cached(
                "DELETE FROM conversations WHERE id IN
                 (SELECT id FROM conversations WHERE updated_at < ?1 ORDER BY updated_at LIMIT ?2)",
            )?
            .execute(params![conversations_before, STEP_ROWS])?;
        let passed = connection
            .prepare_cached(
                "DELETE FROM histories WHERE id IN
                 (SELECT id FROM (SELECT id, at FROM histories ORDER BY id LIMIT ?2)
                  WHERE at < ?1 OR id <= (SELECT max(id) FROM histories) - ?3)",
            )?
            .execute(params![conversations_before, STEP_ROWS, rows(config.remembered_turns)])?;
        let mut aged = 0;
        for table in ["sessions", "users"] {
            // Rows of a table without row ids are identified by their whole key.
            let key = if table == "sessions" { "scope, id" } else { "id" };
            aged += connection
                .prepare_cached(&format!(
                    "DELETE FROM {table} WHERE ({key}) IN
                     (SELECT {key} FROM {table} WHERE updated_at < ?1 ORDER BY updated_at LIMIT ?2)"
                ))?
                .execute(params![events_before, STEP_ROWS])?;
        }
        // Events are ordered by time, so the walk ends at the first one that is too young.
        let (looked_at, last): (i64, i64) = connection
            .prepare_cached(
                "SELECT count(*), coalesce(max(id), 0) FROM
                 (SELECT id, at FROM events WHERE id > ?1 ORDER BY id LIMIT ?3) WHERE at < ?2",
            )?
            .query_row(params![sql(self.after_event), events_before, STEP_ROWS], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        if looked_at > 0 {
            self.taken += connection
                .prepare_cached(
                    "DELETE FROM events WHERE id > ?1 AND id <= ?2 AND at < ?3
                     AND NOT EXISTS (SELECT 1 FROM deliveries WHERE event = events.id)
                     AND NOT EXISTS (SELECT 1 FROM dead_letters WHERE event = events.id)",
                )?
                .execute(params![sql(self.after_event), last, events_before])?;
            give_back(connection)?;
        }
        // Events that were skipped, because they are not delivered yet, are checked again on the
        // next walk.
        let more_events = looked_at == STEP_ROWS;
        self.after_event = if more_events { unsql(last) } else { 0 };
        let step = STEP_ROWS.unsigned_abs() as usize;
        Ok(more_events || [forgotten, passed].contains(&step) || aged >= step)
    }
}

fn rows(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn before(now: UnixMillis, age: Duration) -> i64 {
    sql(now.0.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)))
}

pub(super) fn give_back(connection: &Connection) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("PRAGMA incremental_vacuum(256)")?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

/// The key of an event must be known at least this long; otherwise a late poll would record its run
/// again.
pub(super) const MIN_RETAIN: Duration = Duration::from_secs(24 * 3600);
const STEP_ROWS: i64 = 256;
