//! The inputs of a run, in order.

use crate::message::Message;
use crate::time::UnixMillis;

/// The inputs of a run.
#[derive(Debug, Default)]
pub(in crate::correlator) struct Inputs {
    pub(in crate::correlator) messages: Vec<Message>,
    /// How many of them, at the end, came with the request that created the run.
    pub(super) carried: usize,
    pub(in crate::correlator) complete: bool,
    /// Whether no message before the run can be missing, except those it was created with.
    pub(in crate::correlator) history_known: bool,
    /// The second in which the previous run claimed its inputs.
    pub(in crate::correlator) claimed_after: Option<f64>,
}

impl Inputs {
    /// Adds the messages that came with the request that created the run. They follow all others.
    pub(in crate::correlator) fn carry(&mut self, messages: impl IntoIterator<Item = Message>) {
        let before = self.messages.len();
        self.messages.extend(messages);
        self.carried += self.messages.len() - before;
    }

    /// Removes an input.
    pub(in crate::correlator) fn withdraw(&mut self, place: usize) -> Message {
        if place >= self.messages.len() - self.carried {
            self.carried -= 1;
        }
        self.messages.remove(place)
    }

    /// Removes the inputs that were in the thread before the run and before a second.
    pub(in crate::correlator) fn withdraw_until(&mut self, second: f64) -> Vec<Message> {
        let before = self.messages.len() - self.carried;
        let carried = self.messages.split_off(before);
        let later = |message: &Message| message.created_at.is_some_and(|at| at.floor() > second);
        let (kept, withdrawn) = std::mem::take(&mut self.messages).into_iter().partition(later);
        self.messages = kept;
        self.messages.extend(carried);
        withdrawn
    }

    /// Inserts a message that was in the thread before the run, in order.
    pub(in crate::correlator) fn take(&mut self, message: Message) {
        insert_in_time(&mut self.messages, self.carried, message);
    }
}

/// Inserts a message in order of time, before the `last` messages.
pub(in crate::correlator) fn insert_in_time(messages: &mut Vec<Message>, last: usize, message: Message) {
    let second = message.created_at.map(f64::floor);
    let end = messages.len() - last;
    let later = |known: &Message| {
        known.created_at.map(f64::floor).zip(second).is_some_and(|(known, second)| known > second)
    };
    let place = messages[..end].iter().position(later).unwrap_or(end);
    messages.insert(place, message);
}

/// How a message is matched with a held one.
#[derive(Clone, Copy, Debug)]
pub(in crate::correlator) enum Merge<'a> {
    /// By id only: the message is new.
    ById,
    /// By id; else by role and text, if the held message came in a request and has no id.
    ByIdOrText,
    /// The same, for a message on a page.
    Listed {
        /// When the page was requested.
        requested_at: UnixMillis,
        /// The messages after it on the page, oldest first.
        after: &'a [&'a Message],
    },
}
