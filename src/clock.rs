//! The shell's clock: the wall clock's milliseconds, made so that they never go back.
//!
//! The wall clock is followed as it is. When it is stepped forward, by NTP or because the machine was suspended, so is this
//! clock, at once. When it is stepped back, this clock counts on from the last time it told, an eighth slower than time passes
//! (chrony slews about as fast), until the wall clock has caught up. So a step of a minute is made up for in eight minutes, and
//! what is ordered or timed by this clock stays in order; durations are told an eighth too short meanwhile. A step of months is
//! not made up for: times stay ahead until the process is started again ([`Clock::ahead`] says by how much), or the wall
//! clock is set right again, which is followed at once.
//!
//! Records are stamped with these times, and deadlines are counted in them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use threadtap_core::time::UnixMillis;

/// The process's clock: all values are the same one.
#[derive(Clone, Copy, Debug)]
pub struct Clock(());

impl Clock {
    /// The clock.
    #[must_use]
    pub fn start() -> Self {
        Self(())
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        UnixMillis(TIMELINE.at(wall(), elapsed))
    }

    /// How far the times it tells are ahead of the wall clock, because that was stepped back. Less than 50 ms is nothing.
    #[must_use]
    pub fn ahead(&self) -> Duration {
        let wall = wall();
        let ahead = TIMELINE.at(wall, elapsed) - wall;
        Duration::from_millis(if ahead > GRAIN { ahead } else { 0 })
    }
}

static TIMELINE: Timeline = Timeline::new();

/// The times that were told. Where the wall clock goes on as it should it costs one reading and one look at `last`; a lock is
/// taken only while it is behind.
#[derive(Debug)]
struct Timeline {
    /// The last time that was told.
    last: AtomicU64,
    anchor: Mutex<Anchor>,
}

/// A time that was told when the wall clock was behind, and when that was, in milliseconds of a clock that is never set.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    told: u64,
    at: u64,
}

impl Timeline {
    const fn new() -> Self {
        Self { last: AtomicU64::new(0), anchor: Mutex::new(Anchor { told: 0, at: 0 }) }
    }

    /// The time to tell while the wall clock says `wall`; at least that. `elapsed` counts milliseconds whatever the wall clock
    /// does, and is only asked when that is behind.
    fn at(&self, wall: u64, elapsed: impl FnOnce() -> u64) -> u64 {
        // Relaxed: of one variable alone, who was told a time in whatever way sees it or a later one.
        let last = self.last.load(Ordering::Relaxed);
        if wall == last {
            return wall;
        }
        if wall > last {
            return self.last.fetch_max(wall, Ordering::Relaxed).max(wall);
        }
        // Between reading a clock and looking here, another thread may have told a later time.
        if last - wall <= GRAIN { last } else { self.count_on(elapsed) }
    }

