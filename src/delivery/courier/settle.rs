//! What an attempt means for its lane and the sink.

use std::time::Duration;

use threadtap_core::sink::verdict::Verdict;

use super::{Courier, READ_PAUSE, Start};
use crate::delivery::attempt::{Attempt, Ending};
use crate::delivery::gate::Health;
use crate::metrics::{DeadLetterLabel, DeliveryLabel, SinkLabel};
use crate::store::{Due, Op};

impl Courier {
    /// Decides what an attempt means for its lane and the sink, and what is to be recorded, all at once.
    pub(super) fn settle(&mut self, lane: usize, start: Start, attempt: Attempt) -> Vec<Op> {
        let Attempt { gone, unreadable, sent, ending } = attempt;
        self.lanes.take(lane, &gone);
        let unreadable = self.lanes.take(lane, &unreadable);
        let mut ops = self.dead(unreadable, "unreadable", "");
        match ending {
            Ending::Nothing => {}
            Ending::StoreFailed(error) => {
                tracing::warn!(sink = %self.sink.name(), %error, "cannot read a delivery");
                self.lanes.hold(lane, self.clock.now().after(READ_PAUSE));
                self.spend_if_last(lane, start);
            }
            Ending::NotEncoded => ops.extend(self.refused(lane, &sent, "unreadable", "")),
            Ending::NoAnswer(failure) => {
                self.count(Verdict::Retry);
                ops.extend(self.retry(lane, start, &sent, None, failure));
            }
            Ending::Answered { verdict, retry_after, status, answer, cuts } => {
                self.count(verdict);
                ops.extend(match verdict {
                    Verdict::Ack => self.taken(lane, &sent, cuts),
                    Verdict::DeadLetter(reason) => {
                        self.gate.answered();
                        self.refused(lane, &sent, reason, &answer)
                    }
                    Verdict::Split => {
                        self.gate.answered();
                        self.refused(lane, &sent, "too_large", &answer)
                    }
                    Verdict::Misconfigured => {
                        self.gate.refused_us(self.clock.now(), self.config.misconfigured_pause);
                        self.spend_if_last(lane, start);
                        let tried = self.lanes.keep(lane, &sent);
                        self.failed(lane, tried, &format!("status {status}"))
                    }
                    Verdict::Retry => {
                        self.retry(lane, start, &sent, retry_after, &format!("status {status}"))
                    }
                });
            }
        }
        ops
    }

    fn taken(&mut self, lane: usize, sent: &[u64], cuts: u64) -> Vec<Op> {
        self.rejecting = false;
        self.gate.succeeded();
        let label = SinkLabel { sink: self.sink.name().to_string() };
        self.metrics.delivered.get_or_create(&label).inc_by(sent.len() as u64);
        if cuts > 0 {
            self.metrics.cuts.get_or_create(&label).inc_by(cuts);
        }
        self.lanes.take(lane, sent).into_iter().map(|due| Op::Delivered { id: due.id }).collect()
    }

    /// Several together are divided: one of them may be to blame for all.
    fn refused(&mut self, lane: usize, sent: &[u64], reason: &'static str, answer: &str) -> Vec<Op> {
        self.lanes.keep(lane, sent);
        if sent.len() > 1 {
            self.lanes.divide(lane, sent.len());
            return Vec::new();
        }
        let refused = self.lanes.take(lane, sent);
        self.dead(refused, reason, answer)
    }

    fn retry(
        &mut self,
        lane: usize,
        start: Start,
        sent: &[u64],
        retry_after: Option<Duration>,
        failure: &str,
    ) -> Vec<Op> {
        let now = self.clock.now();
        let tried = self.lanes.keep(lane, sent);
        let stuck = self.lanes.stuck(lane, self.gate.successes());
        if sent.len() > 1 && stuck >= SUSPECT_AFTER.min(self.config.stuck_after) {
            self.lanes.divide(lane, sent.len());
        } else if stuck >= self.config.stuck_after {
            let stuck = self.lanes.take(lane, sent);
            return self.dead(stuck, "stuck", failure);
        }
        let backoff = self.config.backoff;
        self.gate.failed(lane, start.probe, now, backoff, self.jitter.next());
        let attempts = tried.first().map_or(1, |head| head.attempts);
        self.lanes.hold(lane, now.after(backoff.delay(attempts, self.jitter.next())));
        if let Some(wait) = retry_after {
            self.gate.told_to_wait(now, wait);
        }
        self.spend_if_last(lane, start);
        self.failed(lane, tried, failure)
    }

    /// Notes the failure of what was tried, and gives up what is to be given up by now. While the sink itself fails, that is
    /// also what was not tried this time: it would have failed too.
    fn failed(&mut self, lane: usize, tried: Vec<Due>, failure: &str) -> Vec<Op> {
        let now = self.clock.now();
        let (age, attempts) = (self.config.give_up_after_age, self.config.give_up_after_attempts);
        let is_over = |due: &Due| {
            age.is_some_and(|age| now.since(due.queued_at) >= age)
                || attempts.is_some_and(|attempts| due.attempts >= attempts)
        };
        let (over, kept): (Vec<Due>, Vec<Due>) = tried.into_iter().partition(is_over);
        let mut given_up = self.lanes.take(lane, &over.iter().map(|due| due.id).collect::<Vec<_>>());
        if self.gate.health() != Health::Healthy {
            given_up.extend(self.lanes.take_from_all(lane, is_over));
        }
        let mut ops = self.dead(given_up, "given_up", failure);
        ops.extend(kept.into_iter().map(|due| Op::Failed {
            id: due.id,
            attempts: due.attempts,
            failure: failure.to_owned(),
        }));
        ops
    }

    fn dead(&mut self, dues: Vec<Due>, reason: &'static str, answer: &str) -> Vec<Op> {
        if dues.is_empty() {
            return Vec::new();
        }
        if !self.rejecting {
            self.rejecting = true;
            tracing::warn!(
                sink = %self.sink.name(),
                reason,
                "a payload became a dead letter; further ones are only counted until the sink accepts one"
            );
        }
        let label = DeadLetterLabel { sink: self.sink.name().to_string(), reason };
        self.metrics.dead_lettered.get_or_create(&label).inc_by(dues.len() as u64);
        let dead =
            |due: Due| Op::Dead { id: due.id, attempts: due.attempts, reason, answer: answer.to_owned() };
        dues.into_iter().map(dead).collect()
    }

    fn spend_if_last(&mut self, lane: usize, start: Start) {
        if start.last {
            self.lanes.spend(lane);
        }
    }

    fn count(&self, verdict: Verdict) {
        let label = DeliveryLabel { sink: self.sink.name().to_string(), verdict: verdict.as_str() };
        self.metrics.deliveries.get_or_create(&label).inc();
    }
}

/// Failures of a batch, while others succeed, after which it is divided: one of it may be what is stuck.
const SUSPECT_AFTER: u32 = 2;
