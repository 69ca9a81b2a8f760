//! Whom an exchange belongs to, as the app or its traffic says.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What is known of session, user and app; every field may be missing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attribution {
    /// The session the app named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Minutes after which the session is over, as the app named them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_timeout_minutes: Option<u64>,
    /// The user the app named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// The app's own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
}

impl Attribution {
    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes over from `newer` whatever it knows.
    pub fn update(&mut self, newer: &Self) {
        let Self { session, session_timeout_minutes, user, app } = newer;
        if session.is_some() {
            self.session.clone_from(session);
        }
        if session_timeout_minutes.is_some() {
            self.session_timeout_minutes = *session_timeout_minutes;
        }
        if user.is_some() {
            self.user.clone_from(user);
        }
        if app.is_some() {
            self.app.clone_from(app);
        }
    }
}

/// A user: an object with Reconify's user fields (`userId`, `email`, `firstName`, …), passed on as given.
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
