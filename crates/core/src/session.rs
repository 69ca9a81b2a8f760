//! Opens sessions at their first interaction and closes them after a period without activity.
//!
//! A session is the one that the app named, else the conversation; see [`SessionKey`]. Input is
//! interactions and the current time. Output is events and the state to store. A closed session
//! that continues is opened again under the same id. The store numbers the messages, because only
//! the store knows whether an interaction is new.
//!
//! Memory is bounded by [`Config::max_sessions`] and [`Config::max_bytes`]. Beyond either, the
//! session with the earliest deadline is closed.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::{CloseReason, Event, SessionClosed, SessionKey, SessionOpened, key_of};
use crate::interaction::Interaction;
use crate::observation::ConversationKey;
use crate::time::UnixMillis;

/// When sessions end.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long a session may be idle before it ends, unless the app set another time.
    pub idle: Duration,
    /// The maximum number of open sessions.
    pub max_sessions: usize,
    /// Roughly how much memory they may use: names can be long.
    pub max_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { idle: Duration::from_secs(30 * 60), max_sessions: 100_000, max_bytes: 48 << 20 }
    }
}

/// The state of an open session: stored, and restored at the next start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionState {
    opened_at: UnixMillis,
    /// When the session ends if it stays idle.
    closes_at: UnixMillis,
    /// The conversation of its last interaction.
    conversation: ConversationKey,
    /// Whether it had interactions from more than one conversation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    several: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    app: Option<String>,
}

/// What results from an interaction or from the passing of time.
#[derive(Clone, Debug)]
pub enum SessionChange {
    /// A session opened or closed.
    Event(Event),
    /// The new state to store for a session. None after it ended.
    Remember(SessionKey, Option<SessionState>),
}

/// The open sessions.
#[derive(Debug, Default)]
pub struct Sessions {
    config: Config,
    open: HashMap<Arc<SessionKey>, SessionState>,
    /// Roughly how much memory they use.
    bytes: usize,
    deadlines: BTreeSet<(UnixMillis, Arc<SessionKey>)>,
    /// The named sessions whose interactions are all from one conversation, by that conversation.
    named: BTreeSet<(ConversationKey, Arc<SessionKey>)>,
    changes: VecDeque<SessionChange>,
}

