//! The database file: opening, schema, settings, and setting a broken one aside.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, params};
use thiserror::Error;

use crate::clock::Clock;
use crate::store::Config;
use crate::store::lock::{DirLock, LockError};
use crate::store::schema::{self, SCHEMA_VERSION, TABLES};

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
    #[error("the store's thread cannot be started")]
    Thread(#[source] io::Error),
}

/// An open database, and the directory it holds.
pub(super) struct Database {
    connection: Connection,
    file: Option<DatabaseFile>,
    max_bytes: Option<u64>,
    clock: Clock,
    /// A corrupt database is gone, and no new one could be made yet.
    missing: bool,
}

impl Database {
    pub(super) fn open(config: &Config, clock: Clock) -> Result<Self, OpenError> {
        let Some(directory) = &config.data_dir else {
            let max_bytes = Some(config.max_bytes.unwrap_or(MEMORY_BYTES));
            let connection = Connection::open_in_memory().map_err(OpenError::Database)?;
            prepare(&connection, max_bytes, clock).map_err(OpenError::Database)?;
            return Ok(Self { connection, file: None, max_bytes, clock, missing: false });
        };
        let unusable = |source| OpenError::DataDir { path: directory.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(unusable)?;
        let lock = DirLock::acquire(directory, &config.holder, clock.now()).map_err(|error| match error {
            LockError::Held(holder) if holder.is_empty() => {
                OpenError::Locked { path: directory.clone(), holder: "another process".to_owned() }
            }
            LockError::Held(holder) => OpenError::Locked { path: directory.clone(), holder },
            LockError::Io(source) => unusable(source),
        })?;
        let file = DatabaseFile { path: directory.join(FILE_NAME), _lock: lock };
        file.create().map_err(unusable)?;
        let connection = match file.connect(config.max_bytes, clock) {
            Err(ConnectError::Sqlite(error)) if is_corrupt(&error) => {
                file.set_aside(clock, &error).and_then(|()| file.create()).map_err(unusable)?;
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
        Ok(Self { connection, file: Some(file), max_bytes: config.max_bytes, clock, missing: false })
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn connection_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Whether there is no database to write to, until [`begin_anew`](Self::begin_anew) succeeds.
    pub(super) fn is_missing(&self) -> bool {
        self.missing
    }

    /// Sets a database aside that turned out corrupt while in use, and begins a new one. What was in it is lost to us, not to
    /// a person with the file.
    pub(super) fn begin_anew(&mut self, found: &rusqlite::Error) -> io::Result<()> {
        let Some(file) = &self.file else { return Err(io::Error::other("there is no file")) };
        if !self.missing {
            self.connection = Connection::open_in_memory().map_err(io::Error::other)?;
            file.set_aside(self.clock, found)?;
            self.missing = true;
        }
        file.create()?;
        self.connection = file.connect(self.max_bytes, self.clock).map_err(|error| match error {
            ConnectError::Newer(_) => io::Error::other("a new database has a newer schema"),
            ConnectError::Sqlite(error) => io::Error::other(error),
        })?;
        self.missing = false;
        Ok(())
    }

    /// Where the database is; none in memory.
    pub(super) fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| file.path.as_path())
    }

    /// Writes the WAL back into the database and empties it.
    pub(super) fn checkpoint(&self) -> rusqlite::Result<()> {
        if self.file.is_none() {
            return Ok(());
        }
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }
}

/// Whether SQLite says the file is not, or no longer, a database.
pub(super) fn is_corrupt(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

struct DatabaseFile {
    path: PathBuf,
    _lock: DirLock,
}

impl DatabaseFile {
    /// Makes the file ours alone before SQLite sees it: the `-wal` and `-shm` files take over its mode.
    fn create(&self) -> io::Result<()> {
        OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)?;
        fs::set_permissions(&self.path, Permissions::from_mode(0o600))
    }

    fn connect(&self, max_bytes: Option<u64>, clock: Clock) -> Result<Connection, ConnectError> {
        let connection = Connection::open(&self.path)?;
        let version: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version > SCHEMA_VERSION {
            return Err(ConnectError::Newer(version));
        }
        prepare(&connection, max_bytes, clock)?;
        for table in TABLES {
            // Reads the root page at least; the rest shows itself when it is used.
            let sql = format!("SELECT count(*) FROM (SELECT 1 FROM {table} LIMIT 1)");
            connection.query_row(&sql, [], |_| Ok(()))?;
        }
        Ok(connection)
    }

    fn set_aside(&self, clock: Clock, found: &rusqlite::Error) -> io::Result<()> {
        let suffix = format!(".corrupt-{}", clock.now().0);
        let aside = self.beside(&suffix);
        fs::rename(&self.path, &aside)?;
        for sidecar in ["-wal", "-shm"] {
            match fs::rename(self.beside(sidecar), self.beside(&format!("{suffix}{sidecar}"))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        tracing::error!(
            error = %found,
            set_aside = %aside.display(),
            "the database is corrupt; it is set aside and a new one begun"
        );
        Ok(())
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = OsString::from(Path::new(&self.path));
        name.push(suffix);
        PathBuf::from(name)
    }
}

enum ConnectError {
    Newer(u32),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for ConnectError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn prepare(connection: &Connection, max_bytes: Option<u64>, clock: Clock) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(64);
    // Must come before the first table: pages freed by retention can then be given back.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    // The syncer syncs each commit, and makes the checkpoints; the database itself only syncs what keeps it whole.
    connection.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update_and_check(None, "journal_size_limit", WAL_KEPT_BYTES, |_| Ok(()))?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
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
/// Without a disk, what cannot be delivered must not eat the machine's memory.
const MEMORY_BYTES: u64 = 256 << 20;
const CACHE_KIB: i64 = 8 << 10;
/// The WAL shrinks back to this after a burst.
const WAL_KEPT_BYTES: i64 = 16 << 20;
/// SQLite's own limit.
const MAX_PAGES: i64 = 4_294_967_294;
