//! Assigns messages to runs: decides which are new, which are known, and which run each belongs to.

use std::mem::take;
use std::slice;

use super::config::{AppMessages, Config};
use super::conversation::{Conversation, Outcome};
use super::heap_size;
use super::limits::Note;
use super::run::{Merge, insert_in_time, update_message};
use crate::message::{Message, Role};
use crate::observation::{MessageOrigin, MessagePage, PageOrder};
use crate::time::UnixMillis;

impl Conversation {
    /// Handles a message that was seen alone. Returns whether anything changed.
    pub(super) fn see_message(
        &mut self,
        message: &Message,
        (origin, requested_at): (MessageOrigin, Option<UnixMillis>),
        at: UnixMillis,
        config: &Config,
        outcome: &mut Outcome,
    ) -> bool {
        let Some(id) = &message.id else {
            // The response could not be read. A page that shows the message later is matched by its
            // text.
            let born = if origin == MessageOrigin::Created { slice::from_ref(message) } else { &[] };
            let born = self.admit_all(born, config, outcome);
            let is_new = !born.is_empty();
            self.unclaimed.extend(born);
            return is_new;
        };
        let owner = match &message.run {
            Some(run) => match self.runs.iter().position(|open| open.id() == run) {
                Some(place) if message.role == Role::Assistant => {
                    return self.take_output(place, message, None, at, config, outcome);
                }
                Some(place) => Some(place),
                None => return self.note_late_output(message, outcome),
            },
            None if origin == MessageOrigin::Created => None,
            // A fetched message alone proves nothing: it may be old, and belong to any run.
            None => return self.update_input(message, Merge::ByIdOrText).unwrap_or(false),
        };
        let merge = if origin == MessageOrigin::Created { Merge::ById } else { Merge::ByIdOrText };
        let proven = origin == MessageOrigin::Created && self.listed.forget(id);
        if proven {
            let asked = requested_at.unwrap_or(at);
            if let Some(message) = self.runs.iter_mut().find_map(|run| run.release(id, asked)) {
                insert_in_time(&mut self.unclaimed, 0, message);
            }
        }
        if let Some(changed) = self.update_input(message, merge) {
            return changed | proven;
        }
        if self.knows_message(id) {
            return false;
        }
        if message.role == Role::Assistant && config.app_messages == AppMessages::Drop {
            return self.state.messages.insert(id);
        }
        if !self.admit(message, config, outcome) {
            return false;
        }
        if self.unclaimed.is_empty() {
            // Usually only one message waits.
            self.unclaimed.reserve_exact(1);
        }
        let overtaken = self.runs.iter_mut().find(|run| run.overtook(message, requested_at));
        match (owner, overtaken) {
            (Some(place), _) => {
                if origin != MessageOrigin::Created {
                    self.listed.note(id, requested_at.unwrap_or(at));
                }
                self.runs[place].inputs.carry([message.clone()]);
            }
            (None, Some(run)) => run.inputs.take(message.clone()),
            (None, None) => insert_in_time(&mut self.unclaimed, 0, message.clone()),
        }
        true
    }

    /// Adds an assistant message to an open run, before the output `before` if that is given.
    /// Returns whether anything changed.
    pub(super) fn take_output(
        &mut self,
        run: usize,
        message: &Message,
        before: Option<&str>,
        at: UnixMillis,
        config: &Config,
        outcome: &mut Outcome,
    ) -> bool {
        let known = self.runs[run].outputs.has(message);
        if !known && !self.admit(message, config, outcome) {
            return self.runs[run].outputs.lose();
        }
        self.runs[run].note_output(message, before, at, config)
    }

    /// Notes once that an assistant message belongs to a run that was already recorded.
    pub(super) fn note_late_output(&mut self, message: &Message, outcome: &mut Outcome) -> bool {
        let (Some(run), Some(id)) = (&message.run, &message.id) else { return false };
        let recorded = self.state.runs.contains(run) && !self.state.learnt.contains(run);
        let late = recorded && message.role == Role::Assistant && self.state.messages.insert(id);
        if late {
            outcome.notes.push(Note::LateOutput);
        }
        late
    }

    /// Returns whether there is room for another message, and counts it if not.
    pub(super) fn admit(&mut self, message: &Message, config: &Config, outcome: &mut Outcome) -> bool {
        let limits = &config.limits;
        let held =
            self.runs.iter().map(|run| run.inputs.messages.len() + run.outputs.messages.len()).sum::<usize>();
        let bytes = self.pending_bytes + size_of::<Message>() + heap_size::message(message);
        let note = if held + self.unclaimed.len() >= limits.conversation_messages {
            Note::MessagesFull
        } else if bytes > limits.conversation_text_bytes {
            Note::TextFull
        } else {
            self.pending_bytes = bytes;
            return true;
        };
        outcome.notes.push(note);
        // The omitted message may have been an input of the next run or of an open one. The caller
        // notes omitted outputs.
        if message.role != Role::Assistant {
            outcome.flagged |= take(&mut self.state.history_known);
            for run in &mut self.runs {
                run.inputs.history_known = false;
                outcome.flagged |= take(&mut run.inputs.complete);
            }
        }
        false
    }

