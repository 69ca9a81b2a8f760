//! One process per data directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::time::UnixMillis;

/// Holds the directory as long as it lives. The kernel gives it up with the process, however that ends.
#[derive(Debug)]
pub(super) struct DirLock {
    _file: File,
}

/// Why the directory could not be held.
#[derive(Debug)]
pub(super) enum LockError {
    /// Another process holds it; its own words.
    Held(String),
    Io(io::Error),
}

impl DirLock {
    pub(super) fn acquire(directory: &Path, holder: &str, now: UnixMillis) -> Result<Self, LockError> {
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
                let mut holder = String::new();
                // A holder that cannot be read is still a holder.
                let _ = file.take(MAX_HOLDER_BYTES).read_to_string(&mut holder);
                return Err(LockError::Held(holder.trim().to_owned()));
            }
            Err(TryLockError::Error(error)) => return Err(LockError::Io(error)),
        }
        write_holder(&mut file, holder, now).map_err(LockError::Io)?;
        Ok(Self { _file: file })
    }
}

fn write_holder(file: &mut File, holder: &str, now: UnixMillis) -> io::Result<()> {
    let since = i64::try_from(now.0)
        .ok()
        .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
        .map(|time| format!(" since {time:.0}"))
        .unwrap_or_default();
    let listening = if holder.is_empty() { String::new() } else { format!(", listening on {holder}") };
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "process {}{since}{listening}", std::process::id())
}

const FILE_NAME: &str = "threadtap.lock";
const MAX_HOLDER_BYTES: u64 = 1024;
