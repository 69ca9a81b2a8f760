//! All events that a sink can receive.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::attribution::{Attribution, User};
use crate::interaction::Interaction;
use crate::observation::ConversationKey;
use crate::time::UnixMillis;

/// A domain event. Stored as JSON, so variants are never renamed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Somebody rated an output or a session.
    Feedback(Box<Feedback>),
    /// A run is settled.
    Interaction(Box<Interaction>),
    /// A session ended.
    SessionClosed(Box<SessionClosed>),
    /// A session began, or continued after it had ended.
    SessionOpened(Box<SessionOpened>),
    /// A user was first seen, or more is known about one.
    UserIdentified(Box<UserIdentified>),
}

impl Event {
    /// The key under which this event is stored and delivered once. Deriving the same event again
    /// gives the same key.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Feedback(feedback) => &feedback.key,
            Self::Interaction(interaction) => &interaction.key,
            Self::SessionClosed(closed) => &closed.key,
            Self::SessionOpened(opened) => &opened.key,
            Self::UserIdentified(identified) => &identified.key,
        }
    }

    /// The conversation that the event belongs to or came from. None for users and sessions that
    /// were named from outside.
    #[must_use]
    pub fn conversation(&self) -> Option<&ConversationKey> {
        match self {
            Self::Feedback(feedback) => feedback.conversation.as_ref(),
            Self::Interaction(interaction) => Some(&interaction.conversation),
            Self::SessionClosed(closed) => Some(&closed.conversation),
            Self::SessionOpened(opened) => Some(&opened.conversation),
            Self::UserIdentified(identified) => identified.conversation.as_ref(),
        }
    }

    /// The session within which the event is ordered. None for users that were named from outside.
    #[must_use]
    pub fn session(&self) -> Option<SessionKey> {
        match self {
            Self::Feedback(feedback) => Some(feedback.session.clone()),
            Self::Interaction(interaction) => {
                Some(SessionKey::of(&interaction.attribution, &interaction.conversation))
            }
            Self::SessionClosed(closed) => Some(closed.session.clone()),
            Self::SessionOpened(opened) => Some(opened.session.clone()),
            Self::UserIdentified(identified) => identified.session.clone(),
        }
    }

    /// The app that the event belongs to, if known.
    #[must_use]
    pub fn app(&self) -> Option<&str> {
        match self {
            Self::Feedback(feedback) => feedback.app.as_deref(),
            Self::Interaction(interaction) => interaction.attribution.app.as_deref(),
            Self::SessionClosed(closed) => closed.app.as_deref(),
            Self::SessionOpened(opened) => opened.attribution.app.as_deref(),
            Self::UserIdentified(identified) => identified.app.as_deref(),
        }
    }

    /// The kind's name in the store and in metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Feedback(_) => "feedback",
            Self::Interaction(_) => "interaction",
            Self::SessionClosed(_) => "session_closed",
            Self::SessionOpened(_) => "session_opened",
            Self::UserIdentified(_) => "user_identified",
        }
    }
}

/// An event as the store keeps it.
#[derive(Clone, Debug)]
pub struct Record {
    /// The event.
    pub event: Event,
    /// The number of an interaction's first message in its session. The other messages follow
    /// without a gap. Counts from 1.
    pub first_message: Option<u64>,
}

/// What identifies a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionKey {
    /// The scope in which the id is unique: an app for sessions that the app named, an upstream for
    /// others.
    pub scope: String,
    /// The id: the one that the app chose, else the conversation's.
    pub id: String,
}

impl SessionKey {
    /// The session that an interaction belongs to: the one that the app named, else its
    /// conversation.
    #[must_use]
    pub fn of(attribution: &Attribution, conversation: &ConversationKey) -> Self {
        match &attribution.session {
            Some(session) => Self {
                scope: format!("app:{}", attribution.app.as_deref().unwrap_or_default()),
                id: session.clone(),
            },
            None => Self::of_conversation(conversation),
        }
    }

    /// The session of a conversation for which the app named none.
    #[must_use]
    pub fn of_conversation(conversation: &ConversationKey) -> Self {
        Self { scope: format!("upstream:{}", conversation.upstream), id: conversation.id.to_string() }
    }
}

/// A session began, or continued after it had ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionOpened {
    /// The idempotency key.
    pub key: String,
    /// The session.
    pub session: SessionKey,
    /// The conversation of its first interaction.
    pub conversation: ConversationKey,
    /// When that interaction began, by the proxy's clock.
    pub at: UnixMillis,
    /// The session's user and app.
    #[serde(default)]
    pub attribution: Attribution,
    /// The assistant that responded first.
    #[serde(default)]
    pub assistant: Option<String>,
}

/// A session ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionClosed {
    /// The idempotency key.
    pub key: String,
    /// The session.
    pub session: SessionKey,
    /// The conversation of its last interaction.
    pub conversation: ConversationKey,
    /// When the session ended, by the proxy's clock.
    pub at: UnixMillis,
    /// The app that the session belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// Why the session ended.
    pub reason: CloseReason,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    /// Its conversation was deleted.
    ConversationDeleted,
    /// It was evicted from memory to make room.
    Evicted,
    /// The session was idle for longer than its timeout.
    Idle,
}

/// A user was first seen, or more is known about one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UserIdentified {
    /// The idempotency key.
    pub key: String,
    /// Everything known about the user.
    pub user: User,
    /// When it was learned, by the proxy's clock.
    pub at: UnixMillis,
    /// The session whose traffic contained it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionKey>,
    /// The conversation whose traffic contained it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<ConversationKey>,
    /// The app whose traffic contained it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
}

/// Somebody rated an output or a session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Feedback {
    /// The idempotency key.
    pub key: String,
    /// The rating.
    pub rating: Rating,
    /// The rating in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The rating as a number on the app's own scale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// What was rated.
    pub target: FeedbackTarget,
    /// The session in which it was rated.
    pub session: SessionKey,
    /// The conversation, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<ConversationKey>,
    /// The run that produced what was rated, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// When the rating was given, by the proxy's clock.
    pub at: UnixMillis,
    /// The app that the feedback belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
}

/// The rating of an output or a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rating {
    /// It was bad.
    ThumbsDown,
    /// It was good.
    ThumbsUp,
}

impl Rating {
    /// The name in requests and payloads.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ThumbsDown => "thumbs_down",
            Self::ThumbsUp => "thumbs_up",
        }
    }
}

/// What was rated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedbackTarget {
    /// A message of the session.
    Message {
        /// Its number in the session.
        number: u64,
        /// The API's id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
    },
    /// The session as a whole.
    Session,
}

/// The idempotency key for something that these parts identify: the hex form of a hash, the same on
/// every machine.
#[must_use]
pub fn key_of(parts: &[&str]) -> String {
    let mut hash = KeyHash::default();
    parts.iter().for_each(|part| hash.push(part));
    hash.finish()
}

/// Builds a key in steps: [`key_of`] for parts that are not in memory together.
#[derive(Clone, Debug, Default)]
pub struct KeyHash(Sha256);

impl KeyHash {
    /// Adds the next part.
    pub fn push(&mut self, part: &str) {
        // Lengths distinguish ("ab", "c") from ("a", "bc").
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part.as_bytes());
    }

    /// The key.
    #[must_use]
    pub fn finish(self) -> String {
        self.0.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}
