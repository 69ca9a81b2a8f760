//! Each section of the file over the defaults of the module it is for.

use std::net::SocketAddr;
use std::time::Duration;

use super::ConfigError;
use super::raw::{self, Size, Span};
use crate::proxy::Upstream;
use crate::{capture, correlator, delivery, dialect, net, proxy, store};

pub(super) fn correlation(file: &raw::Correlation) -> correlator::Config {
    let mut config = correlator::Config::default();
    set(&mut config.outputs_grace, file.outputs_grace);
    set(&mut config.unresolved_grace, file.unresolved_grace);
    set(&mut config.assumed_run_time, file.assumed_run_time);
    set(&mut config.conversation_ttl, file.conversation_ttl);
    set(&mut config.history_max_age, file.history_max_age);
    config
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
    let mut max_header_list = config.max_header_list_bytes as usize;
    set_size("server.max_header_list", &mut max_header_list, file.max_header_list)?;
    config.max_header_list_bytes = u32::try_from(max_header_list).unwrap_or(u32::MAX);
    set(&mut config.h2_ping_interval, file.h2_ping_interval);
    set(&mut config.h2_ping_timeout, file.h2_ping_timeout);
    config.half_close = file.half_close.unwrap_or(config.half_close);
    Ok(config)
}

pub(super) fn proxy(
    upstream: Upstream,
    capture: Option<bool>,
    file: raw::Proxy,
) -> Result<proxy::Config, ConfigError> {
    let interest = if capture == Some(false) { |_: &http::Method, _: &str| false } else { dialect::interest };
    let mut config = proxy::Config::new(upstream, interest);
    set(&mut config.connect_timeout, file.connect_timeout);
    config.keep_client_host = file.keep_client_host.unwrap_or(config.keep_client_host);
    set(&mut config.idle_timeout, file.idle_timeout);
    config.max_idle = file.max_idle.unwrap_or(config.max_idle);
    set_count("proxy.max_headers", &mut config.max_headers, file.max_headers)?;
    config.preserve_header_case = file.preserve_header_case.unwrap_or(config.preserve_header_case);
    set(&mut config.continue_timeout, file.continue_timeout);
    set_size("proxy.linger", &mut config.linger_bytes, file.linger)?;
    set(&mut config.linger_timeout, file.linger_timeout);
    Ok(config)
}

pub(super) fn capture(file: &raw::Capture) -> Result<capture::Config, ConfigError> {
    let mut config = capture::Config::default();
    set_count("capture.queue", &mut config.queue, file.queue)?;
    set_size("capture.budget", &mut config.budget_bytes, file.budget)?;
    set_size("capture.max_body", &mut config.max_body_bytes, file.max_body)?;
    set_size("capture.max_prefix", &mut config.max_prefix_bytes, file.max_prefix)?;
    set_size("capture.segment", &mut config.segment_bytes, file.segment)?;
    set(&mut config.segment_age, file.segment_age);
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
                "use at least 24h: what is kept is what keeps a run from being recorded twice",
            ));
        }
        config.retain = retain;
    }
    config.max_bytes = file.max_size.map(|size| size.0).or(config.max_bytes);
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

fn set_size(key: &str, target: &mut usize, value: Option<Size>) -> Result<(), ConfigError> {
    let Some(Size(value)) = value else { return Ok(()) };
    set_count(key, target, Some(usize::try_from(value).unwrap_or(usize::MAX)))
}

/// A run must be known at least as long as it may be polled.
const SHORTEST_RETAIN: Duration = Duration::from_secs(24 * 3600);
