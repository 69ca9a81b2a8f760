//! What is known of users: gathered from what the app says, so that each interaction can carry all of it.
//!
//! Users are told apart by their id alone. One without an id is passed on as it was given, and never remembered.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;

use crate::attribution::User;

/// The users that are known, the least recently seen forgotten first.
#[derive(Debug)]
pub struct Directory {
    max_users: usize,
    users: HashMap<Arc<str>, Entry>,
    /// Ids by when they were seen.
    seen: BTreeMap<u64, Arc<str>>,
    /// What all of it takes in memory, about.
    bytes: usize,
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    seen: u64,
    /// All that is known; none if that is the id alone, as it is of most.
    user: Option<User>,
    bytes: usize,
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
        Self { max_users: max_users.max(1), users: HashMap::new(), seen: BTreeMap::new(), bytes: 0, clock: 0 }
    }

    /// Takes what is said of a user: each field said replaces what was known of it, null takes it away.
    pub fn learn(&mut self, said: &User) -> Known {
        let Some(id) = said.id().filter(|id| !id.is_empty()) else {
            return Known { user: said.clone(), changed: false };
        };
        self.clock += 1;
        let before = self.remove(id).map(|entry| entry.user.unwrap_or_else(|| User::from_id(id)));
        let mut user = before.clone().unwrap_or_else(|| User::from_id(id));
        for (field, value) in &said.0 {
            if value.is_null() {
                user.0.shift_remove(field);
            } else {
                user.0.insert(field.clone(), value.clone());
            }
        }
        let changed = before.is_none_or(|before| before != user);
        let more = Some(&user).filter(|user| **user != User::from_id(id));
        let bytes = ENTRY_BYTES + id.len() + more.map_or(0, bytes_of);
        let key: Arc<str> = id.into();
        self.seen.insert(self.clock, Arc::clone(&key));
        self.users.insert(key, Entry { seen: self.clock, user: more.cloned(), bytes });
        self.bytes += bytes;
        while (self.users.len() > self.max_users || self.bytes > MAX_BYTES)
            && self.users.len() > 1
            && let Some((_, oldest)) = self.seen.first_key_value()
        {
            let oldest = Arc::clone(oldest);
            self.remove(&oldest);
        }
        Known { user, changed }
    }

    /// Forgets a user. Tells whether it was known.
    pub fn forget(&mut self, id: &str) -> bool {
        self.remove(id).is_some()
    }

    fn remove(&mut self, id: &str) -> Option<Entry> {
        let entry = self.users.remove(id)?;
        self.seen.remove(&entry.seen);
        self.bytes -= entry.bytes;
        Some(entry)
    }
}

/// What is known of a user beside its id takes so much in memory, about: the least that a map has room for is four members.
fn bytes_of(user: &User) -> usize {
    let member = |(name, value): (&String, &Value)| {
        let tree = if value.is_object() || value.is_array() { TREE_BYTES_PER_BYTE } else { 1 };
        MEMBER_BYTES + name.len() + tree * value.to_string().len()
    };
    user.0.iter().map(member).sum()
}

/// What users may take in memory. As many with ids of 40 characters are 100,000; of those of whom more is known, some 30,000.
const MAX_BYTES: usize = 32 << 20;
/// What the tables take for a user beside its id.
const ENTRY_BYTES: usize = 200;
const MEMBER_BYTES: usize = 250;
/// What a byte of JSON takes as a tree at most.
const TREE_BYTES_PER_BYTE: usize = 64;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn user(value: Value) -> User {
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

    #[test]
    fn what_users_take_in_memory_is_bounded_however_long_their_names_are() {
        let mut directory = Directory::new(100_000);
        for number in 0..100_000 {
            let user = user(json!({"userId": format!("user {number}"), "note": "x".repeat(4000)}));
            assert!(directory.learn(&user).changed);
        }
        let known = directory.users.len();
        assert!((5_000..10_000).contains(&known) && directory.bytes <= MAX_BYTES, "{known}");
        assert_eq!(directory.seen.len(), known);
        let last = user(json!({"userId": "user 99999"}));
        assert!(!directory.learn(&last).changed, "the last is known");
    }
}
