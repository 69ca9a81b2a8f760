//! The messages of `ingestion.v1alpha`, in proto3's JSON form and in the field order of the
//! vendor's Edge SDK.

use serde::Serialize;
use serde_json::{Map, Value};

use super::limits::{MAX_ID, MAX_PROPERTIES, MAX_VALUE, fit, fit_id, is_property_key};
use super::{Config, UnknownUser};
use crate::attribution::User;
use crate::event::{Event, Feedback, FeedbackTarget, Record, SessionKey, SessionOpened, key_of};
use crate::interaction::{Interaction, TimeSource};
use crate::message::{Message, Role};
use crate::time::UnixMillis;

/// `CollectEventsRequest`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request<'a> {
    pub(super) request_id: String,
    pub(super) events: Vec<WireEvent<'a>>,
}

/// `Event`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireEvent<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    create_time: String,
    properties: Properties,
    project_id: &'a str,
}

/// `EventProperties`: one of the four, and custom ones.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Properties {
    #[serde(skip_serializing_if = "Option::is_none")]
    user_properties: Option<UserProperties>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_properties: Option<SessionProperties>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_properties: Option<MessageProperties>,
    #[serde(skip_serializing_if = "Option::is_none")]
    feedback_properties: Option<FeedbackProperties>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    custom_properties: Map<String, Value>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct UserProperties {
    user_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_location: Option<Location>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_create_time: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Location {
    country_code: String,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct SessionProperties {
    session_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_start_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    assistant_id: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MessageProperties {
    session_id: String,
    message_index_hint: i32,
    message_role: &'static str,
    message_content: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FeedbackProperties {
    session_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_index_hint: Option<i32>,
    feedback_target: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
}

/// Collects the events of one request, and counts the values that were changed to fit.
pub(super) struct Encoder<'a> {
    config: &'a Config,
    events: Vec<WireEvent<'a>>,
    cuts: u64,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(config: &'a Config) -> Self {
        Self { config, events: Vec::new(), cuts: 0 }
    }

    /// The events, and how many values were changed to fit.
    pub(super) fn finish(self) -> (Vec<WireEvent<'a>>, u64) {
        (self.events, self.cuts)
    }

    pub(super) fn add(&mut self, record: &Record) {
        match &record.event {
            Event::Feedback(feedback) => self.feedback(feedback),
            Event::Interaction(interaction) => self.messages(interaction, record.first_message.unwrap_or(1)),
            Event::SessionClosed(closed) => {
                let session_properties =
                    SessionProperties { session_id: self.id(&closed.session.id), ..Default::default() };
                let properties =
                    Properties { session_properties: Some(session_properties), ..Default::default() };
                self.push(&closed.key, "session_close", closed.at, properties, &[]);
            }
            Event::SessionOpened(opened) => self.session_opened(opened),
            Event::UserIdentified(identified) => self.user(&identified.key, &identified.user, identified.at),
        }
    }

    fn session_opened(&mut self, opened: &SessionOpened) {
        let known = opened.attribution.user.as_ref().and_then(User::id).filter(|id| !id.is_empty());
        let user_id = match (known, &self.config.unknown_user) {
            (Some(id), _) => self.id(id),
            (None, UnknownUser::Named(name)) => self.id(name),
            (None, UnknownUser::OfSession) => pseudonym(&opened.session),
        };
        let assistant = opened.assistant.as_deref().filter(|id| !id.is_empty());
        let session_properties = SessionProperties {
            session_id: self.id(&opened.session.id),
            session_start_time: Some(timestamp(opened.at)),
            user_id: Some(user_id),
            assistant_id: Some(self.id(assistant.unwrap_or(DEFAULT_ASSISTANT))),
        };
        let properties = Properties { session_properties: Some(session_properties), ..Default::default() };
        self.push(&opened.key, "session_open", opened.at, properties, &[]);
    }

    fn messages(&mut self, interaction: &Interaction, first: u64) {
        let session = SessionKey::of(&interaction.attribution, &interaction.conversation);
        let asked = interaction.inputs.iter().filter(|message| message.role.speaks()).count();
        for (at, message) in interaction.messages().enumerate() {
            let text = message.text();
            let message_properties = MessageProperties {
                session_id: self.id(&session.id),
                message_index_hint: index(first + at as u64),
                message_role: if message.role == Role::User { "ROLE_USER" } else { "ROLE_ASSISTANT" },
                // Align rejects an empty text, and omitting the message would leave a gap in the
                // numbers.
                message_content: if text.is_empty() { NO_TEXT.to_owned() } else { text },
            };
            let properties =
                Properties { message_properties: Some(message_properties), ..Default::default() };
            let key = key_of(&[&interaction.key, "message", &at.to_string()]);
            let time = said_at(interaction, message, at < asked);
            self.push_as(key, "message_create", time, properties, &[]);
        }
    }

    fn user(&mut self, key: &str, user: &User, at: UnixMillis) {
        let Some(id) = user.id() else { return };
        let text = |field: &str| user.0.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
        let full_name =
            [text("firstName"), text("lastName")].into_iter().flatten().collect::<Vec<_>>().join(" ");
        let name = text("displayName").or_else(|| Some(&*full_name).filter(|name| !name.is_empty()));
        let mut user_properties = UserProperties { user_id: self.id(id), ..Default::default() };
        user_properties.user_display_name = name.map(|name| self.cut(name, MAX_ID));
        user_properties.user_email = text("email").map(|email| self.cut(email, MAX_VALUE));
        user_properties.user_ip = text("ip").map(str::to_owned);
        user_properties.user_create_time =
            user.0.get("createdAt").and_then(Value::as_u64).map(|millis| timestamp(UnixMillis(millis)));
        match text("countryCode") {
            Some(code) if code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
                user_properties.user_location = Some(Location { country_code: code.to_owned() });
            }
            Some(_) => self.cuts += 1,
            None => {}
        }
        let custom = user.0.get("properties").and_then(Value::as_object);
        let custom: Vec<(&str, String)> = custom
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?.to_owned())))
            .collect();
        let properties = Properties { user_properties: Some(user_properties), ..Default::default() };
        self.push(key, "user_recognize", at, properties, &custom);
    }

    fn feedback(&mut self, feedback: &Feedback) {
        let (message_index_hint, feedback_target) = match &feedback.target {
            FeedbackTarget::Message { number, .. } => (Some(index(*number)), "TARGET_MESSAGE"),
            FeedbackTarget::Session => (None, "TARGET_SESSION"),
        };
        let feedback_properties = FeedbackProperties {
            session_id: self.id(&feedback.session.id),
            message_index_hint,
            feedback_target,
            kind: feedback.rating.as_str(),
        };
        let comment = feedback.comment.clone().map(|comment| ("comment", comment));
        let score = feedback.score.map(|score| ("score", score.to_string()));
        let custom: Vec<_> = comment.into_iter().chain(score).collect();
        let properties = Properties { feedback_properties: Some(feedback_properties), ..Default::default() };
        self.push(&feedback.key, "feedback_create", feedback.at, properties, &custom);
    }

    fn push(
        &mut self,
        key: &str,
        kind: &'static str,
        at: UnixMillis,
        properties: Properties,
        custom: &[(&str, String)],
    ) {
        self.push_as(key.to_owned(), kind, at, properties, custom);
    }

    fn push_as(
        &mut self,
        id: String,
        kind: &'static str,
        at: UnixMillis,
        properties: Properties,
        custom: &[(&str, String)],
    ) {
        let custom_properties = self.custom(custom);
        let properties = Properties { custom_properties, ..properties };
        let create_time = timestamp(at);
        self.events.push(WireEvent {
            id,
            kind,
            create_time,
            properties,
            project_id: &self.config.project_id,
        });
    }

    /// The configured properties first, then the event's own, as long as there is room.
    fn custom(&mut self, own: &[(&str, String)]) -> Map<String, Value> {
        let mut properties = Map::new();
        let configured = self.config.properties.iter().map(|(key, value)| (key.as_str(), value));
        for (key, value) in configured.chain(own.iter().map(|(key, value)| (*key, value))) {
            let room = properties.len() < MAX_PROPERTIES && !properties.contains_key(key);
            if !is_property_key(key) || value.is_empty() || !room {
                self.cuts += 1;
                continue;
            }
            let value = Map::from_iter([("stringValue".to_owned(), Value::from(self.cut(value, MAX_VALUE)))]);
            properties.insert(key.to_owned(), Value::Object(value));
        }
        properties
    }

    fn id(&mut self, id: &str) -> String {
        let (id, replaced) = fit_id(id);
        self.cuts += u64::from(replaced);
        id.into_owned()
    }

    fn cut(&mut self, text: &str, max: usize) -> String {
        let (text, cut) = fit(text, max);
        self.cuts += u64::from(cut);
        text.to_owned()
    }
}

