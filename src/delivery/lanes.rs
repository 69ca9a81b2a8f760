//! The lanes of a sink: what waits on each, in order, and which may go next. Pure.
//!
//! A lane holds only so many deliveries in memory. When there are more it is *behind*: the store keeps them, and they are read
//! again, for this lane alone, when it has less than a batch. So a lane that is held up costs the others nothing.

use std::collections::VecDeque;

use threadtap_core::sink::Batch;
use threadtap_core::time::UnixMillis;

use crate::delivery::batch::Parts;
use crate::store::{Due, DuePage, Lane as Share};

#[derive(Debug)]
pub(super) struct Lanes {
    lanes: Vec<Lane>,
    batch: Batch,
    /// All deliveries up to this one are on a lane, or behind one.
    cursor: u64,
}

#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Due>,
    parts: Parts,
    /// The last delivery that was put on the lane or passed over while reading for it.
    read_to: u64,
    behind: bool,
    busy: bool,
    not_before: UnixMillis,
    /// Of what goes next: failures while others succeeded, and their number at the last one.
    stuck: u32,
    others: u64,
    /// It had its last attempt.
    spent: bool,
}

/// What to read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// One lane's deliveries, or everybody's.
    pub(super) lane: Option<Share>,
    pub(super) after: u64,
}

impl Lanes {
    pub(super) fn new(count: u32, batch: Batch) -> Self {
        // A batch that a lane cannot hold would be waited for in vain.
        let batch = Batch { events: batch.events.clamp(1, WINDOW), ..batch };
        Self { lanes: (0..count.max(1)).map(|_| Lane::default()).collect(), batch, cursor: 0 }
    }

    /// What to read, if there is anything a lane has room for. `news` says whether deliveries after the cursor may exist.
    pub(super) fn wanted(&self, news: bool) -> Option<Wanted> {
        let of = u32::try_from(self.lanes.len()).unwrap_or(u32::MAX);
        for (index, lane) in (0..of).zip(&self.lanes) {
            if lane.behind && lane.waiting.len() < self.batch.events {
                return Some(Wanted { lane: Some(Share { index, of }), after: lane.read_to });
            }
        }
        let room = self.lanes.iter().any(|lane| !lane.behind && lane.waiting.len() < WINDOW);
        (news && room).then_some(Wanted { lane: None, after: self.cursor })
    }

    /// Takes what was read.
    pub(super) fn add(&mut self, wanted: Wanted, mut page: DuePage, now: UnixMillis) {
        for due in &mut page.rows {
            // An earlier process may have had a clock that was ahead; nothing is to linger until then.
            due.queued_at = due.queued_at.min(now);
        }
        match wanted.lane {
            None => {
                for due in page.rows {
                    let index = self.index(&due);
                    let lane = &mut self.lanes[index];
                    if lane.behind || lane.waiting.len() >= WINDOW {
                        lane.behind = true;
                    } else {
                        lane.read_to = due.id;
                        lane.waiting.push_back(due);
                    }
                }
                self.cursor = page.next_after;
            }
            Some(share) => {
                // Beyond the cursor everything is read for all lanes at once.
                let reached_cursor = !page.more || page.next_after >= self.cursor;
                let cursor = self.cursor;
                let Some(lane) = self.lanes.get_mut(share.index as usize) else { return };
                lane.waiting.extend(page.rows.into_iter().filter(|due| due.id <= cursor));
                lane.read_to = page.next_after.min(cursor);
                lane.behind = !reached_cursor;
            }
        }
    }

    /// The lane to go next: the one whose head was tried least, then the one that waits longest. Pauses of single lanes, and the
    /// wait for a full batch, are ignored when the sink sets the pace (`paced`).
    pub(super) fn ready(&self, now: UnixMillis, paced: bool) -> Option<usize> {
        let ready =
            self.lanes.iter().enumerate().filter(|(_, lane)| {
                lane.opens_at(self.batch).is_some_and(|opens_at| paced || opens_at <= now)
            });
        let next = ready.min_by_key(|(_, lane)| lane.waiting.front().map(|head| (head.attempts, head.id)));
        next.map(|(index, _)| index)
    }

