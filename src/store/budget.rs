//! Letting delivered events go before their time, because they take too many bytes.

use rusqlite::types::Value;
use rusqlite::{Connection, params, params_from_iter};
use threadtap_core::time::UnixMillis;

use crate::store::apply::{sql, unsql};

/// A walk over delivered events, oldest first.
///
/// What goes first is the text of an event; its key stays as long as it must be known, or a late poll would record its run again.
#[derive(Debug, Default)]
pub(super) struct History {
    after: u64,
    stage: Stage,
    /// Whether there may be something to let go of that was passed over.
    again: bool,
}

/// What the walk takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// The text of delivered events.
    #[default]
    Bodies,
    /// Keys that were kept without text.
    Keys,
    Nothing,
}

/// How far a step came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// So many events were let go.
    Freed(usize),
    /// None yet, but there may be some further on.
    Looked,
    /// There is nothing to let go of.
    Exhausted,
}

impl History {
    /// Takes one step, letting go of `rows` events at most. Of those since `remember_since` the key is kept.
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
        // A row that only shrinks where it is gives no page back; put in anew, many share one.
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

    /// Only for as long as there is text to let go of: keys are given up for room alone, not to keep to a wish.
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

    /// There may be something to let go of again: deliveries were made, or events came that need none.
    pub(super) fn begin_again(&mut self) {
        match self.stage {
            Stage::Bodies => self.again = true,
            Stage::Keys | Stage::Nothing => *self = Self::default(),
        }
    }
}

/// All of an event but its text.
fn read(connection: &Connection, id: i64) -> rusqlite::Result<Vec<Value>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM events WHERE id = ?1"))?
        .query_row([id], |row| (0..COLUMNS.split(',').count()).map(|index| row.get(index)).collect())
}

/// Bytes of the database that hold something.
pub(super) fn used_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let free = number(connection, "PRAGMA freelist_count")?;
    let pages = number(connection, "PRAGMA page_count")?.saturating_sub(free);
    Ok(pages * number(connection, "PRAGMA page_size")?)
}

/// Bytes the database may still take, by its budget: where there is no room for less, it is the disk that is full.
pub(super) fn spare_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let bytes =
        number(connection, "PRAGMA max_page_count")?.saturating_mul(number(connection, "PRAGMA page_size")?);
    Ok(bytes.saturating_sub(used_bytes(connection)?))
}

fn number(connection: &Connection, pragma: &str) -> rusqlite::Result<u64> {
    connection.query_row(pragma, [], |row| row.get(0)).map(unsql)
}

const COLUMNS: &str = "id, key, kind, upstream, conversation, at, session_scope, session, first_message";
/// Events one step looks at: about a millisecond.
const LOOKED_AT: i64 = 1024;
