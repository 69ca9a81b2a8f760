//! The settings of an Align sink, from the file and the environment.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::{Align, Config, ConfigError, UnknownUser};
use crate::settings::{Environment, Invalid, Secret, Span};
use crate::sink::filter::FilterSettings;
use crate::sink::settings::{half, required, uri};

/// A sink in the settings file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    name: Option<String>,
    api_key: Option<Secret>,
    api_key_file: Option<PathBuf>,
    project_id: Option<String>,
    host: Option<String>,
    filter: FilterSettings,
    properties: BTreeMap<String, String>,
    unknown_user: Option<String>,
    batch: Option<usize>,
    linger: Option<Span>,
}

impl Settings {
    /// Builds the sink. `section` is the section of the settings. Values in `keys` override the
    /// file.
    ///
    /// # Errors
    /// If a setting cannot be used.
    pub fn build(self, section: &str, keys: Keys, environment: &impl Environment) -> Result<Align, Invalid> {
        let Self {
            name,
            api_key,
            api_key_file,
            project_id,
            host,
            filter,
            properties,
            unknown_user,
            batch,
            linger,
        } = self;
        let at = |key: &str| format!("{section}.{key}");
        let api_key = Secret::from_settings(&at("api_key"), api_key, api_key_file.as_deref(), environment)?;
        let api_key = required(&at("api_key"), keys.api_key.or(api_key), API_KEY)?;
        let project_id = keys.project_id.or(project_id).ok_or_else(|| {
            Invalid::new(at("project_id"), "", format!("set {} or {PROJECT_ID}", at("project_id")))
        })?;
        let mut config = Config { properties, ..Config::new(api_key, project_id) };
        if let Some(name) = name {
            config.name = name.into();
        }
        if let Some(text) = keys.host.or(host) {
            config.host = uri(&at("host"), &text)?;
        }
        config.filter = filter.build(&at("filter"))?;
        config.unknown_user = match unknown_user.as_deref() {
            None | Some("pseudonym") => UnknownUser::OfSession,
            Some("") => {
                return Err(Invalid::new(
                    at("unknown_user"),
                    "",
                    "use \"pseudonym\" or an id for all of them",
                ));
            }
            Some(name) => UnknownUser::Named(name.to_owned()),
        };
        match batch {
            Some(0) => return Err(Invalid::new(at("batch"), "0", "use at least 1")),
            batch => config.batch.events = batch.unwrap_or(config.batch.events),
        }
        config.batch.linger = linger.map_or(config.batch.linger, |Span(linger)| linger);
        Align::new(config).map_err(|error| {
            let (key, value) = match &error {
                ConfigError::ApiKey => ("api_key", "…".to_owned()),
                ConfigError::EmptyProjectId => ("project_id", String::new()),
                ConfigError::HostNotAbsolute(host) => ("host", host.to_string()),
                ConfigError::PropertyKey(key) | ConfigError::PropertyValue(key) => {
                    ("properties", key.clone())
                }
                ConfigError::TooManyProperties(count) => ("properties", count.to_string()),
            };
            Invalid::new(at(key), value, error.to_string())
        })
    }
}

/// The settings in the environment.
#[derive(Debug, Default)]
pub struct Keys {
    api_key: Option<Secret>,
    project_id: Option<String>,
    host: Option<String>,
}

impl Keys {
    /// Reads them.
    #[must_use]
    pub fn read(environment: &impl Environment) -> Self {
        Self {
            api_key: environment.variable(API_KEY).map(Secret::from),
            project_id: environment.variable(PROJECT_ID),
            host: environment.variable("ALIGNAI_HOST"),
        }
    }

    /// Whether they enable a sink.
    #[must_use]
    pub fn are_enough(&self) -> bool {
        self.api_key.is_some() && self.project_id.is_some()
    }

    /// The variables that belong together, if only one of them is set.
    #[must_use]
    pub fn half(&self) -> Option<[&'static str; 2]> {
        half((API_KEY, self.api_key.is_some()), (PROJECT_ID, self.project_id.is_some()))
    }
}

const API_KEY: &str = "ALIGNAI_API_KEY";
const PROJECT_ID: &str = "ALIGNAI_PROJECT_ID";
