//! The changes that the store can be asked to make.

use std::sync::Arc;

use serde::Serialize;
use threadtap_core::event::{Event, SessionKey};
use threadtap_core::interaction::Interaction;
use threadtap_core::observation::ConversationKey;
use threadtap_core::time::UnixMillis;

/// One change. Changes queued together are written together, in order, or not at all.
#[derive(Clone, Debug)]
pub enum Op {
    /// A delivery was given up: it becomes a dead letter.
    Dead {
        /// The delivery.
        id: u64,
        /// Total number of attempts.
        attempts: u32,
        /// Why; one of a closed set of reasons.
        reason: &'static str,
        /// The backend's last response, cut to 4 KiB.
        answer: String,
    },
    /// A delivery was made.
    Delivered {
        /// The delivery.
        id: u64,
    },
    /// An event, and the sinks to deliver it to.
    Event(Box<NewEvent>),
    /// A delivery failed and will be tried again.
    Failed {
        /// The delivery.
        id: u64,
        /// Total number of attempts.
        attempts: u32,
        /// Why, in a few words without content.
        failure: String,
    },
    /// Feedback whose record is still waited for.
    Hold {
        /// The id it names.
        reference: String,
        /// The feedback as JSON.
        body: String,
    },
    /// An observation of a conversation that is not settled.
    Journal {
        /// The conversation.
        conversation: ConversationKey,
        /// When the byte that revealed it passed: the start of `store_written_seconds`.
        at: UnixMillis,
        /// The observation as JSON.
        body: String,
    },
    /// The accumulated conversation of a run, which later requests continue.
    Remember {
        /// The conversation.
        conversation: ConversationKey,
        /// When.
        at: UnixMillis,
        /// What, as JSON.
        body: String,
    },
    /// Held feedback is finished.
    Release {
        /// Its number.
        id: u64,
    },
    /// The state of a session, in addition to its numbers.
    Session {
        /// The session.
        session: SessionKey,
        /// The state. `None` if the session is over and only its numbers continue.
        state: Option<String>,
    },
    /// The conversation is settled: its journal so far is no longer needed.
    Settle {
        /// The conversation.
        conversation: ConversationKey,
        /// What must be remembered of it. `None` forgets it.
        state: Option<String>,
    },
    /// What is known about a user. Replaces earlier data.
    User {
        /// The user's id.
        id: String,
        /// As JSON.
        body: String,
    },
}

/// An event to be stored.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// The key. Only one event is stored per key.
    pub key: String,
    /// The event's kind.
    pub kind: &'static str,
    /// The conversation it is about, if it is about one.
    pub conversation: Option<ConversationKey>,
    /// The session whose messages are numbered.
    pub session: Option<SessionKey>,
    /// How many numbers it takes.
    pub messages: u32,
    /// The ids under which it can be found.
    pub refs: Vec<Ref>,
    /// The number of its deliveries' lane.
    pub lane: u32,
    /// When it was derived.
    pub at: UnixMillis,
    /// The event as JSON.
    pub body: String,
    /// The sinks' names.
    pub sinks: Vec<Arc<str>>,
}

/// An id by which an event can be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ref {
    /// The API's id of a run, a message or a conversation, or the app's id of a session.
    pub id: String,
    /// Which of the event's messages it means, counted from 0. `None` for the whole event.
    pub message: Option<u32>,
}

impl Op {
    /// Stores an event and makes it due at the named sinks.
    #[must_use]
    pub fn event(event: &Event, at: UnixMillis, sinks: Vec<Arc<str>>) -> Self {
        let session = event.session();
        let (messages, refs) = match event {
            Event::Interaction(interaction) => (count(interaction), refs(interaction)),
            _ => (0, Vec::new()),
        };
        Self::Event(Box::new(NewEvent {
            key: event.key().to_owned(),
            kind: event.kind(),
            conversation: event.conversation().cloned(),
            lane: match (&session, event) {
                (Some(SessionKey { scope, id }), _) => lane_number(scope, id),
                // The latest data about a user must arrive last.
                (None, Event::UserIdentified(identified)) => {
                    lane_number("user", identified.user.id().unwrap_or_default())
                }
                (None, _) => lane_number("", event.key()),
            },
            session,
            messages,
            refs,
            at,
            body: json(event),
            sinks,
        }))
    }

    /// The sinks for which it makes something due.
    pub(super) fn sinks(&self) -> &[Arc<str>] {
        match self {
            Self::Event(event) => &event.sinks,
            _ => &[],
        }
    }

    /// Approximate memory use: the capacity of its texts, and the values that hold them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let room = |text: &Option<String>| text.as_ref().map_or(0, String::capacity);
        let of = |conversation: &ConversationKey| conversation.upstream.len() + conversation.id.len();
        let text = match self {
            Self::Dead { answer, .. } => answer.capacity(),
            Self::Delivered { .. } | Self::Release { .. } => 0,
            Self::Event(event) => event.bytes(),
            Self::Failed { failure, .. } => failure.capacity(),
            Self::Hold { reference, body } => reference.capacity() + body.capacity(),
            Self::Journal { conversation, at: _, body } | Self::Remember { conversation, at: _, body } => {
                of(conversation) + body.capacity()
            }
            Self::Session { session, state } => {
                session.scope.capacity() + session.id.capacity() + room(state)
            }
            Self::Settle { conversation, state } => of(conversation) + room(state),
            Self::User { id, body } => id.capacity() + body.capacity(),
        };
        text + size_of::<Self>() + ALLOCATIONS_BYTES
    }
}

