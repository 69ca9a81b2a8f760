//! Operations as SQL, within one transaction.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use threadtap_core::event::SessionKey;
use threadtap_core::observation::ConversationKey;
use threadtap_core::time::UnixMillis;

use crate::store::Op;
use crate::store::op::{NewEvent, Ref};
use crate::store::reads::is_known;

/// The changes of a transaction that are announced after the commit.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// By sink, the change in the number of pending deliveries and dead letters.
    pub(super) sinks: BTreeMap<Arc<str>, Change>,
    /// The newest delivery made due.
    pub(super) newest_delivery: Option<u64>,
    /// Whether an event was stored that has no deliveries.
    pub(super) history: bool,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Change {
    pub(super) waiting: i64,
    pub(super) dead: i64,
}

impl Effects {
    pub(super) fn change(&mut self, sink: &str) -> &mut Change {
        self.sinks.entry(Arc::from(sink)).or_default()
    }

    pub(super) fn merge(&mut self, later: Self) {
        for (sink, change) in later.sinks {
            let sum = self.sinks.entry(sink).or_default();
            sum.waiting += change.waiting;
            sum.dead += change.dead;
        }
        self.newest_delivery = later.newest_delivery.or(self.newest_delivery);
        self.history |= later.history;
    }
}

/// Applies the operations in order, except those that cancel out.
pub(super) fn all(transaction: &Transaction<'_>, ops: &[&Op], now: UnixMillis) -> rusqlite::Result<Effects> {
    let mut effects = Effects::default();
    for (op, needed) in ops.iter().zip(needed(ops)) {
        if needed {
            one(transaction, op, now, &mut effects)?;
        }
    }
    Ok(effects)
}

/// Applies one operation.
pub(super) fn one(
    connection: &Connection,
    op: &Op,
    now: UnixMillis,
    effects: &mut Effects,
) -> rusqlite::Result<()> {
    match op {
        Op::Dead { id, attempts, reason, answer } => {
            dead(connection, *id, *attempts, reason, answer, now, effects)
        }
        Op::Delivered { id } => {
            if let Some((sink, ..)) = take_delivery(connection, *id)? {
                effects.change(&sink).waiting -= 1;
            }
            Ok(())
        }
        Op::Event(new) => event(connection, new, now, effects),
        Op::Failed { id, attempts, failure } => {
            connection
                .prepare_cached("UPDATE deliveries SET attempts = ?2, failure = ?3 WHERE id = ?1")?
                .execute(params![sql(*id), attempts, failure])?;
            Ok(())
        }
        Op::Hold { reference, body } => {
            connection
                .prepare_cached("INSERT INTO held (reference, body, at) VALUES (?1, ?2, ?3)")?
                .execute(params![reference, body, sql(now.0)])?;
            Ok(())
        }
        Op::Journal { conversation, at, body } => {
            connection
                .prepare_cached(
                    "INSERT INTO journal (upstream, conversation, at, body) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![conversation.upstream, conversation.id, sql(at.0), body])?;
            Ok(())
        }
        Op::Remember { conversation, at, body } => {
            connection
                .prepare_cached(
                    "INSERT INTO histories (upstream, conversation, at, body) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![conversation.upstream, conversation.id, sql(at.0), body])?;
            Ok(())
        }
        Op::Release { id } => {
            connection.prepare_cached("DELETE FROM held WHERE id = ?1")?.execute([sql(*id)])?;
            Ok(())
        }
        Op::Session { session, state } => {
            connection
                .prepare_cached(
                    "INSERT INTO sessions (scope, id, state, updated_at) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (scope, id) DO UPDATE SET state = excluded.state, updated_at = excluded.updated_at",
                )?
                .execute(params![session.scope, session.id, state, sql(now.0)])?;
            Ok(())
        }
        Op::Settle { conversation, state } => settle(connection, conversation, state.as_deref(), now),
        Op::User { id, body } => {
            connection
                .prepare_cached(
                    "INSERT INTO users (id, body, updated_at) VALUES (?1, ?2, ?3)
                     ON CONFLICT (id) DO UPDATE SET body = excluded.body, updated_at = excluded.updated_at",
                )?
                .execute(params![id, body, sql(now.0)])?;
            Ok(())
        }
    }
}

/// Stores an event with its number, its references and its deliveries, unless its key is known.
fn event(
    connection: &Connection,
    new: &NewEvent,
    now: UnixMillis,
    effects: &mut Effects,
) -> rusqlite::Result<()> {
    let (upstream, conversation) = match &new.conversation {
        Some(ConversationKey { upstream, id }) => (&**upstream, &**id),
        None => ("", ""),
    };
    let (scope, session) = match &new.session {
        Some(SessionKey { scope, id }) => (Some(scope), Some(id)),
        None => (None, None),
    };
    if is_known(connection, &new.key)? {
        return Ok(());
    }
    // Numbers are assigned here, where the event is known to be new. An event that is derived
    // twice, or refused by a full disk, leaves no gap.
    let mut first_message = None;
    if let Some(session) = &new.session
        && new.messages > 0
    {
        let next: i64 = connection
            .prepare_cached(
                "INSERT INTO sessions (scope, id, next, updated_at) VALUES (?1, ?2, 1 + ?3, ?4)
                 ON CONFLICT (scope, id) DO UPDATE SET next = next + ?3, updated_at = excluded.updated_at
                 RETURNING next",
            )?
            .query_row(params![session.scope, session.id, new.messages, sql(now.0)], |row| row.get(0))?;
        first_message = Some(next - i64::from(new.messages));
    }
    connection
        .prepare_cached(
            "INSERT INTO events (key, kind, upstream, conversation, session_scope, session, at, body, first_message)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            new.key,
            new.kind,
            upstream,
            conversation,
            scope,
            session,
            sql(new.at.0),
            new.body,
            first_message
        ])?;
    let event = connection.last_insert_rowid();
    for Ref { id, message } in &new.refs {
        connection
            .prepare_cached("INSERT OR IGNORE INTO refs (event, id, message) VALUES (?1, ?2, ?3)")?
            .execute(params![event, id, message])?;
    }
    effects.history |= new.sinks.is_empty();
    for sink in &new.sinks {
        let inserted = connection
            .prepare_cached(
                "INSERT INTO deliveries (event, sink, lane, queued_at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (event, sink) DO NOTHING",
            )?
            .execute(params![event, sink, new.lane, sql(now.0)])?;
        if inserted > 0 {
            effects.change(sink).waiting += 1;
            effects.newest_delivery = Some(unsql(connection.last_insert_rowid()));
        }
    }
    Ok(())
}

/// A number as SQLite stores it. Ids and times never come near the limit. A number that exceeds it
/// means "the end".
pub(super) fn sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The reverse conversion.
pub(super) fn unsql(number: i64) -> u64 {
    number.unsigned_abs()
}

fn dead(
    connection: &Connection,
    id: u64,
    attempts: u32,
    reason: &str,
    answer: &str,
    now: UnixMillis,
    effects: &mut Effects,
) -> rusqlite::Result<()> {
    let Some((sink, event, lane, queued_at)) = take_delivery(connection, id)? else { return Ok(()) };
    let mut end = answer.len().min(MAX_ANSWER_BYTES);
    while !answer.is_char_boundary(end) {
        end -= 1;
    }
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO dead_letters (event, sink, lane, queued_at, attempts, died_at, reason, answer)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![event, sink, lane, queued_at, attempts, sql(now.0), reason, &answer[..end]])?;
    let change = effects.change(&sink);
    change.waiting -= 1;
    change.dead += 1;
    Ok(())
}

