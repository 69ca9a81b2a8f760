//! Settings of the correlator.

use std::time::Duration;

use super::limits::Limits;
use crate::time::UnixMillis;

/// Waiting times; see the fixed semantics in ARCHITECTURE.md.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long a terminal run waits for messages that were not fetched yet.
    pub outputs_grace: Duration,
    /// How long a run is waited for beyond its `expires_at`.
    pub unresolved_grace: Duration,
    /// How long a run may take where the server does not say: `expires_at` minus `created_at`.
    pub assumed_run_time: Duration,
    /// How long a turn that ended in calls of the app's tools is held for the one that hands in what they returned, so that both are
    /// one record. Zero: each is a record of its own.
    pub continuation_grace: Duration,
    /// How long an idle conversation is remembered.
    pub conversation_ttl: Duration,
    /// How long ago a run first seen terminal may have ended to be recorded.
    pub history_max_age: Duration,
    /// When capture first began; runs that ended before are history.
    pub first_used: UnixMillis,
    /// What becomes of messages the app wrote in the assistant's name.
    pub app_messages: AppMessages,
    /// What may be held.
    pub limits: Limits,
}

/// What becomes of messages the app wrote in the assistant's name: they are no run's outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AppMessages {
    /// They are left out of records.
    Drop,
    /// They are context: they stand among the inputs of the next run, with their role.
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
