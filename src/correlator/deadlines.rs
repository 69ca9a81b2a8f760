//! When which conversation wants to be looked at again, and which may go first if there is no room.

use std::collections::BTreeSet;

use crate::observation::ConversationKey;
use crate::time::UnixMillis;

/// What would be lost with a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stake {
    /// Nothing is pending.
    Nothing,
    /// Messages that no run has claimed.
    Messages,
    /// A run that is not settled.
    Run,
}

/// A conversation's place: it has one.
pub(super) type Place = (Stake, UnixMillis);

/// The places of all conversations. Where no run is at stake, the earliest deadline is that of the longest idle.
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

    /// The nearest deadline of all.
    pub(super) fn first(&self) -> Option<(UnixMillis, &ConversationKey)> {
        let first = |stake| self.first_of(stake);
        [first(Stake::Nothing), first(Stake::Messages), first(Stake::Run)].into_iter().flatten().min()
    }

    /// The nearest deadline of those with this at stake.
    pub(super) fn first_of(&self, stake: Stake) -> Option<(UnixMillis, &ConversationKey)> {
        let set = match stake {
            Stake::Nothing => &self.nothing,
            Stake::Messages => &self.messages,
            Stake::Run => &self.run,
        };
        set.first().map(|(at, key)| (*at, key))
    }

    fn of_mut(&mut self, stake: Stake) -> &mut BTreeSet<(UnixMillis, ConversationKey)> {
        match stake {
            Stake::Nothing => &mut self.nothing,
            Stake::Messages => &mut self.messages,
            Stake::Run => &mut self.run,
        }
    }
}
