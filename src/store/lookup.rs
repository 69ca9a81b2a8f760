//! Finds the record that an id belongs to.

use rusqlite::{Connection, OptionalExtension, params};
use threadtap_core::time::UnixMillis;

use crate::store::apply::{sql, unsql};
use crate::store::{ReadError, Store};

/// What is known about an id of the API or of the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// An interaction mentions it.
    Record(Mention),
    /// It is part of a conversation that is not settled, or may not be. Its record may still come.
    Pending,
    /// It is mentioned, but not in the given conversation.
    Elsewhere,
    /// Nothing in the store mentions it.
    Unknown,
}

/// The newest interaction that mentions an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mention {
    /// The event as JSON.
    pub body: String,
    /// The session number of the message that is meant. `None` if the whole interaction is meant.
    pub message: Option<u64>,
}

/// Feedback that waits for its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its number.
    pub id: u64,
    /// The id it names.
    pub reference: String,
    /// The feedback as JSON.
    pub body: String,
    /// Since when it has been waiting.
    pub at: UnixMillis,
}

impl Store {
    /// Looks for the interaction that mentions an id of a run, a message, a conversation or a
    /// session. `conversation` restricts the search to that conversation. Operations that were
    /// queued before are searched too, once they are written.
    ///
    /// # Errors
    /// When the database cannot be read, or the store is closed.
    pub async fn find(&self, id: String, conversation: Option<String>) -> Result<Found, ReadError> {
        self.apply(Vec::new()).await.map_err(|_| ReadError::Closed)?;
        self.read(move |connection| find(connection, &id, conversation.as_deref())).await
    }

    /// The newest interaction that mentions an id, if there is one by now.
    ///
    /// # Errors
    /// When the database cannot be read, or the store is closed.
    pub async fn mention(
        &self,
        id: String,
        conversation: Option<String>,
    ) -> Result<Option<Mention>, ReadError> {
        self.read(move |connection| mention(connection, &id, conversation.as_deref())).await
    }

    /// Feedback that waits for its record, oldest first, after a number.
    ///
    /// # Errors
    /// When the database cannot be read, or the store is closed.
    pub async fn held(&self, after: u64, limit: usize) -> Result<Vec<Held>, ReadError> {
        self.read(move |connection| held(connection, after, limit)).await
    }

    /// How much feedback waits for its record.
    ///
    /// # Errors
    /// When the database cannot be read, or the store is closed.
    pub async fn held_count(&self) -> Result<u64, ReadError> {
        self.read(held_count).await
    }
}

/// Looks for an id, only in `conversation` if one is given.
fn find(connection: &Connection, id: &str, conversation: Option<&str>) -> rusqlite::Result<Found> {
    if let Some(mention) = mention(connection, id, conversation)? {
        return Ok(Found::Record(mention));
    }
    if is_pending(connection, id, conversation)? {
        return Ok(Found::Pending);
    }
    let elsewhere = conversation.is_some() && mention(connection, id, None)?.is_some();
    Ok(if elsewhere { Found::Elsewhere } else { Found::Unknown })
}

/// The newest interaction that mentions an id.
fn mention(
    connection: &Connection,
    id: &str,
    conversation: Option<&str>,
) -> rusqlite::Result<Option<Mention>> {
    connection
        .prepare_cached(
            "SELECT body, first_message, message FROM refs JOIN events ON events.id = refs.event
             WHERE refs.id = ?1 AND (?2 IS NULL OR conversation = ?2) ORDER BY refs.event DESC LIMIT 1",
        )?
        .query_row(params![id, conversation], |row| {
            let first: Option<i64> = row.get(1)?;
            let offset: Option<i64> = row.get(2)?;
            let message = first.zip(offset).map(|(first, offset)| unsql(first + offset));
            Ok(Mention { body: row.get(0)?, message })
        })
        .optional()
}

/// Whether the journal mentions an id. The search is limited: if the journal is longer, the result
/// is yes.
fn is_pending(connection: &Connection, id: &str, conversation: Option<&str>) -> rusqlite::Result<bool> {
    let is_conversation = connection
        .prepare_cached("SELECT 1 FROM journal WHERE conversation = ?1 LIMIT 1")?
        .exists([conversation.unwrap_or(id)])?;
    if conversation.is_some_and(|conversation| conversation == id)
        || conversation.is_none() && is_conversation
    {
        return Ok(is_conversation);
    }
    if conversation.is_some() && !is_conversation {
        return Ok(false);
    }
    let quoted = serde_json::Value::from(id).to_string();
    let (looked_at, found): (i64, bool) = connection
        .prepare_cached(
            "SELECT count(*), coalesce(max(instr(body, ?1) > 0), 0) FROM
             (SELECT body FROM journal WHERE ?2 IS NULL OR conversation = ?2 ORDER BY seq DESC LIMIT ?3)",
        )?
        .query_row(params![quoted, conversation, SCANNED_ROWS], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(found || looked_at == SCANNED_ROWS)
}

/// Feedback that waits for its record, oldest first, after a number.
fn held(connection: &Connection, after: u64, limit: usize) -> rusqlite::Result<Vec<Held>> {
    connection
        .prepare_cached("SELECT id, reference, body, at FROM held WHERE id > ?1 ORDER BY id LIMIT ?2")?
        .query_map(params![sql(after), i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
            let (id, at): (i64, i64) = (row.get(0)?, row.get(3)?);
            Ok(Held { id: unsql(id), reference: row.get(1)?, body: row.get(2)?, at: UnixMillis(unsql(at)) })
        })?
        .collect()
}

/// How much feedback waits for its record.
fn held_count(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_row("SELECT count(*) FROM held", [], |row| row.get(0).map(unsql))
}

/// Takes a few milliseconds, so that commits are not delayed.
const SCANNED_ROWS: i64 = 4096;
