//! Deletes delivered events before they expire, because they take too many bytes.

use rusqlite::types::Value;
use rusqlite::{Connection, params, params_from_iter};
use threadtap_core::time::UnixMillis;

use crate::store::apply::{sql, unsql};

/// A walk over delivered events, oldest first.
///
/// The text of an event is deleted first. Its key stays as long as it must be known; otherwise a
/// late poll would record its run again.
#[derive(Debug, Default)]
pub(super) struct History {
    after: u64,
    stage: Stage,
    /// Whether an event that was skipped may be deletable now.
    again: bool,
}

/// What the walk deletes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// The text of delivered events.
    #[default]
    Bodies,
    /// Keys that were kept without their text.
    Keys,
    Nothing,
}

/// How far a step got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The number of events deleted.
    Freed(usize),
    /// None yet, but there may be more later in the walk.
    Looked,
    /// There is nothing to delete.
    Exhausted,
}

impl History {
    /// Takes one step and deletes at most `rows` events. Keeps the keys of events since
    /// `remember_since`.
    pub(super) fn step(
        &mut self,
        connection: &Connection,
        rows: usize,
        remember_since: UnixMillis,
    ) -> rusqlite::Result<Step> {
        let keys = match self.stage {
            Stage::Bodies => false,
            Stage::Keys => true,
            Stage::Nothing => return Ok(Step::Exhausted),
        };
        let mut looked_at = 0;
        let mut last = self.after;
        let mut chosen = Vec::new();
        {
            let mut statement = connection.prepare_cached(
                "SELECT id, at, octet_length(body) = 0 AS bare,
                   EXISTS (SELECT 1 FROM deliveries WHERE event = events.id)
                   OR EXISTS (SELECT 1 FROM dead_letters WHERE event = events.id) AS needed
                 FROM events WHERE id > ?1 ORDER BY id LIMIT ?2",
            )?;
            let mut found = statement.query(params![sql(self.after), LOOKED_AT])?;
            while chosen.len() < rows
                && let Some(row) = found.next()?
            {
                looked_at += 1;
                let (id, at): (i64, i64) = (row.get(0)?, row.get(1)?);
                let (bare, needed): (bool, bool) = (row.get(2)?, row.get(3)?);
                last = unsql(id);
                if bare == keys && !needed {
                    chosen.push((id, unsql(at) < remember_since.0));
                }
            }
        }
        let transaction = connection.unchecked_transaction()?;
        let mut kept = Vec::new();
        for (id, old) in &chosen {
            if !keys && !old {
                kept.push(read(&transaction, *id)?);
            }
            transaction.prepare_cached("DELETE FROM events WHERE id = ?1")?.execute([id])?;
        }
        // Shrinking a row in place frees no page. Reinserted rows share pages.
        for values in kept {
            transaction
                .prepare_cached(&format!(
                    "INSERT INTO events ({COLUMNS}, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '')"
                ))?
                .execute(params_from_iter(values))?;
        }
        transaction.commit()?;
        self.after = last;
        if !chosen.is_empty() {
            return Ok(Step::Freed(chosen.len()));
        }
        if looked_at == LOOKED_AT {
            return Ok(Step::Looked);
        }
        self.after = 0;
        if std::mem::take(&mut self.again) {
            self.stage = Stage::Bodies;
            return Ok(Step::Looked);
        }
        self.stage = if keys { Stage::Nothing } else { Stage::Keys };
        Ok(if self.stage == Stage::Nothing { Step::Exhausted } else { Step::Looked })
    }

    /// Only while there is text to delete. Keys are deleted only to make room, not to meet a
    /// configured limit.
    pub(super) fn step_of_bodies(
        &mut self,
        connection: &Connection,
        rows: usize,
        remember_since: UnixMillis,
    ) -> rusqlite::Result<Step> {
        let step = self.step(connection, rows, remember_since)?;
        if self.stage == Stage::Bodies {
            return Ok(step);
        }
        self.begin_again();
        Ok(Step::Exhausted)
    }

    /// There may be something to delete again: deliveries were made, or events arrived that need
    /// none.
    pub(super) fn begin_again(&mut self) {
        match self.stage {
            Stage::Bodies => self.again = true,
            Stage::Keys | Stage::Nothing => *self = Self::default(),
        }
    }
}

/// Everything of an event except its text.
fn read(connection: &Connection, id: i64) -> rusqlite::Result<Vec<Value>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM events WHERE id = ?1"))?
        .query_row([id], |row| (0..COLUMNS.split(',').count()).map(|index| row.get(index)).collect())
}

/// Bytes used in the database.
pub(super) fn used_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let free = number(connection, "PRAGMA freelist_count")?;
    let pages = number(connection, "PRAGMA page_count")?.saturating_sub(free);
    Ok(pages * number(connection, "PRAGMA page_size")?)
}

/// Bytes the database may still take within its budget. If a small amount fits here but not on the
/// disk, the disk is full.
pub(super) fn spare_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let bytes =
        number(connection, "PRAGMA max_page_count")?.saturating_mul(number(connection, "PRAGMA page_size")?);
    Ok(bytes.saturating_sub(used_bytes(connection)?))
}

fn number(connection: &Connection, pragma: &str) -> rusqlite::Result<u64> {
    connection.query_row(pragma, [], |row| row.get(0)).map(unsql)
}

const COLUMNS: &str = "id, key, kind, upstream, conversation, at, session_scope, session, first_message";
/// Events examined in one step: about a millisecond.
const LOOKED_AT: i64 = 1024;
