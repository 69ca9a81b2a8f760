//! Dead letters: listing them, making them due again, and deleting them.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use threadtap_core::time::UnixMillis;

use crate::store::apply::{Effects, sql, unsql};
use crate::store::reads::PAGE_BYTES;
use crate::store::{ReadError, Store};

/// A delivery that was given up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The number of the dead letter. Later ones have higher numbers.
    pub id: u64,
    /// The sink it was for.
    pub sink: String,
    /// The event's kind.
    pub kind: String,
    /// The event's idempotency key.
    pub key: String,
    /// When it became due.
    pub queued_at: UnixMillis,
    /// When it was given up.
    pub died_at: UnixMillis,
    /// Number of attempts made.
    pub attempts: u32,
    /// Why it was given up; one of a closed set of reasons.
    pub reason: String,
    /// The backend's last response.
    pub answer: String,
    /// The event, if it was requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Box<RawValue>>,
}

/// Selects dead letters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadLetters {
    /// All dead letters.
    All,
    /// The dead letters with these numbers.
    Ids(Vec<u64>),
    /// The dead letters of one sink.
    Sink(Arc<str>),
}

impl Store {
    /// Dead letters after the number `after`, oldest first, of one sink or of all sinks. Includes
    /// their events if `events` is set. Returns fewer if events are large.
    ///
    /// # Errors
    /// When the database cannot be read, or the store is closed.
    pub async fn dead_letters(
        &self,
        sink: Option<Arc<str>>,
        after: u64,
        limit: usize,
        events: bool,
    ) -> Result<Vec<DeadLetter>, ReadError> {
        self.read(move |connection| list(connection, sink.as_deref(), after, limit, events)).await
    }

    /// One dead letter, with its event.
    ///
    /// # Errors
    /// When the database cannot be read, or the store is closed.
    pub async fn dead_letter(&self, id: u64) -> Result<Option<DeadLetter>, ReadError> {
        self.read(move |connection| {
            let query = format!("{SELECT}, events.body {FROM} WHERE dead_letters.id = ?1");
            connection.prepare_cached(&query)?.query_row([sql(id)], |row| letter(row, true)).optional()
        })
        .await
    }

    /// Makes dead letters due again, under the same key. Returns how many.
    ///
    /// # Errors
    /// When the database cannot be changed, or the store is closed. What was changed before stays changed.
    pub async fn retry_dead_letters(&self, which: DeadLetters) -> Result<u64, ReadError> {
        self.settle_dead_letters(which, Fate::Retried).await
    }

    /// Deletes dead letters. Their events are kept as long as other events. Returns how many were
    /// deleted.
    ///
    /// # Errors
    /// When the database cannot be changed, or the store is closed. What was changed before stays changed.
    pub async fn drop_dead_letters(&self, which: DeadLetters) -> Result<u64, ReadError> {
        self.settle_dead_letters(which, Fate::Dropped).await
    }

    async fn settle_dead_letters(&self, which: DeadLetters, fate: Fate) -> Result<u64, ReadError> {
        // Dead letters that are added during this call, perhaps again, are not included.
        let query = "SELECT coalesce(max(id), 0) FROM dead_letters";
        let end = self.read(move |connection| connection.query_row(query, [], |row| row.get(0))).await?;
        let (mut after, mut settled) = (0, 0);
        loop {
            let which = which.clone();
            let ids = self
                .change(move |transaction, now| {
                    let mut effects = Effects::default();
                    let ids = choose(transaction, &which, after, end)?;
                    for id in &ids {
                        settle(transaction, *id, fate, now, &mut effects)?;
                    }
                    Ok((ids, effects))
                })
                .await?;
            let Some(last) = ids.last() else { return Ok(settled) };
            after = *last;
            settled += ids.len() as u64;
        }
    }
}

#[derive(Clone, Copy)]
enum Fate {
    Dropped,
    Retried,
}

