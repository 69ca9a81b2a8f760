//! Merges new information about a user into what is already known.
//!
//! Users are identified by their id alone. A user without an id is passed on unchanged, and never
//! stored.

use crate::attribution::User;

/// What is known about a user after an update.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Everything that is known.
    pub user: User,
    /// Whether the update changed anything.
    pub changed: bool,
}

impl Known {
    /// Merges an update into what is known about a user with this id. Each field in the update
    /// replaces the known value, and null removes it.
    #[must_use]
    pub fn after(before: Option<&User>, id: &str, said: &User) -> Self {
        let mut user = before.cloned().unwrap_or_else(|| User::from_id(id));
        for (field, value) in &said.0 {
            if value.is_null() {
                user.0.shift_remove(field);
            } else {
                user.0.insert(field.clone(), value.clone());
            }
        }
        let changed = before != Some(&user);
        Self { user, changed }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn user(value: Value) -> User {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_is_said_later_completes_what_was_known() {
        let first = Known::after(None, "u", &user(json!({"userId": "u", "email": "a@x"})));
        assert!(first.changed);
        let same = Known::after(Some(&first.user), "u", &User::from_id("u"));
        assert_eq!(same, Known { user: first.user.clone(), changed: false });
        let said = user(json!({"userId": "u", "email": null, "firstName": "Jane"}));
        let more = Known::after(Some(&first.user), "u", &said);
        assert_eq!(more, Known { user: user(json!({"userId": "u", "firstName": "Jane"})), changed: true });
        assert!(Known::after(None, "u", &User::from_id("u")).changed, "a user that is new");
    }
}
