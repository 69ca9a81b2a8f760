//! Numbers of deliveries in a database that takes the place of another.

use rusqlite::{Connection, OptionalExtension, params};
use threadtap_core::time::UnixMillis;

use crate::store::apply::{sql, unsql};

/// Gives the deliveries of a database that was begun, or found, while couriers know another one's the numbers after all that
/// were given so far: a courier looks at each number once. Returns the last one given.
///
/// `known` is the newest number announced, which says little at the beginning of a process; the time in milliseconds is beyond any
/// count there can be.
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
