//! The queue in front of the store's thread, bounded in bytes.
//!
//! This is not a channel. Its limit counts bytes, both threads and tasks write to it, and reads
//! must not wait behind writes that are held up by a failing disk.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use thiserror::Error;
use threadtap_core::time::UnixMillis;
use tokio::sync::oneshot;

use crate::store::Op;
use crate::store::apply::Effects;
use crate::store::trouble::Failure;

/// Why a batch was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
    /// The queue has reached its limit: the disk is failing or too slow.
    #[error("the write queue is full (store.queue)")]
    Full,
}

/// A waiting batch.
pub(super) struct Write {
    pub(super) ops: Vec<Op>,
    pub(super) bytes: usize,
    pub(super) written: Option<oneshot::Sender<()>>,
}

impl Write {
    /// Whether it only records delivery results.
    pub(super) fn frees(&self) -> bool {
        let frees = |op: &Op| matches!(op, Op::Dead { .. } | Op::Delivered { .. } | Op::Failed { .. });
        !self.ops.is_empty() && self.ops.iter().all(frees)
    }

    /// Whether it settles a conversation.
    pub(super) fn settles(&self) -> bool {
        self.ops.iter().any(|op| matches!(op, Op::Settle { .. }))
    }
}

/// A waiting query. It sends its own reply, also if it fails.
pub(super) type Read = Box<dyn FnOnce(&Connection) -> Result<(), Failure> + Send>;

/// A waiting change with its own transaction. It sends its own reply. Unlike a write, it is not
/// retried.
pub(super) type Change = Box<dyn FnOnce(&mut Connection, UnixMillis) -> Result<Effects, Failure> + Send>;

/// What the thread receives.
pub(super) struct Taken {
    /// Writes that can only free room, ahead of their turn. The data they refer to is already
    /// written.
    pub(super) freeing: Vec<Write>,
    pub(super) writes: Vec<Write>,
    pub(super) reads: Vec<Read>,
    pub(super) changes: Vec<Change>,
    /// Whether the inbox is closed and nothing is left.
    pub(super) ended: bool,
}

pub(super) struct Inbox {
    state: Mutex<InboxState>,
    arrived: Condvar,
    room: Condvar,
    limit_bytes: usize,
}

