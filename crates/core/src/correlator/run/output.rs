//! The outputs of a run: what was seen of them, and whether that is all.

use super::{Config, OpenRun};
use crate::message::{Message, MessageStatus};
use crate::time::UnixMillis;

impl OpenRun {
    /// Takes in an assistant message of this run. Tells whether it said anything new.
    pub(in crate::correlator) fn note_output(
        &mut self,
        message: &Message,
        before: Option<&str>,
        at: UnixMillis,
        config: &Config,
    ) -> bool {
        let changed = match self.outputs.iter_mut().find(|output| output.id == message.id) {
            Some(known) => update_message(known, message),
            None => {
                let next =
                    self.outputs.iter().position(|output| before.is_some() && output.id.as_deref() == before);
                self.outputs.insert(next.unwrap_or(self.outputs.len()), message.clone());
                true
            }
        };
        if changed {
            self.await_more_pages(at, config);
        }
        changed
    }

    /// Outputs of a run that is over are being fetched: there may be more of them.
    pub(in crate::correlator) fn await_more_pages(&mut self, at: UnixMillis, config: &Config) {
        if self.is_terminal() {
            self.deadline = self.deadline.max(at.after(config.outputs_grace));
        }
    }

    /// Notes that an output is missing for good. Tells whether that is new.
    pub(in crate::correlator) fn lose_outputs(&mut self) -> bool {
        !std::mem::replace(&mut self.outputs_lost, true)
    }

    /// Notes that a message nobody has seen was deleted. Tells whether that is new.
    pub(in crate::correlator) fn note_unseen_deletion(&mut self) -> bool {
        !std::mem::replace(&mut self.unseen_deleted, true)
    }

    pub(in crate::correlator) fn has_output(&self, message: &Message) -> bool {
        message.id.is_some() && self.outputs.iter().any(|output| output.id == message.id)
    }

    /// Whether there are messages still being written, or steps whose message was not seen.
    fn outputs_are_open(&self) -> bool {
        let unseen =
            |message: &String| !self.outputs.iter().any(|output| output.id.as_ref() == Some(message));
        self.outputs.iter().any(|output| output.status == MessageStatus::InProgress)
            || self.steps.iter().filter_map(|step| step.message.as_ref()).any(unseen)
    }

    /// Whether nothing can still bring outputs.
    pub(super) fn outputs_are_settled(&self) -> bool {
        self.told_all_outputs() || (self.pages_prove_outputs && !self.outputs_are_open())
    }

    /// Whether every output was seen: a list does not show what was deleted before.
    pub(super) fn outputs_are_complete(&self) -> bool {
        if let Some(turn) = &self.turn {
            return turn.told_whole && !self.outputs_lost;
        }
        let listed = self.pages_prove_outputs && !self.outputs_are_open() && !self.unseen_deleted;
        !self.outputs_lost && (self.told_all_outputs() || listed)
    }

    /// Whether streams or steps told what outputs there are, and those were seen.
    fn told_all_outputs(&self) -> bool {
        if self.streamed_whole && self.stream_told_end {
            // A failed run's last message may never be told as a whole. A completed one that showed neither message nor
            // step is told by a server whose streams do not carry them.
            return if self.is_completed() {
                let told_anything = !self.outputs.is_empty() || !self.steps.is_empty();
                told_anything && !self.outputs_are_open()
            } else {
                true
            };
        }
        self.steps_whole && !self.steps.is_empty() && !self.outputs_are_open()
    }
}

/// Replaces a message by a later state of it. Tells whether anything changed.
pub(in crate::correlator) fn update_message(known: &mut Message, newer: &Message) -> bool {
    if newer.status < known.status || newer.object.get() == known.object.get() {
        return false;
    }
    if newer.status == known.status && !is_fuller(newer, known) {
        return false;
    }
    let created_at = newer.created_at.or(known.created_at);
    *known = Message { created_at, ..newer.clone() };
    true
}

/// Whether a message says at least as much as another. Text goes first: what a broken stream told of a message has more text
/// than the object it began with, and fewer fields. Of messages that are over the last word counts: an app may take metadata back.
fn is_fuller(newer: &Message, known: &Message) -> bool {
    let extent = |message: &Message| {
        let written =
            if message.status == MessageStatus::InProgress { message.object.get().len() } else { 0 };
        (message.text().len(), written)
    };
    extent(newer) >= extent(known)
}
