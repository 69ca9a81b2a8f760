//! The outputs of a run that were seen so far.

use crate::message::{Message, MessageStatus};

/// The outputs of a run.
#[derive(Debug, Default)]
pub(in crate::correlator) struct Outputs {
    pub(in crate::correlator) messages: Vec<Message>,
    /// Whether one is known to be permanently missing.
    pub(super) lost: bool,
    /// Whether a message that was never seen was deleted. It may have been an output.
    pub(super) unseen_deleted: bool,
}

impl Outputs {
    /// Notes that an output is permanently missing. Returns whether that is new.
    pub(in crate::correlator) fn lose(&mut self) -> bool {
        !std::mem::replace(&mut self.lost, true)
    }

    /// Notes that an unseen message was deleted. Returns whether that is new.
    pub(in crate::correlator) fn note_unseen_deletion(&mut self) -> bool {
        !std::mem::replace(&mut self.unseen_deleted, true)
    }

    pub(in crate::correlator) fn has(&self, message: &Message) -> bool {
        message.id.is_some() && self.messages.iter().any(|output| output.id == message.id)
    }
}

/// Replaces a message by a later state of it. Returns whether anything changed.
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

/// Whether a message contains at least as much as another. Text has priority: a message from a
/// broken stream has more text than the object it began with, but fewer fields. For finished
/// messages the later state wins, because an app may remove metadata.
fn is_fuller(newer: &Message, known: &Message) -> bool {
    let extent = |message: &Message| {
        let written =
            if message.status == MessageStatus::InProgress { message.object.get().len() } else { 0 };
        (message.text().len(), written)
    };
    extent(newer) >= extent(known)
}
