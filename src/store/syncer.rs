//! Syncs what the writer wrote, on a separate thread.
//!
//! A commit survives a process crash as soon as it is written. Surviving a power cut needs a sync,
//! which may take a long time on a busy disk. The writer does not wait for it: waiting would delay
//! later commits, which would then not even survive a process crash. Commits made during a sync
//! share the next one. Checkpoints also sync, so they are made here too, by a separate connection
//! that does not block the writer (SQLite's passive checkpoint).

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use thiserror::Error;

use crate::metrics::{KindLabel, Metrics};

/// A handle on the thread. Dropping it syncs what is left and ends the thread.
#[derive(Debug)]
pub(super) struct Syncer {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

impl Syncer {
    /// Starts the thread. It syncs the write-ahead log of the database at `file` after each commit,
    /// or at the interval `every`.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(super) fn start(file: PathBuf, every: Option<Duration>, metrics: Metrics) -> io::Result<Self> {
        let desk = Arc::new(Desk::default());
        let thread = std::thread::Builder::new().name("threadtap-sync".to_owned()).spawn({
            let desk = Arc::clone(&desk);
            move || desk.run(&file, every.unwrap_or_default(), &metrics)
        })?;
        Ok(Self { desk, thread: Some(thread) })
    }

    /// Reports that operations of this many bytes were committed.
    pub(super) fn committed(&self, bytes: usize) {
        let mut state = self.desk.lock();
        state.to_checkpoint_bytes = state.to_checkpoint_bytes.saturating_add(bytes);
        if !state.dirty {
            state.dirty = true;
            self.desk.changed.notify_one();
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.desk.lock().closing = true;
        self.desk.changed.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the sync thread panicked");
        }
    }
}

#[derive(Debug, Default)]
struct Desk {
    state: Mutex<SyncerState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct SyncerState {
    dirty: bool,
    /// Bytes written since the last checkpoint.
    to_checkpoint_bytes: usize,
    closing: bool,
}

impl Desk {
    fn run(&self, file: &Path, every: Duration, metrics: &Metrics) {
        let mut failing = false;
        loop {
            let mut state = self.lock();
            while !state.dirty && !state.closing {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let closing = state.closing;
            if !std::mem::take(&mut state.dirty) {
                return;
            }
            let checkpoint_due = state.to_checkpoint_bytes >= CHECKPOINT_BYTES;
            if checkpoint_due {
                state.to_checkpoint_bytes = 0;
            }
            drop(state);
            match sync(file, checkpoint_due) {
                Ok(()) => failing = false,
                Err(error) => {
                    metrics.store_errors.get_or_create(&KindLabel { kind: "sync" }).inc();
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(%error, "cannot sync the database");
                    }
                }
            }
            if closing {
                return;
            }
            if !every.is_zero() {
                let state = self.lock();
                drop(self.changed.wait_timeout_while(state, every, |state| !state.closing));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, SyncerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sync(file: &Path, checkpoint_due: bool) -> Result<(), SyncError> {
    let mut wal = file.as_os_str().to_owned();
    wal.push("-wal");
    match File::open(wal) {
        // SQLite holds no POSIX lock on the WAL, so closing this second descriptor releases none.
        Ok(wal) => wal.sync_data()?,
        // A checkpoint has synced it and removed it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    if checkpoint_due {
        let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
    }
    Ok(())
}

#[derive(Debug, Error)]
enum SyncError {
    #[error("cannot sync the write-ahead log")]
    Io(#[from] io::Error),
    #[error("cannot make a checkpoint")]
    Sqlite(#[from] rusqlite::Error),
}

/// Operations of this many bytes make a log of a few megabytes.
const CHECKPOINT_BYTES: usize = 1 << 20;
