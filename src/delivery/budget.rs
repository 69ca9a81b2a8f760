//! How many bytes the deliveries in flight may hold, over all sinks.
//!
//! The budget is divided evenly: each sink has a *share*, so a backend that hangs holds none of the bytes another sink needs. An
//! attempt takes bytes of its sink's share before it reads records from the store, gives back what the encoded payload does not
//! need, and the rest when the attempt is over. A lane that waits for its next attempt holds none.
//!
//! A record too large to be read that way is let through with what its share has at most, so it always leaves, whatever its size.
//! It is read and encoded at the *desk*, of which there is one for all sinks: several copies of a large record exist at one time
//! at most once. Nothing waits for a backend while it has the desk.
//!
//! So all sinks together hold the budget, the copies of one large record, and of records larger than a share one per sink.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::delivery::batch::MAX_BATCH_BYTES;

/// One sink's part of the budget. Cloning shares it.
#[derive(Clone, Debug)]
pub(super) struct Share {
    free: Arc<Semaphore>,
    size: usize,
    desk: Arc<Semaphore>,
}

/// Bytes that are taken until it is dropped.
#[derive(Debug)]
pub(super) struct Hold {
    permit: OwnedSemaphorePermit,
}

/// The desk, taken until it is dropped.
#[derive(Debug)]
pub(super) struct Desk {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// Divides a budget of bytes by the number of sinks.
    pub(super) fn divide(budget: usize, sinks: usize) -> impl Iterator<Item = Self> {
        let size = (budget / sinks.max(1)).max(COPIES * UNIT);
        let desk = Arc::new(Semaphore::new(1));
        (0..sinks).map(move |_| Self {
            free: Arc::new(Semaphore::new(units(size) as usize)),
            size,
            desk: Arc::clone(&desk),
        })
    }

    /// Bytes of stored records that one read without the desk may bring. A quarter of the share is enough for it, so that lanes
    /// need not wait for each other.
    pub(super) fn batch_bytes(&self) -> usize {
        (self.size / COPIES / 4).min(MAX_BATCH_BYTES)
    }

    /// Takes what records of so many stored bytes need until they are encoded, at most the whole share.
    ///
    /// # Cancel safety
    /// Nothing is taken when the future is dropped; its place in the order is lost.
    pub(super) async fn take(&self, stored_bytes: usize) -> Hold {
        let wanted = units(stored_bytes.saturating_mul(COPIES).min(self.size));
        let permit = Arc::clone(&self.free).acquire_many_owned(wanted).await;
        Hold { permit: permit.expect("it is never closed") }
    }

    /// Takes the desk.
    ///
    /// # Cancel safety
    /// As for [`take`](Self::take).
    pub(super) async fn desk(&self) -> Desk {
        let permit = Arc::clone(&self.desk).acquire_owned().await;
        Desk { _permit: Some(permit.expect("it is never closed")) }
    }
}

impl Hold {
    /// Gives back all but so many bytes. It never grows.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        let surplus = self.permit.num_permits().saturating_sub(units(bytes) as usize);
        drop(self.permit.split(surplus));
    }
}

impl Desk {
    /// For what needs none.
    pub(super) fn unused() -> Self {
        Self { _permit: None }
    }
}

/// Whole units, at least one.
fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT).max(1)).unwrap_or(u32::MAX)
}

/// While it is encoded a record exists as stored text, as values, and as a payload whose buffer grows.
const COPIES: usize = 4;
/// What is counted: a semaphore's numbers are too small for bytes.
const UNIT: usize = 1 << 10;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn free(share: &Share) -> usize {
        share.free.available_permits() * UNIT
    }

    proptest! {
        #[test]
        fn no_share_gives_more_than_it_has_and_each_request_is_fulfilled_in_the_end(
            budget in 0..64_usize << 20, sinks in 1..8_usize, sizes in prop::collection::vec(0..32_usize << 20, 1..40),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                for share in Share::divide(budget, sinks) {
                    let whole = free(&share);
                    prop_assert!(whole * sinks <= budget.max(sinks * COPIES * UNIT) + sinks * UNIT);
                    prop_assert!(share.batch_bytes() * COPIES <= whole);
                    let mut holds = std::collections::VecDeque::new();
                    for bytes in &sizes {
                        // The oldest leaves until there is room, as attempts end one after the other.
                        let hold = loop {
                            let taken = tokio::time::timeout(Duration::ZERO, share.take(*bytes)).await;
                            match taken {
                                Ok(hold) => break hold,
                                Err(_) => drop(holds.pop_front().expect("an empty share has room for anything")),
                            }
                        };
                        holds.push_back(hold);
                        let before = free(&share);
                        holds.back_mut().unwrap().shrink_to(*bytes);
                        prop_assert!(free(&share) >= before && free(&share) < whole);
                    }
                    drop(holds);
                    prop_assert_eq!(free(&share), whole);
                }
                Ok(())
            })?;
        }
    }

    #[tokio::test]
    async fn a_share_that_is_used_up_takes_nothing_from_another() {
        let shares: Vec<Share> = Share::divide(1 << 20, 2).collect();
        let _all = shares[0].take(1 << 30).await;
        assert_eq!((free(&shares[0]), free(&shares[1])), (0, 512 << 10));
        let _other = shares[1].take(1 << 30).await;
        assert_eq!(free(&shares[1]), 0);
    }

    #[test]
    fn a_payload_gives_back_what_encoding_took_and_never_more() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let share = Share::divide(1 << 20, 1).next().unwrap();
        let mut hold = runtime.block_on(share.take(100 << 10));
        assert_eq!(free(&share), (1 << 20) - (400 << 10));
        hold.shrink_to(150 << 10);
        assert_eq!(free(&share), (1 << 20) - (150 << 10));
        hold.shrink_to(300 << 10);
        assert_eq!(free(&share), (1 << 20) - (150 << 10));
    }
}
