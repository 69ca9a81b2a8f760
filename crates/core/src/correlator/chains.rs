//! Finds the conversation of a turn by what conversations remember of their [chains](Chain).

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::chain::{Chain, Relinked, call_link};
use super::recent::fingerprint;
use crate::observation::{ConversationKey, Fact, Observation};

/// Where conversations are found by the runs of their chains, by the calls of these, and by what they put out.
#[derive(Debug, Default)]
pub(super) struct Chains {
    links: HashMap<u64, ConversationKey>,
    items: HashMap<u64, ItemPlace>,
}

/// Where an item was put out.
#[derive(Debug)]
struct ItemPlace {
    conversation: ConversationKey,
    /// How many runs have an item of this id as their last.
    runs: usize,
    /// Whether they are of several conversations: then the id says nothing.
    is_shared: bool,
}

impl Chains {
    /// The conversation an observation belongs to, where its dialect knew none by name and gave the run's.
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
            // A run that was never seen may be named by others as well: they share it as their beginning.
            let unknown = || ConversationKey { upstream: key.upstream.clone(), id: previous.as_str().into() };
            return Some(of(fingerprint(previous)).cloned().unwrap_or_else(unknown));
        }
        let by_call = turn.answers.iter().find_map(|call| of(call_link(call)));
        by_call.or_else(|| self.of_items(&turn.history, key)).cloned()
    }

    /// The conversation of the first of some items that was put out in one.
    fn of_items(&self, items: &[String], key: &ConversationKey) -> Option<&ConversationKey> {
        let known = items.iter().find_map(|item| self.items.get(&scoped(fingerprint(item), key)));
        let known = known.filter(|place| !place.is_shared && place.conversation.upstream == key.upstream);
        known.map(|place| &place.conversation)
    }

    /// Finds a conversation by what it remembers.
    pub(super) fn add(&mut self, key: &ConversationKey, chain: &Chain) {
        self.links.extend(chain.links().map(|link| (scoped(link, key), key.clone())));
        self.add_items(key, chain.item_links());
    }

    /// Finds it no longer.
    pub(super) fn remove(&mut self, key: &ConversationKey, chain: &Chain) {
        self.unlink(key, chain.links());
        self.remove_items(key, chain.item_links());
    }

    /// Follows a change.
    pub(super) fn relink(&mut self, key: &ConversationKey, relinked: Relinked) {
        let Relinked { added, removed, added_items, removed_items } = relinked;
        self.unlink(key, removed.into_iter());
        self.links.extend(added.into_iter().map(|link| (scoped(link, key), key.clone())));
        self.remove_items(key, removed_items.into_iter());
        self.add_items(key, added_items.into_iter());
    }

    /// What leads to another conversation by now stays.
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

    /// What finding a conversation by its chain takes in memory.
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

/// An entry of [`Chains`], of whose map a part stays empty.
const LINK_BYTES: usize = size_of::<(u64, ConversationKey)>() * 3 / 2;
const ITEM_BYTES: usize = size_of::<(u64, ItemPlace)>() * 3 / 2;
