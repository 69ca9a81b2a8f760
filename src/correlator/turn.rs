//! Turns: runs that one exchange tells as a whole, and the chains they make.
//!
//! A request may name the run before it (`previous_response_id`), or hand in what the tools returned that an earlier run
//! called. Both lead to the conversation that run lives in, so that a chain is one conversation, known by its first run.
//! Each conversation remembers the last runs of its chain and the last that called tools; [`Chains`] finds a conversation by
//! either. What is forgotten begins a conversation of its own. A run that answers call by ever new ids has the first of them.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::conversation::{Conversation, Outcome};
use super::recent::fingerprint;
use super::run::OpenRun;
use super::{Config, weight};
use crate::message::Role;
use crate::observation::{ConversationKey, Fact, Observation, RunOrigin, ToolCall, Turn, scoped_call};

/// What a conversation remembers of its chain; stored with its state.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Chain {
    /// Fingerprints of the runs that others may name, oldest first.
    runs: VecDeque<u64>,
    /// The last runs that called tools, oldest first.
    callers: VecDeque<Caller>,
    /// The last other ids of runs, oldest first.
    #[serde(skip_serializing_if = "VecDeque::is_empty")]
    aliases: VecDeque<Alias>,
}

/// Another id of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Alias {
    /// The id's fingerprint.
    link: u64,
    run: String,
}

/// A run that called tools.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Caller {
    run: String,
    /// The run that began its turn, if it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    turn: Option<String>,
    /// Fingerprints of the calls.
    calls: Vec<u64>,
}

/// What a conversation can be found by since a change, and no longer.
#[derive(Debug, Default)]
pub(super) struct Relinked {
    added: Vec<u64>,
    removed: Vec<u64>,
}

impl Chain {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.callers.is_empty() && self.aliases.is_empty()
    }

    /// Whether no run waits for what tools return.
    pub(super) fn has_no_callers(&self) -> bool {
        self.callers.is_empty()
    }

    /// What it takes in memory beside its own fields, its share of [`Chains`] included.
    pub(super) fn heap_bytes(&self) -> usize {
        let texts = self.callers.iter().map(|caller| {
            let Caller { run, turn, calls } = caller;
            weight::text(run) + weight::optional(turn) + weight::list(calls)
        });
        weight::allocation(self.runs.capacity() * size_of::<u64>())
            + weight::allocation(self.callers.capacity() * size_of::<Caller>())
            + weight::allocation(self.aliases.capacity() * size_of::<Alias>())
            + self.aliases.iter().map(|alias| weight::text(&alias.run)).sum::<usize>()
            + texts.sum::<usize>()
            + self.links().count() * LINK_BYTES
    }

    /// What the conversation can be found by.
    pub(super) fn links(&self) -> impl Iterator<Item = u64> {
        let calls = self.callers.iter().flat_map(|caller| &caller.calls);
        self.runs.iter().chain(calls).copied().chain(self.aliases.iter().map(|alias| alias.link))
    }

    /// Remembers a run. Tells whether it was new.
    fn note_run(&mut self, run: &str, relinked: &mut Relinked) -> bool {
        let link = fingerprint(run);
        if self.runs.contains(&link) {
            return false;
        }
        if self.runs.len() >= MEMORY {
            relinked.removed.extend(self.runs.pop_front());
        }
        self.runs.push_back(link);
        relinked.added.push(link);
        true
    }

    /// Remembers what a run called. Tells whether that is new.
    fn note_calls(&mut self, run: &str, turn: &str, calls: &[u64], relinked: &mut Relinked) -> bool {
        let known = self.callers.iter_mut().find(|caller| caller.run == run);
        if calls.len() <= known.as_ref().map_or(0, |known| known.calls.len()) {
            return false;
        }
        relinked.added.extend(calls);
        match known {
            // They need not be among the new ones: a name may have been told in pieces.
            Some(known) => relinked.removed.append(&mut std::mem::replace(&mut known.calls, calls.to_vec())),
            None => {
                if self.callers.len() >= MAX_CALLERS {
                    relinked.removed.extend(self.callers.pop_front().into_iter().flat_map(|old| old.calls));
                }
                let turn = (turn != run).then(|| turn.to_owned());
                self.callers.push_back(Caller { run: run.to_owned(), turn, calls: calls.to_vec() });
            }
        }
        true
    }

    /// Remembers another id of a run. Tells whether it was new.
    fn note_alias(&mut self, alias: &str, run: &str, relinked: &mut Relinked) -> bool {
        let link = fingerprint(alias);
        if self.runs.contains(&link) || self.aliases.iter().any(|known| known.link == link) {
            return false;
        }
        if self.aliases.len() >= MAX_ALIASES {
            relinked.removed.extend(self.aliases.pop_front().map(|old| old.link));
        }
        self.aliases.push_back(Alias { link, run: run.to_owned() });
        relinked.added.push(link);
        true
    }

    /// Calls the runs of a fact by the ids they were first known by.
    pub(super) fn unalias(&self, fact: &mut Fact) {
        match fact {
            Fact::TurnSeen(turn) => {
                if let Some(previous) = &mut turn.previous {
                    self.unalias_run(previous);
                }
                let known = |id: &str| self.runs.contains(&fingerprint(id));
                if let Some(alias) = &mut turn.alias
                    && known(alias)
                    && !known(&turn.run.id)
                {
                    std::mem::swap(alias, &mut turn.run.id);
                }
                self.unalias_run(&mut turn.run.id);
            }
            Fact::RunGoesOn { run } | Fact::StreamEnded { run, .. } => self.unalias_run(run),
            _ => {}
        }
    }

    fn unalias_run(&self, run: &mut String) {
        if self.aliases.is_empty() {
            return;
        }
        let link = fingerprint(run);
        if let Some(alias) = self.aliases.iter().find(|alias| alias.link == link) {
            alias.run.clone_into(run);
        }
    }

    /// The run that made one of these calls, the latest first, and the run that began its turn.
    fn caller(&self, calls: &[String]) -> Option<(&str, &str)> {
        let calls: Vec<u64> = calls.iter().map(|call| call_link(call)).collect();
        let made = |caller: &&Caller| caller.calls.iter().any(|call| calls.contains(call));
        self.callers.iter().rev().find(made).map(Caller::names)
    }

    /// A run, and the run that began its turn as far as that is known.
    fn turn_of<'a>(&'a self, run: &'a str) -> (&'a str, &'a str) {
        self.callers.iter().find(|caller| caller.run == run).map_or((run, run), Caller::names)
    }
}

