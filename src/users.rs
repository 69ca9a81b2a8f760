//! The directory of users, shared by those who learn of them: the pipeline from traffic, intake from the app's own word.

use std::sync::{Arc, Mutex, PoisonError};

use crate::attribution::User;
use crate::user::{Directory, Known};

/// A handle on the directory.
#[derive(Clone, Debug)]
pub struct Users(Arc<Mutex<Directory>>);

impl Users {
    /// Nobody is known.
    #[must_use]
    pub fn new(max_users: usize) -> Self {
        Self(Arc::new(Mutex::new(Directory::new(max_users))))
    }

    /// Takes what is said of a user; see [`Directory::learn`].
    pub fn learn(&self, said: &User) -> Known {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).learn(said)
    }

    /// Forgets a user. Tells whether it was known.
    pub fn forget(&self, id: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).forget(id)
    }
}
