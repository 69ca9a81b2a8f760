//! The lanes of a sink: what waits on each, in order, and which may go next. Pure.
//!
//! A lane holds only so many deliveries in memory. When there are more it is *behind*: the store keeps them, and they are read
//! again, for this lane alone, when it has run empty. So a lane that is held up costs the others nothing.

use std::collections::VecDeque;

use crate::store::{Due, DuePage, Lane as Share};
use crate::time::UnixMillis;

#[derive(Debug)]
pub(super) struct Lanes {
    lanes: Vec<Lane>,
    /// All deliveries up to this one are on a lane, or behind one.
    cursor: u64,
}

#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Due>,
    /// The last delivery that was put on the lane or passed over while reading for it.
    read_to: u64,
    behind: bool,
    busy: bool,
    not_before: UnixMillis,
    /// Of the head: failures while others succeeded, and their number at the last one.
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
    pub(super) fn new(count: u32) -> Self {
        Self { lanes: (0..count.max(1)).map(|_| Lane::default()).collect(), cursor: 0 }
    }

    /// What to read, if there is anything a lane has room for. `news` says whether deliveries after the cursor may exist.
    pub(super) fn wanted(&self, news: bool) -> Option<Wanted> {
        let of = u32::try_from(self.lanes.len()).unwrap_or(u32::MAX);
        for (index, lane) in (0..of).zip(&self.lanes) {
            if lane.behind && lane.waiting.is_empty() {
                return Some(Wanted { lane: Some(Share { index, of }), after: lane.read_to });
            }
        }
        let room = self.lanes.iter().any(|lane| !lane.behind && lane.waiting.len() < WINDOW);
        (news && room).then_some(Wanted { lane: None, after: self.cursor })
    }

    /// Takes what was read.
    pub(super) fn add(&mut self, wanted: Wanted, page: DuePage) {
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

    /// The lane to go next: the one whose head was tried least, then the one that waits longest. Pauses of single lanes are ignored
    /// when the sink sets the pace (`paced`).
    pub(super) fn ready(&self, now: UnixMillis, paced: bool) -> Option<usize> {
        let ready = self.lanes.iter().enumerate().filter(|(_, lane)| {
            !lane.busy && !lane.spent && (paced || lane.not_before <= now) && !lane.waiting.is_empty()
        });
        let next = ready.min_by_key(|(_, lane)| lane.waiting.front().map(|head| (head.attempts, head.id)));
        next.map(|(index, _)| index)
    }

    /// When the first lane that waits may go on.
    pub(super) fn next_at(&self) -> Option<UnixMillis> {
        let waiting = self.lanes.iter().filter(|lane| !lane.busy && !lane.spent && !lane.waiting.is_empty());
        waiting.map(|lane| lane.not_before).min()
    }

    /// Sends the head of a lane on its way.
    pub(super) fn depart(&mut self, lane: usize) -> Option<Due> {
        let lane = &mut self.lanes[lane];
        lane.busy = true;
        lane.waiting.front().cloned()
    }

    /// The lane can go on: what became of its head is recorded.
    pub(super) fn free(&mut self, lane: usize) {
        self.lanes[lane].busy = false;
    }

    /// The head is done with.
    pub(super) fn advance(&mut self, lane: usize) -> Option<Due> {
        let lane = &mut self.lanes[lane];
        lane.stuck = 0;
        lane.not_before = UnixMillis::default();
        lane.waiting.pop_front()
    }

    /// The head was tried and stays. Returns it, the attempt counted.
    pub(super) fn keep(&mut self, lane: usize) -> Option<Due> {
        let head = self.lanes[lane].waiting.front_mut()?;
        head.attempts = head.attempts.saturating_add(1);
        Some(head.clone())
    }

    /// Notes that the head failed when the sink had had so many successes. Returns how often it failed with others succeeding in
    /// between: an outage, however long, counts once.
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

/// Deliveries one lane holds in memory.
pub(super) const WINDOW: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However pages are cut and whenever lanes are emptied, each delivery is met once, in order within its lane.
        #[test]
        fn every_delivery_departs_once_and_in_order(
            numbers in prop::collection::vec(0..5u32, 0..2500), count in 1..4u32, page in 1..400usize,
            holds in prop::collection::vec(any::<bool>(), 1..50),
        ) {
            let store: Vec<Due> = numbers.iter().enumerate().map(|(at, lane)| due(at as u64 + 1, *lane)).collect();
            let mut lanes = Lanes::new(count);
            let mut departed = Vec::new();
            let mut holds = holds.into_iter().cycle();
            let mut news = true;
            loop {
                if let Some(wanted) = lanes.wanted(news) {
                    let read = read(&store, wanted, page);
                    if wanted.lane.is_none() {
                        news = read.more;
                    }
                    lanes.add(wanted, read);
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
                lanes.depart(lane);
                departed.push(lanes.advance(lane).unwrap());
                lanes.free(lane);
            }
            for lane in 0..count {
                let of = |dues: &[Due]| dues.iter().filter(|due| due.lane % count == lane).map(|due| due.id).collect::<Vec<_>>();
                prop_assert_eq!(of(&departed), of(&store));
            }
        }
    }

    #[test]
    fn a_head_counts_as_stuck_only_for_failures_others_succeed_between() {
        let mut lanes = Lanes::new(1);
        lanes.add(Wanted { lane: None, after: 0 }, page(vec![due(1, 0), due(2, 0)]));
        for (successes, stuck) in [(5, 1), (5, 1), (5, 1), (6, 2), (9, 3)] {
            assert_eq!(lanes.stuck(0, successes), stuck);
        }
        lanes.advance(0);
        assert_eq!(lanes.stuck(0, 10), 1);
    }

    #[test]
    fn the_least_tried_head_goes_first() {
        let mut lanes = Lanes::new(2);
        lanes.add(Wanted { lane: None, after: 0 }, page(vec![due(1, 0), due(2, 1)]));
        assert_eq!(lanes.ready(UnixMillis(0), false), Some(0));
        assert_eq!(lanes.keep(0).unwrap().attempts, 1);
        assert_eq!(lanes.ready(UnixMillis(0), false), Some(1));
        lanes.hold(1, UnixMillis(10));
        assert_eq!(lanes.ready(UnixMillis(9), false), Some(0));
        assert_eq!(lanes.ready(UnixMillis(9), true), Some(1));
    }

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
