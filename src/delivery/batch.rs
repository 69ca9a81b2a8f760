//! What goes into one request, and how a batch that was refused is divided until what it was refused for is alone. Pure.
//!
//! A batch is a run of consecutive deliveries of one lane. Refused, it is tried in halves, the front one first, each divided
//! again when it is refused: a payload that is refused alone is the one to blame, and all others go through in their order. One
//! such payload in a batch of *n* costs at most 2·⌈log₂ n⌉ further requests, wherever it is.

use threadtap_core::sink::Batch;

/// The parts a refused batch was divided into.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts {
    /// The numbers of deliveries in them, the next one last. None is 0.
    sizes: Vec<usize>,
}

impl Parts {
    /// How many deliveries may go together, where `whole` may when nothing was refused.
    pub(super) fn limit(&self, whole: usize) -> usize {
        self.sizes.last().map_or(whole, |size| whole.min(*size))
    }

    /// Whether nothing is being divided.
    pub(super) fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    /// The first `count` deliveries may not go together.
    pub(super) fn divide(&mut self, count: usize) {
        (0..count).for_each(|_| self.remove(0));
        let front = count.div_ceil(2);
        self.sizes.extend([count - front, front].into_iter().filter(|size| *size > 0));
    }

    /// A delivery has gone, `index` after the first.
    pub(super) fn remove(&mut self, mut index: usize) {
        for at in (0..self.sizes.len()).rev() {
            if index < self.sizes[at] {
                self.sizes[at] -= 1;
                if self.sizes[at] == 0 {
                    self.sizes.remove(at);
                }
                return;
            }
            index -= self.sizes[at];
        }
    }
}

/// Sums up what is gathered for one request, and says when it is enough.
#[derive(Debug)]
pub(super) struct Load {
    events: usize,
    bytes: usize,
    max_events: usize,
    is_empty: bool,
}

impl Load {
    pub(super) fn new(batch: Batch) -> Self {
        Self { events: 0, bytes: 0, max_events: batch.events, is_empty: true }
    }

    /// Whether a record that tells the backend so many events, and is stored in so many bytes, still fits in, and if so puts
    /// it in. The first always does: what is too large by itself goes alone.
    pub(super) fn take(&mut self, events: usize, bytes: usize) -> bool {
        let (events, bytes) = (self.events.saturating_add(events), self.bytes.saturating_add(bytes));
        let fits = self.is_empty || (events <= self.max_events && bytes <= MAX_BATCH_BYTES);
        if fits {
            *self = Self { events, bytes, max_events: self.max_events, is_empty: false };
        }
        fits
    }
}

/// Bytes of stored records in one request, unless a single one is longer. Far below what backends refuse (413), and the bound
/// of what a lane holds in memory.
pub(super) const MAX_BATCH_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_refused_batch_is_tried_in_halves_the_front_one_first() {
        let mut parts = Parts::default();
        assert_eq!(parts.limit(50), 50);
        parts.divide(5);
        assert_eq!(parts.sizes, [2, 3]);
        parts.divide(3);
        assert_eq!((&parts.sizes[..], parts.limit(50)), (&[2, 1, 2][..], 2));
        parts.remove(3);
        assert_eq!(parts.sizes, [1, 1, 2]);
        parts.remove(0);
        // What comes behind the parts is none of them.
        parts.remove(7);
        parts.divide(1);
        assert_eq!((&parts.sizes[..], parts.limit(50)), (&[1, 1, 1][..], 1));
        (0..3).for_each(|_| parts.remove(0));
        assert!(parts.is_empty());
    }

    #[test]
    fn a_load_is_full_at_either_limit_and_takes_one_record_whatever_its_size() {
        let batch = Batch { events: 10, linger: Duration::ZERO };
        let check = |records: &[(usize, usize)], taken: usize| {
            let mut load = Load::new(batch);
            let fit = records.iter().take_while(|(events, bytes)| load.take(*events, *bytes)).count();
            assert_eq!(fit, taken, "{records:?}");
        };
        check(&[(4, 1), (6, 1), (1, 1)], 2);
        check(&[(4, 1), (7, 1)], 1);
        check(&[(99, 1), (1, 1)], 1);
        check(&[(1, MAX_BATCH_BYTES - 1), (1, 1), (1, 1)], 2);
        check(&[(1, usize::MAX), (1, 1)], 1);
        check(&[(0, usize::MAX), (0, 1)], 1);
    }

    /// Sends a backlog in batches to a backend that refuses what holds a poisonous payload: the number of requests.
    fn deliver(poisonous: &[bool], batch: usize, order: &mut Vec<usize>, dead: &mut Vec<usize>) -> usize {
        let mut parts = Parts::default();
        let (mut at, mut requests) = (0, 0);
        while at < poisonous.len() {
            let count = parts.limit(batch).min(poisonous.len() - at);
            requests += 1;
            let refused = poisonous[at..at + count].contains(&true);
            if refused && count > 1 {
                parts.divide(count);
                continue;
            }
            if refused {
                dead.push(at)
            } else {
                order.extend(at..at + count)
            }
            (0..count).for_each(|_| parts.remove(0));
            at += count;
        }
        requests
    }

    proptest! {
        #[test]
        fn whatever_is_poisonous_dies_alone_and_all_else_goes_through_in_order(
            poisonous in prop::collection::vec(prop::bool::weighted(0.05), 0..600), batch in 1..80_usize,
        ) {
            let (mut order, mut dead) = (Vec::new(), Vec::new());
            let requests = deliver(&poisonous, batch, &mut order, &mut dead);
            let of = |wanted: bool| (0..poisonous.len()).filter(|at| poisonous[*at] == wanted).collect::<Vec<_>>();
            prop_assert_eq!(&order, &of(false));
            prop_assert_eq!(&dead, &of(true));
            let depth = batch.next_power_of_two().ilog2() as usize;
            prop_assert!(requests <= poisonous.len().div_ceil(batch) + dead.len() * 2 * depth, "{}", requests);
        }
    }

    #[test]
    fn one_poisonous_payload_in_ten_thousand_costs_at_most_twelve_further_requests() {
        let mut most = 0;
        for at in [0, 1, 24, 25, 49, 50, 4_999, 5_000, 9_975, 9_999] {
            let mut poisonous = vec![false; 10_000];
            poisonous[at] = true;
            most = most.max(deliver(&poisonous, 50, &mut Vec::new(), &mut Vec::new()));
        }
        assert_eq!(most, 10_000 / 50 + 12);
    }
}
