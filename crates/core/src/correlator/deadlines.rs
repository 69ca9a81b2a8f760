//! The next deadline of each conversation, and the eviction order if memory is full.

use std::collections::BTreeSet;

use crate::observation::ConversationKey;
use crate::time::UnixMillis;

/// What would be lost if a conversation were evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stake {
    /// Nothing is pending.
    Nothing,
    /// Messages that no run has claimed.
    Messages,
    /// A run that is not settled.
    Run,
}

/// A conversation's entry. Each conversation has exactly one.
pub(super) type Place = (Stake, UnixMillis);

/// The entries of all conversations. Where no run is at stake, the conversation with the earliest
/// deadline has been idle the longest.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    nothing: BTreeSet<(UnixMillis, ConversationKey)>,
    messages: BTreeSet<(UnixMillis, ConversationKey)>,
    run: BTreeSet<(UnixMillis, ConversationKey)>,
}

impl Deadlines {
    pub(super) fn insert(&mut self, (stake, at): Place, key: &ConversationKey) {
        self.of_mut(stake).insert((at, key.clone()));
    }

    pub(super) fn remove(&mut self, (stake, at): Place, key: &ConversationKey) {
        self.of_mut(stake).remove(&(at, key.clone()));
    }

    /// The nearest deadline of all conversations.
    pub(super) fn first(&self) -> Option<(UnixMillis, &ConversationKey)> {
        let sets = [&self.nothing, &self.messages, &self.run];
        sets.into_iter().filter_map(BTreeSet::first).min().map(|(at, key)| (*at, key))
    }

    /// The conversation with the nearest deadline among those with this at stake, except one.
    pub(super) fn first_but(&self, left_out: &ConversationKey, stake: Stake) -> Option<&ConversationKey> {
        self.of(stake).iter().map(|(_, key)| key).find(|key| *key != left_out)
    }

    fn of(&self, stake: Stake) -> &BTreeSet<(UnixMillis, ConversationKey)> {
        match stake {
            Stake::Nothing => &self.nothing,
            Stake::Messages => &self.messages,
            Stake::Run => &self.run,
        }
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn contains(&self, (stake, at): Place, key: &ConversationKey) -> bool {
        self.of(stake).contains(&(at, key.clone()))
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn len(&self) -> usize {
        self.nothing.len() + self.messages.len() + self.run.len()
    }

    fn of_mut(&mut self, stake: Stake) -> &mut BTreeSet<(UnixMillis, ConversationKey)> {
        match stake {
            Stake::Nothing => &mut self.nothing,
            Stake::Messages => &mut self.messages,
            Stake::Run => &mut self.run,
        }
    }
}
