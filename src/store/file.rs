//! The database files: creates them, checks that they are still there, and sets broken ones aside.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::clock::Clock;
use crate::store::database::prepare;
use crate::store::lock::{DirLock, Holder, LockError};
use crate::store::reads::{self, Backlog};
use crate::store::schema::{SCHEMA_VERSION, TABLES};

/// The location of a database on disk, and the lock on its directory.
pub(super) struct DatabaseFile {
    pub(super) path: PathBuf,
    holder: Holder,
    lock: Option<DirLock>,
    /// Device and inode number of the file that was opened.
    identity: Option<(u64, u64)>,
}

impl DatabaseFile {
    pub(super) fn new(path: PathBuf, holder: Holder) -> Self {
        Self { path, holder, lock: None, identity: None }
    }

    /// Sizes of the database file and its log.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let bytes = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
        (bytes(&self.path), bytes(&self.beside("-wal")))
    }

    /// Creates the directory if necessary, and locks it.
    pub(super) fn hold(&mut self, clock: Clock) -> Result<(), LockError> {
        let directory = self.path.parent().unwrap_or_else(|| Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(LockError::Io)?;
        if self.lock.as_ref().is_none_or(|lock| !lock.is_of(directory)) {
            self.lock = None;
            self.lock = Some(DirLock::acquire(directory, &self.holder, clock.now())?);
        }
        Ok(())
    }

    /// Remembers which file is there now.
    pub(super) fn note_identity(&mut self) {
        self.identity = identity(&self.path).ok();
    }

    /// Whether that file is still there.
    pub(super) fn is_in_place(&self) -> bool {
        match identity(&self.path) {
            Ok(found) => self.identity.is_none_or(|known| known == found),
            // If access is denied, the file is not known to be gone.
            Err(error) => !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        }
    }

    /// Creates the file with private permissions before SQLite opens it. The `-wal` and `-shm`
    /// files inherit its mode.
    pub(super) fn create(&self) -> io::Result<()> {
        OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)?;
        fs::set_permissions(&self.path, Permissions::from_mode(0o600))
    }

    /// Opens the database and checks that it can be used.
    pub(super) fn connect(&self, max_bytes: Option<u64>, clock: Clock) -> Result<Connection, ConnectError> {
        let connection = Connection::open(&self.path)?;
        let version: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version > SCHEMA_VERSION {
            return Err(ConnectError::Newer(version));
        }
        prepare(&connection, max_bytes, clock)?;
        for table in TABLES {
            // This reads at least the root page. Other damage shows up when the data is used.
            let sql = format!("SELECT count(*) FROM (SELECT 1 FROM {table} LIMIT 1)");
            connection.query_row(&sql, [], |_| Ok(()))?;
        }
        // Data that is read at every start must be readable; otherwise the database is unusable.
        reads::first_used_at(&connection)?;
        reads::journal_end(&connection)?;
        reads::backlog(&connection)?;
        Ok(connection)
    }

    /// What can still be read from a damaged database about its pending deliveries.
    pub(super) fn count_damaged(&self) -> Backlog {
        let counted = Connection::open(&self.path).and_then(|connection| reads::backlog(&connection));
        counted.unwrap_or_else(|error| {
            tracing::error!(%error, "cannot count the deliveries lost with the corrupt database");
            Backlog::default()
        })
    }

    /// Sets the database aside and puts an empty file in its place.
    pub(super) fn replace(&self, clock: Clock, found: &str) -> io::Result<()> {
        self.set_aside(clock, found)?;
        self.create()
    }

    /// Renames the database.
    pub(super) fn set_aside(&self, clock: Clock, found: &str) -> io::Result<()> {
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
            "the database is corrupt; it was set aside, and a new one is created"
        );
        Ok(())
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = OsString::from(Path::new(&self.path));
        name.push(suffix);
        PathBuf::from(name)
    }
}

/// The identity of a file, independent of its name.
pub(super) fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|found| (found.dev(), found.ino()))
}

/// Why a connection could not be opened.
pub(super) enum ConnectError {
    Newer(u32),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for ConnectError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}
