//! Erases a conversation, or everything about a user, from every table, the free pages and the log.
//!
//! It works in steps between commits, so that a large database does not delay incoming writes.
//! Deleted data is overwritten (`secure_delete`). Free pages are returned to the file system. The
//! log is written back and truncated to zero.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use threadtap_core::observation::ConversationKey;

use crate::store::apply::Effects;
use crate::store::{ReadError, Store};

/// Who or what to erase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The conversation with this id, at any upstream.
    Conversation(String),
    /// The user with this id: every conversation that names the user, as a whole.
    User(String),
}

/// What was erased, counted in rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erased {
    /// Conversations.
    pub conversations: u64,
    /// Events of any kind.
    pub events: u64,
    /// Pending deliveries.
    pub deliveries: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Observations of conversations that were not settled.
    pub observations: u64,
    /// Remembered states of settled conversations, run histories, sessions and users.
    pub states: u64,
    /// Feedback that waited for its record.
    pub feedback: u64,
    /// Databases that were set aside as corrupt. They are not searched and may contain data to be
    /// erased.
    pub not_covered: Vec<PathBuf>,
}

impl Store {
    /// The conversations that concern a subject, as far as the database knows.
    ///
    /// # Errors
    /// When the database cannot be read, or the store is closed.
    pub async fn conversations_of(&self, subject: &Subject) -> Result<BTreeSet<ConversationKey>, ReadError> {
        let mut found = BTreeSet::new();
        for (table, order, text) in SOURCES {
            let mut after = 0;
            loop {
                let subject = subject.clone();
                let (keys, last) = self
                    .read(move |connection| look(connection, table, order, text, &subject, after))
                    .await?;
                found.extend(keys);
                let Some(last) = last else { break };
                after = last;
            }
        }
        Ok(found)
    }

    /// Erases conversations, and everything else that names the subject. [`Store::scrub`] does the
    /// rest.
    ///
    /// # Errors
    /// When the database cannot be changed, or the store is closed. Data that was already erased
    /// stays erased.
    pub async fn erase(
        &self,
        subject: &Subject,
        conversations: &BTreeSet<ConversationKey>,
    ) -> Result<Erased, ReadError> {
        let conversations = Arc::new(conversations.clone());
        let mut erased = Erased { conversations: conversations.len() as u64, ..Erased::default() };
        let mut after = Some(0);
        while let Some(from) = after {
            let (subject, conversations) = (subject.clone(), Arc::clone(&conversations));
            let (step, last) = self
                .change(move |transaction, _| {
                    transaction.pragma_update_and_check(None, "secure_delete", "ON", |_| Ok(()))?;
                    let mut effects = Effects::default();
                    let step = erase_events(transaction, &subject, &conversations, from, &mut effects)?;
                    Ok((step, effects))
                })
                .await?;
            erased.events += step.events;
            erased.deliveries += step.deliveries;
            erased.dead_letters += step.dead_letters;
            erased.states += step.states;
            after = last;
        }
        let subject = subject.clone();
        let rest = self
            .change(move |transaction, _| {
                Ok((erase_rest(transaction, &subject, &conversations)?, Effects::default()))
            })
            .await?;
        erased.observations += rest.observations;
        erased.states += rest.states;
        erased.feedback += rest.feedback;
        Ok(erased)
    }

    /// Returns free pages to the file system and empties the log. Afterwards no deleted data is
    /// left in the files.
    ///
    /// # Errors
    /// When the database cannot be changed, or the store is closed.
    pub async fn scrub(&self) -> Result<(), ReadError> {
        loop {
            let free: i64 = self
                .change(|transaction, _| {
                    give_back(transaction)?;
                    let free = transaction.query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
                    Ok((free, Effects::default()))
                })
                .await?;
            if free == 0 {
                break;
            }
        }
        // A checkpoint started by the syncer must end first.
        for _ in 0..CHECKPOINT_TRIES {
            let busy: i64 = self
                .read(|connection| {
                    connection.pragma_update_and_check(None, "secure_delete", "FAST", |_| Ok(()))?;
                    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
                })
                .await?;
            if busy == 0 {
                return Ok(());
            }
            tokio::time::sleep(CHECKPOINT_PAUSE).await;
        }
        let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
        Err(ReadError::Database(rusqlite::Error::SqliteFailure(busy, None)))
    }
}

/// One step over a table: the conversations found, and where to continue.
fn look(
    connection: &Connection,
    table: &str,
    order: &str,
    text: &str,
    subject: &Subject,
    after: i64,
) -> rusqlite::Result<(Vec<ConversationKey>, Option<i64>)> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {order}, upstream, conversation, CASE WHEN instr({text}, ?2) > 0 THEN {text} END
         FROM {table} WHERE {order} > ?1 ORDER BY {order} LIMIT ?3"
    ))?;
    let mut rows = statement.query(params![after, needle(subject), LOOKED_AT])?;
    let (mut keys, mut last, mut count) = (Vec::new(), after, 0);
    while let Some(row) = rows.next()? {
        (last, count) = (row.get(0)?, count + 1);
        let key = ConversationKey { upstream: row.get(1)?, id: row.get(2)? };
        let text: Option<String> = row.get(3)?;
        if !key.id.is_empty() && concerns(subject, &key, text.as_deref()) {
            keys.push(key);
        }
    }
    Ok((keys, (count == LOOKED_AT).then_some(last)))
}

