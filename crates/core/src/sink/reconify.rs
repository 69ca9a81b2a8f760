//! Reconify: one `POST /track` per run, with the body of the vendor's own SDK (`reconify` 3.1.0 on
//! npm). Assistants' runs use the body of `logAssistant`, chats that of its wrapped
//! `chat.completions.create`.
//!
//! Credentials are in the body. Intentional differences from the SDK: an unknown time is replaced
//! by the proxy's own and never 0. Unknown usage is omitted. Users are never mixed up. A streamed
//! chat includes its response. A failed send is repeated. The vendor has no type for a response, so
//! it is sent as an input and an output message ([`ResponsesShape`]).

mod chat;
mod message;
mod settings;
mod turn;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use thiserror::Error;

pub use self::settings::{Keys, Settings};

use crate::attribution::User;
use crate::event::{Event, Record};
use crate::interaction::{Interaction, Status, TimeSource};
use crate::observation::Api;
use crate::payload::Payload;
use crate::settings::Secret;
use crate::sink::filter::Filter;
use crate::sink::verdict::Verdict;
use crate::time::UnixMillis;

/// Settings of a Reconify sink.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The sink's name in metrics, logs and the store.
    pub name: Arc<str>,
    /// The application's key.
    pub app_key: Secret,
    /// The account's key.
    pub api_key: Secret,
    /// The URL to post to: absolute, `http` or `https`.
    pub url: Uri,
    /// Which runs are sent.
    pub filter: Filter,
    /// How a response is sent. The vendor has no type for it.
    pub responses: ResponsesShape,
}

/// How a response is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponsesShape {
    /// Format `openai`, type `assistant`: an input message and an output message.
    #[default]
    Assistant,
    /// Format `universal`, type `chat`: lists of messages.
    Universal,
}

impl Config {
    /// Default settings. Only the keys are required: sends completed runs to the vendor's address.
    #[must_use]
    pub fn new(app_key: Secret, api_key: Secret) -> Self {
        Self {
            name: Arc::from("reconify"),
            app_key,
            api_key,
            url: Uri::from_static(DEFAULT_URL),
            filter: Filter { statuses: vec![Status::Completed], ..Filter::default() },
            responses: ResponsesShape::default(),
        }
    }
}

/// Why settings are rejected.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The vendor rejects an empty key.
    #[error("the api key is empty")]
    EmptyApiKey,
    /// The vendor rejects an empty key.
    #[error("the app key is empty")]
    EmptyAppKey,
    /// There is no address to post to.
    #[error("the url {0} is not an absolute http or https address")]
    UrlNotAbsolute(Uri),
}

/// A Reconify application.
#[derive(Debug, PartialEq)]
pub struct Reconify {
    config: Config,
}

impl Reconify {
    /// Checks the settings.
    ///
    /// # Errors
    /// If they can never work.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        if config.app_key.expose().is_empty() {
            return Err(ConfigError::EmptyAppKey);
        }
        if config.api_key.expose().is_empty() {
            return Err(ConfigError::EmptyApiKey);
        }
        if config.url.host().is_none() || !matches!(config.url.scheme_str(), Some("http" | "https")) {
            return Err(ConfigError::UrlNotAbsolute(config.url));
        }
        Ok(Self { config })
    }

    /// The configured name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.config.name
    }

    /// Whether the event is a run that the filter accepts. A turn with messages only from tools is
    /// not sent. A chat that the API truncated counts as completed, as in the SDK.
    #[must_use]
    pub fn accepts(&self, event: &Event) -> bool {
        let Event::Interaction(interaction) = event else { return false };
        let filter = &self.config.filter;
        let (may_be_silent, cut_short_is_completed) = match self.form(interaction) {
            Form::Assistant => (true, false),
            Form::Chat => (false, true),
            Form::TurnAsAssistant | Form::TurnAsChat => (false, false),
        };
        let tells = may_be_silent || interaction.messages().next().is_some();
        let cut_short = cut_short_is_completed && interaction.status == Status::Incomplete;
        let status = filter.admits_status(interaction.status)
            || (cut_short && filter.admits_status(Status::Completed));
        status && tells && filter.admits_but_for_status(event)
    }

    /// The vendor's body. The event's key is sent as `Idempotency-Key`, because the body has no
    /// field for it.
    #[must_use]
    pub fn encode(&self, records: &[Record]) -> Option<Payload> {
        let [Record { event: Event::Interaction(interaction), .. }] = records else { return None };
        let mut headers = HeaderMap::with_capacity(3);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Ok(key) = HeaderValue::from_str(&interaction.key) {
            headers.insert(IDEMPOTENCY_KEY, key);
        }
        let body = serde_json::to_vec(&self.body(interaction)).expect("string keys and finite numbers only");
        Some(Payload { uri: self.config.url.clone(), headers, body: Bytes::from(body), cuts: 0 })
    }

    /// The shared rules, and one of the vendor's: a 2xx whose JSON has a `status` other than `ok`
    /// was not accepted.
    #[must_use]
    pub fn judge(&self, status: StatusCode, body: &[u8]) -> Verdict {
        let verdict = Verdict::of_status(status);
        if verdict != Verdict::Ack {
            return verdict;
        }
        match serde_json::from_slice(body) {
            Ok(ApiResponse { status: Some(status) }) if status != "ok" => {
                Verdict::DeadLetter("status_not_ok")
            }
            _ => Verdict::Ack,
        }
    }

    /// The only place that decides how an API is represented for the vendor.
    fn form(&self, interaction: &Interaction) -> Form {
        match (interaction.api, self.config.responses) {
            (Api::Assistants, _) => Form::Assistant,
            (Api::Chat, _) => Form::Chat,
            (Api::Responses, ResponsesShape::Assistant) => Form::TurnAsAssistant,
            (Api::Responses, ResponsesShape::Universal) => Form::TurnAsChat,
        }
    }

    fn body<'a>(&'a self, interaction: &'a Interaction) -> Body<'a> {
        let attribution = &interaction.attribution;
        let form = self.form(interaction);
        let (format, kind, request, response) = match form {
            Form::Assistant => {
                made("openai", "assistant", message::request(interaction), message::response(interaction))
            }
            Form::Chat => ("openai", "chat", chat::request(interaction), Some(chat::response(interaction))),
            Form::TurnAsAssistant => {
                made("openai", "assistant", turn::request(interaction), turn::response(interaction))
            }
            Form::TurnAsChat => {
                made("universal", "chat", turn::asked(interaction), Some(turn::answered(interaction)))
            }
        };
        Body {
            reconify: Envelope {
                format,
                app_key: self.config.app_key.expose(),
                api_key: self.config.api_key.expose(),
                kind,
                version: "3.1.0",
            },
            request,
            response,
            user: attribution.user.as_ref().map(user),
            session: attribution.session.as_deref(),
            session_timeout: attribution.session_timeout_minutes,
            timestamps: Timestamps::of(interaction, form),
        }
    }
}

