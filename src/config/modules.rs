//! Each section of the file over the defaults of the module it is for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use threadtap_core::correlator::{AppMessages, Limits};
use threadtap_core::dialect::{Credentials, Interest, Order, ParseSourceError, Source};
use threadtap_core::exchange::CAPTURED_HEADERS;
use threadtap_core::{correlator, dialect};

use super::ConfigError;
use super::raw::{self, Size, Span};
use crate::proxy::Upstream;
use crate::{capture, delivery, intake, net, pipeline, proxy, store};

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
    set_size("correlation.max_text", text_bytes, file.max_text)?;
    set_count(
        "correlation.max_conversation_messages",
        conversation_messages,
        file.max_conversation_messages,
    )?;
    set_count("correlation.max_conversation_runs", conversation_runs, file.max_conversation_runs)?;
    set_size("correlation.max_conversation_text", conversation_text_bytes, file.max_conversation_text)?;
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

pub(super) fn net(listen: SocketAddr, file: raw::Server) -> Result<net::Config, ConfigError> {
    let mut config = net::Config::new(listen);
    match file.workers {
        Some(0) => return Err(ConfigError::value("server.workers", "0", "use at least 1")),
        workers => config.workers = workers,
    }
    set_count("server.max_connections", &mut config.max_connections, file.max_connections)?;
    set(&mut config.first_byte_timeout, file.first_byte_timeout);
    set(&mut config.head_timeout, file.head_timeout);
    set_count("server.max_headers", &mut config.max_headers, file.max_headers)?;
    set_size("server.max_head", &mut config.max_head_bytes, file.max_head)?;
    check_head("server.max_head", config.max_head_bytes)?;
    let mut max_header_list = config.max_header_list_bytes as usize;
    set_size("server.max_header_list", &mut max_header_list, file.max_header_list)?;
    config.max_header_list_bytes = u32::try_from(max_header_list).unwrap_or(u32::MAX);
    match file.h2_max_streams {
        Some(0) => return Err(ConfigError::value("server.h2_max_streams", "0", "use at least 1")),
        streams => config.h2_max_streams = streams.unwrap_or(config.h2_max_streams),
    }
    set_window("server.h2_stream_window", &mut config.h2_stream_window_bytes, file.h2_stream_window)?;
    set_window(
        "server.h2_connection_window",
        &mut config.h2_connection_window_bytes,
        file.h2_connection_window,
    )?;
    set_size("server.h2_memory", &mut config.h2_memory_bytes, file.h2_memory)?;
    config.h2_max_pending_resets = file.h2_max_pending_resets.unwrap_or(config.h2_max_pending_resets);
    set(&mut config.h2_ping_interval, file.h2_ping_interval);
    set(&mut config.h2_ping_timeout, file.h2_ping_timeout);
    config.half_close = file.half_close.unwrap_or(config.half_close);
    Ok(config)
}

fn check_head(key: &'static str, bytes: usize) -> Result<(), ConfigError> {
    match bytes {
        net::MIN_HEAD_BYTES.. => Ok(()),
        _ => Err(ConfigError::value(key, format!("{bytes} bytes"), "use at least 8KiB")),
    }
}

