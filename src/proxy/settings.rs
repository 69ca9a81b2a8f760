//! The `[proxy]` section of the configuration file.

use serde::Deserialize;
use threadtap_core::dialect;
use threadtap_core::settings::{Invalid, Size, Span, set, set_count, set_size};

use super::{Config, Upstream};
use crate::net::set_head;

/// The section; missing keys take their defaults.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    connect_timeout: Option<Span>,
    keep_client_host: Option<bool>,
    idle_timeout: Option<Span>,
    max_idle: Option<usize>,
    max_headers: Option<usize>,
    max_head: Option<Size>,
    continue_timeout: Option<Span>,
    linger: Option<Size>,
    linger_timeout: Option<Span>,
    finish_after_disconnect: Option<Span>,
}

impl Settings {
    /// Builds the settings for forwarding to `upstream`.
    ///
    /// # Errors
    /// If a setting is invalid.
    pub fn build(self, upstream: Upstream) -> Result<Config, Invalid> {
        let mut config = Config::new(upstream, dialect::interest);
        set(&mut config.connect_timeout, self.connect_timeout);
        config.keep_client_host = self.keep_client_host.unwrap_or(config.keep_client_host);
        set(&mut config.idle_timeout, self.idle_timeout);
        config.max_idle = self.max_idle.unwrap_or(config.max_idle);
        set_count("proxy.max_headers", &mut config.max_headers, self.max_headers)?;
        set_head("proxy.max_head", &mut config.max_head_bytes, self.max_head)?;
        set(&mut config.continue_timeout, self.continue_timeout);
        set_size("proxy.linger", &mut config.linger_bytes, self.linger)?;
        set(&mut config.linger_timeout, self.linger_timeout);
        set(&mut config.finish_after_disconnect, self.finish_after_disconnect);
        Ok(config)
    }
}
