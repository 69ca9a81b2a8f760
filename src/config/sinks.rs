//! The sinks: those of the file, and those the environment switches on by their keys alone.

use std::sync::Arc;

use http::Uri;
use secrecy::SecretString;

use super::{ConfigError, Environment, raw, secret};
use crate::interaction::Status;
use crate::sink::{Sink, reconify};

/// Builds the sinks. Keys in the environment fill the file's first sink of their kind, or make one; they never add a second.
pub(super) fn build(
    file: Vec<raw::Sink>,
    environment: &impl Environment,
) -> Result<Vec<Arc<Sink>>, ConfigError> {
    let mut of_environment = Some(ReconifyKeys::read(environment));
    let mut sinks: Vec<Arc<Sink>> = Vec::new();
    for (number, sink) in file.into_iter().enumerate() {
        let sink = match sink {
            raw::Sink::Reconify { name, app_key, app_key_file, api_key, api_key_file, url, statuses } => {
                let at = |key: &str| format!("sinks[{number}].{key}");
                let keys = of_environment.take().unwrap_or_default();
                let app_key = secret(&at("app_key"), app_key, app_key_file.as_deref())?;
                let api_key = secret(&at("api_key"), api_key, api_key_file.as_deref())?;
                let mut config = reconify::Config::new(
                    required(&at("app_key"), keys.app_key.or(app_key), "RECONIFY_APP_KEY")?,
                    required(&at("api_key"), keys.api_key.or(api_key), "RECONIFY_API_KEY")?,
                );
                if let Some(name) = name {
                    config.name = name.into();
                }
                if let Some(text) = keys.url.or(url) {
                    config.url = uri(&at("url"), &text)?;
                }
                if let Some(names) = statuses {
                    config.statuses =
                        names.iter().map(|name| status(&at("statuses"), name)).collect::<Result<_, _>>()?;
                }
                reconify(config, &at("url"))?
            }
        };
        if sinks.iter().any(|other| other.name() == sink.name()) {
            let key = format!("sinks[{number}].name");
            return Err(ConfigError::value(key, sink.name().to_string(), "give each sink a name of its own"));
        }
        sinks.push(sink);
    }
    if let Some(ReconifyKeys { app_key: Some(app_key), api_key: Some(api_key), url }) = of_environment {
        let mut config = reconify::Config::new(app_key, api_key);
        if let Some(text) = url {
            config.url = uri("RECONIFY_URL", &text)?;
        }
        sinks.push(reconify(config, "RECONIFY_URL")?);
    }
    Ok(sinks)
}

/// What the environment says of Reconify. One key without the other switches nothing on.
#[derive(Default)]
struct ReconifyKeys {
    app_key: Option<SecretString>,
    api_key: Option<SecretString>,
    url: Option<String>,
}

impl ReconifyKeys {
    fn read(environment: &impl Environment) -> Self {
        let keys = Self {
            app_key: environment.variable("RECONIFY_APP_KEY").map(SecretString::from),
            api_key: environment.variable("RECONIFY_API_KEY").map(SecretString::from),
            url: environment.variable("RECONIFY_URL"),
        };
        if keys.app_key.is_some() != keys.api_key.is_some() {
            tracing::warn!(
                "RECONIFY_APP_KEY and RECONIFY_API_KEY belong together: one without the other is not enough"
            );
        }
        keys
    }
}

fn reconify(config: reconify::Config, key: &str) -> Result<Arc<Sink>, ConfigError> {
    let url = config.url.to_string();
    let sink =
        reconify::Reconify::new(config).map_err(|error| ConfigError::value(key, url, error.to_string()))?;
    Ok(Arc::new(Sink::Reconify(sink)))
}

fn required(key: &str, value: Option<SecretString>, variable: &str) -> Result<SecretString, ConfigError> {
    value.ok_or_else(|| ConfigError::value(key, "", format!("set {key}, {key}_file or {variable}")))
}

fn uri(key: &str, text: &str) -> Result<Uri, ConfigError> {
    text.parse().map_err(|_| ConfigError::value(key, text, "use an absolute http:// or https:// address"))
}

fn status(key: &str, name: &str) -> Result<Status, ConfigError> {
    let all = [
        Status::Cancelled,
        Status::ClientDisconnected,
        Status::Completed,
        Status::Error,
        Status::Expired,
        Status::Failed,
        Status::Incomplete,
        Status::ThreadDeleted,
        Status::UnknownFinal,
    ];
    all.into_iter().find(|status| status.as_str() == name).ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|status| status.as_str()).collect();
        ConfigError::value(key, name, format!("use any of {}", names.join(", ")))
    })
}
