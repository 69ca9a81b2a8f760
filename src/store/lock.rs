//! One process per data directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use threadtap_core::time::UnixMillis;

use crate::store::file::identity;

/// Holds the lock on the directory until it is dropped. The kernel releases the lock when the
/// process ends, in whatever way.
#[derive(Debug)]
pub(super) struct DirLock {
    file: File,
}

/// How a process identifies itself to another one that finds the directory locked.
#[derive(Clone, Debug, Default)]
pub(super) struct Holder {
    /// Where clients connect.
    pub(super) listen: String,
    /// Where the admin listener is.
    pub(super) admin: String,
}

/// Why the directory could not be held.
#[derive(Debug)]
pub(super) enum LockError {
    /// Another process holds it.
    Held {
        /// How the holder identifies itself.
        holder: String,
        /// Where its admin listener is.
        admin: Option<String>,
    },
    Io(io::Error),
}

impl DirLock {
    pub(super) fn acquire(directory: &Path, holder: &Holder, now: UnixMillis) -> Result<Self, LockError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(directory.join(FILE_NAME))
            .map_err(LockError::Io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // A holder whose details cannot be read is still a holder.
                let _ = file.take(MAX_HOLDER_BYTES).read_to_string(&mut text);
                let holder = text.lines().next().unwrap_or_default().trim().to_owned();
                let admin = text.lines().find_map(|line| line.strip_prefix(ADMIN)).map(str::to_owned);
                return Err(LockError::Held { holder, admin });
            }
            Err(TryLockError::Error(error)) => return Err(LockError::Io(error)),
        }
        write_holder(&mut file, holder, now).map_err(LockError::Io)?;
        Ok(Self { file })
    }

    /// Whether it holds this directory, and not one that existed before at this path.
    pub(super) fn is_of(&self, directory: &Path) -> bool {
        let own = self.file.metadata().map(|found| (found.dev(), found.ino()));
        matches!((own, identity(&directory.join(FILE_NAME))), (Ok(own), Ok(found)) if own == found)
    }
}

/// One line for people, and one for commands that look for a running instance.
fn write_holder(file: &mut File, holder: &Holder, now: UnixMillis) -> io::Result<()> {
    let since = i64::try_from(now.0)
        .ok()
        .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
        .map(|time| format!(" since {time:.0}"))
        .unwrap_or_default();
    let Holder { listen, admin } = holder;
    let listening = if listen.is_empty() { String::new() } else { format!(", listening on {listen}") };
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "process {}{since}{listening}", std::process::id())?;
    if !admin.is_empty() {
        writeln!(file, "{ADMIN}{admin}")?;
    }
    Ok(())
}

const ADMIN: &str = "admin ";
const FILE_NAME: &str = "threadtap.lock";
const MAX_HOLDER_BYTES: u64 = 1024;