    /// Whether a message's id is known: claimed, waiting, or in an open run.
    pub(super) fn knows_message(&self, id: &str) -> bool {
        self.state.messages.contains(id)
            || self.unclaimed.iter().any(|message| message.id.as_deref() == Some(id))
            || self.runs.iter().any(|run| {
                let mut messages = run.inputs.messages.iter().chain(&run.outputs.messages);
                messages.any(|message| message.id.as_deref() == Some(id))
            })
    }

    /// Finds a held input and updates it. None if it is not held; otherwise whether anything
    /// changed.
    pub(super) fn update_input(&mut self, message: &Message, merge: Merge<'_>) -> Option<bool> {
        let held = || {
            let claimed = self.runs.iter().flat_map(|run| {
                run.inputs.messages.iter().enumerate().map(move |(at, input)| (Some((run, at)), input))
            });
            claimed.chain(self.unclaimed.iter().map(|input| (None, input)))
        };
        let by_id = held().position(|(_, known)| known.id.is_some() && known.id == message.id);
        let at = by_id.or_else(|| {
            let wanted = !matches!(merge, Merge::ById) && held().any(|(_, known)| known.id.is_none());
            let text = wanted.then(|| message.text())?;
            held().position(|(place, known)| {
                known.id.is_none()
                    && known.role == message.role
                    && place.is_none_or(|(run, at)| run.may_be_input(at, message, merge))
                    && known.text() == text
            })
        })?;
        let mut held =
            self.runs.iter_mut().flat_map(|run| &mut run.inputs.messages).chain(&mut self.unclaimed);
        let known = held.nth(at).expect("the position was found in the same sequence");
        if known.id.is_none() {
            *known = message.clone();
            return Some(true);
        }
        Some(update_message(known, message))
    }

    /// Handles the deletion of a message. Messages claimed by a run are kept, because the model saw
    /// them. A message that was never seen may have been an output.
    pub(super) fn delete_message(&mut self, id: &str) -> bool {
        let before = self.unclaimed.len();
        self.unclaimed.retain(|message| message.id.as_deref() != Some(id));
        if self.unclaimed.len() < before {
            // An old response to a list request may still show it.
            self.state.messages.insert(id);
            self.listed.forget(id);
            return true;
        }
        if self.knows_message(id) {
            return false;
        }
        self.runs.iter_mut().fold(false, |changed, run| run.outputs.note_unseen_deletion() | changed)
    }

    /// Handles a listed message that is not the assistant's: it is known, waiting, an input seen
    /// late, or history.
    pub(super) fn see_listed_input(
        &mut self,
        message: &Message,
        (before, after): (&[&Message], &[&Message]),
        filtered: bool,
        page: &MessagePage,
        config: &Config,
        outcome: &mut Outcome,
    ) -> bool {
        let Some(id) = &message.id else { return false };
        let merge = Merge::Listed { requested_at: page.requested_at, after };
        if let Some(changed) = self.update_input(message, merge) {
            return changed;
        }
        if self.knows_message(id) {
            return false;
        }
        if let Some(run) = &message.run {
            let Some(place) = self.runs.iter().position(|open| open.id() == run) else { return false };
            let admitted = self.admit(message, config, outcome);
            if admitted {
                self.listed.note(id, page.requested_at);
                self.runs[place].inputs.carry([message.clone()]);
            }
            return admitted;
        }
        if filtered {
            return false;
        }
        let second = message.created_at.map(f64::floor);
        let candidate = self.runs.iter().position(|run| {
            let after_claims =
                second.is_none_or(|second| run.inputs.claimed_after.is_none_or(|claimed| second > claimed));
            // The run began before this program knew the thread, or the response for a message was
            // lost.
            let lost = || second.is_some() && run.inputs.messages.iter().all(|input| input.id.is_some());
            after_claims
                && (!run.inputs.complete || lost())
                && second.zip(run.created_second()).is_none_or(|(message, run)| message <= run)
                // A message after one of the run's outputs cannot be an input of it.
                && !before.iter().any(|earlier| run.outputs.has(earlier))
                // There must be nothing of another run in between.
                && after.iter().all(|later| {
                    let later_second = later.created_at.map(f64::floor);
                    later.role != Role::Assistant
                        || later.run.as_deref() == Some(run.id())
                        || (later.run.is_none()
                            && later_second
                                .zip(run.created_second())
                                .is_some_and(|(later, run)| later >= run))
                })
        });
        if let Some(place) = candidate {
            let admitted = self.admit(message, config, outcome);
            if admitted {
                self.listed.note(id, page.requested_at);
                self.runs[place].inputs.take(message.clone());
            }
            return admitted;
        }
        let newer_than_claims =
            self.state.boundary.is_none_or(|boundary| second.is_some_and(|second| second > boundary));
        let answered = after.iter().any(|later| later.role == Role::Assistant);
        let newest_shown = page.order == PageOrder::Descending || page.has_more == Some(false);
        let covered = self
            .runs
            .iter()
            .any(|run| second.zip(run.created_second()).is_none_or(|(message, run)| message <= run));
        let waiting = newer_than_claims && !answered && newest_shown && !covered;
        let admitted = waiting && self.admit(message, config, outcome);
        if admitted {
            self.listed.note(id, page.requested_at);
            insert_in_time(&mut self.unclaimed, 0, message.clone());
        }
        admitted
    }