impl Sessions {
    /// Creates an empty set of sessions.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config, ..Self::default() }
    }

    /// Restores the state of an earlier process. Call this before handling any interaction.
    pub fn restore(&mut self, key: SessionKey, state: SessionState) {
        self.insert(Arc::new(key), state);
    }

    /// Handles an interaction that is about to be stored. The resulting effects must be stored
    /// before it.
    pub fn handle(&mut self, interaction: &Interaction, now: UnixMillis) {
        let key = SessionKey::of(&interaction.attribution, &interaction.conversation);
        let key = Arc::new(key);
        let idle = interaction.attribution.session_timeout_minutes;
        let idle = idle.map_or(self.config.idle, |minutes| Duration::from_secs(minutes.saturating_mul(60)));
        let mut state = self.remove(&key).unwrap_or_else(|| {
            let opened = SessionOpened {
                key: key_of(&["session_opened", &key.scope, &key.id, &now.0.to_string()]),
                session: SessionKey::clone(&key),
                conversation: interaction.conversation.clone(),
                at: interaction.times.request_at,
                attribution: interaction.attribution.clone(),
                assistant: interaction.assistant.clone(),
            };
            self.changes.push_back(SessionChange::Event(Event::SessionOpened(Box::new(opened))));
            SessionState {
                opened_at: now,
                closes_at: now,
                conversation: interaction.conversation.clone(),
                several: false,
                app: interaction.attribution.app.clone(),
            }
        });
        state.closes_at = state.closes_at.max(now.after(idle));
        state.several |= state.conversation != interaction.conversation;
        state.conversation = interaction.conversation.clone();
        self.changes.push_back(SessionChange::Remember(SessionKey::clone(&key), Some(state.clone())));
        self.insert(key, state);
        while (self.open.len() > self.config.max_sessions || self.bytes > self.config.max_bytes)
            && let Some((_, first)) = self.deadlines.first().cloned()
        {
            self.close(&first, CloseReason::Evicted, now);
        }
    }

    /// Closes the sessions of a deleted conversation: its own, and those that the app named if they
    /// had no other conversation.
    pub fn handle_deletion(&mut self, conversation: &ConversationKey, now: UnixMillis) {
        let own = SessionKey::of_conversation(conversation);
        let least = SessionKey { scope: String::new(), id: String::new() };
        let named = self.named.range((conversation.clone(), Arc::new(least))..);
        let named = named.take_while(|(of, _)| of == conversation).map(|(_, key)| Arc::clone(key));
        for key in named.chain([Arc::new(own)]).collect::<Vec<_>>() {
            self.close(&key, CloseReason::ConversationDeleted, now);
        }
    }

    /// Forgets the open sessions whose last interaction was in a conversation that `which` selects,
    /// without emitting events.
    pub fn forget_where(&mut self, which: impl Fn(&ConversationKey) -> bool) {
        let keys = self.open.iter().filter(|(_, state)| which(&state.conversation)).map(|(key, _)| key);
        for key in keys.cloned().collect::<Vec<_>>() {
            self.remove(&key);
        }
    }

    /// Closes the sessions whose deadline has passed at `now`.
    pub fn handle_timeout(&mut self, now: UnixMillis) {
        while let Some((at, key)) = self.deadlines.first().cloned()
            && at <= now
        {
            self.close(&key, CloseReason::Idle, at);
        }
    }

    /// When [`Sessions::handle_timeout`] must be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<UnixMillis> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// The next effect.
    pub fn poll(&mut self) -> Option<SessionChange> {
        self.changes.pop_front()
    }

    /// How many are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn close(&mut self, key: &Arc<SessionKey>, reason: CloseReason, at: UnixMillis) {
        let Some(state) = self.remove(key) else { return };
        let SessionState { opened_at, closes_at: _, conversation, several: _, app } = state;
        let closed = SessionClosed {
            key: key_of(&["session_closed", &key.scope, &key.id, &opened_at.0.to_string()]),
            session: SessionKey::clone(key),
            conversation,
            at,
            app,
            reason,
        };
        self.changes.push_back(SessionChange::Event(Event::SessionClosed(Box::new(closed))));
        self.changes.push_back(SessionChange::Remember(SessionKey::clone(key), None));
    }

    fn insert(&mut self, key: Arc<SessionKey>, state: SessionState) {
        self.deadlines.insert((state.closes_at, Arc::clone(&key)));
        if !state.several && *key != SessionKey::of_conversation(&state.conversation) {
            self.named.insert((state.conversation.clone(), Arc::clone(&key)));
        }
        self.bytes += bytes_of(&key, &state);
        if let Some(before) = self.open.insert(Arc::clone(&key), state) {
            self.bytes -= bytes_of(&key, &before);
        }
    }

    fn remove(&mut self, key: &Arc<SessionKey>) -> Option<SessionState> {
        let state = self.open.remove(key)?;
        self.bytes -= bytes_of(key, &state);
        self.deadlines.remove(&(state.closes_at, Arc::clone(key)));
        self.named.remove(&(state.conversation.clone(), Arc::clone(key)));
        Some(state)
    }
}

/// Roughly how much memory a session uses: it is in three tables, and its conversation in two.
fn bytes_of(key: &SessionKey, state: &SessionState) -> usize {
    let app = state.app.as_ref().map_or(0, String::len);
    TABLES_BYTES + key.scope.len() + key.id.len() + state.conversation.id.len() + app
}

/// What the tables use for a session besides its names. The value comes from a measurement of
/// 100,000 sessions.
const TABLES_BYTES: usize = 300;

#[cfg(test)]
mod tests;