/// When a message was sent: by the proxy's clock if the run was seen live, else by the API's.
fn said_at(interaction: &Interaction, message: &Message, is_input: bool) -> UnixMillis {
    let times = &interaction.times;
    let seen = if is_input { times.request_at } else { times.end_at };
    match (times.source, message.created_at) {
        (TimeSource::Backfilled, Some(seconds)) if (1.0..9e12).contains(&seconds) =>
        {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
            UnixMillis((seconds * 1000.0) as u64)
        }
        _ => seen,
    }
}

/// An anonymous user, the same throughout a session.
fn pseudonym(session: &SessionKey) -> String {
    format!("anonymous-{}", key_of(&["user of", &session.scope, &session.id]))
}

/// `messageIndexHint` is an `int32`.
fn index(number: u64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// RFC 3339 with milliseconds, in UTC: proto3's JSON form of a `Timestamp`.
fn timestamp(at: UnixMillis) -> String {
    let millis = i64::try_from(at.0).unwrap_or(i64::MAX).min(LAST_MILLIS);
    let time = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{time:.3}")
}

const DEFAULT_ASSISTANT: &str = "DEFAULT";
const NO_TEXT: &str = "[no text]";
/// The end of the year 9999, proto3's last.
const LAST_MILLIS: i64 = 253_402_300_799_999;
