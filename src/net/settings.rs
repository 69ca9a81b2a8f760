//! The `[server]` section of the configuration file.

use std::net::SocketAddr;

use serde::Deserialize;
use threadtap_core::settings::{Invalid, Size, Span, set, set_count, set_size};

use super::{Config, MAX_WINDOW_BYTES, MIN_HEAD_BYTES};

/// The section; missing keys take their defaults.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    workers: Option<usize>,
    max_connections: Option<usize>,
    first_byte_timeout: Option<Span>,
    head_timeout: Option<Span>,
    max_headers: Option<usize>,
    max_head: Option<Size>,
    max_header_list: Option<Size>,
    h2_max_streams: Option<u32>,
    h2_stream_window: Option<Size>,
    h2_connection_window: Option<Size>,
    h2_memory: Option<Size>,
    h2_max_pending_resets: Option<usize>,
    h2_ping_interval: Option<Span>,
    h2_ping_timeout: Option<Span>,
    half_close: Option<bool>,
}

impl Settings {
    /// Builds the settings of a listener on `listen`.
    ///
    /// # Errors
    /// If a setting is invalid.
    pub fn build(self, listen: SocketAddr) -> Result<Config, Invalid> {
        let mut config = Config::new(listen);
        if self.workers == Some(0) {
            return Err(Invalid::new("server.workers", "0", "use at least 1"));
        }
        config.workers = self.workers;
        set_count("server.max_connections", &mut config.max_connections, self.max_connections)?;
        set(&mut config.first_byte_timeout, self.first_byte_timeout);
        set(&mut config.head_timeout, self.head_timeout);
        set_count("server.max_headers", &mut config.max_headers, self.max_headers)?;
        set_head("server.max_head", &mut config.max_head_bytes, self.max_head)?;
        let mut max_header_list = config.max_header_list_bytes as usize;
        set_size("server.max_header_list", &mut max_header_list, self.max_header_list)?;
        config.max_header_list_bytes = u32::try_from(max_header_list).unwrap_or(u32::MAX);
        set_count("server.h2_max_streams", &mut config.h2_max_streams, self.h2_max_streams)?;
        set_window("server.h2_stream_window", &mut config.h2_stream_window_bytes, self.h2_stream_window)?;
        set_window(
            "server.h2_connection_window",
            &mut config.h2_connection_window_bytes,
            self.h2_connection_window,
        )?;
        set_size("server.h2_memory", &mut config.h2_memory_bytes, self.h2_memory)?;
        config.h2_max_pending_resets = self.h2_max_pending_resets.unwrap_or(config.h2_max_pending_resets);
        set(&mut config.h2_ping_interval, self.h2_ping_interval);
        set(&mut config.h2_ping_timeout, self.h2_ping_timeout);
        config.half_close = self.half_close.unwrap_or(config.half_close);
        Ok(config)
    }
}

/// Sets the maximum size of a head.
pub(crate) fn set_head(key: &str, target: &mut usize, size: Option<Size>) -> Result<(), Invalid> {
    set_size(key, target, size)?;
    match *target {
        MIN_HEAD_BYTES.. => Ok(()),
        bytes => Err(Invalid::new(key, format!("{bytes} bytes"), "use at least 8KiB")),
    }
}

/// Sets the size of an HTTP/2 window.
fn set_window(key: &str, window: &mut u32, size: Option<Size>) -> Result<(), Invalid> {
    let mut bytes = *window as usize;
    set_size(key, &mut bytes, size)?;
    match u32::try_from(bytes) {
        Ok(bytes) if bytes <= MAX_WINDOW_BYTES => *window = bytes,
        _ => return Err(Invalid::new(key, format!("{bytes} bytes"), "use less than 2GiB")),
    }
    Ok(())
}