pub(super) fn proxy(
    upstream: Upstream,
    capture: Option<bool>,
    file: raw::Proxy,
) -> Result<proxy::Config, ConfigError> {
    let interest = match capture {
        Some(false) => |_: &http::Method, _: &str| Interest::None,
        _ => dialect::interest,
    };
    let mut config = proxy::Config::new(upstream, interest);
    set(&mut config.connect_timeout, file.connect_timeout);
    config.keep_client_host = file.keep_client_host.unwrap_or(config.keep_client_host);
    set(&mut config.idle_timeout, file.idle_timeout);
    config.max_idle = file.max_idle.unwrap_or(config.max_idle);
    set_count("proxy.max_headers", &mut config.max_headers, file.max_headers)?;
    set_size("proxy.max_head", &mut config.max_head_bytes, file.max_head)?;
    check_head("proxy.max_head", config.max_head_bytes)?;
    set(&mut config.continue_timeout, file.continue_timeout);
    set_size("proxy.linger", &mut config.linger_bytes, file.linger)?;
    set(&mut config.linger_timeout, file.linger_timeout);
    set(&mut config.read_on, file.read_on);
    Ok(config)
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

pub(super) fn intake(file: &raw::Intake, key: Option<SecretString>) -> intake::Config {
    let mut config = intake::Config { key, ..intake::Config::default() };
    set(&mut config.hold, file.hold);
    config.max_held = file.max_held.unwrap_or(config.max_held);
    config
}

pub(super) fn store(file: raw::Store) -> Result<store::Config, ConfigError> {
    let sync_every = file.sync_every.map(|span| span.0).filter(|span| !span.is_zero());
    let mut config = store::Config { sync_every, ..store::Config::default() };
    if let Some(Span(retain)) = file.retain {
        if retain < SHORTEST_RETAIN {
            return Err(ConfigError::value(
                "store.retain",
                format!("{retain:?}"),
                "use at least 24h: what is kept is what keeps a run from being recorded twice",
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

pub(super) fn delivery(file: raw::Delivery) -> Result<delivery::Config, ConfigError> {
    let mut config = delivery::Config::default();
    match file.lanes {
        Some(0) => return Err(ConfigError::value("delivery.lanes", "0", "use at least 1")),
        lanes => config.lanes = lanes.unwrap_or(config.lanes),
    }
    set(&mut config.attempt_timeout, file.attempt_timeout);
    set(&mut config.misconfigured_pause, file.misconfigured_pause);
    set(&mut config.max_retry_after, file.max_retry_after);
    config.stuck_after = file.stuck_after.unwrap_or(config.stuck_after);
    config.give_up_after_age = file.give_up_after_age.map(|Span(age)| age);
    match file.give_up_after_attempts {
        Some(0) => {
            return Err(ConfigError::value("delivery.give_up_after_attempts", "0", "use at least 1"));
        }
        attempts => config.give_up_after_attempts = attempts,
    }
    set_size("delivery.budget", &mut config.budget_bytes, file.budget)?;
    let min = file.min_backoff.map_or_else(|| config.backoff.ceiling(1), |span| span.0);
    let max = file.max_backoff.map_or_else(|| config.backoff.ceiling(u32::MAX), |span| span.0);
    config.backoff = delivery::Backoff::new(min, max)
        .map_err(|error| ConfigError::value("delivery.min_backoff", format!("{min:?}"), error.to_string()))?;
    Ok(config)
}

fn set(target: &mut Duration, value: Option<Span>) {
    if let Some(Span(value)) = value {
        *target = value;
    }
}

fn set_count(key: &str, target: &mut usize, value: Option<usize>) -> Result<(), ConfigError> {
    match value {
        Some(0) => return Err(ConfigError::value(key, "0", "use at least 1")),
        Some(value) => *target = value,
        None => {}
    }
    Ok(())
}

/// Sets the size of a window of HTTP/2.
fn set_window(key: &'static str, window: &mut u32, size: Option<Size>) -> Result<(), ConfigError> {
    let mut bytes = *window as usize;
    set_size(key, &mut bytes, size)?;
    match u32::try_from(bytes) {
        Ok(bytes) if bytes <= net::MAX_WINDOW_BYTES => *window = bytes,
        _ => return Err(ConfigError::value(key, format!("{bytes} bytes"), "use less than 2GiB")),
    }
    Ok(())
}

fn set_size(key: &str, target: &mut usize, value: Option<Size>) -> Result<(), ConfigError> {
    let Some(Size(value)) = value else { return Ok(()) };
    set_count(key, target, Some(usize::try_from(value).unwrap_or(usize::MAX)))
}

/// A smaller database holds little more than its own tables.
const SMALLEST_STORE_BYTES: u64 = 2 << 20;
/// More places to look at than anybody has.
const MAX_SOURCES: usize = 32;
/// A run must be known at least as long as it may be polled.
const SHORTEST_RETAIN: Duration = Duration::from_secs(24 * 3600);
