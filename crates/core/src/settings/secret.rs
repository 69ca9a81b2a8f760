//! Text that can be compared and used, but is never shown.

use std::fmt;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use subtle::ConstantTimeEq;

use super::{Environment, Invalid};

/// A key or a token. It is wiped on drop, and `Debug` does not show it. Two secrets of equal length
/// are compared in constant time.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(SecretString);

impl Secret {
    /// The secret of the setting `key`: given directly or in a file. A trailing line break in the
    /// file is ignored.
    ///
    /// # Errors
    /// If it is given in both ways, or the file cannot be read.
    pub fn from_settings(
        key: &str,
        direct: Option<Self>,
        file: Option<&Path>,
        environment: &impl Environment,
    ) -> Result<Option<Self>, Invalid> {
        let Some(path) = file else { return Ok(direct) };
        let invalid = |allowed| Invalid::new(format!("{key}_file"), path.display().to_string(), allowed);
        if direct.is_some() {
            return Err(invalid(format!("use {key} or {key}_file, not both")));
        }
        let text = environment
            .text_of(path)
            .map_err(|error| invalid(format!("name a file that can be read: {error}")))?;
        Ok(Some(Self::from(text.trim_end())))
    }

    /// The text, for code that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose().as_bytes().ct_eq(other.expose().as_bytes()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_compared_and_never_shown() {
        let secret = Secret::from("hush");
        assert_eq!(secret, Secret::from("hush".to_owned()));
        for other in ["", "hus", "hush!", "Hush"] {
            assert_ne!(secret, Secret::from(other));
        }
        assert_eq!(format!("{secret:?}"), "Secret");
    }
}