    #[cold]
    fn count_on(&self, elapsed: impl FnOnce() -> u64) -> u64 {
        let mut anchor = self.anchor.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = elapsed();
        let since = elapsed.saturating_sub(anchor.at);
        let counted = anchor.told.saturating_add(since - since / SLOWER);
        let last = self.last.load(Ordering::Relaxed);
        if counted < last {
            // The wall clock has caught up since, or another thread was quicker: it is counted from here on.
            *anchor = Anchor { told: last, at: elapsed };
        }
        self.last.fetch_max(counted, Ordering::Relaxed).max(counted)
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the system's clocks")]
fn wall() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the system's clocks")]
fn elapsed() -> u64 {
    static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(ORIGIN.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// If the wall clock is behind by more than these milliseconds, it was set back. Until then the last
/// time is returned again.
const GRAIN: u64 = 50;
/// Of so many milliseconds that pass one is left out until the wall clock has caught up.
const SLOWER: u64 = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: u64 = 3_600_000;
    const YEAR: u64 = 365 * 24 * HOUR;
    const ASKED: u64 = 1000;
    /// Some day.
    const START: u64 = 60 * YEAR;

    /// A wall clock that can be set, and a timeline that follows it.
    struct World {
        timeline: Timeline,
        wall: u64,
        elapsed: u64,
        /// What a clock would tell that follows steps forward and counts on as fast as time passes after steps back.
        fastest: u64,
    }

    impl World {
        fn new() -> Self {
            let world = Self { timeline: Timeline::new(), wall: START, elapsed: 0, fastest: START };
            world.told();
            world
        }

        /// Time passes on both clocks, and is asked for in between.
        fn pass(&mut self, millis: u64) {
            let (wall, elapsed) = (self.wall, self.elapsed);
            self.fastest += millis;
            for asked in 1..=ASKED {
                let passed = millis * asked / ASKED;
                (self.wall, self.elapsed) = (wall + passed, elapsed + passed);
                self.told();
            }
        }

        fn set(&mut self, wall: u64) {
            self.wall = wall;
            self.fastest = self.fastest.max(wall);
            self.told();
        }

        fn told(&self) -> u64 {
            self.timeline.at(self.wall, || self.elapsed)
        }

        /// How far the returned time is ahead of the wall clock.
        fn ahead(&self) -> u64 {
            self.told() - self.wall
        }
    }

    #[test]
    fn a_wall_clock_that_is_not_set_is_told_as_it_is() {
        let mut world = World::new();
        for millis in [0, 1, 999, HOUR, YEAR] {
            world.pass(millis);
            assert_eq!(world.ahead(), 0);
        }
    }

    #[test]
    fn a_step_forward_is_followed_at_once() {
        for step in [1, HOUR, YEAR] {
            let mut world = World::new();
            world.set(START + step);
            assert_eq!(world.told(), START + step);
        }
    }

    #[test]
    fn a_step_back_is_made_up_for_in_eight_times_its_length_without_standing_still() {
        let mut world = World::new();
        world.set(START - HOUR);
        assert_eq!(world.told(), START);
        for hours in 1..=7 {
            world.pass(HOUR);
            assert_eq!(world.told(), START + hours * HOUR / 8 * 7);
        }
        world.pass(HOUR);
        assert_eq!(world.ahead(), 0);
        world.pass(HOUR);
        assert_eq!(world.told(), START + 8 * HOUR);
    }

    #[test]
    fn a_year_back_by_mistake_makes_nothing_late_once_it_is_corrected() {
        let mut world = World::new();
        world.set(START - YEAR);
        world.pass(HOUR);
        assert_eq!(world.told(), START + HOUR / 8 * 7);
        world.set(START + HOUR);
        assert_eq!(world.told(), START + HOUR);
        world.pass(HOUR);
        assert_eq!(world.ahead(), 0);
    }

    #[test]
    fn a_second_step_back_is_counted_from_where_the_first_has_come() {
        let mut world = World::new();
        world.set(START - HOUR);
        world.pass(8 * HOUR);
        assert_eq!(world.ahead(), 0);
        world.pass(HOUR);
        let told = world.told();
        world.set(world.wall - HOUR);
        assert_eq!(world.told(), told);
        world.pass(HOUR);
        assert_eq!(world.told(), told + HOUR / 8 * 7);
        world.set(world.wall - HOUR);
        world.pass(HOUR);
        assert_eq!(world.told(), told + HOUR / 8 * 14);
    }

    #[derive(Clone, Copy, Debug)]
    enum Move {
        Pass(u64),
        StepBack(u64),
        StepForward(u64),
    }

    fn moves() -> impl Strategy<Value = Move> {
        let span = || prop_oneof![0..200_u64, 0..HOUR, 0..YEAR];
        prop_oneof![
            span().prop_map(Move::Pass),
            span().prop_map(Move::StepBack),
            span().prop_map(Move::StepForward),
        ]
    }

    proptest! {
        #[test]
        fn times_never_go_back_are_never_behind_the_wall_clock_and_always_go_on(
            moves in prop::collection::vec(moves(), 0..60),
        ) {
            let mut world = World::new();
            for step in moves {
                let (before, ahead) = (world.told(), world.ahead());
                match step {
                    Move::Pass(millis) => world.pass(millis),
                    Move::StepBack(millis) => world.set(world.wall.saturating_sub(millis)),
                    Move::StepForward(millis) => world.set(world.wall + millis),
                }
                let told = world.told();
                prop_assert!(told >= before && told >= world.wall && told <= world.fastest);
                if let Move::Pass(millis) = step {
                    // Whatever it is behind, it goes on at seven eighths, and is never further ahead than it was.
                    prop_assert!(world.ahead() <= ahead);
                    let between = GRAIN + millis / ASKED + 2;
                    prop_assert!(told + between >= before + millis - millis / SLOWER);
                }
            }
        }
    }

    #[test]
    fn threads_are_told_one_order_whatever_the_wall_clock_does() {
        let (timeline, elapsed) = (Timeline::new(), AtomicU64::new(0));
        let latest = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let (timeline, elapsed, latest) = (&timeline, &elapsed, &latest);
                scope.spawn(move || {
                    for round in 0..20_000_u64 {
                        let told_before = latest.load(Ordering::SeqCst);
                        // Set back by minutes now and then, by each thread in its own way.
                        let wall = START + round * 7 - (round / 1000 % 3) * 100_000 * (thread % 2);
                        let told = timeline.at(wall, || elapsed.fetch_add(1, Ordering::Relaxed));
                        latest.fetch_max(told, Ordering::SeqCst);
                        assert!(told >= told_before && told >= wall);
                    }
                });
            }
        });
    }

    #[test]
    fn the_systems_clock_is_told_and_copies_agree() {
        let clock = Clock::start();
        let copy = clock;
        let (a, b, c) = (clock.now(), copy.now(), Clock::start().now());
        assert!(a <= b && b <= c && a.0 > 1_700_000_000_000);
        assert!(clock.ahead() < Duration::from_secs(3600));
    }
}
