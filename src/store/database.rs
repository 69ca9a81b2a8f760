//! The database: opening, schema, settings, and replacing a lost database.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, params};
use thiserror::Error;

use crate::clock::Clock;
use crate::store::Config;
use crate::store::file::{ConnectError, DatabaseFile};
use crate::store::lock::{Holder, LockError};
use crate::store::reads::Backlog;
use crate::store::schema::{self, SCHEMA_VERSION};
use crate::store::trouble::is_corrupt;

/// Why the store could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The directory or the file in it cannot be used.
    #[error("the data directory {path} cannot be used")]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// SQLite refused.
    #[error("the database cannot be opened")]
    Database(#[source] rusqlite::Error),
    /// Another process holds the directory.
    #[error("the data directory {path} is in use by {holder}")]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Who holds it.
        holder: String,
        /// Where its admin listener is, if it has one.
        admin: Option<String>,
    },
    /// A newer version of threadtap wrote the database.
    #[error("the database {path} has schema version {found}, this threadtap knows up to {known}")]
    NewerSchema {
        /// The database.
        path: PathBuf,
        /// The version found.
        found: u32,
        /// The newest version known.
        known: u32,
    },
    /// No thread could be started.
    #[error("cannot start the store's thread")]
    Thread(#[source] io::Error),
}

/// An open database, and its locked directory.
pub(super) struct Database {
    connection: Connection,
    file: Option<DatabaseFile>,
    max_bytes: Option<u64>,
    clock: Clock,
    /// The database is gone, and a new one could not be created yet.
    missing: bool,
    /// What was found in a database that was corrupt at opening, as far as it could be counted.
    lost: Option<Backlog>,
}

impl Database {
    pub(super) fn open(config: &Config, clock: Clock) -> Result<Self, OpenError> {
        let Some(directory) = &config.data_dir else {
            let max_bytes = Some(config.max_bytes.unwrap_or(MEMORY_BYTES));
            let connection = Connection::open_in_memory().map_err(OpenError::Database)?;
            prepare(&connection, max_bytes, clock).map_err(OpenError::Database)?;
            return Ok(Self { connection, file: None, max_bytes, clock, missing: false, lost: None });
        };
        let unusable = |source| OpenError::DataDir { path: directory.clone(), source };
        let holder = Holder { listen: config.holder.clone(), admin: config.admin.clone() };
        let mut file = DatabaseFile::new(directory.join(FILE_NAME), holder);
        file.hold(clock).map_err(|error| match error {
            LockError::Held { holder, admin } => {
                let holder = if holder.is_empty() { "another process".to_owned() } else { holder };
                OpenError::Locked { path: directory.clone(), holder, admin }
            }
            LockError::Io(source) => unusable(source),
        })?;
        file.create().map_err(unusable)?;
        let mut lost = None;
        let connection = match file.connect(config.max_bytes, clock) {
            Err(ConnectError::Sqlite(error)) if is_corrupt(&error) => {
                lost = Some(file.count_damaged());
                file.replace(clock, &error.to_string()).map_err(unusable)?;
                file.connect(config.max_bytes, clock)
            }
            connected => connected,
        }
        .map_err(|error| match error {
            ConnectError::Newer(found) => {
                OpenError::NewerSchema { path: file.path.clone(), found, known: SCHEMA_VERSION }
            }
            ConnectError::Sqlite(error) => OpenError::Database(error),
        })?;
        file.note_identity();
        Ok(Self { connection, file: Some(file), max_bytes: config.max_bytes, clock, missing: false, lost })
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn connection_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// What the corrupt database found at opening contained. `None` if it was not corrupt.
    pub(super) fn take_lost(&mut self) -> Option<Backlog> {
        self.lost.take()
    }

    /// Whether there is no database to write to until [`begin_anew`](Self::begin_anew) succeeds.
    pub(super) fn is_missing(&self) -> bool {
        self.missing
    }

    /// Whether the written data is still where the next process will look for it.
    pub(super) fn is_in_place(&self) -> bool {
        self.missing || self.file.as_ref().is_none_or(DatabaseFile::is_in_place)
    }

    /// Closes a database that is corrupt (and sets it aside) or that is gone from its directory.
    /// Its contents are lost to this process. A person can still recover data from a corrupt file.
    pub(super) fn let_go(&mut self, corrupt: Option<&str>) -> io::Result<()> {
        let Some(file) = &self.file else { return Err(io::Error::other("there is no file")) };
        if self.missing {
            return Ok(());
        }
        self.connection = Connection::open_in_memory().map_err(io::Error::other)?;
        self.missing = true;
        match corrupt {
            Some(found) => file.set_aside(self.clock, found),
            None => Ok(()),
        }
    }

    /// Creates a new database after the old one was closed.
    pub(super) fn begin_anew(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Err(io::Error::other("there is no file")) };
        file.hold(self.clock).map_err(|error| match error {
            LockError::Held { holder, .. } => {
                io::Error::other(format!("the directory is in use by {holder}"))
            }
            LockError::Io(error) => error,
        })?;
        file.create()?;
        let connected = match file.connect(self.max_bytes, self.clock) {
            Err(ConnectError::Sqlite(error)) if is_corrupt(&error) => {
                file.replace(self.clock, &error.to_string())?;
                file.connect(self.max_bytes, self.clock)
            }
            connected => connected,
        };
        self.connection = connected.map_err(|error| match error {
            ConnectError::Newer(_) => io::Error::other("the database there has a newer schema"),
            ConnectError::Sqlite(error) => io::Error::other(error),
        })?;
        file.note_identity();
        self.missing = false;
        Ok(())
    }

