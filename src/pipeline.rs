//! The thread that turns captures into records.
//!
//! It alone calls the dialects and the correlator, and hands what follows to the store, a batch at a time. An idle pipeline
//! takes a capture at once; under load it takes what has gathered for a few milliseconds, so batches grow with the load.
//! Nothing here can reach a client: the proxy's taps never wait for this thread, and a panic costs the exchange or the
//! conversation it was about.
//!
//! **Start.** Before it takes the first capture it restores settled conversations and replays the journal through the same
//! correlator, with the times of then; the store's unique key makes an event that follows again harmless.
//! **End.** When the last tap is gone it works off the queue, settles what only waits for more outputs, and returns.

mod command;
mod emission;
mod gaps;
mod recovery;
mod service;
mod sunset;
mod uncaptured;

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use command::Commands;
use emission::Emission;
use gaps::Gaps;
use sunset::Sunset;
use threadtap_core::correlator::{self, Correlator, Effect};
use threadtap_core::dialect::{self, Observed, Observer, Responded};
use threadtap_core::exchange::{Capture, ExchangeId};
use threadtap_core::observation::{Fact, Observation};
use threadtap_core::session;
use threadtap_core::time::UnixMillis;
use uncaptured::UncapturedApis;

use crate::capture::Receiver;
use crate::clock::Clock;
use crate::metrics::{ApiLabel, DropLabel, DropReason, KindLabel, Metrics, result_of};
use crate::store::{Refused, Store};

pub use command::{Handle, TooBusy};
pub use service::{Ports, Service};

/// Settings of the pipeline.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where dialects look.
    pub dialect: dialect::Config,
    /// Waiting times and limits of the correlator.
    pub correlation: correlator::Config,
    /// When sessions are over.
    pub sessions: session::Config,
    /// Users that are known at one time.
    pub max_users: usize,
    /// How many captures one batch takes at most.
    pub batch: usize,
    /// How many bytes one batch hands to the store, about; a single capture may tell more.
    pub batch_bytes: usize,
    /// How long captures are gathered while there is load; the first one after a pause is taken at once.
    pub gather: Duration,
    /// How long a batch waits for room in the store before it is given up. Captures queue meanwhile.
    pub store_patience: Duration,
    /// How many exchanges are watched at one time; beyond it the oldest is given up.
    pub max_exchanges: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dialect: dialect::Config::default(),
            correlation: correlator::Config::default(),
            sessions: session::Config::default(),
            max_users: 100_000,
            batch: 4096,
            batch_bytes: 256 << 10,
            gather: Duration::from_millis(10),
            store_patience: Duration::from_secs(5),
            max_exchanges: 65_536,
        }
    }
}

struct Pipeline {
    config: Config,
    correlator: Correlator,
    /// Oldest first: ids count up. Boxed, because a tree into which ever larger keys are put keeps half of its room empty.
    observers: BTreeMap<ExchangeId, Box<Observer>>,
    commands: Commands,
    emission: Emission,
    gaps: Gaps,
    /// Whether it was said that the wall clock was set back.
    told_ahead: bool,
    store: Store,
    metrics: Metrics,
    clock: Clock,
    sunset: Sunset,
    uncaptured: UncapturedApis,
}

