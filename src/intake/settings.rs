//! `[intake]` as it is written in the file.

use std::path::PathBuf;

use serde::Deserialize;
use threadtap_core::settings::{Environment, Invalid, Secret, Span, set};

use super::Config;

/// The section. A missing key keeps the default.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    on_proxy: Option<bool>,
    key: Option<Secret>,
    key_file: Option<PathBuf>,
    hold: Option<Span>,
    max_held: Option<u64>,
}

impl Settings {
    /// Builds the settings of intake.
    ///
    /// # Errors
    /// When the key cannot be read.
    pub fn build(self, environment: &impl Environment) -> Result<Config, Invalid> {
        let mut config = Config::default();
        config.on_proxy = self.on_proxy.unwrap_or(config.on_proxy);
        config.key = Secret::from_settings("intake.key", self.key, self.key_file.as_deref(), environment)?;
        set(&mut config.hold, self.hold);
        config.max_held = self.max_held.unwrap_or(config.max_held);
        Ok(config)
    }
}