fn take_delivery(connection: &Connection, id: u64) -> rusqlite::Result<Option<(String, i64, i64, i64)>> {
    connection
        .prepare_cached("DELETE FROM deliveries WHERE id = ?1 RETURNING sink, event, lane, queued_at")?
        .query_row([sql(id)], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .optional()
}

fn settle(
    connection: &Connection,
    conversation: &ConversationKey,
    state: Option<&str>,
    now: UnixMillis,
) -> rusqlite::Result<()> {
    let ConversationKey { upstream, id } = conversation;
    connection
        .prepare_cached("DELETE FROM journal WHERE conversation = ?1 AND upstream = ?2")?
        .execute(params![id, upstream])?;
    match state {
        Some(state) => connection
            .prepare_cached(
                "INSERT INTO conversations (upstream, conversation, state, updated_at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (conversation, upstream) DO UPDATE SET state = excluded.state, updated_at = excluded.updated_at",
            )?
            .execute(params![upstream, id, state, sql(now.0)])?,
        None => connection
            .prepare_cached("DELETE FROM conversations WHERE conversation = ?1 AND upstream = ?2")?
            .execute(params![id, upstream])?,
    };
    Ok(())
}

/// For each operation, whether a later one in the group makes it unnecessary: a settling cancels
/// the conversation's earlier journal rows and settlings.
fn needed(ops: &[&Op]) -> Vec<bool> {
    let mut settled = HashSet::new();
    let mut needed = vec![true; ops.len()];
    for (index, op) in ops.iter().enumerate().rev() {
        match op {
            Op::Journal { conversation, .. } => needed[index] = !settled.contains(conversation),
            Op::Settle { conversation, .. } => needed[index] = settled.insert(conversation),
            Op::Dead { .. }
            | Op::Delivered { .. }
            | Op::Event(_)
            | Op::Failed { .. }
            | Op::Hold { .. }
            | Op::Release { .. }
            | Op::Remember { .. }
            | Op::Session { .. }
            | Op::User { .. } => {}
        }
    }
    needed
}

const MAX_ANSWER_BYTES: usize = 4096;