    /// Reopens the same file, because a connection may remember an old error from the disk.
    pub(super) fn reconnect(&mut self) -> rusqlite::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        match file.connect(self.max_bytes, self.clock) {
            Ok(connection) => {
                self.connection = connection;
                Ok(())
            }
            Err(ConnectError::Sqlite(error)) => Err(error),
            Err(ConnectError::Newer(_)) => Ok(()),
        }
    }

    /// Path of the database. `None` in memory.
    pub(super) fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| file.path.as_path())
    }

    /// Bytes of the database file and of its log. `None` in memory.
    pub(super) fn file_bytes(&self) -> Option<(u64, u64)> {
        self.file.as_ref().map(DatabaseFile::bytes)
    }

    /// Writes the WAL back into the database and empties it.
    pub(super) fn checkpoint(&self) -> rusqlite::Result<()> {
        if self.file.is_none() || self.missing {
            return Ok(());
        }
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }
}

pub(super) fn prepare(connection: &Connection, max_bytes: Option<u64>, clock: Clock) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(64);
    // Otherwise a statement that compares with a parameter is prepared again each time one is
    // bound.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // Must come before the first table, so that pages freed by retention can be given back.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    // The syncer syncs each commit and makes the checkpoints. SQLite itself syncs only what
    // protects the database from corruption.
    connection.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update_and_check(None, "journal_size_limit", WAL_KEPT_BYTES, |_| Ok(()))?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // Deleted data within a page is overwritten at no cost. `erase` handles whole pages.
    connection.pragma_update_and_check(None, "secure_delete", "FAST", |_| Ok(()))?;
    let page_bytes: u64 =
        connection.query_row("PRAGMA page_size", [], |row| row.get::<_, i64>(0))?.unsigned_abs();
    if let Some(max_bytes) = max_bytes {
        let pages = i64::try_from(max_bytes / page_bytes.max(1)).unwrap_or(i64::MAX).clamp(64, MAX_PAGES);
        connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
    }
    let version: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let created = version == 0;
    if version < SCHEMA_VERSION {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        for step in schema::STEPS.iter().skip(version as usize) {
            connection.execute_batch(step)?;
        }
        if created {
            let now = i64::try_from(clock.now().0).unwrap_or(i64::MAX);
            connection.execute("INSERT INTO meta (key, value) VALUES ('first_used_at', ?1)", params![now])?;
        }
        connection.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        connection.execute_batch("COMMIT")?;
    }
    Ok(())
}

const FILE_NAME: &str = "threadtap.db";
/// Without a disk, undelivered data must not use up the machine's memory. With this limit, and with
/// everything else at its limit, a process stays below 512 MB by default.
const MEMORY_BYTES: u64 = 64 << 20;
const CACHE_KIB: i64 = 8 << 10;
/// The WAL shrinks back to this size after a burst.
const WAL_KEPT_BYTES: i64 = 16 << 20;
/// SQLite's own limit.
const MAX_PAGES: i64 = 4_294_967_294;
