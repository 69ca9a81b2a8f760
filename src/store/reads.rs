//! Queries. They run on the store's thread, so each is limited in the rows it examines and in the
//! bytes it returns.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use threadtap_core::event::SessionKey;
use threadtap_core::observation::ConversationKey;
use threadtap_core::time::UnixMillis;

use crate::store::Lane;
use crate::store::apply::{sql, unsql};

/// A pending delivery. Its event is fetched when it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The number of the delivery. Later deliveries have higher numbers.
    pub id: u64,
    /// The lane number, the same for all deliveries of a conversation.
    pub lane: u32,
    /// Attempts made so far.
    pub attempts: u32,
    /// When it became due.
    pub queued_at: UnixMillis,
}

/// Some deliveries, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DuePage {
    /// The deliveries.
    pub rows: Vec<Due>,
    /// Where to continue: the last delivery examined.
    pub next_after: u64,
    /// Whether there may be more.
    pub more: bool,
}

/// The event of a delivery that is in progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueRecord {
    /// The delivery.
    pub delivery: u64,
    /// The event as JSON.
    pub body: String,
    /// The number of its first message in its session.
    pub first_message: Option<u64>,
}

/// The events of deliveries, as many as may be read at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DueRecords {
    /// The requested events that exist, in order, as many as may be read together.
    Read(Vec<DueRecord>),
    /// The first existing event is larger than the limit.
    TooLong {
        /// Bytes of its event.
        bytes: usize,
    },
}

/// A row of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalRow {
    /// Its place in the order.
    pub seq: u64,
    /// The conversation.
    pub conversation: ConversationKey,
    /// The observation as JSON.
    pub body: String,
}

/// A stored event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Later ones have higher numbers.
    pub id: u64,
    /// When it was derived.
    pub at: UnixMillis,
    /// The event as JSON.
    pub body: String,
}

/// Pending deliveries and dead letters by sink name. A sink with neither is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backlog {
    /// By sink.
    pub sinks: BTreeMap<Arc<str>, Waiting>,
}

/// Pending deliveries and dead letters of one sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Pending deliveries.
    pub deliveries: u64,
    /// When the oldest of them became due.
    pub oldest: Option<UnixMillis>,
    /// Dead letters kept.
    pub dead_letters: u64,
}

pub(super) fn first_used_at(connection: &Connection) -> rusqlite::Result<UnixMillis> {
    connection.query_row("SELECT value FROM meta WHERE key = 'first_used_at'", [], |row| millis(row, 0))
}

pub(super) fn journal_end(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_row("SELECT coalesce(max(seq), 0) FROM journal", [], |row| number(row, 0))
}

pub(super) fn journal(
    connection: &Connection,
    after: u64,
    end: u64,
    limit: usize,
) -> rusqlite::Result<Vec<(u64, JournalRow)>> {
    let mut statement = connection.prepare_cached(
        "SELECT seq, upstream, conversation, body FROM journal WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3",
    )?;
    let found = statement.query_map(params![sql(after), sql(end), rows(limit)], |row| {
        let seq = number(row, 0)?;
        Ok((seq, JournalRow { seq, conversation: conversation(row, 1)?, body: row.get(3)? }))
    })?;
    page(found, |(_, row)| row.body.len())
}

pub(super) fn conversations(
    connection: &Connection,
    after: u64,
    limit: usize,
) -> rusqlite::Result<Vec<(u64, (ConversationKey, String))>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, upstream, conversation, state FROM conversations WHERE id > ?1 ORDER BY id LIMIT ?2",
    )?;
    let found = statement.query_map(params![sql(after), rows(limit)], |row| {
        Ok((number(row, 0)?, (conversation(row, 1)?, row.get(3)?)))
    })?;
    page(found, |(_, (_, state)): &(_, (_, String))| state.len())
}

/// The accumulated conversations of runs, oldest first.
pub(super) fn histories(
    connection: &Connection,
    after: u64,
    limit: usize,
) -> rusqlite::Result<Vec<(u64, String)>> {
    let mut statement =
        connection.prepare_cached("SELECT id, body FROM histories WHERE id > ?1 ORDER BY id LIMIT ?2")?;
    let found =
        statement.query_map(params![sql(after), rows(limit)], |row| Ok((number(row, 0)?, row.get(1)?)))?;
    page(found, |(_, body): &(_, String)| body.len())
}

/// The open sessions and their states.
pub(super) fn sessions(connection: &Connection) -> rusqlite::Result<Vec<(SessionKey, String)>> {
    connection
        .prepare_cached("SELECT scope, id, state FROM sessions WHERE state IS NOT NULL")?
        .query_map([], |row| Ok((SessionKey { scope: row.get(0)?, id: row.get(1)? }, row.get(2)?)))?
        .collect()
}

/// What is known about the most recently seen users, most recent first.
pub(super) fn users(connection: &Connection, limit: usize) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare_cached("SELECT body FROM users ORDER BY updated_at DESC LIMIT ?1")?
        .query_map([rows(limit)], |row| row.get(0))?
        .collect()
}

/// Whether an event is stored under this key.
pub(super) fn is_known(connection: &Connection, key: &str) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM events WHERE key = ?1")?.exists([key])
}