    /// When the first lane that waits may go on.
    pub(super) fn next_at(&self) -> Option<UnixMillis> {
        self.lanes.iter().filter_map(|lane| lane.opens_at(self.batch)).min()
    }

    /// Sends the first deliveries of a lane on their way: as many as may go together by their number.
    pub(super) fn depart(&mut self, lane: usize) -> Vec<u64> {
        let lane = &mut self.lanes[lane];
        lane.busy = true;
        lane.waiting.iter().take(lane.parts.limit(self.batch.events)).map(|due| due.id).collect()
    }

    /// The lane can go on: what became of its deliveries is recorded.
    pub(super) fn free(&mut self, lane: usize) {
        self.lanes[lane].busy = false;
    }

    /// These deliveries are done with. They are among the first of the lane.
    pub(super) fn take(&mut self, lane: usize, ids: &[u64]) -> Vec<Due> {
        self.lanes[lane].take(|due| ids.contains(&due.id))
    }

    /// Takes all deliveries that fulfil this: of this lane, whose attempt is over, and of others that have none in flight.
    pub(super) fn take_from_all(&mut self, lane: usize, fulfils: impl Fn(&Due) -> bool) -> Vec<Due> {
        let mut taken = Vec::new();
        for (index, other) in self.lanes.iter_mut().enumerate() {
            if index == lane || !other.busy {
                taken.extend(other.take(&fulfils));
            }
        }
        taken
    }

    /// The first of the lane were tried and stay. Returns them, the attempt counted.
    pub(super) fn keep(&mut self, lane: usize, ids: &[u64]) -> Vec<Due> {
        let tried = self.lanes[lane].waiting.iter_mut().take(ids.len());
        tried
            .map(|due| {
                due.attempts = due.attempts.saturating_add(1);
                due.clone()
            })
            .collect()
    }

    /// The first of the lane may not go together: they are tried in halves, from now on.
    pub(super) fn divide(&mut self, lane: usize, count: usize) {
        let lane = &mut self.lanes[lane];
        lane.parts.divide(count);
        lane.stuck = 0;
        lane.not_before = UnixMillis::default();
    }

    /// Notes that the first of the lane failed when the sink had had so many successes. Returns how often they failed with others
    /// succeeding in between: an outage, however long, counts once.
    pub(super) fn stuck(&mut self, lane: usize, successes: u64) -> u32 {
        let lane = &mut self.lanes[lane];
        if lane.stuck == 0 || successes > lane.others {
            lane.stuck += 1;
        }
        lane.others = successes;
        lane.stuck
    }

    /// Lets a lane wait.
    pub(super) fn hold(&mut self, lane: usize, until: UnixMillis) {
        self.lanes[lane].not_before = until;
    }

    /// Takes a lane out for good: it had its last attempt.
    pub(super) fn spend(&mut self, lane: usize) {
        self.lanes[lane].spent = true;
    }

    /// Ends all waits.
    pub(super) fn release_all(&mut self) {
        for lane in &mut self.lanes {
            lane.not_before = UnixMillis::default();
        }
    }

    fn index(&self, due: &Due) -> usize {
        due.lane as usize % self.lanes.len()
    }
}

impl Lane {
    /// When it may go on, if anything waits and nothing is under way. Only what was never tried waits for a full batch.
    fn opens_at(&self, batch: Batch) -> Option<UnixMillis> {
        if self.busy || self.spent {
            return None;
        }
        let head = self.waiting.front()?;
        let gathers = head.attempts == 0 && self.parts.is_empty() && self.waiting.len() < batch.events;
        let gathered_at = if gathers { head.queued_at.after(batch.linger) } else { UnixMillis::default() };
        Some(gathered_at.max(self.not_before))
    }

