//! Chains: runs that continue one another form one conversation, identified by its first run.
//!
//! A request may name the previous run (`previous_response_id`), submit outputs for the tool calls
//! of an earlier run, or repeat or mention an item that an earlier run output. Each of these
//! identifies the conversation that the earlier run belongs to. A conversation remembers the last
//! runs of its chain, the last runs that called tools, and the last item of each run.
//! [`Chains`](super::chains::Chains) finds it by any of them. A request that refers to something
//! forgotten begins a new conversation. A run whose id changes with each response keeps its first
//! id.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::heap_size;
use super::recent::fingerprint;
use crate::message::{Message, Role};
use crate::observation::{Fact, RunOrigin, Turn};

/// What a conversation remembers about its chain. Stored with its state.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Chain {
    /// Fingerprints of the runs that others may name, oldest first.
    runs: VecDeque<u64>,
    /// The last runs that called tools, oldest first.
    callers: VecDeque<Caller>,
    /// The last other ids of runs, oldest first.
    #[serde(skip_serializing_if = "VecDeque::is_empty")]
    aliases: VecDeque<Link>,
    /// The last items of the last runs, oldest first.
    #[serde(skip_serializing_if = "VecDeque::is_empty")]
    items: VecDeque<Link>,
}

/// A reference to a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Link {
    /// The fingerprint of another id of the run, or of an item's id.
    link: u64,
    run: String,
}

impl Link {
    fn heap_bytes(&self) -> usize {
        heap_size::text(&self.run)
    }
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
    /// Fingerprints of the turn's inputs so far, including tool outputs. Empty if there are too
    /// many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    asked: Vec<u64>,
}

/// What was added to and removed from a conversation's links by a change.
#[derive(Debug, Default)]
pub(super) struct Relinked {
    pub(super) added: Vec<u64>,
    pub(super) removed: Vec<u64>,
    pub(super) added_items: Vec<u64>,
    pub(super) removed_items: Vec<u64>,
}

impl Chain {
    pub(super) fn is_empty(&self) -> bool {
        let Self { runs, callers, aliases, items } = self;
        runs.is_empty() && callers.is_empty() && aliases.is_empty() && items.is_empty()
    }

    /// Whether no run waits for tool outputs.
    pub(super) fn has_no_callers(&self) -> bool {
        self.callers.is_empty()
    }

    /// How much memory it uses besides its own fields.
    pub(super) fn heap_bytes(&self) -> usize {
        let texts = self.callers.iter().map(|caller| {
            let Caller { run, turn, calls, asked } = caller;
            heap_size::text(run) + heap_size::optional(turn) + heap_size::list(calls) + heap_size::list(asked)
        });
        heap_size::allocation(self.runs.capacity() * size_of::<u64>())
            + heap_size::allocation(self.callers.capacity() * size_of::<Caller>())
            + heap_size::allocation(self.aliases.capacity() * size_of::<Link>())
            + heap_size::allocation(self.items.capacity() * size_of::<Link>())
            + self.aliases.iter().chain(&self.items).map(Link::heap_bytes).sum::<usize>()
            + texts.sum::<usize>()
    }

    /// The links by which the conversation can be found, other than items.
    pub(super) fn links(&self) -> impl Iterator<Item = u64> {
        let calls = self.callers.iter().flat_map(|caller| &caller.calls);
        self.runs.iter().chain(calls).copied().chain(self.aliases.iter().map(|alias| alias.link))
    }

    /// The items by which the conversation can be found.
    pub(super) fn item_links(&self) -> impl Iterator<Item = u64> {
        self.items.iter().map(|item| item.link)
    }

    /// How many links there are.
    #[cfg(any(test, fuzzing))]
    pub(super) fn len(&self) -> usize {
        self.links().count() + self.items.len()
    }

