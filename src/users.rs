//! The directory of users. It is shared by the parts that learn of users: the pipeline from
//! traffic, and intake from what the app reports.
//!
//! It is a cache. If a user was forgotten, the next report of it counts as new, and the sinks
//! receive it again.

use std::sync::Arc;

use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use serde_json::Value;
use threadtap_core::attribution::User;
use threadtap_core::user::Known;

/// A handle on the directory. The least recently seen user is forgotten first.
#[derive(Clone, Debug)]
pub struct Users(Cache<Arc<str>, Entry>);

/// Everything known of a user. `None` if only the id is known, as for most users.
type Entry = Option<Arc<User>>;

impl Users {
    /// Creates an empty directory. Users are forgotten beyond `max_users`, or beyond the memory
    /// that users may take.
    #[must_use]
    pub fn new(max_users: usize) -> Self {
        // Each entry weighs at least its share, so that both bounds are kept.
        let share = MAX_BYTES / max_users.clamp(1, MAX_BYTES);
        let weight = move |id: &Arc<str>, user: &Entry| {
            let bytes = ENTRY_BYTES + id.len() + user.as_deref().map_or(0, bytes_of);
            u32::try_from(bytes.max(share)).unwrap_or(u32::MAX)
        };
        let users = Cache::builder().max_capacity(MAX_BYTES as u64).weigher(weight);
        Self(users.eviction_policy(EvictionPolicy::lru()).build())
    }

    /// Adds what was reported of a user.
    pub fn learn(&self, said: &User) -> Known {
        let Some(id) = said.id().filter(|id| !id.is_empty()) else {
            return Known { user: said.clone(), changed: false };
        };
        let known = |entry: Entry| entry.map_or_else(|| User::from_id(id), Arc::unwrap_or_clone);
        // Usually nothing is new, and then reading is enough.
        if let Some(entry) = self.0.get(id) {
            let after = Known::after(Some(&known(entry)), id, said);
            if !after.changed {
                return after;
            }
        }
        let mut learnt = None;
        self.0.entry(id.into()).and_compute_with(|entry| {
            let before = entry.map(|entry| known(entry.into_value()));
            let after = Known::after(before.as_ref(), id, said);
            let more = Some(&after.user).filter(|user| **user != User::from_id(id)).cloned().map(Arc::new);
            let op = if after.changed { Op::Put(more) } else { Op::Nop };
            learnt = Some(after);
            op
        });
        learnt.unwrap_or_else(|| Known::after(None, id, said))
    }

    /// Forgets a user. Returns whether it was known.
    pub fn forget(&self, id: &str) -> bool {
        self.0.remove(id).is_some()
    }
}

/// Estimates the memory for what is known of a user besides its id. A map has room for at least
/// four members.
fn bytes_of(user: &User) -> usize {
    let member = |(name, value): (&String, &Value)| {
        let tree = if value.is_object() || value.is_array() { TREE_BYTES_PER_BYTE } else { 1 };
        MEMBER_BYTES + name.len() + tree * value.to_string().len()
    };
    user.0.iter().map(member).sum()
}

/// How much memory users may take. It holds 100,000 users with ids of 40 characters, or some 30,000
/// users of whom more is known.
const MAX_BYTES: usize = 32 << 20;
/// What the cache takes for a user besides its id.
const ENTRY_BYTES: usize = 250;
const MEMBER_BYTES: usize = 250;
/// The most memory that a byte of JSON takes as a parsed tree.
const TREE_BYTES_PER_BYTE: usize = 64;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn user(value: Value) -> User {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn users_are_never_mixed_and_one_without_an_id_is_never_remembered() {
        let users = Users::new(9);
        let a = user(json!({"userId": "a", "email": "a@x"}));
        assert_eq!(users.learn(&a), Known { user: a.clone(), changed: true });
        assert_eq!(users.learn(&User::from_id("a")), Known { user: a, changed: false });
        assert_eq!(users.learn(&User::from_id("b")).user, User::from_id("b"));
        let nobody = user(json!({"email": "c@x"}));
        assert_eq!(users.learn(&nobody), Known { user: nobody.clone(), changed: false });
        assert_eq!(users.learn(&user(json!({"phone": "1"}))).user, user(json!({"phone": "1"})));
        assert!(users.forget("b") && !users.forget("b"));
        assert!(users.learn(&User::from_id("b")).changed);
    }

    #[test]
    fn the_least_recently_seen_goes_first() {
        let users = Users::new(2);
        let known = |id: &str| {
            let known = !users.learn(&User::from_id(id)).changed;
            users.0.run_pending_tasks();
            known
        };
        assert!(!known("a") && !known("b") && known("a") && !known("c"));
        assert!(known("a") && known("c") && !known("b"));
    }

    #[test]
    fn what_users_take_in_memory_is_bounded_however_long_their_names_are() {
        let users = Users::new(100_000);
        for number in 0..100_000 {
            let user = user(json!({"userId": format!("user {number}"), "note": "x".repeat(4000)}));
            assert!(users.learn(&user).changed);
            assert!(users.0.entry_count() < 10_000, "{number}");
        }
        users.0.run_pending_tasks();
        let known = users.0.entry_count();
        assert!((5_000..10_000).contains(&known) && users.0.weighted_size() <= MAX_BYTES as u64, "{known}");
        assert!(!users.learn(&User::from_id("user 99999")).changed, "the last is known");
    }
}
