//! The sections that several modules share, applied to their defaults. The section of a single
//! module is in that module, as `Settings`.

use std::sync::Arc;
use std::time::Duration;

use threadtap_core::correlator::{AppMessages, Limits};
use threadtap_core::dialect::{Credentials, Order, ParseSourceError, Source};
use threadtap_core::exchange::CAPTURED_HEADERS;
use threadtap_core::settings::{Span, set, set_count, set_size};
use threadtap_core::{correlator, dialect};

use super::{ConfigError, raw};
use crate::{capture, pipeline, store};

pub(super) fn correlation(file: &raw::Correlation) -> Result<correlator::Config, ConfigError> {
    let mut config = correlator::Config::default();
    set(&mut config.outputs_grace, file.outputs_grace);
    set(&mut config.unresolved_grace, file.unresolved_grace);
    set(&mut config.assumed_run_time, file.assumed_run_time);
    set(&mut config.continuation_grace, file.continuation_grace);
    set(&mut config.conversation_ttl, file.conversation_ttl);
    set(&mut config.history_max_age, file.history_max_age);
    config.app_messages = match file.app_messages {
        Some(raw::AppMessages::Drop) => AppMessages::Drop,
        Some(raw::AppMessages::Include) | None => AppMessages::Include,
    };
    let Limits {
        conversations,
        text_bytes,
        conversation_messages,
        conversation_runs,
        conversation_text_bytes,
        remembered_turns,
    } = &mut config.limits;
    set_count("correlation.max_conversations", conversations, file.max_conversations)?;
    set_size("correlation.max_memory", text_bytes, file.max_memory)?;
    set_count(
        "correlation.max_conversation_messages",
        conversation_messages,
        file.max_conversation_messages,
    )?;
    set_count("correlation.max_conversation_runs", conversation_runs, file.max_conversation_runs)?;
    set_size("correlation.max_conversation_memory", conversation_text_bytes, file.max_conversation_memory)?;
    *remembered_turns = file.max_remembered_turns.unwrap_or(*remembered_turns);
    Ok(config)
}

pub(super) fn dialect(
    file: &raw::Attribution,
    chat: &raw::Chat,
    capture: &raw::Capture,
) -> Result<dialect::Config, ConfigError> {
    let mut config = dialect::Config::default();
    set_size("capture.max_body", &mut config.max_body_bytes, capture.max_body)?;
    let credentials = capture.credentials.as_deref().unwrap_or_default();
    if let Some(odd) = credentials.iter().find(|name| name.trim().is_empty()) {
        return Err(ConfigError::value("capture.credentials", odd.clone(), "name a member of a body"));
    }
    config.credentials = Credentials::with(credentials);
    let Order { session, user, app } = Arc::make_mut(&mut config.attribution);
    set_sources("attribution.session", session, file.session.as_deref())?;
    set_sources("attribution.user", user, file.user.as_deref())?;
    set_sources("attribution.app", app, file.app.as_deref())?;
    let dialect::chat::Config { keep_bodies } = &mut config.chat;
    *keep_bodies = chat.keep_bodies.unwrap_or(*keep_bodies);
    Ok(config)
}

fn set_sources(key: &str, target: &mut Vec<Source>, names: Option<&[String]>) -> Result<(), ConfigError> {
    let Some(names) = names else { return Ok(()) };
    if names.len() > MAX_SOURCES {
        return Err(ConfigError::value(
            key,
            format!("{} sources", names.len()),
            format!("use at most {MAX_SOURCES}"),
        ));
    }
    let sources = names.iter().map(|name| {
        name.parse()
            .map_err(|error: ParseSourceError| ConfigError::value(key, name.clone(), error.to_string()))
    });
    *target = sources.collect::<Result<_, _>>()?;
    Ok(())
}

pub(super) fn capture(file: &raw::Capture, order: &Order) -> Result<capture::Config, ConfigError> {
    let mut config = capture::Config::default();
    let further = order.headers().filter(|name| !CAPTURED_HEADERS.contains(name));
    config.extra_headers = further.map(str::to_owned).collect();
    set_count("capture.queue", &mut config.queue, file.queue)?;
    set_size("capture.budget", &mut config.budget_bytes, file.budget)?;
    set_size("capture.max_body", &mut config.max_body_bytes, file.max_body)?;
    set_size("capture.max_prefix", &mut config.max_prefix_bytes, file.max_prefix)?;
    set_size("capture.segment", &mut config.segment_bytes, file.segment)?;
    set(&mut config.segment_age, file.segment_age);
    Ok(config)
}

pub(super) fn pipeline(
    dialect: dialect::Config,
    correlation: correlator::Config,
    file: &raw::Sessions,
) -> Result<pipeline::Config, ConfigError> {
    let mut config = pipeline::Config { dialect, correlation, ..pipeline::Config::default() };
    set(&mut config.sessions.idle, file.idle);
    set_count("sessions.max_open", &mut config.sessions.max_sessions, file.max_open)?;
    set_count("sessions.max_users", &mut config.max_users, file.max_users)?;
    Ok(config)
}

pub(super) fn store(file: raw::Store) -> Result<store::Config, ConfigError> {
    let sync_every = file.sync_every.map(|span| span.0).filter(|span| !span.is_zero());
    let mut config = store::Config { sync_every, ..store::Config::default() };
    if let Some(Span(retain)) = file.retain {
        if retain < SHORTEST_RETAIN {
            return Err(ConfigError::value(
                "store.retain",
                format!("{retain:?}"),
                "use at least 24h: kept records prevent a run from being recorded twice",
            ));
        }
        config.retain = retain;
    }
    config.max_bytes = file.max_size.map(|size| size.0).or(config.max_bytes);
    if let Some(bytes) = config.max_bytes
        && bytes < SMALLEST_STORE_BYTES
    {
        return Err(ConfigError::value("store.max_size", format!("{bytes} bytes"), "use at least 2MiB"));
    }
    config.retain_bytes = file.retain_size.map(|size| size.0);
    set_size("store.queue", &mut config.queue_bytes, file.queue)?;
    Ok(config)
}

/// A smaller database holds little more than its own tables.
const SMALLEST_STORE_BYTES: u64 = 2 << 20;
/// More sources than anybody needs.
const MAX_SOURCES: usize = 32;
/// A run must be remembered for at least as long as it may be polled.
const SHORTEST_RETAIN: Duration = Duration::from_secs(24 * 3600);