    /// Remembers a run. Returns whether it was new.
    pub(super) fn note_run(&mut self, run: &str, relinked: &mut Relinked) -> bool {
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

    /// Remembers a run's calls, and the inputs that led to them. Returns whether that is new.
    pub(super) fn note_calls(
        &mut self,
        (run, turn): (&str, &str),
        calls: &[u64],
        asked: impl FnOnce(&Self) -> Vec<u64>,
        relinked: &mut Relinked,
    ) -> bool {
        let known = self.callers.iter().find(|caller| caller.run == run);
        if calls.len() <= known.map_or(0, |known| known.calls.len()) {
            return false;
        }
        let asked = if known.is_none() { asked(self) } else { Vec::new() };
        relinked.added.extend(calls);
        match self.callers.iter_mut().find(|caller| caller.run == run) {
            // The calls may not be among the new ones: a name may have arrived in pieces.
            Some(known) => relinked.removed.append(&mut std::mem::replace(&mut known.calls, calls.to_vec())),
            None => {
                if self.callers.len() >= MAX_CALLERS {
                    relinked.removed.extend(self.callers.pop_front().into_iter().flat_map(|old| old.calls));
                }
                let turn = (turn != run).then(|| turn.to_owned());
                self.callers.push_back(Caller { run: run.to_owned(), turn, calls: calls.to_vec(), asked });
            }
        }
        true
    }

    /// Remembers another id of a run. Returns whether it was new.
    pub(super) fn note_alias(&mut self, alias: &str, run: &str, relinked: &mut Relinked) -> bool {
        let link = fingerprint(alias);
        if self.runs.contains(&link) || self.aliases.iter().any(|known| known.link == link) {
            return false;
        }
        if self.aliases.len() >= MAX_ALIASES {
            relinked.removed.extend(self.aliases.pop_front().map(|old| old.link));
        }
        self.aliases.push_back(Link { link, run: run.to_owned() });
        relinked.added.push(link);
        true
    }

    /// Remembers the last item that a run output. Returns whether it changed.
    pub(super) fn note_item(&mut self, item: &str, run: &str, relinked: &mut Relinked) -> bool {
        let link = fingerprint(item);
        let known = self.items.iter_mut().find(|known| known.run == run);
        let gone = match known {
            Some(known) if known.link == link => return false,
            Some(known) => Some(std::mem::replace(&mut known.link, link)),
            None => {
                let oldest = if self.items.len() >= MEMORY { self.items.pop_front() } else { None };
                self.items.push_back(Link { link, run: run.to_owned() });
                oldest.map(|oldest| oldest.link)
            }
        };
        relinked.removed_items.extend(gone);
        relinked.added_items.push(link);
        true
    }

    /// The run that output one of these items: the first known one.
    pub(super) fn run_of_item(&self, items: &[String]) -> Option<&str> {
        items.iter().find_map(|item| {
            let link = fingerprint(item);
            self.items.iter().rev().find(|known| known.link == link).map(|known| &*known.run)
        })
    }

    /// Replaces the ids of the runs in a fact by the first known ids.
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

    /// Fingerprints of the inputs of a run's turn up to that run, plus further messages. Empty if
    /// there are too many.
    pub(super) fn asked_with(&self, run: Option<&str>, messages: &[Message]) -> Vec<u64> {
        let before = run.and_then(|run| self.callers.iter().find(|caller| caller.run == run));
        let before = before.map_or(&[][..], |caller| &caller.asked);
        if messages.len() + before.len() > MAX_ASKED {
            return Vec::new();
        }
        before.iter().copied().chain(messages.iter().map(message_fingerprint)).collect()
    }

    /// Removes from a turn the inputs that the previous run already had. Some clients name that
    /// run, but still repeat everything since the user's message. Inputs are repeated only for a
    /// run that waits for its tools, and only a complete copy counts as a repetition.
    pub(super) fn drop_repeated(&self, turn: &mut Turn) {
        let caller = self.callers.iter().find(|caller| Some(&caller.run) == turn.previous.as_ref());
        let RunOrigin::Created { messages, .. } = &mut turn.origin else { return };
        let Some(Caller { asked, .. }) = caller.filter(|caller| !caller.asked.is_empty()) else { return };
        let is_repeated = messages.len() > asked.len()
            && asked.iter().zip(&*messages).all(|(known, message)| *known == message_fingerprint(message));
        if !is_repeated {
            return;
        }
        let outputs =
            |messages: &[Message]| messages.iter().filter(|message| message.role == Role::Tool).count();
        // Each output has its own call.
        if outputs(messages) == turn.answers.len() {
            turn.answers.drain(..outputs(&messages[..asked.len()]));
        }
        messages.drain(..asked.len());
    }

    /// The latest run that made one of these calls, and the run that began its turn.
    pub(super) fn caller(&self, calls: &[String]) -> Option<(&str, &str)> {
        let calls: Vec<u64> = calls.iter().map(|call| call_link(call)).collect();
        let made = |caller: &&Caller| caller.calls.iter().any(|call| calls.contains(call));
        self.callers.iter().rev().find(made).map(Caller::names)
    }

    /// The run that made one of these calls after the run that a request names, and the run that
    /// began its turn. None if the named run made such a call itself. An agent that continues its
    /// own last run may submit outputs for calls that another agent has made since.
    pub(super) fn caller_after(&self, named: &str, calls: &[String]) -> Option<(&str, &str)> {
        let place = |run: &str| self.runs.iter().position(|known| *known == fingerprint(run));
        let named_place = place(named)?;
        let named_calls = self.callers.iter().find(|caller| caller.run == named).map(|named| &named.calls);
        if named_calls.is_some_and(|made| calls.iter().any(|call| made.contains(&call_link(call)))) {
            return None;
        }
        self.caller(calls).filter(|(caller, _)| place(caller) > Some(named_place))
    }

    /// A run, and the run that began its turn, if known.
    pub(super) fn turn_of<'a>(&'a self, run: &'a str) -> (&'a str, &'a str) {
        self.callers.iter().find(|caller| caller.run == run).map_or((run, run), Caller::names)
    }
}

impl Caller {
    fn names(&self) -> (&str, &str) {
        (&self.run, self.turn.as_deref().unwrap_or(&self.run))
    }
}

/// Distinguishes a call's id from a run's.
pub(super) fn call_link(call: &str) -> u64 {
    fingerprint(call).rotate_left(1)
}

fn message_fingerprint(message: &Message) -> u64 {
    fingerprint(message.object.get())
}

/// How many runs of a chain can be referenced. A request that names an older one begins a new
/// conversation.
const MEMORY: usize = 64;
/// How many runs that called tools, and how many calls of each, can receive outputs.
const MAX_CALLERS: usize = 8;
pub(super) const MAX_CALLS: usize = 32;
/// How many inputs of a turn, including tool outputs, are remembered to detect repetitions.
const MAX_ASKED: usize = 64;
/// How many other ids of runs can be referenced. Clients continue with the last one.
const MAX_ALIASES: usize = 16;
