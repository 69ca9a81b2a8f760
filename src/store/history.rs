//! Reads the events of a period and makes them due again.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use threadtap_core::time::UnixMillis;

use crate::store::apply::{Effects, sql, unsql};
use crate::store::dead_letters::make_due;
use crate::store::op::lane_number;
use crate::store::reads::PAGE_BYTES;
use crate::store::{ReadError, Store, Stored};

/// A span of time, including `since` and excluding `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Period {
    /// The first moment in the span.
    pub since: UnixMillis,
    /// The first moment after the span.
    pub until: UnixMillis,
}

/// How far a period has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The time of the last event looked at.
    pub at: UnixMillis,
    /// The number of that event.
    pub id: u64,
}

/// Some events, ordered by time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredPage {
    /// The events.
    pub rows: Vec<Stored>,
    /// Where to continue. `None` at the end.
    pub next: Option<Cursor>,
}

impl Store {
    /// Events that were derived in a period, oldest first, after a cursor, of one kind or of all
    /// kinds. Events whose text was deleted are missing. An empty page is not necessarily the last
    /// one.
    ///
    /// # Errors
    /// When the database cannot be read, or the store is closed.
    pub async fn events_in(
        &self,
        period: Period,
        kind: Option<&'static str>,
        after: Option<Cursor>,
    ) -> Result<StoredPage, ReadError> {
        self.read(move |connection| page(connection, period, kind, after)).await
    }

    /// Makes events due at a sink again, whether they were delivered, became dead letters, or were
    /// never meant for it. Events that are already waiting are left alone. Returns how many were
    /// made due.
    ///
    /// # Errors
    /// When the database cannot be changed, or the store is closed. Nothing is changed then.
    pub async fn make_due(&self, sink: Arc<str>, events: Vec<u64>) -> Result<u64, ReadError> {
        self.change(move |transaction, now| {
            let mut effects = Effects::default();
            let mut made = 0;
            for event in events {
                let found: Option<(Option<String>, Option<String>, String)> = transaction
                    .prepare_cached("SELECT session_scope, session, key FROM events WHERE id = ?1")?
                    .query_row([sql(event)], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                    .optional()?;
                let Some((scope, session, key)) = found else { continue };
                let lane = match (scope, session) {
                    (Some(scope), Some(session)) => lane_number(&scope, &session),
                    _ => lane_number("", &key),
                };
                let dead = transaction
                    .prepare_cached("DELETE FROM dead_letters WHERE event = ?1 AND sink = ?2")?
                    .execute(params![sql(event), sink])?;
                effects.change(&sink).dead -= i64::from(dead > 0);
                made += u64::from(make_due(transaction, sql(event), &sink, lane.into(), now, &mut effects)?);
            }
            Ok((made, effects))
        })
        .await
    }
}

fn page(
    connection: &Connection,
    period: Period,
    kind: Option<&str>,
    after: Option<Cursor>,
) -> rusqlite::Result<StoredPage> {
    let after = after.unwrap_or(Cursor { at: UnixMillis(0), id: 0 });
    let mut statement = connection.prepare_cached(
        "SELECT id, at, CASE WHEN octet_length(body) > 0 AND (?5 IS NULL OR kind = ?5) THEN body END
         FROM events WHERE at >= ?1 AND at < ?2 AND (at > ?3 OR id > ?4) ORDER BY at, id LIMIT ?6",
    )?;
    let since = period.since.max(after.at);
    let mut found = statement.query(params![
        sql(since.0),
        sql(period.until.0),
        sql(after.at.0),
        sql(after.id),
        kind,
        LOOKED_AT
    ])?;
    let (mut page, mut looked_at, mut bytes) = (StoredPage::default(), 0, 0);
    while page.rows.len() < PAGE_ROWS
        && bytes < PAGE_BYTES
        && let Some(row) = found.next()?
    {
        looked_at += 1;
        let (id, at) = (unsql(row.get(0)?), UnixMillis(unsql(row.get(1)?)));
        page.next = Some(Cursor { at, id });
        if let Some(body) = row.get::<_, Option<String>>(2)? {
            bytes += body.len();
            page.rows.push(Stored { id, at, body });
        }
    }
    if page.rows.len() < PAGE_ROWS && bytes < PAGE_BYTES && looked_at < LOOKED_AT {
        page.next = None;
    }
    Ok(page)
}

const LOOKED_AT: i64 = 1024;
const PAGE_ROWS: usize = 256;