/// The vendor's format and type for a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A run, as `logAssistant` sends it: an input message and an output message.
    Assistant,
    /// A chat: request and response as in the API.
    Chat,
    /// A turn as an input message and an output message.
    TurnAsAssistant,
    /// A turn as lists of messages.
    TurnAsChat,
}

/// Field order is the vendor's.
#[derive(Serialize)]
struct Body<'a> {
    reconify: Envelope<'a>,
    request: Object<'a>,
    response: Option<Object<'a>>,
    #[serde(serialize_with = "object_or_empty")]
    user: Option<Map<String, Value>>,
    session: Option<&'a str>,
    #[serde(rename = "sessionTimeout")]
    session_timeout: Option<u64>,
    timestamps: Timestamps,
}

/// A format, a type, and objects built from the record.
fn made<'a>(
    format: &'static str,
    kind: &'static str,
    request: Map<String, Value>,
    response: Option<Map<String, Value>>,
) -> (&'static str, &'static str, Object<'a>, Option<Object<'a>>) {
    (format, kind, Object::Made(request), response.map(Object::Made))
}

/// The request or the response.
#[derive(Serialize)]
#[serde(untagged)]
enum Object<'a> {
    /// As in the API.
    Kept(&'a RawValue),
    /// As in the record.
    Made(Map<String, Value>),
}

#[derive(Serialize)]
struct Envelope<'a> {
    format: &'static str,
    #[serde(rename = "appKey")]
    app_key: &'a str,
    #[serde(rename = "apiKey")]
    api_key: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    version: &'static str,
}

/// Unix milliseconds, never 0.
#[derive(Serialize)]
struct Timestamps {
    request: u64,
    response: u64,
}

impl Timestamps {
    fn of(interaction: &Interaction, form: Form) -> Self {
        let times = &interaction.times;
        let (began, ended) = match (form, times.source) {
            (Form::Assistant, _) => (times.started_at, times.ended_at),
            (_, TimeSource::Backfilled) => (times.created_at, times.ended_at),
            // For a turn, the API reports the end in whole seconds at most. Combined with the
            // proxy's clock for the beginning, the clocks would be mixed.
            (_, TimeSource::Live) => (None, None),
        };
        Self {
            request: api_millis(began).unwrap_or_else(|| first_known(times.request_at, times.end_at)),
            response: api_millis(ended).unwrap_or_else(|| first_known(times.end_at, times.request_at)),
        }
    }
}

/// The part of a response that is examined.
#[derive(Deserialize)]
struct ApiResponse {
    status: Option<Value>,
}

/// The API counts seconds; some servers give fractions.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and far below 2^53")]
fn api_millis(seconds: Option<f64>) -> Option<u64> {
    let millis = (seconds? * 1000.0).round();
    (1.0..9e15).contains(&millis).then_some(millis as u64)
}

fn first_known(wanted: UnixMillis, other: UnixMillis) -> u64 {
    if wanted.0 == 0 { other.0.max(1) } else { wanted.0 }
}

/// The user as given, without fields that the vendor's format does not have. A display name
/// replaces a missing first name.
fn user(known: &User) -> Map<String, Value> {
    let mut user = known.0.clone();
    let display_name = user.shift_remove("displayName");
    for field in ["countryCode", "createdAt", "ip", "properties"] {
        user.shift_remove(field);
    }
    if let Some(name) = display_name
        && !user.contains_key("firstName")
        && !user.contains_key("lastName")
    {
        user.insert("firstName".to_owned(), name);
    }
    user
}

fn object_or_empty<S: serde::Serializer>(
    user: &Option<Map<String, Value>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match user {
        Some(user) => user.serialize(serializer),
        None => Map::new().serialize(serializer),
    }
}

const DEFAULT_URL: &str = "https://track.reconify.com/track";
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

#[cfg(test)]
mod tests;