fn list(
    connection: &Connection,
    sink: Option<&str>,
    after: u64,
    limit: usize,
    events: bool,
) -> rusqlite::Result<Vec<DeadLetter>> {
    let body = if events { ", events.body" } else { "" };
    let of_sink = if sink.is_some() { "dead_letters.sink = ?1 AND" } else { "?1 IS NULL AND" };
    let query = format!(
        "{SELECT}{body} {FROM} WHERE {of_sink} dead_letters.id > ?2 ORDER BY dead_letters.id LIMIT ?3"
    );
    let mut statement = connection.prepare_cached(&query)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut found = statement.query(params![sink, sql(after), limit])?;
    let (mut letters, mut bytes) = (Vec::new(), 0);
    while bytes < PAGE_BYTES
        && let Some(row) = found.next()?
    {
        let letter = letter(row, events)?;
        bytes += letter.event.as_ref().map_or(0, |event| event.get().len());
        letters.push(letter);
    }
    Ok(letters)
}

fn letter(row: &Row<'_>, event: bool) -> rusqlite::Result<DeadLetter> {
    let millis = |index| row.get(index).map(|at| UnixMillis(unsql(at)));
    Ok(DeadLetter {
        id: row.get(0).map(unsql)?,
        sink: row.get(1)?,
        kind: row.get(2)?,
        key: row.get(3)?,
        queued_at: millis(4)?,
        died_at: millis(5)?,
        attempts: row.get(6)?,
        reason: row.get(7)?,
        answer: row.get(8)?,
        // An unreadable event may be the reason for the dead letter.
        event: if event { RawValue::from_string(row.get(9)?).ok() } else { None },
    })
}

fn choose(
    transaction: &Transaction<'_>,
    which: &DeadLetters,
    after: i64,
    end: i64,
) -> rusqlite::Result<Vec<i64>> {
    let query = |filter: &str| {
        format!(
            "SELECT id FROM dead_letters WHERE {filter} AND id > ?2 AND id <= ?3 ORDER BY id LIMIT {STEP}"
        )
    };
    let ids = |filter: &str, value: &dyn rusqlite::ToSql| {
        transaction
            .prepare_cached(&query(filter))?
            .query_map(params![value, after, end], |row| row.get(0))?
            .collect::<rusqlite::Result<Vec<i64>>>()
    };
    match which {
        DeadLetters::All => ids("?1 IS NULL", &None::<i64>),
        DeadLetters::Sink(sink) => ids("sink = ?1", sink),
        DeadLetters::Ids(wanted) => {
            let mut found = Vec::new();
            for id in wanted {
                found.extend(ids("id = ?1", &sql(*id))?);
            }
            found.sort_unstable();
            found.dedup();
            found.truncate(STEP);
            Ok(found)
        }
    }
}

fn settle(
    transaction: &Transaction<'_>,
    id: i64,
    fate: Fate,
    now: UnixMillis,
    effects: &mut Effects,
) -> rusqlite::Result<()> {
    let (event, sink, lane): (i64, String, i64) = transaction
        .prepare_cached("DELETE FROM dead_letters WHERE id = ?1 RETURNING event, sink, lane")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    effects.change(&sink).dead -= 1;
    match fate {
        Fate::Dropped => Ok(()),
        Fate::Retried => make_due(transaction, event, &sink, lane, now, effects).map(drop),
    }
}

/// Makes an event due at a sink, unless it already is. Returns whether it was changed.
pub(super) fn make_due(
    transaction: &Transaction<'_>,
    event: i64,
    sink: &str,
    lane: i64,
    now: UnixMillis,
    effects: &mut Effects,
) -> rusqlite::Result<bool> {
    let new = transaction
        .prepare_cached(
            "INSERT INTO deliveries (event, sink, lane, queued_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (event, sink) DO NOTHING",
        )?
        .execute(params![event, sink, lane, sql(now.0)])?;
    if new > 0 {
        effects.change(sink).waiting += 1;
        effects.newest_delivery = Some(unsql(transaction.last_insert_rowid()));
    }
    Ok(new > 0)
}

const SELECT: &str = "SELECT dead_letters.id, sink, kind, key, queued_at, died_at, attempts, reason, answer";
const FROM: &str = "FROM dead_letters JOIN events ON events.id = dead_letters.event";
/// Dead letters changed in one transaction.
const STEP: usize = 500;
