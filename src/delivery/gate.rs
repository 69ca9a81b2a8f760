//! Whether a sink as a whole may be tried. Pure: time and randomness are arguments.

use std::collections::BTreeSet;
use std::time::Duration;

use threadtap_core::time::UnixMillis;

use crate::delivery::backoff::Backoff;

/// The state of a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// It takes what it is sent, as far as we know.
    Healthy,
    /// It fails whatever it is sent: one probe at a time.
    Failing,
    /// It refuses our settings: a probe now and then.
    Misconfigured,
}

/// Opens and closes with what is heard from the sink.
#[derive(Debug)]
pub(super) struct Gate {
    health: Health,
    /// Lanes whose head failed since the last success. One alone may be its payload's fault; two are the sink's.
    failed_lanes: BTreeSet<usize>,
    failed_probes: u32,
    open_at: UnixMillis,
    /// Until then the sink itself asked us to wait.
    imposed_until: UnixMillis,
    successes: u64,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self {
            health: Health::Healthy,
            failed_lanes: BTreeSet::new(),
            failed_probes: 0,
            open_at: UnixMillis::default(),
            imposed_until: UnixMillis::default(),
            successes: 0,
        }
    }

    pub(super) fn health(&self) -> Health {
        self.health
    }

    /// How many payloads the sink has taken.
    pub(super) fn successes(&self) -> u64 {
        self.successes
    }

    /// Whether an attempt may start while `in_flight` others are under way.
    pub(super) fn admits(&self, now: UnixMillis, in_flight: usize) -> bool {
        self.health == Health::Healthy || (in_flight == 0 && now >= self.open_at)
    }

    /// Whether a last attempt makes sense: not when the sink itself said no.
    pub(super) fn admits_last(&self, now: UnixMillis) -> bool {
        self.health != Health::Misconfigured && now >= self.imposed_until
    }

    /// When the gate opens by itself, if it is closed.
    pub(super) fn opens_at(&self) -> UnixMillis {
        self.open_at
    }

    /// The sink took a payload.
    pub(super) fn succeeded(&mut self) {
        self.successes += 1;
        self.answered();
    }

    /// The sink is there and knows us, whatever it thinks of the payload.
    pub(super) fn answered(&mut self) {
        self.health = Health::Healthy;
        self.failed_lanes.clear();
        self.failed_probes = 0;
        self.open_at = UnixMillis::default();
        self.imposed_until = UnixMillis::default();
    }

    /// The head of a lane failed. `probe` says whether it was let through a closed gate.
    pub(super) fn failed(
        &mut self,
        lane: usize,
        probe: bool,
        now: UnixMillis,
        backoff: Backoff,
        random: u32,
    ) {
        self.failed_lanes.insert(lane);
        match self.health {
            Health::Healthy if self.failed_lanes.len() < 2 => return,
            Health::Healthy => self.failed_probes = 1,
            // It answered otherwise than by refusing us, so it is no longer our settings that are in the way.
            Health::Misconfigured if probe => self.failed_probes = 1,
            Health::Failing if probe => self.failed_probes = self.failed_probes.saturating_add(1),
            // It started before the gate closed and tells nothing new.
            Health::Failing | Health::Misconfigured => return,
        }
        self.health = Health::Failing;
        self.open_at = now.after(backoff.delay(self.failed_probes, random)).max(self.imposed_until);
    }

    /// The sink named the time to come back.
    pub(super) fn told_to_wait(&mut self, now: UnixMillis, wait: Duration) {
        self.imposed_until = self.imposed_until.max(now.after(wait));
        self.open_at = self.open_at.max(self.imposed_until);
        if self.health == Health::Healthy {
            self.health = Health::Failing;
            self.failed_probes = self.failed_probes.max(1);
        }
    }

    /// The sink refuses our settings.
    pub(super) fn refused_us(&mut self, now: UnixMillis, pause: Duration) {
        self.health = Health::Misconfigured;
        self.open_at = now.after(pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: u32 = 1 << 31;

    fn backoff() -> Backoff {
        Backoff::new(Duration::from_millis(100), Duration::from_secs(1)).unwrap()
    }

    #[test]
    fn one_lane_that_fails_closes_nothing_but_two_do() {
        let mut gate = Gate::new();
        for _ in 0..9 {
            gate.failed(3, false, UnixMillis(0), backoff(), HALF);
            assert!(gate.admits(UnixMillis(0), 7));
        }
        gate.failed(4, false, UnixMillis(0), backoff(), HALF);
        assert_eq!((gate.health(), gate.opens_at()), (Health::Failing, UnixMillis(50)));
        assert!(!gate.admits(UnixMillis(49), 0));
        assert!(!gate.admits(UnixMillis(50), 1), "one probe at a time");
        assert!(gate.admits(UnixMillis(50), 0));
    }

    #[test]
    fn a_success_between_two_failures_keeps_the_gate_open() {
        let mut gate = Gate::new();
        gate.failed(3, false, UnixMillis(0), backoff(), HALF);
        gate.succeeded();
        gate.failed(4, false, UnixMillis(0), backoff(), HALF);
        assert_eq!(gate.health(), Health::Healthy);
    }

    #[test]
    fn only_probes_lengthen_the_pause_and_a_success_ends_it() {
        let mut gate = Gate::new();
        (0..8).for_each(|lane| gate.failed(lane, false, UnixMillis(0), backoff(), HALF));
        assert_eq!(gate.opens_at(), UnixMillis(50));
        for (at, opens) in [(50, 150), (150, 350), (350, 750), (750, 1250), (1250, 1750)] {
            gate.failed(0, true, UnixMillis(at), backoff(), HALF);
            assert_eq!(gate.opens_at(), UnixMillis(opens));
        }
        gate.succeeded();
        assert!(gate.admits(UnixMillis(0), 7));
    }

    #[test]
    fn what_the_sink_asks_for_binds_also_a_later_failure_and_the_last_attempt() {
        let mut gate = Gate::new();
        gate.told_to_wait(UnixMillis(0), Duration::from_secs(9));
        gate.failed(1, true, UnixMillis(1), backoff(), HALF);
        assert_eq!(gate.opens_at(), UnixMillis(9000));
        assert!(!gate.admits_last(UnixMillis(8999)) && gate.admits_last(UnixMillis(9000)));
    }

    #[test]
    fn a_refusal_of_our_settings_closes_at_once_and_for_long() {
        let mut gate = Gate::new();
        gate.refused_us(UnixMillis(0), Duration::from_secs(300));
        gate.failed(1, false, UnixMillis(1), backoff(), HALF);
        assert_eq!((gate.health(), gate.opens_at()), (Health::Misconfigured, UnixMillis(300_000)));
        assert!(!gate.admits_last(UnixMillis(299_999)));
        gate.failed(1, true, UnixMillis(300_000), backoff(), HALF);
        assert_eq!((gate.health(), gate.opens_at()), (Health::Failing, UnixMillis(300_050)));
    }
}
