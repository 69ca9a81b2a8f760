//! A database or a disk that is full: what goes before its turn, what is let go of, and what is refused at last.

use super::{freeing, *};
use crate::metrics::{DropLabel, DropReason};
use crate::store::budget;

/// What was tried while there is no room, in this order: each step only where the ones before were not enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tried {
    /// To write what became of deliveries, and nothing else.
    Outcomes,
    /// And then what settles conversations.
    Settlings,
}

impl Writer {
    /// Takes in writes that only tell what became of deliveries, before all that wait. Tells whether a full database should be tried
    /// again for them.
    pub(super) fn put_first(&mut self, writes: Vec<Write>) -> bool {
        if writes.is_empty() {
            return false;
        }
        self.pending.splice(..0, writes);
        let full = self.full.is_some();
        if full {
            self.full = Some(Tried::Outcomes);
            self.group = freeing::outcomes_first(&mut self.pending);
        }
        full
    }

    /// Makes room in a database or on a disk that is full. Tells whether the write is worth trying again at once.
    pub(super) fn make_room(&mut self, now: UnixMillis) -> bool {
        if self.full.is_none() {
            self.stuck_since = now;
            self.full = Some(Tried::Outcomes);
            let first = freeing::outcomes_first(&mut self.pending);
            if first > 0 {
                self.group = first;
                return true;
            }
        }
        // Then, what settled conversations have on disk. Once: a settling may itself need more room than it makes. Those that come
        // later are tried with it, in as small a group, but do not keep from what follows.
        let arrived = self.inbox.take_writes();
        let untried = arrived.iter().any(Write::settles);
        self.pending.extend(arrived);
        if self.full < Some(Tried::Settlings) {
            self.full = Some(Tried::Settlings);
            let first = freeing::settlings_first(&mut self.pending);
            if first > 0 {
                self.group = first;
                return true;
            }
        } else if untried {
            freeing::settlings_first(&mut self.pending);
        }
        // A log that was written back is written over: room where the disk itself has none.
        if let Err(error) = self.database.checkpoint() {
            tracing::debug!(%error, "no room for a checkpoint");
        }
        self.evict(now) || self.trim_for_room(now) || untried
    }

    /// Lets history go, oldest first. Tells whether there was any, or may be further on.
    fn evict(&mut self, now: UnixMillis) -> bool {
        for rows in [EVICTED_ROWS, 16, 1] {
            match self.make_room.step(self.database.connection(), rows, before(now, MIN_RETAIN)) {
                Ok(Step::Freed(count)) => {
                    self.evicted("room", count);
                    return true;
                }
                Ok(Step::Looked) => return true,
                Ok(Step::Exhausted) => return false,
                // A smaller step needs less of the room there is not.
                Err(error) => {
                    let failure = Failure::from(&error);
                    if failure.trouble == Trouble::Corrupt {
                        self.failed_aside(&failure);
                        return true;
                    }
                    tracing::debug!(%error, "no room could be made");
                }
            }
        }
        false
    }

    /// Lets go of what is aged, before its time for tidying. Tells whether there was any.
    fn trim_for_room(&mut self, now: UnixMillis) -> bool {
        let spare = |writer: &Self| budget::spare_bytes(writer.database.connection()).unwrap_or_default();
        let before = spare(self);
        self.trim_aged(now).is_ok() && spare(self) > before
    }

    /// Refuses the first of what waits, where it finds no room although nothing is stored that will make some. Tells whether it did:
    /// what comes behind it may fit. Where the disk is full and not the budget, somebody may free it: for that is waited a while.
    pub(super) fn refuse_first(&mut self, now: UnixMillis) -> bool {
        let hopeless = self.group == 1 && self.failures >= REFUSE_AFTER && !self.ledger.anything_waits();
        let is_anybodys = |write: &&Write| write.written.as_ref().is_some_and(|written| !written.is_closed());
        let Some(first) =
            self.pending.first().filter(|first| hopeless && !first.frees() && !is_anybodys(first))
        else {
            return false;
        };
        let needed = NEEDED_BYTES + 2 * first.ops.iter().map(Op::bytes).sum::<usize>() as u64;
        let budget_is_full =
            budget::spare_bytes(self.database.connection()).is_ok_and(|spare| spare < needed);
        if !budget_is_full && now.since(self.stuck_since) < DISK_PATIENCE {
            return false;
        }
        self.stuck_since = now;
        let Write { ops, bytes, .. } = self.pending.remove(0);
        self.inbox.release(bytes);
        ledger::count_lost_ops(&self.metrics, &ops, "refused");
        let reason = DropReason::disk;
        self.metrics.dropped.get_or_create(&DropLabel { reason }).inc_by(ops.len() as u64);
        self.forgets_when_idle();
        true
    }

    /// With nothing left that waits it still cannot write, for all that is known; but what comes next is to be tried in every way.
    pub(super) fn forgets_when_idle(&mut self) {
        if self.pending.is_empty() && self.failures > 0 {
            (self.full, self.failures, self.group) = (None, 1, usize::MAX);
        }
    }
}

/// So often it was tried in smaller and smaller groups.
const REFUSE_AFTER: u32 = 5;
/// How long what waits may wait for a full disk to be freed, each in its turn.
const DISK_PATIENCE: Duration = Duration::from_secs(60);
/// For indexes and the like, whatever is written.
const NEEDED_BYTES: u64 = 256 << 10;
const EVICTED_ROWS: usize = 256;
