//! Pairs what users asked with the runs that answered, although they travel on different requests.
//!
//! Observations and the time go in, [`Output`]s come out; there is one owner, no lock, no IO and no clock. Each conversation
//! keeps the messages no run has claimed, the runs that are not settled, and a small memory of what is done. A run is settled
//! once: when it is terminal and its outputs are provably complete, or a deadline is over (see `run` for the deadlines and
//! `page` for the proofs). Whatever order, number or loss of polls surrounds a run, it gives one interaction; ultimately the
//! unique key in the store sees to that, the memory here only saves the work.
//!
//! A conversation without open runs and unclaimed messages is *settled*: all that must survive is its [`State`], so its journal
//! rows can go.

mod conversation;
mod page;
mod recent;
mod run;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use crate::event::Event;
use crate::interaction::Interaction;
use crate::observation::{ConversationKey, Observation};
use crate::time::UnixMillis;
use conversation::Conversation;
pub use conversation::State;

/// Waiting times; see the fixed semantics in ARCHITECTURE.md.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long a terminal run waits for messages that were not fetched yet.
    pub outputs_grace: Duration,
    /// How long a run is waited for beyond its `expires_at`.
    pub unresolved_grace: Duration,
    /// How long a run may take where the server does not say: `expires_at` minus `created_at`.
    pub assumed_run_time: Duration,
    /// How long an idle conversation is remembered.
    pub conversation_ttl: Duration,
    /// How long ago a run first seen terminal may have ended to be recorded.
    pub history_max_age: Duration,
    /// When capture first began; runs that ended before are history.
    pub first_used: UnixMillis,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            outputs_grace: Duration::from_secs(30),
            unresolved_grace: Duration::from_secs(60),
            assumed_run_time: Duration::from_secs(600),
            conversation_ttl: Duration::from_secs(24 * 3600),
            history_max_age: Duration::from_secs(15 * 60),
            first_used: UnixMillis(0),
        }
    }
}

/// What correlation concluded.
#[derive(Clone, Debug)]
pub enum Output {
    /// Something a sink can be sent.
    Event(Event),
    /// Nothing of the conversation is pending any more; none when it is forgotten.
    Settled(ConversationKey, Option<Box<State>>),
}

/// The correlator.
#[derive(Debug)]
pub struct Correlator {
    config: Config,
    conversations: HashMap<ConversationKey, Conversation>,
    /// When which conversation wants to be looked at again: at most one entry each.
    deadlines: BTreeSet<(UnixMillis, ConversationKey)>,
    outputs: VecDeque<Output>,
}

impl Correlator {
    /// A correlator that knows nothing.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config, conversations: HashMap::new(), deadlines: BTreeSet::new(), outputs: VecDeque::new() }
    }

    /// Takes back what an earlier process knew of a settled conversation. To be called before any observation.
    pub fn restore(&mut self, key: ConversationKey, state: State) {
        let conversation = Conversation::restore(state);
        self.schedule(&key, None, conversation.deadline(&self.config));
        self.conversations.insert(key, conversation);
    }

    /// Takes a fact. Tells whether it changed anything: one that did not need not be journaled.
    pub fn handle(&mut self, observation: &Observation) -> bool {
        let key = &observation.conversation;
        let mut settled = Vec::new();
        let (changed, before) = match self.conversations.get_mut(key) {
            Some(conversation) => {
                let before = conversation.deadline(&self.config);
                (conversation.handle(observation, &self.config, &mut settled), Some(before))
            }
            None => {
                let mut conversation = Conversation::new(observation.at);
                let changed = conversation.handle(observation, &self.config, &mut settled);
                // A look at something unknown leaves no trace, so that a scan of ids fills no memory.
                if !changed {
                    return false;
                }
                self.conversations.insert(key.clone(), conversation);
                (changed, None)
            }
        };
        self.conclude(key, before, settled, changed);
        changed
    }

    /// Acts on every deadline that is over at `now`.
    pub fn handle_timeout(&mut self, now: UnixMillis) {
        while let Some((at, key)) = self.deadlines.first().cloned() {
            if at > now {
                return;
            }
            self.deadlines.remove(&(at, key.clone()));
            let Some(conversation) = self.conversations.get_mut(&key) else { continue };
            let mut settled = Vec::new();
            if conversation.handle_timeout(now, &self.config, &mut settled) {
                self.conversations.remove(&key);
                self.outputs.push_back(Output::Settled(key, None));
            } else {
                self.conclude(&key, None, settled, true);
            }
        }
    }

    /// When [`Correlator::handle_timeout`] wants to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<UnixMillis> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// The next conclusion.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// How many conversations are in memory.
    #[must_use]
    pub fn conversations(&self) -> usize {
        self.conversations.len()
    }

    /// How many runs are not settled.
    #[must_use]
    pub fn open_runs(&self) -> usize {
        self.conversations.values().map(Conversation::open_runs).sum()
    }

    fn conclude(
        &mut self,
        key: &ConversationKey,
        before: Option<UnixMillis>,
        settled: Vec<run::OpenRun>,
        changed: bool,
    ) {
        let Some(conversation) = self.conversations.get(key) else { return };
        let after = conversation.deadline(&self.config);
        for run in settled {
            let interaction: Interaction = run.into_interaction(key, conversation.attribution());
            self.outputs.push_back(Output::Event(Event::Interaction(Box::new(interaction))));
        }
        if changed && conversation.is_settled() {
            self.outputs.push_back(Output::Settled(key.clone(), Some(Box::new(conversation.state()))));
        }
        self.schedule(key, before, after);
    }

    fn schedule(&mut self, key: &ConversationKey, before: Option<UnixMillis>, after: UnixMillis) {
        if before == Some(after) {
            return;
        }
        if let Some(before) = before {
            self.deadlines.remove(&(before, key.clone()));
        }
        self.deadlines.insert((after, key.clone()));
    }
}

#[cfg(test)]
mod tests;
