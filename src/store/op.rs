//! The changes the store can be asked for.

use std::sync::Arc;

use crate::event::Event;
use crate::observation::ConversationKey;
use crate::time::UnixMillis;

/// One change. Those handed over together are written together, in order, or not at all.
#[derive(Clone, Debug)]
pub enum Op {
    /// A delivery was given up: it becomes a dead letter.
    Dead {
        /// The delivery.
        id: u64,
        /// Attempts made in all.
        attempts: u32,
        /// Why, from a closed set.
        reason: &'static str,
        /// What the backend said last; cut to 4 KiB.
        answer: String,
    },
    /// A delivery was made.
    Delivered {
        /// The delivery.
        id: u64,
    },
    /// An event, and the sinks it is due at.
    Event {
        /// Stored once under this key.
        key: String,
        /// The event's kind.
        kind: &'static str,
        /// The conversation whose order it keeps.
        conversation: ConversationKey,
        /// When it was derived.
        at: UnixMillis,
        /// The event as JSON.
        body: String,
        /// The sinks' names.
        sinks: Vec<Arc<str>>,
    },
    /// A delivery failed and will be tried again.
    Failed {
        /// The delivery.
        id: u64,
        /// Attempts made in all.
        attempts: u32,
        /// Why, in a few words without content.
        failure: String,
    },
    /// An observation of a conversation that is not settled.
    Journal {
        /// The conversation.
        conversation: ConversationKey,
        /// When the byte that told it passed: the start of `store_written_seconds`.
        at: UnixMillis,
        /// The observation as JSON.
        body: String,
    },
    /// The conversation is settled: its journal so far is no longer needed.
    Settle {
        /// The conversation.
        conversation: ConversationKey,
        /// What must be remembered of it; none forgets it.
        state: Option<String>,
    },
}

impl Op {
    /// Stores an event and makes it due at the sinks named.
    #[must_use]
    pub fn event(event: &Event, at: UnixMillis, sinks: Vec<Arc<str>>) -> Self {
        Self::Event {
            key: event.key().to_owned(),
            kind: event.kind(),
            conversation: event.conversation().clone(),
            at,
            body: serde_json::to_string(event).expect("an event has string keys and finite numbers only"),
            sinks,
        }
    }

    /// Roughly what it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        let text = match self {
            Self::Dead { answer, .. } => answer.len(),
            Self::Delivered { .. } => 0,
            Self::Event { body, .. } | Self::Journal { body, .. } => body.len(),
            Self::Failed { failure, .. } => failure.len(),
            Self::Settle { state, .. } => state.as_ref().map_or(0, String::len),
        };
        text + size_of::<Self>() + 64
    }
}
