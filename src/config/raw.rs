//! The file as it is written: everything optional, nothing checked but its form.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

/// The whole file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) listen: Option<String>,
    pub(super) upstream: Option<String>,
    pub(super) admin_listen: Option<String>,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) server: Server,
    pub(super) proxy: Proxy,
    pub(super) drain: Drain,
    pub(super) capture: Capture,
    pub(super) correlation: Correlation,
    pub(super) attribution: Attribution,
    pub(super) chat: Chat,
    pub(super) sessions: Sessions,
    pub(super) intake: Intake,
    pub(super) store: Store,
    pub(super) delivery: Delivery,
    pub(super) admin: Admin,
    pub(super) log: Log,
    pub(super) sinks: Vec<Sink>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Server {
    pub(super) workers: Option<usize>,
    pub(super) max_connections: Option<usize>,
    pub(super) first_byte_timeout: Option<Span>,
    pub(super) head_timeout: Option<Span>,
    pub(super) max_headers: Option<usize>,
    pub(super) max_head: Option<Size>,
    pub(super) max_header_list: Option<Size>,
    pub(super) h2_max_streams: Option<u32>,
    pub(super) h2_stream_window: Option<Size>,
    pub(super) h2_connection_window: Option<Size>,
    pub(super) h2_memory: Option<Size>,
    pub(super) h2_max_pending_resets: Option<usize>,
    pub(super) h2_ping_interval: Option<Span>,
    pub(super) h2_ping_timeout: Option<Span>,
    pub(super) half_close: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Proxy {
    pub(super) connect_timeout: Option<Span>,
    pub(super) keep_client_host: Option<bool>,
    pub(super) idle_timeout: Option<Span>,
    pub(super) max_idle: Option<usize>,
    pub(super) max_headers: Option<usize>,
    pub(super) max_head: Option<Size>,
    pub(super) continue_timeout: Option<Span>,
    pub(super) linger: Option<Size>,
    pub(super) linger_timeout: Option<Span>,
    pub(super) read_on: Option<Span>,
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
    pub(super) max_text: Option<Size>,
    pub(super) max_conversation_messages: Option<usize>,
    pub(super) max_conversation_runs: Option<usize>,
    pub(super) max_conversation_text: Option<Size>,
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
    pub(super) hash_key: Option<SecretString>,
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
pub(super) struct Intake {
    pub(super) on_proxy: Option<bool>,
    pub(super) key: Option<SecretString>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) hold: Option<Span>,
    pub(super) max_held: Option<u64>,
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
pub(super) struct Delivery {
    pub(super) lanes: Option<u32>,
    pub(super) attempt_timeout: Option<Span>,
    pub(super) min_backoff: Option<Span>,
    pub(super) max_backoff: Option<Span>,
    pub(super) misconfigured_pause: Option<Span>,
    pub(super) max_retry_after: Option<Span>,
    pub(super) stuck_after: Option<u32>,
    pub(super) give_up_after_age: Option<Span>,
    pub(super) give_up_after_attempts: Option<u32>,
    pub(super) budget: Option<Size>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Admin {
    pub(super) token: Option<SecretString>,
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
    /// For people.
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

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum Sink {
    Align(Align),
    Reconify(Reconify),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Align {
    pub(super) name: Option<String>,
    pub(super) api_key: Option<SecretString>,
    pub(super) api_key_file: Option<PathBuf>,
    pub(super) project_id: Option<String>,
    pub(super) host: Option<String>,
    pub(super) filter: Filter,
    pub(super) properties: BTreeMap<String, String>,
    pub(super) unknown_user: Option<String>,
    pub(super) batch: Option<usize>,
    pub(super) linger: Option<Span>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Reconify {
    pub(super) name: Option<String>,
    pub(super) app_key: Option<SecretString>,
    pub(super) app_key_file: Option<PathBuf>,
    pub(super) api_key: Option<SecretString>,
    pub(super) api_key_file: Option<PathBuf>,
    pub(super) url: Option<String>,
    pub(super) responses: Option<String>,
    pub(super) filter: Filter,
}

/// Which events a sink is sent.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Filter {
    pub(super) statuses: Option<Vec<String>>,
    pub(super) apps: Option<Vec<String>>,
    pub(super) assistants: Option<Vec<String>>,
    pub(super) metadata: Option<BTreeMap<String, String>>,
    pub(super) sample: Option<f64>,
}

/// A duration: a whole number and a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

/// A number of bytes: a whole number, with or without a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

impl Span {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (number, unit) = split(text)?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60 * 1000,
            "h" => 3600 * 1000,
            "d" => 24 * 3600 * 1000,
            _ => return None,
        };
        number.checked_mul(millis).map(|millis| Self(Duration::from_millis(millis)))
    }
}

impl Size {
    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = split(text)?;
        let bytes = match unit {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        number.checked_mul(bytes).map(Self)
    }
}

/// A number, and the unit behind it.
fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..digits].parse().ok()?, text[digits..].trim_start()))
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text {
            parse: Self::parse,
            expected: "a duration such as \"250ms\", \"30s\", \"10m\", \"24h\" or \"7d\"",
        })
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text {
            parse: Self::parse,
            expected: "a size such as \"512B\", \"16KiB\", \"64MiB\" or \"2GiB\"",
        })
    }
}

/// Reads a string with a unit.
struct Text<T> {
    parse: fn(&str) -> Option<T>,
    expected: &'static str,
}

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        let check = |text: &str, millis: Option<u64>| {
            assert_eq!(Span::parse(text), millis.map(|millis| Span(Duration::from_millis(millis))), "{text}");
        };
        check("250ms", Some(250));
        check("30s", Some(30_000));
        check("10 m", Some(600_000));
        check("24h", Some(86_400_000));
        check("7d", Some(604_800_000));
        for odd in
            ["", "5", "s", "-1s", "1.5s", "5 parsecs", "99999999999999999999s", "18446744073709551615d"]
        {
            check(odd, None);
        }
    }

    #[test]
    fn sizes_may_have_a_unit() {
        assert_eq!(Size::parse("512"), Some(Size(512)));
        assert_eq!(Size::parse("16KiB"), Some(Size(16 << 10)));
        assert_eq!(Size::parse("2 GiB"), Some(Size(2 << 30)));
        for odd in ["", "1MB", "x", "-1", "99999999999GiB"] {
            assert_eq!(Size::parse(odd), None, "{odd}");
        }
    }
}
