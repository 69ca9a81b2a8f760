//! Settings: reads flags, environment and file, and returns the checked settings of each module.
//!
//! A flag overrides its environment variable, which overrides the file, which overrides the
//! default. A file is read only if one is named. An error is one line: the key, the value, and what
//! is allowed. Secrets come from the environment, from a file of their own, or from the settings
//! file. They are never shown.

mod changes;
mod modules;
mod raw;
mod sinks;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use threadtap_core::settings::{Invalid, Secret};
use threadtap_core::sink::Sink;

use self::raw::File;
use crate::proxy::Upstream;
use crate::{admin, capture, delivery, intake, net, pipeline, proxy, store};

pub use self::changes::Changes;
pub use self::raw::{Interactions, LogFormat};
pub use threadtap_core::settings::Environment;

/// The values from the command line or its environment variables.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--config` or `THREADTAP_CONFIG`.
    pub config: Option<PathBuf>,
    /// `--listen` or `THREADTAP_LISTEN`.
    pub listen: Option<String>,
    /// `--upstream` or `THREADTAP_UPSTREAM`.
    pub upstream: Option<String>,
    /// `--admin-listen` or `THREADTAP_ADMIN_LISTEN`.
    pub admin_listen: Option<String>,
    /// `--data-dir` or `THREADTAP_DATA_DIR`.
    pub data_dir: Option<PathBuf>,
}

/// The environment of the process.
#[derive(Clone, Copy, Debug)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().filter(|value| !value.is_empty())
    }

    fn text_of(&self, file: &Path) -> io::Result<String> {
        std::fs::read_to_string(file)
    }
}

/// A value, and whether it was set explicitly. A default may be replaced where an explicit value
/// may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice<T> {
    /// Not set; this is the default.
    Default(T),
    /// Set by flag, environment or file.
    Explicit(T),
}

impl<T> Choice<T> {
    /// The value.
    pub fn value(&self) -> &T {
        let (Self::Default(value) | Self::Explicit(value)) = self;
        value
    }

    fn of(explicit: Option<T>, default: impl FnOnce() -> T) -> Self {
        explicit.map_or_else(|| Self::Default(default()), Self::Explicit)
    }
}

/// All settings, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Client connections.
    pub net: net::Config,
    /// Forwarding.
    pub proxy: proxy::Config,
    /// Whether anything is captured.
    pub capture_enabled: bool,
    /// Taps.
    pub capture: capture::Config,
    /// Dialects and correlation.
    pub pipeline: pipeline::Config,
    /// The store. Its directory is in `data_dir`.
    pub store: store::Config,
    /// The store's directory. `None` keeps records in memory.
    pub data_dir: Option<Choice<PathBuf>>,
    /// Whether startup fails if the directory cannot be used. Otherwise records are kept in memory.
    pub store_required: bool,
    /// Whether callers are told apart by their credentials.
    pub callers: Callers,
    /// Feedback and users that the app reports.
    pub intake: intake::Config,
    /// How deliveries are made.
    pub delivery: delivery::Config,
    /// The sinks to which records are delivered.
    pub sinks: Vec<Arc<Sink>>,
    /// The address of the admin listener.
    pub admin_listen: Choice<SocketAddr>,
    /// The admin listener.
    pub admin: admin::Config,
    /// How the process stops.
    pub drain: Drain,
    /// What is logged and shown.
    pub log: Log,
}

/// How callers are told apart by their credentials: by a keyed hash, never the credential itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Callers {
    /// With this key, so that several processes give the same names.
    Keyed(Secret),
    /// With a key that is kept in the data directory.
    KeyOfDataDir,
    /// Not at all.
    Off,
}

/// How the process stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// How long requests are still accepted after readiness is off, so that load balancers can
    /// notice.
    pub delay: Duration,
    /// How long exchanges in progress may take.
    pub grace: Duration,
}

/// What is logged, and what is shown on the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A filter of levels by module, in the syntax of `RUST_LOG`. That variable overrides the file.
    pub level: String,
    /// How lines are written.
    pub format: LogFormat,
    /// Whether interactions are shown.
    pub interactions: Interactions,
}

/// A setting that cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the settings file {path} cannot be read: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file is not valid.
    #[error("{path} line {line}: `{text}`: {reason}")]
    Form {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The line's text; not shown where it may hold a secret.
        text: String,
        /// What is wrong, and what is allowed.
        reason: String,
    },
    /// A value cannot be used.
    #[error(transparent)]
    Value(#[from] Invalid),
}

impl ConfigError {
    fn value(key: impl Into<String>, value: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self::Value(Invalid::new(key, value, allowed))
    }
}

