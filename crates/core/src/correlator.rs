//! Pairs the users' inputs with the runs that responded, although they travel in different
//! requests.
//!
//! Observations and the time go in, [`Effect`]s come out. There is one owner, no lock, no IO and no
//! clock. Each conversation keeps the messages that no run has claimed, the runs that are not
//! settled, and a small memory of finished runs and messages. A run is settled once: when it is
//! terminal and its outputs are provably complete, or when a deadline has passed (see `run` for the
//! deadlines and `page` for the proofs). Each run gives one interaction, whatever the order, number
//! or loss of polls. The unique key in the store guarantees this; the memory here only saves work.
//!
//! A conversation without open runs and unclaimed messages is *settled*: only its
//! [`ConversationState`] must survive, so its journal rows can be deleted.

mod chain;
mod chains;
mod config;
mod conversation;
mod deadlines;
mod heap_size;
mod histories;
mod input;
#[cfg(any(test, fuzzing))]
mod invariants;
mod limits;
mod listed;
mod packed_attribution;
mod page;
mod placed;
mod placing;
mod recent;
mod run;
mod settlement;
mod turn;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::interaction::Interaction;
use crate::observation::{ConversationKey, Fact, Observation};
use crate::time::UnixMillis;
use chains::Chains;
pub use config::{AppMessages, Config};
pub use conversation::ConversationState;
use conversation::{Conversation, Outcome};
use deadlines::{Deadlines, Place, Stake};
use histories::Histories;
pub use histories::Remembered;
#[cfg(any(test, fuzzing))]
pub use invariants::assert_invariants;
pub use limits::{Limits, Note};
pub use placed::Placed;
use placing::Places;

/// An effect of the correlator.
#[derive(Clone, Debug)]
pub enum Effect {
    /// A run is settled.
    Interaction(Box<Interaction>),
    /// A fact changed something. It must be kept until its conversation is settled, so that the
    /// next process can replay it.
    Journal(Box<Placed>),
    /// An event to count.
    Note(Note),
    /// The whole conversation of a run, for matching later requests that continue it.
    Remembered(Remembered),
    /// The conversation has nothing pending. The state is none if the conversation is forgotten.
    Settled(ConversationKey, Option<Box<ConversationState>>),
}

/// The correlator.
#[derive(Debug)]
pub struct Correlator {
    config: Config,
    conversations: HashMap<ConversationKey, Conversation>,
    /// The deadline entry of each conversation.
    deadlines: Deadlines,
    chains: Chains,
    histories: Histories,
    open_runs: usize,
    text_bytes: usize,
    effects: VecDeque<Effect>,
}

