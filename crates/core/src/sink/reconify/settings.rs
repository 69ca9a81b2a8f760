//! The settings of a Reconify sink, from the file and the environment.

use std::path::PathBuf;

use serde::Deserialize;

use super::{Config, Reconify, ResponsesShape};
use crate::settings::{Environment, Invalid, Secret};
use crate::sink::filter::FilterSettings;
use crate::sink::settings::{half, required, uri};

/// A sink in the settings file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    name: Option<String>,
    app_key: Option<Secret>,
    app_key_file: Option<PathBuf>,
    api_key: Option<Secret>,
    api_key_file: Option<PathBuf>,
    url: Option<String>,
    responses: Option<String>,
    filter: FilterSettings,
}

impl Settings {
    /// Builds the sink. `section` is the section of the settings. Values in `keys` override the
    /// file.
    ///
    /// # Errors
    /// If a setting cannot be used.
    pub fn build(
        self,
        section: &str,
        keys: Keys,
        environment: &impl Environment,
    ) -> Result<Reconify, Invalid> {
        let Self { name, app_key, app_key_file, api_key, api_key_file, url, responses, filter } = self;
        let at = |key: &str| format!("{section}.{key}");
        let app_key = Secret::from_settings(&at("app_key"), app_key, app_key_file.as_deref(), environment)?;
        let api_key = Secret::from_settings(&at("api_key"), api_key, api_key_file.as_deref(), environment)?;
        let mut config = Config::new(
            required(&at("app_key"), keys.app_key.or(app_key), APP_KEY)?,
            required(&at("api_key"), keys.api_key.or(api_key), API_KEY)?,
        );
        if let Some(name) = name {
            config.name = name.into();
        }
        if let Some(text) = keys.url.or(url) {
            config.url = uri(&at("url"), &text)?;
        }
        config.responses = match responses.as_deref() {
            None | Some("assistant") => ResponsesShape::Assistant,
            Some("universal") => ResponsesShape::Universal,
            Some(other) => {
                return Err(Invalid::new(at("responses"), other, "use \"assistant\" or \"universal\""));
            }
        };
        let statuses = std::mem::take(&mut config.filter.statuses);
        config.filter = filter.build(&at("filter"))?;
        if config.filter.statuses.is_empty() {
            config.filter.statuses = statuses;
        }
        let url = config.url.to_string();
        Reconify::new(config).map_err(|error| Invalid::new(at("url"), url, error.to_string()))
    }
}

/// The settings in the environment.
#[derive(Debug, Default)]
pub struct Keys {
    app_key: Option<Secret>,
    api_key: Option<Secret>,
    url: Option<String>,
}

impl Keys {
    /// Reads them.
    #[must_use]
    pub fn read(environment: &impl Environment) -> Self {
        Self {
            app_key: environment.variable(APP_KEY).map(Secret::from),
            api_key: environment.variable(API_KEY).map(Secret::from),
            url: environment.variable("RECONIFY_URL"),
        }
    }

    /// Whether they enable a sink.
    #[must_use]
    pub fn are_enough(&self) -> bool {
        self.app_key.is_some() && self.api_key.is_some()
    }

    /// The variables that belong together, if only one of them is set.
    #[must_use]
    pub fn half(&self) -> Option<[&'static str; 2]> {
        half((APP_KEY, self.app_key.is_some()), (API_KEY, self.api_key.is_some()))
    }
}

const APP_KEY: &str = "RECONIFY_APP_KEY";
const API_KEY: &str = "RECONIFY_API_KEY";