impl NewEvent {
    fn bytes(&self) -> usize {
        let conversation = self.conversation.as_ref().map_or(0, |of| of.upstream.len() + of.id.len());
        let session = self.session.as_ref().map_or(0, |of| of.scope.capacity() + of.id.capacity());
        let refs: usize = self.refs.iter().map(|of| of.id.capacity() + 16).sum();
        let lists = size_of::<Ref>() * self.refs.capacity() + size_of::<Arc<str>>() * self.sinks.capacity();
        size_of::<Self>() + self.key.capacity() + self.body.capacity() + conversation + session + refs + lists
    }
}

/// Converts a value to JSON whose buffer is only as large as the text. A buffer that doubles while
/// it is written may be twice as large, and the queue should use only the memory it counts.
pub(crate) fn json(value: &impl Serialize) -> String {
    let mut text =
        serde_json::to_string(value).expect("what is stored has string keys and finite numbers only");
    text.shrink_to_fit();
    text
}

/// The allocator's overhead for the texts of an operation.
const ALLOCATIONS_BYTES: usize = 64;

/// How many session numbers an interaction takes.
fn count(interaction: &Interaction) -> u32 {
    u32::try_from(interaction.messages().count()).unwrap_or(u32::MAX)
}

/// The ids of its run and of merged runs (these mean the last answer), its messages, its
/// conversation and its session.
fn refs(interaction: &Interaction) -> Vec<Ref> {
    let messages = (0..).zip(interaction.messages());
    let mut refs: Vec<Ref> = messages
        .filter_map(|(at, message)| Some(Ref { id: message.id.clone()?, message: Some(at) }))
        .collect();
    let answered = interaction.outputs.iter().any(|message| message.role.speaks());
    let last = if answered { count(interaction).checked_sub(1) } else { None };
    let runs = std::iter::once(&interaction.run).chain(&interaction.continuations);
    refs.extend(runs.map(|run| Ref { id: run.clone(), message: last }));
    let named = interaction.attribution.session.clone();
    refs.extend(
        [Some(interaction.conversation.id.to_string()), named]
            .into_iter()
            .flatten()
            .map(|id| Ref { id, message: None }),
    );
    refs
}

/// A hash that is the same on every machine and in every version (FNV-1a). Lanes are chosen by its
/// remainder.
pub(super) fn lane_number(scope: &str, id: &str) -> u32 {
    let bytes = scope.bytes().chain([0]).chain(id.bytes());
    bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lane_of_user(id: &str, key: &str) -> u32 {
        let event = json!({"user_identified": {"key": key, "user": {"userId": id}, "at": 1}});
        let event: Event = serde_json::from_str(&event.to_string()).unwrap();
        let Op::Event(new) = Op::event(&event, UnixMillis(1), Vec::new()) else { panic!("no event") };
        new.lane
    }

    #[test]
    fn what_is_said_of_a_user_later_cannot_overtake_what_was_said_before() {
        assert_eq!(lane_of_user("u", "first"), lane_of_user("u", "second"));
        assert_ne!(lane_of_user("u", "first"), lane_of_user("v", "first"));
    }

    #[test]
    fn an_operation_counts_all_its_texts_and_has_no_room_it_does_not_use() {
        let long = "x".repeat(100_000);
        let key = ConversationKey { upstream: Arc::from("u"), id: Arc::from(&*long) };
        let session = SessionKey { scope: long.clone(), id: long.clone() };
        let texts = |op: Op, count: usize| {
            let bytes = op.bytes();
            assert!((count * long.len()..count * long.len() + 2000).contains(&bytes), "{bytes} of {op:.60?}");
        };
        let at = UnixMillis(1);
        texts(Op::Journal { conversation: key.clone(), at, body: json(&long) }, 2);
        texts(Op::Remember { conversation: key.clone(), at, body: json(&long) }, 2);
        texts(Op::Settle { conversation: key.clone(), state: Some(json(&long)) }, 2);
        texts(Op::Session { session: session.clone(), state: Some(long.clone()) }, 3);
        texts(Op::User { id: long.clone(), body: long.clone() }, 2);
        texts(Op::Hold { reference: long.clone(), body: long.clone() }, 2);
        texts(Op::Failed { id: 1, attempts: 1, failure: long.clone() }, 1);
        texts(Op::Dead { id: 1, attempts: 1, reason: "refused", answer: long.clone() }, 1);
        let refs = vec![Ref { id: long.clone(), message: None }; 3];
        let event = NewEvent {
            key: long.clone(),
            kind: "interaction",
            conversation: Some(key),
            session: Some(session),
            messages: 1,
            refs,
            lane: 1,
            at,
            body: json(&long),
            sinks: vec![Arc::from("s"); 8],
        };
        texts(Op::Event(Box::new(event)), 8);
    }

    #[test]
    fn a_record_is_found_by_its_run_and_by_those_it_took_in() {
        let message = |role: &str| json!({"id": null, "role": role, "status": "completed", "created_at": null, "run": null, "object": {}});
        let record = json!({"key": "k", "api": "responses", "conversation": {"upstream": "u", "id": "c"}, "run": "resp_1",
            "continuations": ["resp_2"], "status": "completed", "assistant": null, "model": null,
            "inputs": [message("user")], "outputs": [message("assistant")], "tool_calls": [], "usage": null,
            "usage_absent": "not_reported", "error": null, "metadata": null, "times": {"created_at": null, "started_at": null,
            "ended_at": null, "request_at": 1, "first_token_at": null, "end_at": 2}, "inputs_complete": true,
            "outputs_complete": true, "assumed": false, "pairing": "exact"});
        let refs = refs(&serde_json::from_str(&record.to_string()).unwrap());
        let refs: Vec<_> = refs.iter().map(|of| (of.id.as_str(), of.message)).collect();
        assert_eq!(refs, [("resp_1", Some(1)), ("resp_2", Some(1)), ("c", None)]);
    }
}
