//! Notices that time went on without this process: the machine was suspended, the process was stopped, or the wall clock was
//! stepped forward.
//!
//! Deadlines that passed in such a gap say nothing: nobody could poll meanwhile, or what was said still waits to be read. So after
//! a gap they are judged by the time before it, for a while in which an app that goes on can say how its runs ended.

use std::time::Duration;

use crate::time::UnixMillis;

/// Where time was last seen to pass, and what became of the last gap.
#[derive(Debug)]
pub(super) struct Gaps {
    grace: Duration,
    seen_at: Option<UnixMillis>,
    held: Option<Held>,
}

/// Deadlines are judged by `at` until `until`.
#[derive(Clone, Copy, Debug)]
struct Held {
    at: UnixMillis,
    until: UnixMillis,
}

impl Gaps {
    /// After a gap deadlines are held for `grace`.
    pub(super) fn new(grace: Duration) -> Self {
        Self { grace, seen_at: None, held: None }
    }

    /// Time has come to `now`: the time by which deadlines are to be judged. To be told at least every second.
    pub(super) fn pass(&mut self, now: UnixMillis) -> UnixMillis {
        if let Some(seen_at) = self.seen_at
            && now.since(seen_at) > GAP
        {
            let at = self.held.map_or(seen_at, |held| held.at);
            self.held = Some(Held { at, until: now.after(self.grace) });
        }
        self.skip_to(now);
        match self.held {
            Some(held) if now < held.until => held.at,
            _ => {
                self.held = None;
                now
            }
        }
    }

    /// Time has come to `now` while this process was busy: that is no gap.
    pub(super) fn skip_to(&mut self, now: UnixMillis) {
        self.seen_at = self.seen_at.max(Some(now));
    }

    /// Until when deadlines are held, if they are.
    pub(super) fn held_until(&self) -> Option<UnixMillis> {
        self.held.map(|held| held.until)
    }
}

/// Without a gap time is seen to pass every second; a busy machine may be late by one or two.
const GAP: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use super::*;

    fn check(grace: u64, times: &[(u64, u64)]) {
        let mut gaps = Gaps::new(Duration::from_secs(grace));
        for (now, judged_by) in times {
            let now = UnixMillis(now * 1000);
            assert_eq!(gaps.pass(now), UnixMillis(judged_by * 1000), "{times:?} at {now:?}");
        }
    }

    #[test]
    fn while_time_is_seen_to_pass_deadlines_are_judged_by_it() {
        check(60, &[(1000, 1000), (1001, 1001), (1004, 1004), (1008, 1008), (1008, 1008)]);
        // What was captured a moment ago is worked off now.
        check(60, &[(1000, 1000), (999, 999), (1001, 1001)]);
    }

    #[test]
    fn after_a_gap_they_are_judged_by_the_time_before_it_for_a_while() {
        const NIGHT: u64 = 8 * 3600;
        check(60, &[(1000, 1000), (NIGHT, 1000), (NIGHT + 3, 1000), (NIGHT + 3, 1000)]);
        let mut gaps = Gaps::new(Duration::from_secs(60));
        for second in [1000, NIGHT] {
            gaps.pass(UnixMillis(second * 1000));
        }
        assert_eq!(gaps.held_until(), Some(UnixMillis((NIGHT + 60) * 1000)));
        for second in NIGHT..NIGHT + 60 {
            assert_eq!(gaps.pass(UnixMillis(second * 1000)), UnixMillis(1_000_000));
        }
        assert_eq!(gaps.pass(UnixMillis((NIGHT + 60) * 1000)), UnixMillis((NIGHT + 60) * 1000));
        assert_eq!(gaps.held_until(), None);
    }

    #[test]
    fn a_second_gap_holds_them_longer_by_the_same_time() {
        check(10, &[(0, 0), (100, 0), (103, 0), (108, 0), (112, 0), (116, 0), (118, 118), (119, 119)]);
    }

    #[test]
    fn the_first_time_is_no_gap_and_neither_is_work() {
        check(60, &[(1000, 1000)]);
        let mut gaps = Gaps::new(Duration::from_secs(60));
        gaps.pass(UnixMillis(1000));
        gaps.skip_to(UnixMillis(60_000));
        assert_eq!(gaps.pass(UnixMillis(60_001)), UnixMillis(60_001));
    }
}
