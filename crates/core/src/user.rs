//! What becomes of what is known of a user when more is said.
//!
//! Users are told apart by their id alone. One without an id is passed on as it was given, and never remembered.

use crate::attribution::User;

/// What is known of a user after something was said of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// All that is known.
    pub user: User,
    /// Whether that is more, or other, than before.
    pub changed: bool,
}

impl Known {
    /// What is known of a user with this id: each field said replaces what was known before, null takes it away.
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