impl Config {
    /// Reads, combines and checks the settings.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn load(flags: &Flags, environment: &impl Environment) -> Result<Self, ConfigError> {
        let file = match &flags.config {
            Some(path) => read(path)?,
            None => File::default(),
        };
        Self::build(file, flags, environment)
    }

    fn build(file: File, flags: &Flags, environment: &impl Environment) -> Result<Self, ConfigError> {
        let listen = flags.listen.as_deref().or(file.listen.as_deref()).unwrap_or(DEFAULT_LISTEN);
        let upstream = flags.upstream.as_deref().or(file.upstream.as_deref()).unwrap_or(DEFAULT_UPSTREAM);
        let upstream: Upstream = upstream.parse().map_err(|error| {
            ConfigError::value(
                "upstream",
                upstream,
                format!("{error}; use http:// or https://, a host, and if need be a port and a path"),
            )
        })?;
        let admin_listen = flags.admin_listen.as_deref().or(file.admin_listen.as_deref());
        let admin_listen = admin_listen.map(|text| address("admin_listen", text)).transpose()?;
        let admin_listen = Choice::of(admin_listen, || {
            DEFAULT_ADMIN_LISTEN.parse().expect("the default address is an address")
        });
        let data_dir = flags.data_dir.clone().or(file.data_dir);
        let data_dir = Some(Choice::of(data_dir, || default_data_dir(environment)));
        let correlation = modules::correlation(&file.correlation)?;
        let dialect = modules::dialect(&file.attribution, &file.chat, &file.capture)?;
        let store_required = file.store.required.unwrap_or(matches!(data_dir, Some(Choice::Explicit(_))));
        let mut store = modules::store(file.store)?;
        store.conversation_ttl = correlation.conversation_ttl;
        store.remembered_turns = correlation.limits.remembered_turns;
        Ok(Self {
            net: file.server.build(address("listen", listen)?)?,
            proxy: file.proxy.build(upstream)?,
            capture_enabled: file.capture.enabled.unwrap_or(true),
            capture: modules::capture(&file.capture, &dialect.attribution)?,
            pipeline: modules::pipeline(dialect, correlation, &file.sessions)?,
            store,
            data_dir,
            store_required,
            intake: file.intake.build(environment)?,
            delivery: file.delivery.build()?,
            callers: callers(file.attribution, environment)?,
            sinks: sinks::build(file.sinks, environment)?,
            admin_listen,
            admin: admin::Config {
                token: match environment.variable("THREADTAP_ADMIN_TOKEN") {
                    Some(token) => Some(token.into()),
                    None => Secret::from_settings(
                        "admin.token",
                        file.admin.token,
                        file.admin.token_file.as_deref(),
                        environment,
                    )?,
                },
            },
            drain: Drain {
                delay: file.drain.delay.map_or(Duration::ZERO, |span| span.0),
                grace: file.drain.grace.map_or(DEFAULT_DRAIN_GRACE, |span| span.0),
            },
            log: Log {
                level: environment
                    .variable("RUST_LOG")
                    .or(file.log.level)
                    .unwrap_or_else(|| DEFAULT_LOG_LEVEL.to_owned()),
                format: file.log.format.unwrap_or_default(),
                interactions: file.log.interactions.unwrap_or_default(),
            },
        })
    }
}

fn read(path: &Path) -> Result<File, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::File { path: path.to_owned(), reason: error.to_string() })?;
    parse(&text, path)
}

fn parse(text: &str, path: &Path) -> Result<File, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text[..at].matches('\n').count();
        let shown = text.lines().nth(line).unwrap_or_default().trim();
        let secret = ["key", "token"].iter().any(|word| shown.contains(word));
        let shown = if secret { shown.split_once('=').map_or("…", |(key, _)| key.trim()) } else { shown };
        ConfigError::Form {
            path: path.to_owned(),
            line: line + 1,
            text: shown.to_owned(),
            reason: error.message().replace('\n', " "),
        }
    })
}

fn address(key: &str, text: &str) -> Result<SocketAddr, ConfigError> {
    let resolved = text.parse().ok().or_else(|| {
        let port = text.strip_prefix("localhost:")?;
        format!("127.0.0.1:{port}").parse().ok()
    });
    resolved.ok_or_else(|| {
        ConfigError::value(
            key,
            text,
            "use an IP address and a port, for example 127.0.0.1:8080, [::1]:8080 or 0.0.0.0:8080",
        )
    })
}

fn callers(file: raw::Attribution, environment: &impl Environment) -> Result<Callers, ConfigError> {
    let raw::Attribution { hash_credentials, hash_key, hash_key_file, .. } = file;
    let key = Secret::from_settings("attribution.hash_key", hash_key, hash_key_file.as_deref(), environment)?;
    Ok(match (hash_credentials.unwrap_or(false), key) {
        (false, _) => Callers::Off,
        (true, Some(key)) => Callers::Keyed(key),
        (true, None) => Callers::KeyOfDataDir,
    })
}

/// The user's data directory by the XDG base directory specification, or by the macOS convention.
/// If there is none, a directory in the current one.
fn default_data_dir(environment: &impl Environment) -> PathBuf {
    let home = environment.variable("HOME").map(PathBuf::from);
    let data = environment.variable("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let below_home = if cfg!(target_os = "macos") { "Library/Application Support" } else { ".local/share" };
    match data.or_else(|| home.map(|home| home.join(below_home))) {
        Some(data) => data.join("threadtap"),
        None => PathBuf::from("threadtap-data"),
    }
}

const DEFAULT_LISTEN: &str = "127.0.0.1:8080";
const DEFAULT_ADMIN_LISTEN: &str = "127.0.0.1:9090";
const DEFAULT_UPSTREAM: &str = "https://api.openai.com";
const DEFAULT_DRAIN_GRACE: Duration = Duration::from_secs(30);
const DEFAULT_LOG_LEVEL: &str = "info";

#[cfg(test)]
mod tests;
