//! Finds the conversation of a turn from what conversations remember about their [chains](Chain).

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::chain::{Chain, Relinked, call_link};
use super::recent::fingerprint;
use crate::observation::{ConversationKey, Fact, Observation};

/// An index of conversations by the runs of their chains, by the calls of these runs, and by their
/// output items.
#[derive(Debug, Default)]
pub(super) struct Chains {
    links: HashMap<u64, ConversationKey>,
    items: HashMap<u64, ItemPlace>,
}

/// Where an item was output.
#[derive(Debug)]
struct ItemPlace {
    conversation: ConversationKey,
    /// How many runs have this item as their last one.
    runs: usize,
    /// Whether those runs belong to several conversations: then the id is ambiguous.
    is_shared: bool,
}

impl Chains {
    /// The conversation that an observation belongs to, if its dialect knew none and used the run's
    /// id.
    pub(super) fn place(&self, observation: &Observation) -> Option<ConversationKey> {
        let key = &observation.conversation;
        let (run, turn) = match &observation.fact {
            Fact::TurnSeen(turn) => (&turn.run.id, Some(turn)),
            Fact::RunGoesOn { run } | Fact::StreamEnded { run, .. } => (run, None),
            _ => return None,
        };
        if *key.id != **run {
            return None;
        }
        let of =
            |link: u64| self.links.get(&scoped(link, key)).filter(|found| found.upstream == key.upstream);
        if let Some(known) = of(fingerprint(run)) {
            return Some(known.clone());
        }
        let turn = turn?;
        if let Some(known) = turn.alias.as_deref().and_then(|alias| of(fingerprint(alias))) {
            return Some(known.clone());
        }
        if let Some(previous) = &turn.previous {
            // Other requests may also name a run that was never seen. They share it as their first
            // run.
            let unknown = || ConversationKey { upstream: key.upstream.clone(), id: previous.as_str().into() };
            return Some(of(fingerprint(previous)).cloned().unwrap_or_else(unknown));
        }
        let by_call = turn.answers.iter().find_map(|call| of(call_link(call)));
        by_call.or_else(|| self.of_items(&turn.history, key)).cloned()
    }

    /// The conversation of the first of these items that is known.
    fn of_items(&self, items: &[String], key: &ConversationKey) -> Option<&ConversationKey> {
        let known = items.iter().find_map(|item| self.items.get(&scoped(fingerprint(item), key)));
        let known = known.filter(|place| !place.is_shared && place.conversation.upstream == key.upstream);
        known.map(|place| &place.conversation)
    }

    /// Adds a conversation's links to the index.
    pub(super) fn add(&mut self, key: &ConversationKey, chain: &Chain) {
        self.links.extend(chain.links().map(|link| (scoped(link, key), key.clone())));
        self.add_items(key, chain.item_links());
    }

    /// Removes a conversation's links.
    pub(super) fn remove(&mut self, key: &ConversationKey, chain: &Chain) {
        self.unlink(key, chain.links());
        self.remove_items(key, chain.item_links());
    }

    /// Applies a change of links.
    pub(super) fn relink(&mut self, key: &ConversationKey, relinked: Relinked) {
        let Relinked { added, removed, added_items, removed_items } = relinked;
        self.unlink(key, removed.into_iter());
        self.links.extend(added.into_iter().map(|link| (scoped(link, key), key.clone())));
        self.remove_items(key, removed_items.into_iter());
        self.add_items(key, added_items.into_iter());
    }

    /// A link that now points to another conversation is kept.
    fn unlink(&mut self, key: &ConversationKey, links: impl Iterator<Item = u64>) {
        for link in links {
            let link = scoped(link, key);
            if self.links.get(&link) == Some(key) {
                self.links.remove(&link);
            }
        }
    }

    fn add_items(&mut self, key: &ConversationKey, links: impl Iterator<Item = u64>) {
        for link in links {
            let place = self.items.entry(scoped(link, key)).or_insert_with(|| ItemPlace {
                conversation: key.clone(),
                runs: 0,
                is_shared: false,
            });
            place.runs += 1;
            place.is_shared |= place.conversation != *key;
        }
    }

    fn remove_items(&mut self, key: &ConversationKey, links: impl Iterator<Item = u64>) {
        for link in links {
            let Entry::Occupied(mut place) = self.items.entry(scoped(link, key)) else { continue };
            place.get_mut().runs -= 1;
            if place.get().runs == 0 {
                place.remove();
            }
        }
    }

    /// How much memory the index uses for a conversation's chain.
    pub(super) fn bytes_for(chain: &Chain) -> usize {
        chain.links().count() * LINK_BYTES + chain.item_links().count() * ITEM_BYTES
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn len(&self) -> usize {
        self.links.len() + self.items.len()
    }
}

fn scoped(link: u64, key: &ConversationKey) -> u64 {
    link ^ fingerprint(&key.upstream)
}

/// The size of one entry of [`Chains`]. Part of the map always stays empty.
const LINK_BYTES: usize = size_of::<(u64, ConversationKey)>() * 3 / 2;
const ITEM_BYTES: usize = size_of::<(u64, ItemPlace)>() * 3 / 2;