impl Correlator {
    /// An empty correlator.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            histories: Histories::new(config.limits.remembered_turns),
            config,
            conversations: HashMap::new(),
            deadlines: Deadlines::default(),
            chains: Chains::default(),
            open_runs: 0,
            text_bytes: 0,
            effects: VecDeque::new(),
        }
    }

    /// Restores a settled conversation of an earlier process. Call this before any observation.
    pub fn restore(&mut self, key: ConversationKey, state: ConversationState) {
        let conversation = Conversation::restore(state);
        let Standing { place, text_bytes, open_runs: _ } = Standing::of(&key, &conversation, &self.config);
        self.deadlines.insert(place, &key);
        self.text_bytes += text_bytes;
        self.chains.add(&key, &conversation.state.chain);
        self.conversations.insert(key.clone(), conversation);
        self.make_room(&key, UnixMillis::default());
    }

    /// Restores the conversations of an earlier process's runs, oldest first. Call this before any
    /// observation.
    pub fn restore_histories(&mut self, all: impl Iterator<Item = Remembered>) {
        self.histories.restore(all);
    }

    /// Handles a fact: acts on every deadline that has passed at `now`, places the fact, and
    /// applies it. If it changed anything it must be kept: see [`Effect::Journal`].
    pub fn handle(&mut self, observation: Observation, now: UnixMillis) {
        self.handle_timeout(now);
        let Self { config, conversations, chains, histories, .. } = self;
        let (placed, note) = Places { conversations, chains, histories, config }.place(observation);
        self.effects.extend(note.map(Effect::Note));
        let place = self.effects.len();
        if self.act_on(&placed) {
            // Emitted before its consequences, because settling a conversation deletes its journal
            // rows.
            self.effects.insert(place, Effect::Journal(Box::new(placed)));
        }
    }

    /// Replays what an earlier process kept.
    pub fn replay(&mut self, placed: &Placed) {
        self.handle_timeout(placed.at());
        self.act_on(placed);
    }

    /// Remembers the whole conversation of a turn.
    fn remember(&mut self, observation: &Observation) {
        let Observation { conversation, at, fact: Fact::TurnSeen(turn), .. } = observation else { return };
        if turn.said.is_empty() {
            return;
        }
        let run = match *turn.run.id == *conversation.id {
            true => conversation.id.clone(),
            false => Arc::from(turn.run.id.as_str()),
        };
        for said in &turn.said {
            let (conversation, run) = (conversation.clone(), Arc::clone(&run));
            let remembered = Remembered { conversation, run, said: *said, at: *at };
            if self.histories.remember(&remembered) {
                self.effects.push_back(Effect::Remembered(remembered));
            }
        }
    }

    /// Applies a fact. Returns whether anything changed: a fact that changed nothing need not be
    /// kept.
    fn act_on(&mut self, placed: &Placed) -> bool {
        let observation = &placed.observation;
        self.remember(observation);
        let key = &observation.conversation;
        let mut outcome = Outcome::default();
        let before = match self.conversations.get_mut(key) {
            Some(conversation) => {
                let before = Standing::of(key, conversation, &self.config);
                if !conversation.handle(placed, &self.config, &mut outcome) {
                    // Messages that were omitted for lack of room are still reported.
                    self.effects.extend(outcome.notes.into_iter().map(Effect::Note));
                    return false;
                }
                Some(before)
            }
            None => {
                let mut conversation = Conversation::new(observation.at);
                // A request about something unknown leaves no state, so that a scan of ids cannot
                // fill the memory.
                if !conversation.handle(placed, &self.config, &mut outcome) {
                    self.effects.extend(outcome.notes.into_iter().map(Effect::Note));
                    return false;
                }
                self.conversations.insert(key.clone(), conversation);
                None
            }
        };
        self.finish_change(key, before, outcome);
        self.make_room(key, observation.at);
        true
    }

    /// Acts on every deadline that has passed at `now`.
    pub fn handle_timeout(&mut self, now: UnixMillis) {
        while let Some((at, key)) = self.deadlines.first() {
            if at > now {
                return;
            }
            let key = key.clone();
            let conversation =
                self.conversations.get_mut(&key).expect("only conversations in memory have a deadline");
            let before = Standing::of(&key, conversation, &self.config);
            // First, so that a panic cannot repeat.
            self.deadlines.remove(before.place, &key);
            let mut outcome = Outcome::default();
            if conversation.handle_timeout(now, &self.config, &mut outcome) {
                self.forget(&key);
            } else {
                self.finish_change(&key, Some(before), outcome);
            }
        }
    }

    /// Settles held runs that are already recorded, because nothing can be merged into a finished
    /// record. Call this after a replay. `is_recorded` checks a record's key.
    pub fn let_go_where(&mut self, mut is_recorded: impl FnMut(&str) -> bool) {
        let holding = self.conversations.iter().filter(|(_, conversation)| conversation.holds_any());
        let keys: Vec<ConversationKey> = holding.map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.settle(&key, |conversation, outcome| {
                conversation.let_go_where(|run| is_recorded(&run.key(&key)), outcome);
            });
        }
    }

    /// Settles the runs that are over and only wait for more outputs, because no more can arrive.
    pub fn finish(&mut self, now: UnixMillis) {
        let keys: Vec<ConversationKey> = self.conversations.keys().cloned().collect();
        for key in keys {
            self.flush(&key);
        }
        self.handle_timeout(now);
    }

    /// Forgets the conversations that `which` selects, including everything pending in them. This
    /// emits no further effects for them.
    pub fn forget_where(&mut self, which: impl Fn(&ConversationKey) -> bool) {
        let keys: Vec<ConversationKey> =
            self.conversations.keys().filter(|key| which(key)).cloned().collect();
        for key in keys {
            self.forget(&key);
        }
        self.histories.forget_where(which);
    }

    /// When [`Correlator::handle_timeout`] must be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<UnixMillis> {
        self.deadlines.first().map(|(at, _)| at)
    }

    /// The next effect. Effects must be handled in order.
    pub fn poll(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// How many conversations are in memory.
    #[must_use]
    pub fn conversations(&self) -> usize {
        self.conversations.len()
    }

    /// How many runs are unsettled.
    #[must_use]
    pub fn open_runs(&self) -> usize {
        self.open_runs
    }

    /// How many runs can be matched by their conversation.
    #[must_use]
    pub fn remembered_turns(&self) -> usize {
        self.histories.len()
    }

    /// Roughly how many bytes the conversations use.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    /// Emits the effects of a change, and updates the bookkeeping.
    fn finish_change(&mut self, key: &ConversationKey, before: Option<Standing>, outcome: Outcome) {
        let Some(conversation) = self.conversations.get(key) else { return };
        let Outcome { settled, notes, flagged: _, relinked } = outcome;
        self.chains.relink(key, relinked);
        // In an API that never names a run again, nothing refers to a finished conversation.
        let spent = conversation.is_spent(&settled);
        for run in settled {
            let interaction: Interaction = run.into_interaction(key, &conversation.attribution());
            self.effects.push_back(Effect::Interaction(Box::new(interaction)));
        }
        self.effects.extend(notes.into_iter().map(Effect::Note));
        if conversation.is_settled() && !spent {
            self.effects.push_back(Effect::Settled(key.clone(), Some(Box::new(conversation.state()))));
        }
        let after = Standing::of(key, conversation, &self.config);
        if let Some(before) = &before {
            self.text_bytes -= before.text_bytes;
            self.open_runs -= before.open_runs;
        }
        self.text_bytes += after.text_bytes;
        self.open_runs += after.open_runs;
        if before.as_ref().is_none_or(|before| before.place != after.place) {
            if let Some(before) = before {
                self.deadlines.remove(before.place, key);
            }
            self.deadlines.insert(after.place, key);
        }
        if spent {
            self.forget(key);
        }
    }

    /// Settles the finished runs of a conversation. Returns whether there were any.
    fn flush(&mut self, key: &ConversationKey) -> bool {
        self.settle(key, Conversation::let_go)
    }

    /// Settles runs of a conversation. Returns whether there were any.
    fn settle(
        &mut self,
        key: &ConversationKey,
        settle: impl FnOnce(&mut Conversation, &mut Outcome),
    ) -> bool {
        let Some(conversation) = self.conversations.get_mut(key) else { return false };
        let before = Standing::of(key, conversation, &self.config);
        let mut outcome = Outcome::default();
        settle(conversation, &mut outcome);
        let any = !outcome.settled.is_empty();
        if any {
            self.finish_change(key, Some(before), outcome);
        }
        any
    }

    /// Enforces the limits of all conversations together. [`Limits::conversations`] says which are
    /// evicted. The latest conversation is evicted only if there is no other: otherwise its next
    /// run would miss the latest inputs.
    fn make_room(&mut self, latest: &ConversationKey, now: UnixMillis) {
        let Limits { conversations, text_bytes, .. } = self.config.limits;
        loop {
            if self.conversations.len() <= conversations && self.text_bytes <= text_bytes {
                return;
            }
            let first = |stake| self.deadlines.first_but(latest, stake).cloned();
            let (idle, messages, run) = (first(Stake::Nothing), first(Stake::Messages), first(Stake::Run));
            if idle.is_none() && run.as_ref().is_some_and(|key| self.flush(key)) {
                continue;
            }
            let key = idle.or(messages).or(run).unwrap_or_else(|| latest.clone());
            self.evict(&key, now);
        }
    }

    fn evict(&mut self, key: &ConversationKey, now: UnixMillis) {
        let Some(conversation) = self.conversations.get_mut(key) else { return };
        let before = Standing::of(key, conversation, &self.config);
        let mut outcome = Outcome::default();
        conversation.give_up(now, &mut outcome);
        outcome.notes.push(Note::ConversationEvicted);
        self.finish_change(key, Some(before), outcome);
        self.forget(key);
    }

    fn forget(&mut self, key: &ConversationKey) {
        let Some(conversation) = self.conversations.remove(key) else { return };
        let Standing { place, text_bytes, open_runs } = Standing::of(key, &conversation, &self.config);
        self.deadlines.remove(place, key);
        self.chains.remove(key, &conversation.state.chain);
        self.text_bytes -= text_bytes;
        self.open_runs -= open_runs;
        self.effects.push_back(Effect::Settled(key.clone(), None));
    }
}

/// The bookkeeping for a conversation.
struct Standing {
    place: Place,
    text_bytes: usize,
    open_runs: usize,
}

impl Standing {
    fn of(key: &ConversationKey, conversation: &Conversation, config: &Config) -> Self {
        Self {
            place: conversation.place(config),
            text_bytes: conversation.bytes() + heap_size::text(&key.id),
            open_runs: conversation.open_runs(),
        }
    }
}

#[cfg(test)]
mod tests;