pub(super) fn due(
    connection: &Connection,
    sink: &str,
    lane: Option<Lane>,
    after: u64,
    limit: usize,
) -> rusqlite::Result<DuePage> {
    let mut statement = connection.prepare_cached(
        "SELECT id, lane, attempts, queued_at FROM deliveries WHERE sink = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
    )?;
    let scan = if lane.is_some() { SCANNED_ROWS.max(limit) } else { limit };
    let mut found = statement.query(params![sink, sql(after), rows(scan)])?;
    let mut page = DuePage { next_after: after, ..DuePage::default() };
    let mut scanned = 0;
    while page.rows.len() < limit
        && let Some(row) = found.next()?
    {
        scanned += 1;
        let due =
            Due { id: number(row, 0)?, lane: row.get(1)?, attempts: row.get(2)?, queued_at: millis(row, 3)? };
        page.next_after = due.id;
        if lane.is_none_or(|lane| lane.holds(due.lane)) {
            page.rows.push(due);
        }
    }
    page.more = page.rows.len() == limit || scanned == scan;
    Ok(page)
}

/// The events of deliveries, in the order of the deliveries. Deleted events are missing.
pub(super) fn records(
    connection: &Connection,
    deliveries: &[u64],
    max_bytes: usize,
) -> rusqlite::Result<DueRecords> {
    // The length is known without reading the text.
    let mut statement = connection.prepare_cached(
        "SELECT octet_length(body), CASE WHEN octet_length(body) <= ?2 THEN body END, first_message
         FROM deliveries JOIN events ON events.id = deliveries.event WHERE deliveries.id = ?1",
    )?;
    let mut records: Vec<DueRecord> = Vec::with_capacity(deliveries.len());
    let mut room = max_bytes;
    for delivery in deliveries {
        let found = statement.query_row(params![sql(*delivery), rows(room)], |row| {
            let body: Option<String> = row.get(1)?;
            Ok((row.get::<_, i64>(0)?, body, row.get::<_, Option<i64>>(2)?.map(unsql)))
        });
        match found.optional()? {
            None => {}
            Some((_, Some(body), first_message)) => {
                room -= body.len();
                records.push(DueRecord { delivery: *delivery, body, first_message });
            }
            Some((bytes, None, _)) if records.is_empty() => {
                let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
                return Ok(DueRecords::TooLong { bytes });
            }
            Some((_, None, _)) => break,
        }
    }
    Ok(DueRecords::Read(records))
}

pub(super) fn interactions(
    connection: &Connection,
    limit: usize,
    before: Option<u64>,
) -> rusqlite::Result<Vec<Stored>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, at, body FROM events
         WHERE kind = 'interaction' AND octet_length(body) > 0 AND id < ?1 ORDER BY id DESC LIMIT ?2",
    )?;
    let found = statement
        .query_map(params![sql(before.unwrap_or(u64::MAX)), rows(limit.min(MAX_LISTED))], |row| {
            Ok(Stored { id: number(row, 0)?, at: millis(row, 1)?, body: row.get(2)? })
        })?;
    page(found, |stored| stored.body.len())
}

/// The rows up to and including the one that reaches [`PAGE_BYTES`].
fn page<T>(
    found: impl Iterator<Item = rusqlite::Result<T>>,
    bytes_of: impl Fn(&T) -> usize,
) -> rusqlite::Result<Vec<T>> {
    let (mut page, mut bytes) = (Vec::new(), 0);
    for row in found {
        let row = row?;
        bytes += bytes_of(&row);
        page.push(row);
        if bytes >= PAGE_BYTES {
            break;
        }
    }
    Ok(page)
}

pub(super) fn backlog(connection: &Connection) -> rusqlite::Result<Backlog> {
    let mut backlog = Backlog::default();
    let mut waiting =
        connection.prepare_cached("SELECT sink, count(*), min(id) FROM deliveries GROUP BY sink")?;
    let mut found = waiting.query([])?;
    while let Some(row) = found.next()? {
        let sink: Arc<str> = row.get(0)?;
        let entry = backlog.sinks.entry(sink).or_default();
        entry.deliveries = number(row, 1)?;
        entry.oldest = queued_at(connection, row.get(2)?)?;
    }
    let mut dead = connection.prepare_cached("SELECT sink, count(*) FROM dead_letters GROUP BY sink")?;
    let mut found = dead.query([])?;
    while let Some(row) = found.next()? {
        let sink: Arc<str> = row.get(0)?;
        backlog.sinks.entry(sink).or_default().dead_letters = number(row, 1)?;
    }
    Ok(backlog)
}

/// When the oldest delivery of a sink became due.
pub(super) fn oldest(connection: &Connection, sink: &str) -> rusqlite::Result<Option<UnixMillis>> {
    connection
        .prepare_cached("SELECT queued_at FROM deliveries WHERE sink = ?1 ORDER BY id LIMIT 1")?
        .query_row([sink], |row| millis(row, 0))
        .optional()
}

fn queued_at(connection: &Connection, delivery: i64) -> rusqlite::Result<Option<UnixMillis>> {
    connection
        .prepare_cached("SELECT queued_at FROM deliveries WHERE id = ?1")?
        .query_row([delivery], |row| millis(row, 0))
        .optional()
}

fn conversation(row: &Row<'_>, first: usize) -> rusqlite::Result<ConversationKey> {
    Ok(ConversationKey { upstream: row.get(first)?, id: row.get(first + 1)? })
}

fn millis(row: &Row<'_>, index: usize) -> rusqlite::Result<UnixMillis> {
    Ok(UnixMillis(number(row, index)?))
}

fn number(row: &Row<'_>, index: usize) -> rusqlite::Result<u64> {
    row.get(index).map(unsql)
}

fn rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Rows that a query for a single lane examines. Takes a few milliseconds, so that commits are not
/// delayed.
const SCANNED_ROWS: usize = 4096;
const MAX_LISTED: usize = 1000;
/// Bytes of text that one query returns, plus one row. A paged query ends its page there.
pub(super) const PAGE_BYTES: usize = 4 << 20;
