//! Bytes that are charged to capture's budget.

use std::sync::Arc;

use prometheus_client::metrics::gauge::Gauge;
use threadtap_core::budget::{Budget, Charge, OverBudget, Pool};

/// How many bytes capture may hold. The gauge that reports the use also enforces it, so there is
/// one number and not two that can disagree.
///
/// Large items may not use the last quarter, so a few large bodies never crowd out the many small
/// ones.
#[derive(Debug)]
struct Limit {
    most: i64,
    used: Gauge,
}

/// Creates a budget of this many bytes.
pub(super) fn budget(most_bytes: usize, used: Gauge) -> Budget {
    Budget::of(Arc::new(Limit { most: signed(most_bytes), used }))
}

impl Pool for Limit {
    fn take(&self, more: usize, held: usize) -> bool {
        let most = if held > SMALL_BYTES { self.most - self.most / 4 } else { self.most };
        let more = signed(more);
        let fits = self.used.inc_by(more).saturating_add(more) <= most;
        if !fits {
            self.used.dec_by(more);
        }
        fits
    }

    fn give_back(&self, bytes: usize) {
        if bytes > 0 {
            self.used.dec_by(signed(bytes));
        }
    }
}

/// Copied bytes. The charge is the capacity, so the budget limits memory and not content.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    charge: Charge,
}

impl Buffer {
    pub(super) fn new(budget: Budget) -> Self {
        Self { bytes: Vec::new(), charge: Charge::new(budget) }
    }

    /// Copies all of `bytes`, or nothing.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), OverBudget> {
        let (length, before) = (self.bytes.len(), self.bytes.capacity());
        let needed = length + bytes.len();
        if needed > before {
            let wanted = needed.max(before * 2).max(MIN_CAPACITY);
            self.charge.resize(wanted)?;
            self.bytes.reserve_exact(wanted - length);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Takes the bytes out, together with their charge.
    pub(super) fn take(&mut self) -> (Vec<u8>, Charge) {
        (std::mem::take(&mut self.bytes), self.charge.take())
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Enough for a few events, and small enough for many idle streams.
const MIN_CAPACITY: usize = 512;
/// Nearly every body is smaller than this.
const SMALL_BYTES: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_charged_is_given_back() {
        let used = Gauge::default();
        let mut buffer = Buffer::new(budget(4096, used.clone()));
        buffer.push(&[1; 100]).unwrap();
        buffer.push(&[2; 1000]).unwrap();
        assert_eq!(usize::try_from(used.get()), Ok(buffer.bytes.capacity()));
        let (bytes, charge) = buffer.take();
        drop(buffer);
        assert_eq!(bytes.len(), 1100);
        assert_eq!(usize::try_from(used.get()), Ok(bytes.capacity()));
        drop(charge);
        assert_eq!(used.get(), 0);
    }

    #[test]
    fn copies_all_or_nothing() {
        let used = Gauge::default();
        let mut buffer = Buffer::new(budget(2000, used.clone()));
        buffer.push(&[1; 600]).unwrap();
        assert_eq!(buffer.push(&[2; 5000]), Err(OverBudget));
        assert_eq!(buffer.len(), 600);
        assert_eq!(usize::try_from(used.get()), Ok(buffer.bytes.capacity()));
        drop(buffer);
        assert_eq!(used.get(), 0);
    }

    #[test]
    fn large_bodies_leave_a_quarter_to_small_ones() {
        let used = Gauge::default();
        let budget = budget(800_000, used.clone());
        let mut large = Buffer::new(budget.clone());
        while large.push(&[0; 1000]).is_ok() {}
        assert!((300_000..=600_000).contains(&used.get()), "{}", used.get());
        assert_eq!(Buffer::new(budget.clone()).push(&[0; 270_000]), Err(OverBudget));
        Buffer::new(budget).push(&[0; 190_000]).unwrap();
    }
}