impl Pipeline {
    fn run(&mut self, captures: &Receiver) {
        loop {
            let correlation = self.correlator.poll_timeout().filter(|_| !self.gaps.holds());
            let next = [correlation, self.emission.poll_timeout()].into_iter().flatten().min();
            let wait = next.map_or(LONGEST_WAIT, |at| at.since(self.clock.now()));
            match captures.recv_timeout(wait.min(LONGEST_WAIT)) {
                Ok(capture) => self.take(capture),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            // Under load, captures are gathered while this thread sleeps: nobody has to wake it for each of them, and they
            // are written together.
            while self.work_off(captures) {
                std::thread::sleep(self.config.gather);
            }
        }
        self.guard("shutdown", |pipeline| pipeline.correlator.finish(pipeline.clock.now()));
        self.take_effects();
        self.commit();
    }

    /// Takes what waits and writes what came of it. Tells whether anything waited.
    ///
    /// A batch is bounded in bytes too: the store takes or refuses it as a whole, and one larger than what it has room for would be
    /// refused however often room is made.
    fn work_off(&mut self, captures: &Receiver) -> bool {
        let mut taken = 0;
        while taken < self.config.batch
            && let Ok(capture) = captures.try_recv()
        {
            self.take(capture);
            taken += 1;
            if self.emission.bytes() >= self.config.batch_bytes {
                self.commit();
            }
        }
        self.tick();
        self.commit();
        self.handle_commands();
        taken > 0
    }

    fn take(&mut self, capture: Capture) {
        let exchange = capture.exchange;
        let at = [
            capture.end.map(|end| end.at),
            capture.segment.as_ref().map(|segment| segment.at),
            capture.start.as_ref().map(|start| start.response_at),
        ];
        let at = at.into_iter().flatten().next().unwrap_or_else(|| self.clock.now());
        let mut observed = Observed::default();
        let watched = catch_unwind(AssertUnwindSafe(|| self.watch(capture, &mut observed)));
        if let Err(panic) = watched {
            self.observers.remove(&exchange);
            self.count_panic("dialect", panic.as_ref());
        }
        if let Some(call) = observed.sunset {
            self.sunset.note(call, at, &self.metrics);
        }
        if let Some(Responded { api, status }) = observed.responded {
            let label = ApiLabel { api, result: result_of(status) };
            self.metrics.api_exchanges.get_or_create(&label).inc();
        }
        if let Some(uncaptured) = observed.uncaptured {
            self.uncaptured.note(uncaptured, &self.metrics);
        }
        if observed.over_budget {
            self.metrics.dropped.get_or_create(&DropLabel { reason: DropReason::byte_budget }).inc();
        }
        for problem in observed.problems {
            self.metrics.problems.get_or_create(&KindLabel { kind: problem.as_str() }).inc();
        }
        observed.assistants.into_iter().for_each(|named| self.emission.name(named));
        let judged_by = self.act_on_deadlines(at);
        for observation in observed.observations {
            self.observe(observation, judged_by);
        }
    }

    fn watch(&mut self, capture: Capture, observed: &mut Observed) {
        // What is charged is given back when this is done.
        let Capture { exchange, start, segment, end, charge: _charge } = capture;
        let mut observer = match start {
            Some(start) => Observer::start(exchange, &start, &self.config.dialect, observed).map(Box::new),
            None => self.observers.remove(&exchange),
        };
        if let Some(observer) = &mut observer
            && let Some(segment) = &segment
        {
            observer.feed(segment, observed);
        }
        match (observer, end) {
            (Some(observer), Some(end)) => observer.end(&end, observed),
            (Some(observer), None) => self.keep(exchange, observer),
            (None, _) => {}
        }
    }

    /// Keeps an observer until its exchange goes on; beyond the limit the oldest one goes.
    fn keep(&mut self, exchange: ExchangeId, observer: Box<Observer>) {
        self.observers.insert(exchange, observer);
        if self.observers.len() > self.config.max_exchanges && self.observers.pop_first().is_some() {
            self.metrics.dropped.get_or_create(&DropLabel { reason: DropReason::max_exchanges }).inc();
        }
    }

    fn observe(&mut self, observation: Observation, judged_by: UnixMillis) {
        self.metrics.observations.inc();
        let is_deletion = matches!(observation.fact, Fact::ConversationDeleted);
        let deleted = is_deletion.then(|| observation.conversation.clone());
        self.guard("correlator", |pipeline| pipeline.correlator.handle(observation, judged_by));
        self.take_effects();
        if let Some(conversation) = deleted {
            self.emission.conversation_deleted(&conversation);
        }
    }

    /// Acts on deadlines.
    fn tick(&mut self) {
        let now = self.clock.now();
        self.act_on_deadlines(now);
        self.take_effects();
        self.emission.handle_timeout(now);
        self.tell_ahead();
        self.metrics.conversations.set(gauge(self.correlator.conversations()));
        self.metrics.open_runs.set(gauge(self.correlator.open_runs()));
        self.metrics.remembered_turns.set(gauge(self.correlator.remembered_turns()));
        self.metrics.correlation_bytes.set(gauge(self.correlator.text_bytes()));
    }

    /// Acts on deadlines, by the time that it tells.
    fn act_on_deadlines(&mut self, now: UnixMillis) -> UnixMillis {
        let judged_by = self.gaps.pass(now);
        self.guard("correlator", |pipeline| pipeline.correlator.handle_timeout(judged_by));
        judged_by
    }

    /// Tells where the wall clock was set back further than is soon made up for.
    fn tell_ahead(&mut self) {
        let ahead = self.clock.ahead().as_secs();
        self.metrics.clock_ahead_seconds.set(i64::try_from(ahead).unwrap_or(i64::MAX));
        if ahead > 0 && !self.told_ahead {
            tracing::warn!(
                ahead_seconds = ahead,
                "the machine's clock was set back; record times are ahead of it until it catches up, or until a restart"
            );
        }
        self.told_ahead = ahead > 0;
    }

    /// Turns what follows into operations of the store.
    fn take_effects(&mut self) {
        while let Some(effect) = self.correlator.poll() {
            match effect {
                Effect::Interaction(interaction) => self.emission.interaction(*interaction),
                Effect::Journal(placed) => self.emission.journal(&placed),
                Effect::Note(note) => {
                    self.metrics.correlation_notes.get_or_create(&KindLabel { kind: note.as_str() }).inc();
                }
                Effect::Remembered(remembered) => self.emission.remember(&remembered),
                Effect::Settled(conversation, state) => self.emission.settled(conversation, state.as_deref()),
            }
        }
    }

    fn commit(&mut self) {
        let ops = self.emission.take();
        if ops.is_empty() {
            return;
        }
        let lost = ops.len() as u64;
        match self.store.commit(ops, self.config.store_patience) {
            Ok(()) => {}
            Err(refused @ (Refused::Closed | Refused::Full)) => {
                self.metrics.dropped.get_or_create(&DropLabel { reason: DropReason::disk }).inc_by(lost);
                tracing::error!(operations = lost, reason = %refused, "the store rejects writes; captures are lost");
            }
        }
    }

    /// Runs something that must not panic, and outlives it if it does.
    fn guard(&mut self, place: &'static str, act: impl FnOnce(&mut Self)) {
        let result = catch_unwind(AssertUnwindSafe(|| act(self)));
        if let Err(panic) = result {
            self.count_panic(place, panic.as_ref());
        }
    }

    fn count_panic(&self, place: &'static str, panic: &(dyn Any + Send)) {
        self.metrics.dropped.get_or_create(&DropLabel { reason: DropReason::panic }).inc();
        let message = message_of(panic);
        tracing::error!(place, message, "capture panicked; forwarding is not affected; please report this");
    }
}

/// What a panic says: a literal, or a text that was put together.
fn message_of(panic: &(dyn Any + Send)) -> &str {
    let literal = panic.downcast_ref::<&str>().copied();
    literal.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Bounds what a deadline far away, or a clock that stands still, can do.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panics_text_is_known_whichever_way_it_was_made() {
        let panic = |act: fn()| catch_unwind(act).unwrap_err();
        assert_eq!(message_of(panic(|| panic!("plain")).as_ref()), "plain");
        assert_eq!(message_of(panic(|| panic!("{} of {}", 1, 2)).as_ref()), "1 of 2");
        assert_eq!(message_of(panic(|| std::panic::panic_any(7)).as_ref()), "no message");
    }
}