impl Inbox {
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self { state: Mutex::default(), arrived: Condvar::new(), room: Condvar::new(), limit_bytes }
    }

    /// Adds a batch, waiting at most `patience` for room. A batch larger than the whole limit is
    /// taken when nothing else waits. A refused batch is returned.
    pub(super) fn put(&self, ops: Vec<Op>, patience: Duration) -> Result<(), (Refused, Vec<Op>)> {
        let bytes = ops.iter().map(Op::bytes).sum();
        let full = |state: &mut InboxState| {
            !state.closed && state.bytes > 0 && state.bytes.saturating_add(bytes) > self.limit_bytes
        };
        let (mut state, _) = self
            .room
            .wait_timeout_while(self.state(), patience, full)
            .unwrap_or_else(PoisonError::into_inner);
        if full(&mut state) {
            return Err((Refused::Full, ops));
        }
        if state.closed {
            return Err((Refused::Closed, ops));
        }
        self.add(&mut state, Write { ops, bytes, written: None });
        Ok(())
    }

    /// Adds the settlings of a refused batch, because they free room. They may use up to the limit
    /// once more.
    pub(super) fn put_settlings(&self, ops: Vec<Op>) {
        let bytes: usize = ops.iter().map(Op::bytes).sum();
        let mut state = self.state();
        let room = state.bytes.saturating_add(bytes) <= self.limit_bytes.saturating_mul(2);
        if !state.closed && !ops.is_empty() && room {
            self.add(&mut state, Write { ops, bytes, written: None });
        }
    }

    /// Adds a batch even if the queue is full. Beyond twice the limit, it accepts only delivery
    /// results or empty batches.
    pub(super) fn put_acknowledged(&self, ops: Vec<Op>, written: oneshot::Sender<()>) -> Result<(), Refused> {
        let bytes = ops.iter().map(Op::bytes).sum();
        let write = Write { ops, bytes, written: Some(written) };
        let mut state = self.state();
        if state.closed {
            return Err(Refused::Closed);
        }
        let full = state.bytes.saturating_add(bytes) > self.limit_bytes.saturating_mul(2);
        if full && state.bytes > 0 && !write.frees() && !write.ops.is_empty() {
            return Err(Refused::Full);
        }
        self.add(&mut state, write);
        Ok(())
    }

    pub(super) fn put_read(&self, read: Read) -> Result<(), Refused> {
        let mut state = self.state();
        if state.closed {
            return Err(Refused::Closed);
        }
        state.reads.push_back(read);
        self.arrived.notify_one();
        Ok(())
    }

    pub(super) fn put_change(&self, change: Change) -> Result<(), Refused> {
        let mut state = self.state();
        if state.closed {
            return Err(Refused::Closed);
        }
        state.changes.push_back(change);
        self.arrived.notify_one();
        Ok(())
    }

    /// Refuses everything from now on, and wakes all waiters.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.arrived.notify_all();
        self.room.notify_all();
    }

    /// Waits at most `patience` for work, and takes all reads, changes and freeing writes, and up
    /// to `limit_bytes` of other writes. With a limit of 0, other writes stay in the queue.
    pub(super) fn take(&self, limit_bytes: usize, patience: Duration) -> Taken {
        let idle = |state: &mut InboxState| {
            !state.closed
                && state.reads.is_empty()
                && state.changes.is_empty()
                && state.freeing.is_empty()
                && (limit_bytes == 0 || state.writes.is_empty())
        };
        let (mut state, _) = self
            .arrived
            .wait_timeout_while(self.state(), patience, idle)
            .unwrap_or_else(PoisonError::into_inner);
        let reads = state.reads.drain(..).collect();
        let changes = state.changes.drain(..).collect();
        let freeing: Vec<Write> = state.freeing.drain(..).collect();
        let mut writes: Vec<Write> = Vec::new();
        let mut bytes = 0;
        while let Some(next) = state.writes.front()
            && limit_bytes > 0
            && (writes.is_empty() || bytes + next.bytes <= limit_bytes)
        {
            bytes += next.bytes;
            writes.extend(state.writes.pop_front());
        }
        let ended = state.closed && state.writes.is_empty() && writes.is_empty() && freeing.is_empty();
        Taken { freeing, writes, reads, changes, ended }
    }

    /// Takes all waiting writes.
    pub(super) fn take_writes(&self) -> Vec<Write> {
        self.state().writes.drain(..).collect()
    }

    /// Releases these bytes: they are written, or given up.
    pub(super) fn release(&self, bytes: usize) {
        let mut state = self.state();
        state.bytes = state.bytes.saturating_sub(bytes);
        drop(state);
        self.room.notify_all();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Takes everything that waits, because there is no disk to write it to.
    pub(super) fn abandon(&self) -> Vec<Write> {
        let mut state = self.state();
        state.bytes = 0;
        state.reads.clear();
        state.changes.clear();
        let InboxState { freeing, writes, .. } = &mut *state;
        freeing.drain(..).chain(writes.drain(..)).collect()
    }

    fn add(&self, state: &mut InboxState, write: Write) {
        state.bytes += write.bytes;
        let queue = if write.frees() { &mut state.freeing } else { &mut state.writes };
        queue.push_back(write);
        self.arrived.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, InboxState> {
        // No code under this lock can leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct InboxState {
    writes: VecDeque<Write>,
    freeing: VecDeque<Write>,
    reads: VecDeque<Read>,
    changes: VecDeque<Change>,
    /// Bytes of all waiting writes, and of writes the thread has taken but not yet written.
    bytes: usize,
    closed: bool,
}