fn erase_events(
    transaction: &Transaction<'_>,
    subject: &Subject,
    conversations: &BTreeSet<ConversationKey>,
    after: i64,
    effects: &mut Effects,
) -> rusqlite::Result<(Erased, Option<i64>)> {
    let mut statement = transaction.prepare_cached(
        "SELECT id, upstream, conversation, CASE WHEN instr(body, ?2) > 0 THEN body END, session_scope, session
         FROM events WHERE id > ?1 ORDER BY id LIMIT ?3",
    )?;
    let mut rows = statement.query(params![after, needle(subject), LOOKED_AT])?;
    let (mut chosen, mut sessions) = (Vec::new(), BTreeSet::new());
    let (mut last, mut count) = (after, 0);
    while let Some(row) = rows.next()? {
        (last, count) = (row.get(0)?, count + 1);
        let key = ConversationKey { upstream: row.get(1)?, id: row.get(2)? };
        let text: Option<String> = row.get(3)?;
        if conversations.contains(&key) || concerns(subject, &key, text.as_deref()) {
            chosen.push(last);
            let (scope, session): (Option<String>, Option<String>) = (row.get(4)?, row.get(5)?);
            sessions.extend(scope.zip(session));
        }
    }
    drop(rows);
    let mut erased = Erased::default();
    for event in &chosen {
        for (table, dead) in [("deliveries", false), ("dead_letters", true)] {
            let sinks: Vec<String> = transaction
                .prepare_cached(&format!("DELETE FROM {table} WHERE event = ?1 RETURNING sink"))?
                .query_map([event], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            for sink in sinks {
                let change = effects.change(&sink);
                if dead {
                    change.dead -= 1;
                    erased.dead_letters += 1;
                } else {
                    change.waiting -= 1;
                    erased.deliveries += 1;
                }
            }
        }
        erased.events +=
            transaction.prepare_cached("DELETE FROM events WHERE id = ?1")?.execute([event])? as u64;
    }
    if matches!(subject, Subject::User(_)) {
        for (scope, id) in sessions {
            erased.states += erase_session(transaction, &scope, &id)?;
        }
    }
    Ok((erased, (count == LOOKED_AT).then_some(last)))
}

/// Erases everything that is found by its key.
fn erase_rest(
    transaction: &Transaction<'_>,
    subject: &Subject,
    conversations: &BTreeSet<ConversationKey>,
) -> rusqlite::Result<Erased> {
    let mut erased = Erased::default();
    for ConversationKey { upstream, id } in conversations {
        let delete = |table: &str| {
            let text = format!("DELETE FROM {table} WHERE conversation = ?1 AND upstream = ?2");
            transaction.prepare_cached(&text)?.execute(params![id, upstream]).map(|count| count as u64)
        };
        erased.observations += delete("journal")?;
        erased.states += delete("conversations")? + delete("histories")?;
        // A session that spans several conversations belongs to the app and continues.
        erased.states += erase_session(transaction, &format!("upstream:{upstream}"), id)?;
        erased.feedback += transaction
            .prepare_cached("DELETE FROM held WHERE reference = ?1 OR instr(body, ?1) > 0")?
            .execute([id])? as u64;
    }
    if let Subject::User(user) = subject {
        erased.states +=
            transaction.prepare_cached("DELETE FROM users WHERE id = ?1")?.execute([user])? as u64;
        let held: Vec<(i64, String)> = transaction
            .prepare_cached("SELECT id, body FROM held WHERE instr(body, ?1) > 0")?
            .query_map([needle(subject)], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        for (id, body) in held {
            if names_user(&body, user) {
                erased.feedback +=
                    transaction.prepare_cached("DELETE FROM held WHERE id = ?1")?.execute([id])? as u64;
            }
        }
    }
    Ok(erased)
}

fn erase_session(transaction: &Transaction<'_>, scope: &str, id: &str) -> rusqlite::Result<u64> {
    let erased = transaction
        .prepare_cached("DELETE FROM sessions WHERE scope = ?1 AND id = ?2")?
        .execute(params![scope, id])?;
    Ok(erased as u64)
}

/// A text that every row about the subject contains.
fn needle(subject: &Subject) -> String {
    let (Subject::Conversation(id) | Subject::User(id)) = subject;
    let quoted = Value::from(id.as_str()).to_string();
    quoted.trim_matches('"').to_owned()
}

fn concerns(subject: &Subject, key: &ConversationKey, text: Option<&str>) -> bool {
    match subject {
        Subject::Conversation(id) => *key.id == **id,
        Subject::User(user) => text.is_some_and(|text| names_user(text, user)),
    }
}

/// Whether a user's id occurs as a user id anywhere in it.
fn names_user(text: &str, user: &str) -> bool {
    fn within(value: &Value, user: &str) -> bool {
        match value {
            Value::Object(fields) => {
                fields.get("userId").is_some_and(|id| id == user)
                    || fields.values().any(|value| within(value, user))
            }
            Value::Array(items) => items.iter().any(|value| within(value, user)),
            _ => false,
        }
    }
    serde_json::from_str(text).is_ok_and(|value| within(&value, user))
}

fn give_back(connection: &Connection) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("PRAGMA incremental_vacuum(512)")?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

/// Where conversations are found: a table, the column to page by, and the column with the text.
const SOURCES: [(&str, &str, &str); 3] =
    [("events", "id", "body"), ("journal", "seq", "body"), ("conversations", "id", "state")];
const LOOKED_AT: i64 = 512;
const CHECKPOINT_TRIES: u32 = 100;
const CHECKPOINT_PAUSE: Duration = Duration::from_millis(20);
