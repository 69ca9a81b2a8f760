//! A shared memory budget. Each holder asks before it allocates, and returns what it no longer
//! uses.
//!
//! A holder whose request is refused drops what it holds, or continues without it, and reports
//! this. Nothing ever waits for memory.

use std::fmt::Debug;
use std::sync::Arc;

/// The shared count of all bytes in use.
pub trait Pool: Debug + Send + Sync {
    /// Takes `more` bytes for a holder that will then hold `held`. Returns false if that exceeds
    /// the budget.
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

/// The share of one holder. It is returned to the pool on drop.
#[derive(Debug, Default)]
pub struct Charge {
    budget: Budget,
    bytes: usize,
}

/// The budget is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverBudget;

impl Charge {
    /// A share of zero bytes.
    #[must_use]
    pub fn new(budget: Budget) -> Self {
        Self { budget, bytes: 0 }
    }

    /// Changes the size of the share. Call this before allocating more, and after freeing memory.
    ///
    /// # Errors
    /// [`OverBudget`] if the pool has too little left. The share then keeps its old size.
    pub fn resize(&mut self, bytes: usize) -> Result<(), OverBudget> {
        let Some(pool) = &self.budget.0 else { return Ok(()) };
        if bytes > self.bytes && !pool.take(bytes - self.bytes, bytes) {
            return Err(OverBudget);
        }
        pool.give_back(self.bytes.saturating_sub(bytes));
        self.bytes = bytes;
        Ok(())
    }

    /// Moves the whole share out, for a new holder.
    #[must_use]
    pub fn take(&mut self) -> Self {
        let bytes = std::mem::take(&mut self.bytes);
        Self { budget: self.budget.clone(), bytes }
    }

    /// Adds another share to this one.
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
