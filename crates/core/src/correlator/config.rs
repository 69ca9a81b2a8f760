//! Settings of the correlator.

use std::time::Duration;

use super::limits::Limits;
use crate::time::UnixMillis;

/// Timeouts and limits. ARCHITECTURE.md describes their fixed semantics.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long a terminal run waits for messages that were not fetched yet.
    pub outputs_grace: Duration,
    /// How long to wait for a run after its `expires_at`.
    pub unresolved_grace: Duration,
    /// How long a run may take if the server does not say (`expires_at` minus `created_at`).
    pub assumed_run_time: Duration,
    /// How long a turn that ended in calls of the app's tools waits for the turn that submits their
    /// outputs, so that both become one record. With zero, each is a separate record.
    pub continuation_grace: Duration,
    /// How long an idle conversation is remembered.
    pub conversation_ttl: Duration,
    /// How long ago a run that was already terminal when first seen may have ended to be recorded.
    pub history_max_age: Duration,
    /// When capture first began; runs that ended before are history.
    pub first_used: UnixMillis,
    /// How to treat messages that the app wrote on the assistant's behalf.
    pub app_messages: AppMessages,
    /// Limits on what is held.
    pub limits: Limits,
}

/// How to treat messages that the app wrote on the assistant's behalf. They are not outputs of any
/// run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AppMessages {
    /// They are omitted from records.
    Drop,
    /// They are context: they are included in the inputs of the next run, with their role.
    #[default]
    Include,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            outputs_grace: Duration::from_secs(30),
            unresolved_grace: Duration::from_secs(60),
            assumed_run_time: Duration::from_secs(600),
            continuation_grace: Duration::ZERO,
            conversation_ttl: Duration::from_secs(24 * 3600),
            history_max_age: Duration::from_secs(15 * 60),
            first_used: UnixMillis(0),
            app_messages: AppMessages::default(),
            limits: Limits::default(),
        }
    }
}
