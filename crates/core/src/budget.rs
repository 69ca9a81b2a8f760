//! Memory that many share: each asks before it allocates, and gives back what it no longer holds.
//!
//! Who is refused drops what it holds, or does without, and says so; nobody waits for memory.

use std::fmt::Debug;
use std::sync::Arc;

/// Where the bytes of all are counted.
pub trait Pool: Debug + Send + Sync {
    /// Takes `more` bytes for somebody who holds `held` by then. False when there are not so many.
    fn take(&self, more: usize, held: usize) -> bool;

    /// Gives bytes back.
    fn give_back(&self, bytes: usize);
}

/// A handle on a pool. The default one has no limit.
#[derive(Clone, Debug, Default)]
pub struct Budget(Option<Arc<dyn Pool>>);

impl Budget {
    /// A handle on this pool.
    #[must_use]
    pub fn of(pool: Arc<dyn Pool>) -> Self {
        Self(Some(pool))
    }
}

/// What one of them holds. It is given back when this is dropped.
#[derive(Debug, Default)]
pub struct Charge {
    budget: Budget,
    bytes: usize,
}

/// All together hold as much as they may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverBudget;

impl Charge {
    /// Holds nothing.
    #[must_use]
    pub fn new(budget: Budget) -> Self {
        Self { budget, bytes: 0 }
    }

    /// Changes how much is held; to be called before more is allocated, and after less is.
    ///
    /// # Errors
    /// [`OverBudget`] when there is not so much; it holds what it held then.
    pub fn resize(&mut self, bytes: usize) -> Result<(), OverBudget> {
        let Some(pool) = &self.budget.0 else { return Ok(()) };
        if bytes > self.bytes && !pool.take(bytes - self.bytes, bytes) {
            return Err(OverBudget);
        }
        pool.give_back(self.bytes.saturating_sub(bytes));
        self.bytes = bytes;
        Ok(())
    }

    /// Takes all of it out, for who holds it from now on.
    #[must_use]
    pub fn take(&mut self) -> Self {
        let bytes = std::mem::take(&mut self.bytes);
        Self { budget: self.budget.clone(), bytes }
    }

    /// Takes in what another one held.
    pub fn absorb(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
        if self.budget.0.is_none() {
            std::mem::swap(&mut self.budget, &mut other.budget);
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(pool) = &self.budget.0 {
            pool.give_back(self.bytes);
        }
    }
}