impl Caller {
    fn names(&self) -> (&str, &str) {
        (&self.run, self.turn.as_deref().unwrap_or(&self.run))
    }
}

/// Where conversations are found by the runs of their chains and the calls of these.
#[derive(Debug, Default)]
pub(super) struct Chains(HashMap<u64, ConversationKey>);

impl Chains {
    /// The conversation an observation belongs to, where its dialect knew none by name and gave the run's.
    pub(super) fn place(&self, observation: &Observation) -> Option<ConversationKey> {
        let own = &observation.conversation;
        let (run, turn) = match &observation.fact {
            Fact::TurnSeen(turn) => (&turn.run.id, Some(turn)),
            Fact::RunGoesOn { run } | Fact::StreamEnded { run, .. } => (run, None),
            _ => return None,
        };
        if *own.id != **run {
            return None;
        }
        let of = |link: u64| self.0.get(&scoped(link, own)).filter(|key| key.upstream == own.upstream);
        if let Some(known) = of(fingerprint(run)) {
            return Some(known.clone());
        }
        let turn = turn?;
        if let Some(known) = turn.alias.as_deref().and_then(|alias| of(fingerprint(alias))) {
            return Some(known.clone());
        }
        if let Some(previous) = &turn.previous {
            // A run that was never seen may be named by others as well: they share it as their beginning.
            let unknown = || ConversationKey { upstream: own.upstream.clone(), id: previous.as_str().into() };
            return Some(of(fingerprint(previous)).cloned().unwrap_or_else(unknown));
        }
        turn.answers.iter().find_map(|call| of(call_link(call))).cloned()
    }

    /// Finds a conversation by what it remembers.
    pub(super) fn add(&mut self, key: &ConversationKey, chain: &Chain) {
        self.0.extend(chain.links().map(|link| (scoped(link, key), key.clone())));
    }

    /// Finds it no longer.
    pub(super) fn remove(&mut self, key: &ConversationKey, chain: &Chain) {
        self.unlink(key, chain.links());
    }

    /// Follows a change.
    pub(super) fn relink(&mut self, key: &ConversationKey, relinked: Relinked) {
        let Relinked { added, removed } = relinked;
        self.unlink(key, removed.into_iter());
        self.0.extend(added.into_iter().map(|link| (scoped(link, key), key.clone())));
    }

