//! Renumbers deliveries in a database that replaces another.

use rusqlite::{Connection, OptionalExtension, params};
use threadtap_core::time::UnixMillis;

use crate::store::apply::{sql, unsql};

/// Renumbers the deliveries of a database that was created, or found, while couriers still know the
/// numbers of another one. The new numbers are higher than all earlier ones, because a courier
/// looks at each number only once. Returns the last number.
///
/// `known` is the newest announced number, which means little when the process has just started.
/// The time in milliseconds is higher than any possible count.
pub(super) fn after(connection: &Connection, known: u64, now: UnixMillis) -> rusqlite::Result<u64> {
    let base = known.max(now.0);
    let transaction = connection.unchecked_transaction()?;
    transaction.execute("UPDATE deliveries SET id = id + ?1", [sql(base)])?;
    let newest: Option<i64> =
        transaction.query_row("SELECT max(id) FROM deliveries", [], |row| row.get(0)).optional()?.flatten();
    let newest = newest.map_or(base, unsql);
    transaction.execute("DELETE FROM sqlite_sequence WHERE name = 'deliveries'", [])?;
    transaction
        .execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('deliveries', ?1)", params![sql(newest)])?;
    transaction.commit()?;
    Ok(newest)
}
