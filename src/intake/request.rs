//! Parses and checks the JSON that the app sends about its users and their feedback.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;
use threadtap_core::attribution::User;
use threadtap_core::event::Rating;

/// Why a request is refused. Names the field.
#[derive(Debug, PartialEq, Eq, Error)]
pub(super) enum Invalid {
    #[error("the body is not a JSON object: {0}")]
    NotAnObject(String),
    #[error("{0}: there is no such field")]
    Unknown(String),
    #[error("{0}: {1}")]
    Field(&'static str, &'static str),
}

impl Invalid {
    /// The invalid field, if the error is about one.
    pub(super) fn field(&self) -> Option<&str> {
        match self {
            Self::NotAnObject(_) => None,
            Self::Unknown(field) => Some(field),
            Self::Field(field, _) => Some(field),
        }
    }
}

/// Feedback as the app sends it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Feedback {
    pub(super) rating: Rating,
    #[serde(default)]
    pub(super) comment: Option<String>,
    #[serde(default)]
    pub(super) score: Option<f64>,
    #[serde(default)]
    pub(super) message: Option<String>,
    #[serde(default)]
    pub(super) run: Option<String>,
    #[serde(default)]
    pub(super) thread: Option<String>,
    #[serde(default)]
    pub(super) session: Option<String>,
    #[serde(default)]
    pub(super) app: Option<String>,
}

impl Feedback {
    /// Reads a request's body.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Invalid> {
        let mut fields = Fields::parse(body)?;
        let rating = match fields.text("rating")?.as_deref() {
            Some("thumbs_down") => Rating::ThumbsDown,
            Some("thumbs_up") => Rating::ThumbsUp,
            Some(_) | None => return Err(Invalid::Field("rating", "say \"thumbs_up\" or \"thumbs_down\"")),
        };
        let score = match fields.0.shift_remove("score") {
            None | Some(Value::Null) => None,
            Some(score) => {
                let score = score.as_f64().filter(|score| score.is_finite());
                Some(score.ok_or(Invalid::Field("score", "give a number"))?)
            }
        };
        let feedback = Self {
            rating,
            comment: fields.text("comment")?,
            score,
            message: fields.text("message_id")?,
            run: fields.text("run_id")?,
            thread: fields.text("thread_id")?,
            session: fields.text("session_id")?,
            app: fields.text("app")?,
        };
        fields.end()?;
        if feedback.reference().is_none() {
            return Err(Invalid::Field("message_id", "name a message_id, run_id, session_id or thread_id"));
        }
        Ok(feedback)
    }

    /// The most specific id of what was rated.
    pub(super) fn reference(&self) -> Option<&str> {
        [&self.message, &self.run, &self.session, &self.thread].into_iter().find_map(Option::as_deref)
    }

    /// Whether the feedback is about a message or the output of a run, not about a session.
    pub(super) fn is_of_a_message(&self) -> bool {
        self.message.is_some() || self.run.is_some()
    }
}

/// A user as the app describes it.
#[derive(Debug, PartialEq)]
pub(super) struct Profile {
    pub(super) id: String,
    pub(super) user: User,
    pub(super) app: Option<String>,
}

impl Profile {
    /// Reads a request's body. Null removes the earlier value.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Invalid> {
        let mut fields = Fields::parse(body)?;
        let id = fields.text("id")?.ok_or(Invalid::Field("id", "is needed"))?;
        let mut user = User::from_id(&id);
        for (field, name) in TEXTS {
            if let Some(value) = fields.nullable_text(field)? {
                user.0.insert(name.to_owned(), value);
            }
        }
        if let Some(Value::String(address)) = user.0.get("ip")
            && address.parse::<Ipv4Addr>().is_err()
        {
            return Err(Invalid::Field("ip", "give an IPv4 address"));
        }
        if let Some(Value::String(code)) = user.0.get_mut("countryCode") {
            if code.len() != 2 || !code.bytes().all(|byte| byte.is_ascii_alphabetic()) {
                return Err(Invalid::Field("country", "give the two letters of ISO 3166-1"));
            }
            code.make_ascii_uppercase();
        }
        if let Some(created_at) = user.0.get_mut("createdAt")
            && let Value::String(text) = created_at
        {
            let time: jiff::Timestamp = text
                .parse()
                .map_err(|_| Invalid::Field("created_at", "give a time as RFC 3339 writes it"))?;
            *created_at = Value::from(time.as_millisecond().max(0));
        }
        match fields.0.shift_remove("properties") {
            None => {}
            Some(properties @ Value::Null) => {
                user.0.insert("properties".to_owned(), properties);
            }
            Some(Value::Object(properties)) => {
                if properties.len() > MAX_PROPERTIES {
                    return Err(Invalid::Field("properties", "give at most 50"));
                }
                if !properties.values().all(Value::is_string) {
                    return Err(Invalid::Field("properties", "each value is a string"));
                }
                user.0.insert("properties".to_owned(), Value::Object(properties));
            }
            Some(_) => return Err(Invalid::Field("properties", "give an object of strings")),
        }
        let app = fields.text("app")?;
        fields.end()?;
        Ok(Self { id, user, app })
    }
}

/// The fields of a body that were not read yet.
struct Fields(Map<String, Value>);

impl Fields {
    fn parse(body: &[u8]) -> Result<Self, Invalid> {
        serde_json::from_slice(body).map(Self).map_err(|error| Invalid::NotAnObject(error.to_string()))
    }

