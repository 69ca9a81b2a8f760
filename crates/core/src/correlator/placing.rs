//! Finds the conversation that an observation belongs to, if its dialect could not know it: that of
//! its chain, or the one whose history its request repeats. Also decides which turns become one
//! record.

use std::collections::HashMap;

use super::chains::Chains;
use super::config::Config;
use super::conversation::Conversation;
use super::histories::{Histories, Shared};
use super::limits::Note;
use super::placed::{Placed, Placement};
use crate::observation::{ConversationKey, Fact, Observation};

/// The known state when an observation is placed.
pub(super) struct Places<'a> {
    pub(super) conversations: &'a HashMap<ConversationKey, Conversation>,
    pub(super) chains: &'a Chains,
    pub(super) histories: &'a mut Histories,
    pub(super) config: &'a Config,
}

impl Places<'_> {
    /// Places an observation, and returns what must be counted.
    pub(super) fn place(mut self, mut observation: Observation) -> (Placed, Option<Note>) {
        let mut placement = Placement::default();
        let can_move =
            matches!(observation.fact, Fact::RunGoesOn { .. } | Fact::StreamEnded { .. } | Fact::TurnSeen(_));
        if !can_move {
            return (Placed { observation, placement }, None);
        }
        let note = match self.chains.place(&observation) {
            Some(key) => {
                observation.conversation = key;
                None
            }
            None => self.place_by_history(&mut observation, &mut placement),
        };
        let known = self.conversations.get(&observation.conversation);
        if let Some(known) = known {
            known.state.chain.unalias(&mut observation.fact);
        }
        if let Observation { at, fact: Fact::TurnSeen(turn), .. } = &mut observation {
            // Needed only for placing.
            turn.said_before.clear();
            if let Some(known) = known {
                known.state.chain.drop_repeated(turn);
            }
            if !self.config.continuation_grace.is_zero() {
                let held_until = at.after(self.config.continuation_grace);
                placement.held_until = turn.calls_the_app().then_some(held_until);
                placement.continues = known.and_then(|known| known.held_for(turn));
            }
        }
        (Placed { observation, placement }, note)
    }

    /// Moves a turn that was not placed otherwise to the conversation that its request repeats.
    fn place_by_history(&mut self, observation: &mut Observation, placement: &mut Placement) -> Option<Note> {
        let Observation { conversation, at, fact: Fact::TurnSeen(turn), .. } = observation else {
            return None;
        };
        if *conversation.id != *turn.run.id || self.conversations.contains_key(conversation) {
            return None;
        }
        self.histories.forget_before(at.before(self.config.conversation_ttl));
        match self.histories.find(&turn.said_before, *at) {
            Ok(Some(before)) => {
                turn.previous = Some(before.run.to_string());
                placement.by_history = true;
                *conversation = before.conversation;
                None
            }
            Err(Shared) => Some(Note::HistoryShared),
            Ok(None) => None,
        }
    }
}
