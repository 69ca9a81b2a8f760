//! What is known of users: gathered from what the app says, so that each interaction can carry all of it.
//!
//! Users are told apart by their id alone. One without an id is passed on as it was given, and never remembered.

use std::collections::{BTreeMap, HashMap};

use crate::attribution::User;

/// The users that are known, the least recently seen forgotten first.
#[derive(Debug)]
pub struct Directory {
    max_users: usize,
    users: HashMap<String, (u64, User)>,
    /// Ids by when they were seen.
    seen: BTreeMap<u64, String>,
    clock: u64,
}

/// What is known of a user after something was said of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// All that is known.
    pub user: User,
    /// Whether that is more, or other, than before.
    pub changed: bool,
}

impl Directory {
    /// Nobody is known.
    #[must_use]
    pub fn new(max_users: usize) -> Self {
        Self { max_users: max_users.max(1), users: HashMap::new(), seen: BTreeMap::new(), clock: 0 }
    }

    /// Takes what is said of a user: each field said replaces what was known of it, null takes it away.
    pub fn learn(&mut self, said: &User) -> Known {
        let Some(id) = said.id().filter(|id| !id.is_empty()) else {
            return Known { user: said.clone(), changed: false };
        };
        self.clock += 1;
        let known = self.users.remove(id);
        let (mut user, before) = match known {
            Some((seen, user)) => {
                self.seen.remove(&seen);
                (user.clone(), Some(user))
            }
            None => (User::from_id(id), None),
        };
        for (field, value) in &said.0 {
            if value.is_null() {
                user.0.shift_remove(field);
            } else {
                user.0.insert(field.clone(), value.clone());
            }
        }
        let changed = before.is_none_or(|before| before != user);
        self.seen.insert(self.clock, id.to_owned());
        self.users.insert(id.to_owned(), (self.clock, user.clone()));
        while self.users.len() > self.max_users
            && let Some((_, oldest)) = self.seen.pop_first()
        {
            self.users.remove(&oldest);
        }
        Known { user, changed }
    }

    /// Forgets a user. Tells whether it was known.
    pub fn forget(&mut self, id: &str) -> bool {
        let known = self.users.remove(id);
        known.map(|(seen, _)| self.seen.remove(&seen)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn user(value: serde_json::Value) -> User {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_is_said_later_completes_what_was_known() {
        let mut directory = Directory::new(9);
        let first = directory.learn(&user(json!({"userId": "u", "email": "a@x"})));
        assert!(first.changed);
        let same = directory.learn(&User::from_id("u"));
        assert_eq!(same, Known { user: first.user, changed: false });
        let more = directory.learn(&user(json!({"userId": "u", "email": null, "firstName": "Jane"})));
        assert_eq!(more, Known { user: user(json!({"userId": "u", "firstName": "Jane"})), changed: true });
    }

    #[test]
    fn users_are_never_mixed_and_one_without_an_id_is_never_remembered() {
        let mut directory = Directory::new(9);
        directory.learn(&user(json!({"userId": "a", "email": "a@x"})));
        assert_eq!(directory.learn(&User::from_id("b")).user, User::from_id("b"));
        let nobody = user(json!({"email": "c@x"}));
        assert_eq!(directory.learn(&nobody), Known { user: nobody.clone(), changed: false });
        assert_eq!(directory.learn(&user(json!({"phone": "1"}))).user, user(json!({"phone": "1"})));
    }

    #[test]
    fn the_least_recently_seen_goes_first() {
        let mut directory = Directory::new(2);
        let known = |directory: &mut Directory, id: &str| !directory.learn(&User::from_id(id)).changed;
        directory.learn(&User::from_id("a"));
        directory.learn(&User::from_id("b"));
        assert!(known(&mut directory, "a"));
        directory.learn(&User::from_id("c"));
        assert!(known(&mut directory, "a") && known(&mut directory, "c"));
        assert!(!known(&mut directory, "b"));
        assert!(directory.forget("b") && !directory.forget("b"));
    }
}
