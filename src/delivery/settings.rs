//! `[delivery]` as it is written in the file.

use serde::Deserialize;
use threadtap_core::settings::{Invalid, Size, Span, set, set_count, set_size};

use super::{Backoff, Config};

/// The section; what is left out is the default.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    lanes: Option<u32>,
    attempt_timeout: Option<Span>,
    min_backoff: Option<Span>,
    max_backoff: Option<Span>,
    misconfigured_pause: Option<Span>,
    max_retry_after: Option<Span>,
    stuck_after: Option<u32>,
    give_up_after_age: Option<Span>,
    give_up_after_attempts: Option<u32>,
    budget: Option<Size>,
}

impl Settings {
    /// Builds the settings of delivery.
    ///
    /// # Errors
    /// When one cannot be used.
    pub fn build(self) -> Result<Config, Invalid> {
        let mut config = Config::default();
        set_count("delivery.lanes", &mut config.lanes, self.lanes)?;
        set(&mut config.attempt_timeout, self.attempt_timeout);
        let (mut min, mut max) = (config.backoff.min(), config.backoff.max());
        set(&mut min, self.min_backoff);
        set(&mut max, self.max_backoff);
        config.backoff = Backoff::new(min, max)
            .map_err(|error| Invalid::new("delivery.min_backoff", format!("{min:?}"), error.to_string()))?;
        set(&mut config.misconfigured_pause, self.misconfigured_pause);
        set(&mut config.max_retry_after, self.max_retry_after);
        config.stuck_after = self.stuck_after.unwrap_or(config.stuck_after);
        config.give_up_after_age = self.give_up_after_age.map(|Span(age)| age);
        if self.give_up_after_attempts == Some(0) {
            return Err(Invalid::new("delivery.give_up_after_attempts", "0", "use at least 1"));
        }
        config.give_up_after_attempts = self.give_up_after_attempts;
        set_size("delivery.budget", &mut config.budget_bytes, self.budget)?;
        Ok(config)
    }
}