    /// Accepts messages that came in a request, as far as they are wanted and there is room.
    pub(super) fn admit_all(
        &mut self,
        messages: &[Message],
        config: &Config,
        outcome: &mut Outcome,
    ) -> Vec<Message> {
        let wanted = |message: &&Message| {
            message.role != Role::Assistant || config.app_messages == AppMessages::Include
        };
        let wanted: Vec<&Message> = messages.iter().filter(wanted).collect();
        wanted.into_iter().filter(|message| self.admit(message, config, outcome)).cloned().collect()
    }

    /// Withdraws earlier messages from runs that were created after this second but seen first.
    /// Returns the second up to which other runs have claimed messages.
    pub(super) fn unclaim(&mut self, created: Option<f64>) -> Option<f64> {
        let mut boundary = self.state.boundary;
        let Some(created) = created else { return boundary };
        for run in
            self.runs.iter_mut().filter(|run| run.created_second().is_some_and(|later| later > created))
        {
            if run.inputs.claimed_after < boundary {
                boundary = run.inputs.claimed_after;
            }
            if run.inputs.claimed_after < Some(created) {
                run.inputs.claimed_after = Some(created);
                self.unclaimed.splice(0..0, run.inputs.withdraw_until(created));
            }
        }
        boundary
    }

    /// Claims the unclaimed messages that are inputs of a run created in this second. Later
    /// messages stay unclaimed.
    pub(super) fn claim(&mut self, created: Option<f64>) -> Vec<Message> {
        let later = |message: &Message| {
            created.zip(message.created_at).is_some_and(|(run, message)| message.floor() > run)
        };
        let (kept, claimed) = take(&mut self.unclaimed).into_iter().partition(later);
        self.unclaimed = kept;
        if let Some(created) = created {
            self.state.boundary = Some(self.state.boundary.map_or(created, |known| known.max(created)));
        }
        claimed
    }

    /// Adds the messages that a run was created with. A list may have shown them before the
    /// creation was seen.
    pub(super) fn carry(&mut self, run: usize, messages: &[Message], config: &Config, outcome: &mut Outcome) {
        // Searched from the last one backwards, because they are the last messages before the run.
        let listed: Vec<_> = messages.iter().rev().map(|message| self.take_listed(run, message)).collect();
        for (message, listed) in messages.iter().zip(listed.into_iter().rev()) {
            // A request may mention a message that is already waiting in the conversation.
            if message.id.is_some()
                && self.runs[run].inputs.messages.iter().any(|input| input.id == message.id)
            {
                continue;
            }
            let carried = match listed {
                Some(listed) => vec![listed],
                None => self.admit_all(slice::from_ref(message), config, outcome),
            };
            self.runs[run].inputs.carry(carried);
        }
        self.runs[run].inputs.messages.shrink_to_fit();
    }

    /// Removes and returns the held copy of a message that a run was created with, if a list has
    /// already shown it.
    fn take_listed(&mut self, run: usize, born: &Message) -> Option<Message> {
        if self.listed.is_empty() {
            return None;
        }
        let (text, of) = (born.text(), &self.runs[run]);
        let same = |held: &Message| {
            let listed = held.id.as_deref().and_then(|id| self.listed.requested_at(id));
            held.role == born.role
                && listed.is_some_and(|requested_at| of.may_be_carried(held, requested_at))
                && held.text() == text
        };
        let taken = if let Some(at) = self.unclaimed.iter().rposition(same) {
            self.unclaimed.remove(at)
        } else {
            let places = self.runs.iter().map(|run| run.inputs.messages.iter().rposition(same));
            let (holder, at) = (0..).zip(places).find_map(|(holder, at)| Some((holder, at?)))?;
            self.runs[holder].inputs.withdraw(at)
        };
        if let Some(id) = &taken.id {
            self.listed.forget(id);
        }
        Some(taken)
    }
}