    fn take(&mut self, fulfils: impl Fn(&Due) -> bool) -> Vec<Due> {
        let mut taken = Vec::new();
        let mut index = 0;
        while index < self.waiting.len() {
            if fulfils(&self.waiting[index]) {
                taken.extend(self.waiting.remove(index));
                self.parts.remove(index);
                if index == 0 {
                    self.stuck = 0;
                    self.not_before = UnixMillis::default();
                }
            } else {
                index += 1;
            }
        }
        taken
    }
}

/// Deliveries one lane holds in memory, and one batch less one more while it catches up.
pub(super) const WINDOW: usize = 256;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However pages are cut, whenever lanes are emptied, and whichever payloads are refused together with all they are in a
        /// batch with: each delivery is done with once, in order within its lane, and only what is refused alone is dead.
        #[test]
        fn every_delivery_is_taken_or_dies_alone_once_and_in_order(
            numbers in prop::collection::vec(0..5u32, 0..2500), count in 1..4u32, page in 1..400usize,
            holds in prop::collection::vec(any::<bool>(), 1..50), events in 1..400usize,
            poisonous in prop::collection::btree_set(1..2500u64, 0..40),
        ) {
            let store: Vec<Due> = numbers.iter().enumerate().map(|(at, lane)| due(at as u64 + 1, *lane)).collect();
            let mut lanes = Lanes::new(count, Batch { events, linger: Duration::ZERO });
            let (mut departed, mut dead) = (Vec::new(), BTreeSet::new());
            let mut holds = holds.into_iter().cycle();
            let mut news = true;
            loop {
                if let Some(wanted) = lanes.wanted(news) {
                    let read = read(&store, wanted, page);
                    if wanted.lane.is_none() {
                        news = read.more;
                    }
                    lanes.add(wanted, read, UnixMillis(0));
                    // Now and then more is read before anything departs, so that lanes fall behind.
                    if holds.next().unwrap() {
                        continue;
                    }
                }
                let Some(lane) = lanes.ready(UnixMillis(0), false) else {
                    if lanes.wanted(news).is_some() {
                        continue;
                    }
                    break;
                };
                let ids = lanes.depart(lane);
                prop_assert!(!ids.is_empty() && ids.len() <= events);
                let refused = ids.iter().any(|id| poisonous.contains(id));
                if refused && ids.len() > 1 {
                    lanes.divide(lane, ids.len());
                } else {
                    departed.extend(lanes.take(lane, &ids));
                    dead.extend(ids.into_iter().filter(|_| refused));
                }
                lanes.free(lane);
            }
            let expected: BTreeSet<u64> = poisonous.into_iter().filter(|id| *id <= store.len() as u64).collect();
            prop_assert_eq!(dead, expected);
            for lane in 0..count {
                let of = |dues: &[Due]| dues.iter().filter(|due| due.lane % count == lane).map(|due| due.id).collect::<Vec<_>>();
                prop_assert_eq!(of(&departed), of(&store));
            }
        }
    }

    #[test]
    fn a_head_counts_as_stuck_only_for_failures_others_succeed_between() {
        let mut lanes = lanes(Batch::ONE, vec![due(1, 0), due(2, 0)]);
        for (successes, stuck) in [(5, 1), (5, 1), (5, 1), (6, 2), (9, 3)] {
            assert_eq!(lanes.stuck(0, successes), stuck);
        }
        lanes.take(0, &[1]);
        assert_eq!(lanes.stuck(0, 10), 1);
    }

    #[test]
    fn the_least_tried_head_goes_first() {
        let mut lanes = lanes(Batch::ONE, vec![due(1, 0), due(2, 1)]);
        assert_eq!(lanes.ready(UnixMillis(0), false), Some(0));
        assert_eq!(lanes.keep(0, &[1])[0].attempts, 1);
        assert_eq!(lanes.ready(UnixMillis(0), false), Some(1));
        lanes.hold(1, UnixMillis(10));
        assert_eq!(lanes.ready(UnixMillis(9), false), Some(0));
        assert_eq!(lanes.ready(UnixMillis(9), true), Some(1));
    }

    #[test]
    fn what_was_never_tried_waits_for_a_full_batch_but_not_for_ever() {
        let batch = Batch { events: 3, linger: Duration::from_millis(100) };
        let at = |id, queued_at| Due { queued_at: UnixMillis(queued_at), ..due(id, 0) };
        let mut lanes = lanes(batch, vec![at(1, 50), at(2, 120)]);
        assert_eq!((lanes.ready(UnixMillis(149), false), lanes.next_at()), (None, Some(UnixMillis(150))));
        assert_eq!(lanes.ready(UnixMillis(149), true), Some(0), "a probe, or the last call, does not wait");
        assert_eq!(lanes.ready(UnixMillis(150), false), Some(0));
        lanes.add(ALL, page(vec![at(3, 130), at(4, 130)]), UnixMillis(149));
        assert_eq!(lanes.ready(UnixMillis(149), false), Some(0), "it is full");
        assert_eq!(lanes.depart(0), [1, 2, 3]);
        lanes.take(0, &[1, 2, 3]);
        lanes.free(0);
        assert_eq!(lanes.next_at(), Some(UnixMillis(230)));
        lanes.keep(0, &[4]);
        assert_eq!(lanes.next_at(), Some(UnixMillis(0)), "it was tried");
    }

    #[test]
    fn a_clock_that_was_ahead_keeps_nothing_waiting() {
        let batch = Batch { events: 3, linger: Duration::from_millis(100) };
        let mut lanes = Lanes::new(2, batch);
        let from_the_future = Due { queued_at: UnixMillis(9_000_000), ..due(1, 0) };
        lanes.add(ALL, page(vec![from_the_future]), UnixMillis(1000));
        assert_eq!(lanes.next_at(), Some(UnixMillis(1100)));
    }

    #[test]
    fn parts_of_a_refused_batch_go_at_once_and_by_themselves() {
        let batch = Batch { events: 4, linger: Duration::from_millis(100) };
        let mut lanes = lanes(batch, (1..=6).map(|id| due(id, 0)).collect());
        assert_eq!(lanes.depart(0), [1, 2, 3, 4]);
        lanes.divide(0, 4);
        lanes.free(0);
        for part in [[1, 2], [3, 4], [5, 6]] {
            assert_eq!(lanes.depart(0), part);
            lanes.free(0);
            lanes.take(0, &part);
        }
    }

    #[test]
    fn what_is_taken_from_all_spares_what_is_in_flight() {
        let mut lanes = lanes(Batch::ONE, (1..=6).map(|id| due(id, id as u32 % 3)).collect());
        for lane in [0, 1] {
            lanes.depart(lane);
        }
        let taken = lanes.take_from_all(0, |due| due.id < 5);
        assert_eq!(taken.iter().map(|due| due.id).collect::<Vec<_>>(), [3, 2]);
        assert_eq!((lanes.depart(0), lanes.depart(1), lanes.depart(2)), (vec![6], vec![1], vec![5]));
    }

    /// Lanes for numbers 0 to 2, with these on them.
    fn lanes(batch: Batch, dues: Vec<Due>) -> Lanes {
        let mut lanes = Lanes::new(3, batch);
        let now = dues.iter().map(|due| due.queued_at).max().unwrap();
        lanes.add(ALL, page(dues), now);
        lanes
    }

    const ALL: Wanted = Wanted { lane: None, after: 0 };

    fn due(id: u64, lane: u32) -> Due {
        Due { id, lane, attempts: 0, queued_at: UnixMillis(0) }
    }

    fn page(rows: Vec<Due>) -> DuePage {
        let next_after = rows.last().map_or(0, |due| due.id);
        DuePage { rows, next_after, more: false }
    }

    fn read(store: &[Due], wanted: Wanted, limit: usize) -> DuePage {
        let mut page = DuePage { next_after: wanted.after, ..DuePage::default() };
        for due in store.iter().filter(|due| due.id > wanted.after).take(limit * 2) {
            if page.rows.len() == limit {
                break;
            }
            page.next_after = due.id;
            if wanted.lane.is_none_or(|share| share.holds(due.lane)) {
                page.rows.push(due.clone());
            }
        }
        page.more = store.last().is_some_and(|last| last.id > page.next_after);
        page
    }
}
