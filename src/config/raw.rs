//! The settings file as it is written. Everything is optional, and only the form is checked.

use std::path::PathBuf;

use serde::Deserialize;
use threadtap_core::settings::{Secret, Size, Span};
use threadtap_core::sink::SinkSettings;

use crate::{delivery, intake, net, proxy};

/// The whole file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) listen: Option<String>,
    pub(super) upstream: Option<String>,
    pub(super) admin_listen: Option<String>,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) server: net::Settings,
    pub(super) proxy: proxy::Settings,
    pub(super) drain: Drain,
    pub(super) capture: Capture,
    pub(super) correlation: Correlation,
    pub(super) attribution: Attribution,
    pub(super) chat: Chat,
    pub(super) sessions: Sessions,
    pub(super) intake: intake::Settings,
    pub(super) store: Store,
    pub(super) delivery: delivery::Settings,
    pub(super) admin: Admin,
    pub(super) log: Log,
    pub(super) sinks: Vec<SinkSettings>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Drain {
    pub(super) delay: Option<Span>,
    pub(super) grace: Option<Span>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Capture {
    pub(super) enabled: Option<bool>,
    pub(super) queue: Option<usize>,
    pub(super) budget: Option<Size>,
    pub(super) credentials: Option<Vec<String>>,
    pub(super) max_body: Option<Size>,
    pub(super) max_prefix: Option<Size>,
    pub(super) segment: Option<Size>,
    pub(super) segment_age: Option<Span>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Correlation {
    pub(super) outputs_grace: Option<Span>,
    pub(super) unresolved_grace: Option<Span>,
    pub(super) assumed_run_time: Option<Span>,
    pub(super) continuation_grace: Option<Span>,
    pub(super) conversation_ttl: Option<Span>,
    pub(super) history_max_age: Option<Span>,
    pub(super) app_messages: Option<AppMessages>,
    pub(super) max_conversations: Option<usize>,
    pub(super) max_memory: Option<Size>,
    pub(super) max_conversation_messages: Option<usize>,
    pub(super) max_conversation_runs: Option<usize>,
    pub(super) max_conversation_memory: Option<Size>,
    pub(super) max_remembered_turns: Option<usize>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum AppMessages {
    Drop,
    Include,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Attribution {
    pub(super) session: Option<Vec<String>>,
    pub(super) user: Option<Vec<String>>,
    pub(super) app: Option<Vec<String>>,
    pub(super) hash_credentials: Option<bool>,
    pub(super) hash_key: Option<Secret>,
    pub(super) hash_key_file: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Chat {
    pub(super) keep_bodies: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Sessions {
    pub(super) idle: Option<Span>,
    pub(super) max_open: Option<usize>,
    pub(super) max_users: Option<usize>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Store {
    pub(super) sync_every: Option<Span>,
    pub(super) retain: Option<Span>,
    pub(super) retain_size: Option<Size>,
    pub(super) max_size: Option<Size>,
    pub(super) queue: Option<Size>,
    pub(super) required: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Admin {
    pub(super) token: Option<Secret>,
    pub(super) token_file: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    pub(super) level: Option<String>,
    pub(super) format: Option<LogFormat>,
    pub(super) interactions: Option<Interactions>,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// Text for people.
    Text,
}

/// Whether interactions are shown on standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interactions {
    /// Always: one line each.
    Always,
    /// On a terminal, if no sink is configured.
    #[default]
    Auto,
    /// Never.
    Never,
}
