//! The sinks: those of the file, and those the environment switches on by their keys alone.

use std::sync::Arc;

use http::Uri;
use secrecy::SecretString;
use threadtap_core::interaction::Status;
use threadtap_core::sink::filter::Filter;
use threadtap_core::sink::reconify::ResponsesShape;
use threadtap_core::sink::{Sink, align, reconify};

use super::{ConfigError, Environment, raw, secret};

/// Builds the sinks. Keys in the environment fill the file's first sink of their kind, or make one; they never add a second.
pub(super) fn build(
    file: Vec<raw::Sink>,
    environment: &impl Environment,
) -> Result<Vec<Arc<Sink>>, ConfigError> {
    let mut align_keys = Some(AlignKeys::read(environment));
    let mut reconify_keys = Some(ReconifyKeys::read(environment));
    let mut sinks: Vec<Arc<Sink>> = Vec::new();
    for (number, sink) in file.into_iter().enumerate() {
        let section = format!("sinks[{number}]");
        let sink = match sink {
            raw::Sink::Align(file) => align(&section, file, align_keys.take().unwrap_or_default())?,
            raw::Sink::Reconify(file) => reconify(&section, file, reconify_keys.take().unwrap_or_default())?,
        };
        if sinks.iter().any(|other| other.name() == sink.name()) {
            let name = sink.name().to_string();
            return Err(ConfigError::value(
                format!("{section}.name"),
                name,
                "give each sink a name of its own",
            ));
        }
        sinks.push(Arc::new(sink));
    }
    if let Some(keys @ AlignKeys { api_key: Some(_), project_id: Some(_), .. }) = align_keys {
        sinks.push(Arc::new(align("the environment", raw::Align::default(), keys)?));
    }
    if let Some(keys @ ReconifyKeys { app_key: Some(_), api_key: Some(_), .. }) = reconify_keys {
        sinks.push(Arc::new(reconify("the environment", raw::Reconify::default(), keys)?));
    }
    Ok(sinks)
}

fn align(section: &str, file: raw::Align, keys: AlignKeys) -> Result<Sink, ConfigError> {
    let at = |key: &str| format!("{section}.{key}");
    let api_key = secret(&at("api_key"), file.api_key, file.api_key_file.as_deref())?;
    let api_key = required(&at("api_key"), keys.api_key.or(api_key), "ALIGNAI_API_KEY")?;
    let project_id = keys.project_id.or(file.project_id).ok_or_else(|| {
        ConfigError::value(at("project_id"), "", format!("set {} or ALIGNAI_PROJECT_ID", at("project_id")))
    })?;
    let mut config = align::Config::new(api_key, project_id);
    if let Some(name) = file.name {
        config.name = name.into();
    }
    if let Some(text) = keys.host.or(file.host) {
        config.host = uri(&at("host"), &text)?;
    }
    config.filter = filter(&at("filter"), file.filter)?;
    config.properties = file.properties;
    config.unknown_user = match file.unknown_user.as_deref() {
        None | Some("pseudonym") => align::UnknownUser::OfSession,
        Some("") => {
            return Err(ConfigError::value(
                at("unknown_user"),
                "",
                "use \"pseudonym\" or an id for all of them",
            ));
        }
        Some(name) => align::UnknownUser::Named(name.to_owned()),
    };
    match file.batch {
        Some(0) => return Err(ConfigError::value(at("batch"), "0", "use at least 1")),
        batch => config.batch.events = batch.unwrap_or(config.batch.events),
    }
    config.batch.linger = file.linger.map_or(config.batch.linger, |span| span.0);
    let sink = align::Align::new(config).map_err(|error| {
        let (key, value) = match &error {
            align::ConfigError::ApiKey => ("api_key", "…".to_owned()),
            align::ConfigError::EmptyProjectId => ("project_id", String::new()),
            align::ConfigError::HostNotAbsolute(host) => ("host", host.to_string()),
            align::ConfigError::PropertyKey(key) | align::ConfigError::PropertyValue(key) => {
                ("properties", key.clone())
            }
            align::ConfigError::TooManyProperties(count) => ("properties", count.to_string()),
        };
        ConfigError::value(at(key), value, error.to_string())
    })?;
    Ok(Sink::Align(sink))
}

fn reconify(section: &str, file: raw::Reconify, keys: ReconifyKeys) -> Result<Sink, ConfigError> {
    let at = |key: &str| format!("{section}.{key}");
    let app_key = secret(&at("app_key"), file.app_key, file.app_key_file.as_deref())?;
    let api_key = secret(&at("api_key"), file.api_key, file.api_key_file.as_deref())?;
    let mut config = reconify::Config::new(
        required(&at("app_key"), keys.app_key.or(app_key), "RECONIFY_APP_KEY")?,
        required(&at("api_key"), keys.api_key.or(api_key), "RECONIFY_API_KEY")?,
    );
    if let Some(name) = file.name {
        config.name = name.into();
    }
    if let Some(text) = keys.url.or(file.url) {
        config.url = uri(&at("url"), &text)?;
    }
    config.responses = match file.responses.as_deref() {
        None | Some("assistant") => ResponsesShape::Assistant,
        Some("universal") => ResponsesShape::Universal,
        Some(other) => {
            return Err(ConfigError::value(at("responses"), other, "use \"assistant\" or \"universal\""));
        }
    };
    let statuses = std::mem::take(&mut config.filter.statuses);
    config.filter = filter(&at("filter"), file.filter)?;
    if config.filter.statuses.is_empty() {
        config.filter.statuses = statuses;
    }
    let url = config.url.to_string();
    let sink = reconify::Reconify::new(config)
        .map_err(|error| ConfigError::value(at("url"), url, error.to_string()))?;
    Ok(Sink::Reconify(sink))
}

fn filter(section: &str, file: raw::Filter) -> Result<Filter, ConfigError> {
    let at = |key: &str| format!("{section}.{key}");
    if let Some(share) = file.sample
        && !(0.0..=1.0).contains(&share)
    {
        return Err(ConfigError::value(at("sample"), share.to_string(), "use a share from 0.0 to 1.0"));
    }
    let statuses = file.statuses.unwrap_or_default();
    Ok(Filter {
        statuses: statuses.iter().map(|name| status(&at("statuses"), name)).collect::<Result<_, _>>()?,
        apps: file.apps.unwrap_or_default(),
        assistants: file.assistants.unwrap_or_default(),
        metadata: file.metadata.unwrap_or_default(),
        sample: file.sample,
    })
}

/// What the environment says of Align. One without the other switches nothing on.
#[derive(Default)]
struct AlignKeys {
    api_key: Option<SecretString>,
    project_id: Option<String>,
    host: Option<String>,
}

impl AlignKeys {
    fn read(environment: &impl Environment) -> Self {
        let keys = Self {
            api_key: environment.variable("ALIGNAI_API_KEY").map(SecretString::from),
            project_id: environment.variable("ALIGNAI_PROJECT_ID"),
            host: environment.variable("ALIGNAI_HOST"),
        };
        warn_of_half(
            "ALIGNAI_API_KEY",
            keys.api_key.is_some(),
            "ALIGNAI_PROJECT_ID",
            keys.project_id.is_some(),
        );
        keys
    }
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
        warn_of_half("RECONIFY_APP_KEY", keys.app_key.is_some(), "RECONIFY_API_KEY", keys.api_key.is_some());
        keys
    }
}

fn warn_of_half(one: &'static str, has_one: bool, other: &'static str, has_other: bool) {
    if has_one != has_other {
        tracing::warn!("{one} and {other} belong together: one without the other is not enough");
    }
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