    /// What leads to another conversation by now stays.
    fn unlink(&mut self, key: &ConversationKey, links: impl Iterator<Item = u64>) {
        for link in links {
            let link = scoped(link, key);
            if self.0.get(&link) == Some(key) {
                self.0.remove(&link);
            }
        }
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Conversation {
    /// Takes a state of a turn. Tells whether anything changed.
    pub(super) fn see_turn(
        &mut self,
        turn: &Turn,
        observation: &Observation,
        config: &Config,
        outcome: &mut Outcome,
    ) -> bool {
        let place_of = |runs: &[OpenRun]| runs.iter().position(|run| run.id() == turn.run.id);
        let created_before = place_of(&self.runs).is_some_and(|place| self.runs[place].created_seen());
        let mut changed = self.see_run(&turn.run, &turn.origin, observation, config, outcome);
        if let Some(alias) = &turn.alias
            && (place_of(&self.runs).is_some() || self.state.runs.contains(&turn.run.id))
        {
            changed |= self.state.chain.note_alias(alias, &turn.run.id, &mut outcome.relinked);
        }
        let Some(place) = place_of(&self.runs) else { return changed };
        // Somebody may have looked at it before its creation was answered, and that tells more of its place.
        if !self.runs[place].is_turn() || (!created_before && self.runs[place].created_seen()) {
            let (parent, began) = self.place_turn(turn);
            self.runs[place].become_turn(turn, parent, began);
            if let Some(held) = self.held_for(turn).filter(|held| turn.continues.as_ref() == Some(held)) {
                self.runs[place].go_on_with(held);
            }
            changed = true;
        }
        let relinked = &mut outcome.relinked;
        // Later facts of the same exchange find it by that, too.
        changed |= self.state.chain.note_run(&turn.run.id, relinked);
        let began = self.runs[place].turn_id();
        changed |= self.state.chain.note_calls(&turn.run.id, began, &call_links(turn), relinked);
        let (mut outputs, mut lost) = (Vec::with_capacity(turn.outputs.len()), false);
        for output in &turn.outputs {
            if self.runs[place].has_output(output) || self.admit(output, config, outcome) {
                outputs.push(output.clone());
            } else {
                lost = true;
            }
        }
        changed | self.runs[place].note_turn(turn, outputs, lost, (observation.at, config))
    }

    /// The run whose calls a turn answers, if it goes on with the same turn.
    pub(super) fn continued_by(&self, turn: &Turn) -> Option<&str> {
        let (caller, _) = self.state.chain.caller(&turn.answers)?;
        let (parent, began) = self.place_turn(turn);
        began.filter(|_| parent.as_deref() == Some(caller)).map(|_| caller)
    }

    /// The run before a turn, and the one that began it if that is another.
    fn place_turn(&self, turn: &Turn) -> (Option<String>, Option<String>) {
        let caller = self.state.chain.caller(&turn.answers);
        let before = turn.previous.as_deref().map(|previous| self.state.chain.turn_of(previous)).or(caller);
        let asks = match &turn.origin {
            RunOrigin::Created { messages, .. } => messages.iter().any(|message| message.role == Role::User),
            RunOrigin::Continued { .. } | RunOrigin::Seen => true,
        };
        let goes_on = !asks && !turn.answers.is_empty();
        (before.map(|(run, _)| run.to_owned()), before.filter(|_| goes_on).map(|(_, began)| began.to_owned()))
    }
}

/// A call's id is told apart from a run's.
fn call_link(call: &str) -> u64 {
    fingerprint(call).rotate_left(1)
}

/// What the calls of a turn are known by.
fn call_links(turn: &Turn) -> Vec<u64> {
    let link = |call: &ToolCall| match &turn.question {
        Some(question) => call_link(&scoped_call(question, &call.id)),
        None => call_link(&call.id),
    };
    let named = turn.named_calls.iter().map(|call| call_link(call));
    turn.run.tool_calls.iter().map(link).chain(named).take(MAX_CALLS).collect()
}

fn scoped(link: u64, key: &ConversationKey) -> u64 {
    link ^ fingerprint(&key.upstream)
}

/// Runs of a chain that may be named. Whoever names an older one begins a conversation of its own.
const MEMORY: usize = 64;
/// Runs that called tools, and calls of each, that outputs may be handed in for.
const MAX_CALLERS: usize = 8;
const MAX_CALLS: usize = 32;
/// Other ids of runs that may be named; clients go on with the last one.
const MAX_ALIASES: usize = 16;
/// An entry of [`Chains`], of whose map a part stays empty.
const LINK_BYTES: usize = size_of::<(u64, ConversationKey)>() * 3 / 2;
