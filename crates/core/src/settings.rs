//! Types that are shared by the settings of all parts.

mod secret;
mod set;
mod units;

use std::path::Path;

use thiserror::Error;

pub use self::secret::Secret;
pub use self::set::{set, set_count, set_size};
pub use self::units::{Size, Span};

/// The sources that settings use besides their own file.
pub trait Environment {
    /// The value of a variable. None if it is unset or empty.
    fn variable(&self, name: &str) -> Option<String>;

    /// The text of a file that a setting names.
    ///
    /// # Errors
    /// If it cannot be read.
    fn text_of(&self, file: &Path) -> std::io::Result<String>;
}

/// An invalid value of a setting.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{key} is `{value}`: {allowed}")]
pub struct Invalid {
    /// The setting's key.
    pub key: String,
    /// The value. Not shown if it is a secret.
    pub value: String,
    /// What is allowed.
    pub allowed: String,
}

impl Invalid {
    /// Describes the error.
    #[must_use]
    pub fn new(key: impl Into<String>, value: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self { key: key.into(), value: value.into(), allowed: allowed.into() }
    }
}
