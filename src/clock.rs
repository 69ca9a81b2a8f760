//! The shell's clock: wall-clock milliseconds that never go back.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::time::UnixMillis;

/// Reads wall-clock time once and counts on from there, so that a clock set back by an administrator cannot reorder what is
/// recorded. Copies agree with each other. It drifts from a corrected wall clock until the next start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    started_at: UnixMillis,
}

impl Clock {
    /// Starts the clock.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the system's clocks")]
    #[must_use]
    pub fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            started: Instant::now(),
            started_at: UnixMillis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        self.started_at.after(self.started.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn does_not_go_back_and_copies_agree() {
        let clock = Clock::start();
        let copy = clock;
        let (a, b, c) = (clock.now(), copy.now(), clock.now());
        assert!(a <= b && b <= c && a.0 > 1_700_000_000_000);
    }
}
