//! The status of the store.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use threadtap_core::time::UnixMillis;

use crate::metrics::StateLabel;
use crate::store::reads::{self, Backlog};
use crate::store::{ReadError, Store, budget};

/// The status of the store at one moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Overview {
    /// Directory of the files. `None` in memory.
    pub data_dir: Option<PathBuf>,
    /// Why records are kept in memory, if the data directory cannot be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead_of: Option<String>,
    /// Whether writes are failing at the moment.
    pub failing: bool,
    /// Size of the database file in bytes.
    pub database_bytes: u64,
    /// Size of its log in bytes.
    pub log_bytes: u64,
    /// Bytes used in the database.
    pub used_bytes: u64,
    /// When the directory was first used.
    pub first_used_at: UnixMillis,
    /// When the oldest stored event was derived.
    pub oldest_at: Option<UnixMillis>,
    /// When the newest stored event was derived.
    pub newest_at: Option<UnixMillis>,
    /// Pending deliveries and dead letters, by sink.
    pub backlog: Backlog,
    /// Databases that were set aside as corrupt.
    pub set_aside: Vec<PathBuf>,
}

impl Store {
    /// The status of the store.
    ///
    /// # Errors
    /// When the database cannot be read, or the store is closed.
    pub async fn overview(&self) -> Result<Overview, ReadError> {
        let failing =
            self.shared.metrics.store_state.get_or_create(&StateLabel { state: "failing" }).get() > 0;
        let data_dir = self.shared.data_dir.clone();
        let instead_of = self.shared.instead_of.clone();
        let set_aside = self.set_aside();
        self.read(move |connection| {
            let at = |order: &str| {
                let query = format!("SELECT {order}(at) FROM events");
                let at: Option<i64> = connection.query_row(&query, [], |row| row.get(0))?;
                Ok::<_, rusqlite::Error>(at.map(|at| UnixMillis(at.unsigned_abs())))
            };
            let bytes = |suffix: &str| {
                let path = data_dir.as_ref().map(|directory| directory.join(format!("threadtap.db{suffix}")));
                path.and_then(|path| std::fs::metadata(path).ok()).map_or(0, |found| found.len())
            };
            Ok(Overview {
                instead_of,
                failing,
                database_bytes: bytes(""),
                log_bytes: bytes("-wal"),
                used_bytes: budget::used_bytes(connection)?,
                first_used_at: reads::first_used_at(connection)?,
                oldest_at: at("min")?,
                newest_at: at("max")?,
                backlog: reads::backlog(connection)?,
                set_aside,
                data_dir,
            })
        })
        .await
    }

    /// Databases that were set aside as corrupt, in chronological order.
    #[must_use]
    pub fn set_aside(&self) -> Vec<PathBuf> {
        let entries = self.shared.data_dir.as_ref().and_then(|directory| directory.read_dir().ok());
        let names = entries.into_iter().flatten().flatten().map(|entry| entry.path());
        let mut found: Vec<PathBuf> =
            names.filter(|path| path.to_string_lossy().contains("threadtap.db.corrupt-")).collect();
        found.sort();
        found
    }
}
