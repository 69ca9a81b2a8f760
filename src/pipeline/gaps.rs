//! Notices that time went on without this process: the machine was suspended, the process was stopped, or the wall clock was
//! stepped forward.
//!
//! Deadlines that passed in such a gap say nothing: nobody could poll meanwhile, or what was said still waits to be read. So after
//! a gap they are judged by the time before it, for a while in which an app that goes on can say how its runs ended.

use std::time::Duration;

use threadtap_core::time::UnixMillis;

/// Where time was last seen to pass, and what became of the last gap.
#[derive(Debug)]
pub(super) struct Gaps {
    grace: Duration,
    seen_at: Option<UnixMillis>,
    held: Option<Held>,
}

/// Deadlines are judged by `at` for as long as is `left`.
#[derive(Clone, Copy, Debug)]
struct Held {
    at: UnixMillis,
    left: Duration,
}

impl Gaps {
    /// After a gap deadlines are held for `grace`.
    pub(super) fn new(grace: Duration) -> Self {
        Self { grace, seen_at: None, held: None }
    }

    /// Time has come to `now`: the time by which deadlines are to be judged. To be told at least every second.
    ///
    /// Of the grace, further gaps use up little. But they use it up: a store that lets the pipeline wait again and again
    /// must not hold deadlines for ever.
    pub(super) fn pass(&mut self, now: UnixMillis) -> UnixMillis {
        let seen_at = self.seen_at.unwrap_or(now);
        let step = now.since(seen_at);
        self.seen_at = Some(seen_at.max(now));
        match &mut self.held {
            Some(held) => {
                held.left = held.left.saturating_sub(step.min(GAP));
                if held.left.is_zero() {
                    self.held = None;
                }
            }
            None if step > GAP && !self.grace.is_zero() => {
                self.held = Some(Held { at: seen_at, left: self.grace });
            }
            None => {}
        }
        self.held.map_or(now, |held| held.at)
    }

    /// Whether deadlines are held.
    pub(super) fn holds(&self) -> bool {
        self.held.is_some()
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
        let mut gaps = Gaps::new(Duration::from_secs(60));
        gaps.pass(UnixMillis(1_000_000));
        for second in NIGHT..NIGHT + 60 {
            assert_eq!(gaps.pass(UnixMillis(second * 1000)), UnixMillis(1_000_000));
            assert!(gaps.holds());
        }
        assert_eq!(gaps.pass(UnixMillis((NIGHT + 60) * 1000)), UnixMillis((NIGHT + 60) * 1000));
        assert!(!gaps.holds());
        check(0, &[(1000, 1000), (NIGHT, NIGHT)]);
    }

    #[test]
    fn further_gaps_use_up_little_of_the_grace_but_they_do() {
        check(10, &[(0, 0), (100, 0), (103, 0), (9000, 0), (9002, 0), (9003, 9003), (9004, 9004)]);
        // Waiting for the store over and over.
        check(10, &[(0, 0), (5, 0), (10, 0), (15, 0), (20, 20), (25, 20), (30, 20), (35, 20), (40, 40)]);
    }
}
