//! What settings are made of, whatever part they are for.

mod secret;
mod set;
mod units;

use std::path::Path;

use thiserror::Error;

pub use self::secret::Secret;
pub use self::set::{set, set_count, set_size};
pub use self::units::{Size, Span};

/// Where settings look beside the file they stand in.
pub trait Environment {
    /// The value of a variable; none when it is unset or empty.
    fn variable(&self, name: &str) -> Option<String>;

    /// The text of a file that a setting names.
    ///
    /// # Errors
    /// When it cannot be read.
    fn text_of(&self, file: &Path) -> std::io::Result<String>;
}

/// A value that a setting cannot have.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{key} is `{value}`: {allowed}")]
pub struct Invalid {
    /// The setting's key.
    pub key: String,
    /// The value; not shown where it is a secret.
    pub value: String,
    /// What is allowed.
    pub allowed: String,
}

impl Invalid {
    /// Says what is wrong.
    #[must_use]
    pub fn new(key: impl Into<String>, value: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self { key: key.into(), value: value.into(), allowed: allowed.into() }
    }
}
