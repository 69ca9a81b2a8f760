//! Align: sends events in batches to its Connect method `CollectEvents`, in the JSON form of the
//! vendor's Edge SDK (`alignai-edge` on npm), within the limits that its Node SDK checks.
//!
//! | event | becomes |
//! |---|---|
//! | user identified | `user_recognize` |
//! | session opened, closed | `session_open`, `session_close` |
//! | interaction | a `message_create` for each input and output, under its number in the session |
//! | feedback | `feedback_create` |
//!
//! Intentional differences from the SDKs: values that are too long are shortened and counted, never
//! rejected. Ids are derived from the event, so that a repeated send can be recognised. Only
//! messages of users and assistants are sent. Property keys are checked.

mod limits;
mod settings;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use thiserror::Error;

pub use self::settings::{Keys, Settings};

use crate::event::{Event, Record, key_of};
use crate::payload::Payload;
use crate::settings::Secret;
use crate::sink::Batch;
use crate::sink::filter::Filter;
use crate::sink::verdict::Verdict;
use limits::{MAX_PROPERTIES, MAX_VALUE, is_property_key, units};

/// Settings of an Align sink.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The sink's name in metrics, logs and the store.
    pub name: Arc<str>,
    /// The API key: a bearer token.
    pub api_key: Secret,
    /// The project id in every event.
    pub project_id: String,
    /// The service's URL: absolute, `http` or `https`. The method's path is appended to its path.
    pub host: Uri,
    /// Which events are sent.
    pub filter: Filter,
    /// Properties that are added to every event.
    pub properties: BTreeMap<String, String>,
    /// The user id for a session whose user is unknown.
    pub unknown_user: UnknownUser,
    /// How events are batched.
    pub batch: Batch,
}

/// The user id for a session whose user is unknown. Align requires an id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UnknownUser {
    /// Always the same id.
    Named(String),
    /// A pseudonym that is unique to the session.
    #[default]
    OfSession,
}

impl Config {
    /// Default settings. Only key and project are required.
    #[must_use]
    pub fn new(api_key: Secret, project_id: String) -> Self {
        Self {
            name: Arc::from("align"),
            api_key,
            project_id,
            host: Uri::from_static(DEFAULT_HOST),
            filter: Filter::default(),
            properties: BTreeMap::new(),
            unknown_user: UnknownUser::default(),
            batch: Batch { events: 50, linger: Duration::from_secs(3) },
        }
    }
}

/// Why settings are rejected.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// Align requires a key.
    #[error("the api key is empty, or not made of visible characters")]
    ApiKey,
    /// Every event contains the project.
    #[error("the project id is empty")]
    EmptyProjectId,
    /// There is no address to post to.
    #[error("the host {0} is not an absolute http or https address")]
    HostNotAbsolute(Uri),
    /// Align's rule for properties.
    #[error("the property {0} is not a letter followed by at most 63 letters, digits and underscores")]
    PropertyKey(String),
    /// Align's rule for properties.
    #[error("the value of the property {0} is empty or longer than 256 characters")]
    PropertyValue(String),
    /// Align's rule for properties.
    #[error("there are {0} properties, 10 are allowed")]
    TooManyProperties(usize),
}

/// An Align project.
#[derive(Debug, PartialEq)]
pub struct Align {
    config: Config,
    uri: Uri,
    authorization: HeaderValue,
}

impl Align {
    /// Checks the settings.
    ///
    /// # Errors
    /// If they can never work.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        if config.project_id.is_empty() {
            return Err(ConfigError::EmptyProjectId);
        }
        let count = config.properties.len();
        if count > MAX_PROPERTIES {
            return Err(ConfigError::TooManyProperties(count));
        }
        for (key, value) in &config.properties {
            if !is_property_key(key) {
                return Err(ConfigError::PropertyKey(key.clone()));
            }
            if value.is_empty() || units(value) > MAX_VALUE {
                return Err(ConfigError::PropertyValue(key.clone()));
            }
        }
        let key = config.api_key.expose();
        let mut authorization =
            HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| ConfigError::ApiKey)?;
        if key.is_empty() {
            return Err(ConfigError::ApiKey);
        }
        authorization.set_sensitive(true);
        let absolute = matches!(config.host.scheme_str(), Some("http" | "https"));
        let base = config.host.to_string();
        let uri = format!("{}{METHOD}", base.trim_end_matches('/')).parse().ok();
        let Some(uri) = uri.filter(|uri: &Uri| absolute && uri.host().is_some()) else {
            return Err(ConfigError::HostNotAbsolute(config.host));
        };
        Ok(Self { config, uri, authorization })
    }

    /// The configured name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.config.name
    }

    /// Whether the filter accepts the event, and the event contains anything for Align.
    #[must_use]
    pub fn accepts(&self, event: &Event) -> bool {
        let tells = match event {
            Event::Interaction(interaction) => interaction.messages().next().is_some(),
            Event::UserIdentified(identified) => identified.user.id().is_some(),
            Event::Feedback(_) | Event::SessionClosed(_) | Event::SessionOpened(_) => true,
        };
        tells && self.config.filter.admits(event)
    }

    /// How events are batched into one request.
    #[must_use]
    pub fn batch(&self) -> Batch {
        self.config.batch
    }

    /// How many Align events a record becomes.
    #[must_use]
    pub fn weight(record: &Record) -> usize {
        match &record.event {
            Event::Interaction(interaction) => interaction.messages().count(),
            _ => 1,
        }
    }

    /// A call of `CollectEvents`, or none if the records contain nothing for Align.
    ///
    /// Each event's id is derived from the record's key, and the request's id from those, so that
    /// Align can detect repetitions.
    #[must_use]
    pub fn encode(&self, records: &[Record]) -> Option<Payload> {
        let mut encoder = wire::Encoder::new(&self.config);
        for record in records {
            encoder.add(record);
        }
        let (events, cuts) = encoder.finish();
        if events.is_empty() {
            return None;
        }
        let keys: Vec<&str> = records.iter().map(|record| record.event.key()).collect();
        let request = wire::Request { request_id: key_of(&keys), events };
        let body = serde_json::to_vec(&request).expect("string keys only");
        let mut headers = HeaderMap::with_capacity(3);
        headers.insert(AUTHORIZATION, self.authorization.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONNECT_VERSION, HeaderValue::from_static("1"));
        Some(Payload { uri: self.uri.clone(), headers, body: Bytes::from(body), cuts })
    }

    /// The shared rules, and one of Connect's: success is a JSON object. Any other body is not from
    /// Align, whatever its content type. Treating it as an acknowledgement would lose the events.
    #[must_use]
    pub fn judge(&self, status: StatusCode, body: &[u8]) -> Verdict {
        let verdict = Verdict::of_status(status);
        if verdict == Verdict::Ack
            && !body.trim_ascii().is_empty()
            && !body.trim_ascii_start().starts_with(b"{")
        {
            return Verdict::Misconfigured;
        }
        verdict
    }
}

const DEFAULT_HOST: &str = "https://api.impaction.ai";
const METHOD: &str = "/ingestion.v1alpha.IngestionService/CollectEvents";
const CONNECT_VERSION: HeaderName = HeaderName::from_static("connect-protocol-version");

#[cfg(test)]
mod tests;
