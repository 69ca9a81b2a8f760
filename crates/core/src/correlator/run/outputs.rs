//! The outputs of a run, as far as they were seen.

use crate::message::{Message, MessageStatus};

/// The outputs of a run.
#[derive(Debug, Default)]
pub(in crate::correlator) struct Outputs {
    pub(in crate::correlator) messages: Vec<Message>,
    /// Whether one is known to be missing for good.
    pub(super) lost: bool,
    /// Whether a message was deleted that was never seen, and so may have been one.
    pub(super) unseen_deleted: bool,
}

impl Outputs {
    /// Notes that an output is missing for good. Tells whether that is new.
    pub(in crate::correlator) fn lose(&mut self) -> bool {
        !std::mem::replace(&mut self.lost, true)
    }

    /// Notes that a message nobody has seen was deleted. Tells whether that is new.
    pub(in crate::correlator) fn note_unseen_deletion(&mut self) -> bool {
        !std::mem::replace(&mut self.unseen_deleted, true)
    }

    pub(in crate::correlator) fn has(&self, message: &Message) -> bool {
        message.id.is_some() && self.messages.iter().any(|output| output.id == message.id)
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