    /// An optional text. Empty and null count as missing.
    fn text(&mut self, field: &'static str) -> Result<Option<String>, Invalid> {
        let text = self.nullable_text(field)?;
        Ok(text.and_then(|text| text.as_str().map(str::to_owned)).filter(|text| !text.is_empty()))
    }

    /// A text, null, or `None` if the field is missing.
    fn nullable_text(&mut self, field: &'static str) -> Result<Option<Value>, Invalid> {
        match self.0.shift_remove(field) {
            None => Ok(None),
            Some(Value::String(text)) if text.len() > MAX_TEXT_BYTES => {
                Err(Invalid::Field(field, "is longer than 4096 bytes"))
            }
            Some(value @ (Value::Null | Value::String(_))) => Ok(Some(value)),
            Some(_) => Err(Invalid::Field(field, "give a string")),
        }
    }

    /// Refuses unknown fields, so that a misspelt field is noticed.
    fn end(self) -> Result<(), Invalid> {
        self.0.into_iter().next().map_or(Ok(()), |(field, _)| Err(Invalid::Unknown(field)))
    }
}

/// The text fields and their names in a [`User`]. The names are Reconify's, where it has one.
const TEXTS: [(&str, &str); 9] = [
    ("country", "countryCode"),
    ("created_at", "createdAt"),
    ("display_name", "displayName"),
    ("email", "email"),
    ("first_name", "firstName"),
    ("gender", "gender"),
    ("ip", "ip"),
    ("last_name", "lastName"),
    ("phone", "phone"),
];
const MAX_PROPERTIES: usize = 50;
const MAX_TEXT_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(parse: fn(&[u8]) -> Option<Invalid>, body: &str, field: &str) {
        let invalid = parse(body.as_bytes()).unwrap_or_else(|| panic!("{body} was taken"));
        assert_eq!(invalid.field(), Some(field), "{body}");
        assert!(invalid.to_string().starts_with(field), "{invalid}");
    }

    #[test]
    fn feedback_names_what_is_judged_and_how() {
        let feedback = |body: Value| Feedback::parse(body.to_string().as_bytes()).unwrap();
        let full = feedback(
            json!({"message_id": "m", "run_id": "r", "thread_id": "t", "session_id": "s", "app": "a",
            "rating": "thumbs_down", "comment": "no", "score": 0.25}),
        );
        assert_eq!((full.reference(), full.is_of_a_message(), full.score), (Some("m"), true, Some(0.25)));
        let run = feedback(
            json!({"run_id": "r", "thread_id": "t", "rating": "thumbs_up", "comment": null, "score": null}),
        );
        assert_eq!((run.reference(), run.is_of_a_message(), &run.comment), (Some("r"), true, &None));
        let session = feedback(json!({"session_id": "s", "thread_id": "t", "rating": "thumbs_up"}));
        assert_eq!((session.reference(), session.is_of_a_message()), (Some("s"), false));
    }

    #[test]
    fn odd_feedback_is_refused_by_its_field() {
        let check = |body: &str, field: &str| refused(|body| Feedback::parse(body).err(), body, field);
        check(r#"{"thread_id": "t"}"#, "rating");
        check(r#"{"thread_id": "t", "rating": "great"}"#, "rating");
        check(r#"{"thread_id": "t", "rating": 1}"#, "rating");
        check(r#"{"rating": "thumbs_up"}"#, "message_id");
        check(r#"{"rating": "thumbs_up", "thread_id": ""}"#, "message_id");
        check(r#"{"rating": "thumbs_up", "thread_id": 7}"#, "thread_id");
        check(r#"{"rating": "thumbs_up", "thread_id": "t", "score": "high"}"#, "score");
        check(r#"{"rating": "thumbs_up", "thread_id": "t", "tread_id": "t"}"#, "tread_id");
        for body in ["", "[]", "{", "7", "null"] {
            assert_eq!(Feedback::parse(body.as_bytes()).unwrap_err().field(), None, "{body}");
        }
    }

    #[test]
    fn a_profile_becomes_the_users_fields() {
        let body = json!({"id": "u", "display_name": "Jane", "email": "j@e.com", "ip": "192.0.2.1", "country": "kr",
            "created_at": "2024-01-02T03:04:05.678Z", "properties": {"plan": "pro"}, "first_name": null, "app": "shop"});
        let Profile { id, user, app } = Profile::parse(body.to_string().as_bytes()).unwrap();
        assert_eq!((id.as_str(), app.as_deref()), ("u", Some("shop")));
        let expected = json!({"userId": "u", "displayName": "Jane", "email": "j@e.com", "ip": "192.0.2.1",
            "countryCode": "KR", "createdAt": 1_704_164_645_678_u64, "properties": {"plan": "pro"}, "firstName": null});
        assert_eq!(Value::Object(user.0), expected);
    }

    #[test]
    fn odd_profiles_are_refused_by_their_field() {
        let check = |body: &str, field: &str| refused(|body| Profile::parse(body).err(), body, field);
        check(r#"{"email": "a@b"}"#, "id");
        check(r#"{"id": 7}"#, "id");
        check(r#"{"id": "u", "ip": "::1"}"#, "ip");
        check(r#"{"id": "u", "country": "KOR"}"#, "country");
        check(r#"{"id": "u", "created_at": "yesterday"}"#, "created_at");
        check(r#"{"id": "u", "properties": {"n": 1}}"#, "properties");
        check(r#"{"id": "u", "properties": []}"#, "properties");
        check(r#"{"id": "u", "mail": "a@b"}"#, "mail");
        check(&json!({"id": "u", "email": "x".repeat(5000)}).to_string(), "email");
    }
}
