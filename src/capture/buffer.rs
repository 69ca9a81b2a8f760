//! Bytes that are charged to a shared budget.

use prometheus_client::metrics::gauge::Gauge;

/// How many bytes copies may hold together. The gauge that shows the use is also what keeps it: one number, never two that
/// disagree.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    limit: i64,
    used: Gauge,
}

impl Budget {
    pub(super) fn new(limit_bytes: usize, used: Gauge) -> Self {
        Self { limit: signed(limit_bytes), used }
    }

    pub(super) fn give_back(&self, bytes: usize) {
        if bytes > 0 {
            self.used.dec_by(signed(bytes));
        }
    }

    fn take(&self, bytes: usize) -> Result<(), OverBudget> {
        let bytes = signed(bytes);
        if self.used.inc_by(bytes).saturating_add(bytes) > self.limit {
            self.used.dec_by(bytes);
            return Err(OverBudget);
        }
        Ok(())
    }
}

/// Copied bytes. What is charged is the capacity, so that the budget is about memory and not about content.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    budget: Budget,
}

impl Buffer {
    pub(super) fn new(budget: Budget) -> Self {
        Self { bytes: Vec::new(), budget }
    }

    /// Copies all of `bytes`, or nothing.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), OverBudget> {
        let (length, before) = (self.bytes.len(), self.bytes.capacity());
        let needed = length + bytes.len();
        if needed > before {
            let wanted = needed.max(before * 2).max(MIN_CAPACITY);
            self.budget.take(wanted - before)?;
            self.bytes.reserve_exact(wanted - length);
            // The allocator may have given more than was asked for.
            self.budget.used.inc_by(signed(self.bytes.capacity() - wanted));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Takes the bytes out. They stay charged with their capacity, for whoever drops them to give back.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes.capacity());
    }
}

/// All copies together hold as much as they may.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OverBudget;

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Enough for a few events, little enough for many idle streams.
const MIN_CAPACITY: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_charged_is_given_back() {
        let used = Gauge::default();
        let budget = Budget::new(4096, used.clone());
        let mut buffer = Buffer::new(budget.clone());
        buffer.push(&[1; 100]).unwrap();
        buffer.push(&[2; 1000]).unwrap();
        assert_eq!(usize::try_from(used.get()), Ok(buffer.bytes.capacity()));
        let bytes = buffer.take();
        drop(buffer);
        assert_eq!(bytes.len(), 1100);
        assert_eq!(usize::try_from(used.get()), Ok(bytes.capacity()));
        budget.give_back(bytes.capacity());
        assert_eq!(used.get(), 0);
    }

    #[test]
    fn copies_all_or_nothing() {
        let used = Gauge::default();
        let mut buffer = Buffer::new(Budget::new(2000, used.clone()));
        buffer.push(&[1; 600]).unwrap();
        assert_eq!(buffer.push(&[2; 5000]), Err(OverBudget));
        assert_eq!(buffer.len(), 600);
        assert_eq!(usize::try_from(used.get()), Ok(buffer.bytes.capacity()));
        drop(buffer);
        assert_eq!(used.get(), 0);
    }
}
