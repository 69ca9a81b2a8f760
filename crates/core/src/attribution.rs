//! Who an exchange belongs to, according to the app or its traffic.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What is known about session, user and app. Any field may be missing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attribution {
    /// The session the app named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The session timeout in minutes, if the app set one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_timeout_minutes: Option<u64>,
    /// The user the app named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// The app's own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// The quality of the sources.
    #[serde(default, skip_serializing_if = "Ranks::are_best")]
    pub ranks: Ranks,
}

/// The rank of each value's source in the configured order: 0 is the best. Used only while values
/// are gathered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranks {
    /// The rank of the session's source.
    #[serde(default)]
    pub session: u8,
    /// The rank of the user's source.
    #[serde(default)]
    pub user: u8,
    /// The rank of the app's source.
    #[serde(default)]
    pub app: u8,
}

impl Ranks {
    /// Whether no rank is set. Empty ranks are not stored.
    #[must_use]
    pub fn are_best(&self) -> bool {
        *self == Self::default()
    }
}

impl Attribution {
    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes each value from `newer` whose source is at least as good as the current one.
    pub fn update(&mut self, newer: &Self) {
        let Self { session, session_timeout_minutes, user, app, ranks } = newer;
        if session_timeout_minutes.is_some() {
            self.session_timeout_minutes = *session_timeout_minutes;
        }
        take(&mut self.session, &mut self.ranks.session, session, ranks.session);
        take(&mut self.user, &mut self.ranks.user, user, ranks.user);
        take(&mut self.app, &mut self.ranks.app, app, ranks.app);
    }
}

fn take<T: Clone>(known: &mut Option<T>, known_rank: &mut u8, newer: &Option<T>, rank: u8) {
    if newer.is_some() && (known.is_none() || rank <= *known_rank) {
        known.clone_from(newer);
        *known_rank = rank;
    }
}

/// A user: an object with Reconify's user fields (`userId`, `email`, `firstName`, …), passed on
/// unchanged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct User(pub Map<String, Value>);

impl User {
    /// A user of whom only the id is known.
    #[must_use]
    pub fn from_id(id: &str) -> Self {
        Self(Map::from_iter([("userId".to_owned(), Value::String(id.to_owned()))]))
    }

    /// The user's id, if the app gave one.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.0.get("userId").and_then(Value::as_str)
    }
}
