//! Session, user and app, as far as an exchange names them.
//!
//! Several products have their own headers for the same value, and some apps put it into metadata.
//! The [`Order`] says where to look and which source takes precedence. The rank of a source is kept
//! with the value ([`Ranks`](crate::attribution::Ranks)), so that a worse source that is seen later
//! does not replace a better one.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;
use thiserror::Error;

use crate::attribution::{Attribution, User};
use crate::exchange::Start;

/// Where session, user and app are looked for, best source first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Sources of the session.
    pub session: Vec<Source>,
    /// Sources of the user.
    pub user: Vec<Source>,
    /// Sources of the app's name.
    pub app: Vec<Source>,
}

impl Default for Order {
    fn default() -> Self {
        let sources = |names: &[&str]| {
            names.iter().map(|name| name.parse().expect("the built-in sources are well-formed")).collect()
        };
        Self { session: sources(&SESSION), user: sources(&USER), app: sources(&APP) }
    }
}

impl Order {
    /// The headers that are read.
    pub fn headers(&self) -> impl Iterator<Item = &str> {
        let sources = self.session.iter().chain(&self.user).chain(&self.app);
        sources.filter_map(|source| match source {
            Source::Header(name) => Some(name.as_str()),
            Source::Baggage(_) => Some("baggage"),
            Source::Body(_) | Source::Caller | Source::Metadata(_) => None,
        })
    }

    /// Reads the request's headers and body.
    pub(super) fn of_request(&self, start: &Start, body: &Value) -> Attribution {
        let mut found = Attribution {
            session_timeout_minutes: header(start, "x-threadtap-session-timeout")
                .and_then(|minutes| minutes.parse().ok()),
            ..Attribution::default()
        };
        self.look(&mut found, 0, |source| match source {
            Source::Baggage(name) => {
                header(start, "baggage").and_then(|baggage| baggage_entry(baggage, name))
            }
            Source::Body(name) => scalar(&body[name.as_str()]),
            Source::Caller => start.caller.as_deref().map(Cow::Borrowed),
            Source::Header(name) => header(start, name).map(Cow::Borrowed),
            Source::Metadata(_) => None,
        });
        found
    }

    /// Adds the values from an object's metadata.
    pub(super) fn note_metadata(&self, found: &mut Attribution, metadata: &Value, owner: Owner) {
        if !metadata.is_object() {
            return;
        }
        let mut noted = Attribution::default();
        self.look(&mut noted, owner as u8, |source| match source {
            Source::Metadata(name) => scalar(&metadata[name.as_str()]),
            _ => None,
        });
        found.update(&noted);
    }

    fn look<'a>(&self, found: &mut Attribution, step: u8, value: impl Fn(&Source) -> Option<Cow<'a, str>>) {
        let first = |sources: &[Source]| {
            let mut values = sources.iter().enumerate().map(|(place, source)| (place, value(source)));
            values.find_map(|(place, value)| {
                let value = value.filter(|value| !value.is_empty() && value.len() <= MAX_VALUE_BYTES)?;
                let rank = u8::try_from(place).unwrap_or(u8::MAX).saturating_mul(OWNERS).saturating_add(step);
                Some((value.into_owned(), rank))
            })
        };
        if let Some((session, rank)) = first(&self.session) {
            (found.session, found.ranks.session) = (Some(session), rank);
        }
        if let Some((text, rank)) = first(&self.user) {
            (found.user, found.ranks.user) = (Some(user(&text)), rank);
        }
        if let Some((app, rank)) = first(&self.app) {
            (found.app, found.ranks.app) = (Some(app), rank);
        }
    }
}

/// Where a value may be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `baggage:KEY`: an entry of the W3C `baggage` header.
    Baggage(String),
    /// `body:FIELD`: a field of the request's JSON body.
    Body(String),
    /// `caller`: a keyed hash of the credential. The proxy computes it if configured to.
    Caller,
    /// `NAME`: a request header.
    Header(String),
    /// `metadata:KEY`: an entry of the metadata of the run, else of the thread, else of a message.
    Metadata(String),
}

impl FromStr for Source {
    type Err = ParseSourceError;

    fn from_str(text: &str) -> Result<Self, ParseSourceError> {
        let (kind, name) = text.split_once(':').unwrap_or((text, ""));
        let named = |make: fn(String) -> Self| match name {
            "" => Err(ParseSourceError::NoName(text.to_owned())),
            name => Ok(make(name.to_owned())),
        };
        match kind {
            "baggage" => named(Self::Baggage),
            "body" => named(Self::Body),
            "metadata" => named(Self::Metadata),
            "caller" if name.is_empty() => Ok(Self::Caller),
            _ => {
                let header = text.to_ascii_lowercase();
                let valid = http::HeaderName::from_bytes(header.as_bytes()).is_ok();
                match valid {
                    false => Err(ParseSourceError::NoHeader(text.to_owned())),
                    true if is_credential(&header) => Err(ParseSourceError::Credential(header)),
                    true => Ok(Self::Header(header)),
                }
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Baggage(name) => write!(f, "baggage:{name}"),
            Self::Body(name) => write!(f, "body:{name}"),
            Self::Caller => f.write_str("caller"),
            Self::Header(name) => f.write_str(name),
            Self::Metadata(name) => write!(f, "metadata:{name}"),
        }
    }
}

/// Why a source is rejected.
#[derive(Debug, Error)]
pub enum ParseSourceError {
    /// It would put a credential into records.
    #[error("`{0}` carries a credential")]
    Credential(String),
    /// It is not a header name.
    #[error("`{0}` is not a header name, baggage:KEY, body:FIELD, metadata:KEY or caller")]
    NoHeader(String),
    /// It has no name after the colon.
    #[error("`{0}` needs a name behind the colon")]
    NoName(String),
}

/// Whose metadata it is. Earlier variants take precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Run = 0,
    Thread = 1,
    Message = 2,
}

fn header<'a>(start: &'a Start, name: &str) -> Option<&'a str> {
    start.request_header(name).map(str::trim)
}

/// The trace that a request is part of.
pub(super) fn trace_id(start: &Start) -> Option<String> {
    header(start, "traceparent").and_then(trace_of).map(str::to_owned)
}

/// The second field of `traceparent`, if it is well-formed (W3C Trace Context, section 3.2).
fn trace_of(traceparent: &str) -> Option<&str> {
    let mut fields = traceparent.split('-');
    let (version, trace) = (fields.next()?, fields.next()?);
    let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_known = version.len() == 2 && is_hex(version) && version != "ff";
    let is_id = trace.len() == 32 && is_hex(trace) && trace.bytes().any(|byte| byte != b'0');
    Some(trace).filter(|_| is_known && is_id)
}

/// An entry of a `baggage` header (W3C Baggage, section 3.2): `key=value;property, …`,
/// percent-encoded.
fn baggage_entry<'a>(baggage: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let mut entries = baggage.split(',').filter_map(|entry| entry.split(';').next()?.split_once('='));
    let (_, value) = entries.find(|(key, _)| key.trim() == name)?;
    Some(super::path::percent_decode(value.trim()))
}

fn scalar(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text.trim())),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        _ => None,
    }
}

/// The user is an id, or a JSON object with Reconify's user fields.
fn user(text: &str) -> User {
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => User(fields),
        _ => User::from_id(text),
    }
}

fn is_credential(header: &str) -> bool {
    CREDENTIALS.contains(&header) || header.contains("api-key") || header.contains("token")
}

const SESSION: [&str; 8] = [
    "x-threadtap-session",
    "helicone-session-id",
    "x-litellm-session-id",
    "x-portkey-trace-id",
    "agent-session-id",
    "baggage:session.id",
    "metadata:session_id",
    "body:prompt_cache_key",
];
const USER: [&str; 8] = [
    "x-threadtap-user",
    "helicone-user-id",
    "x-litellm-end-user-id",
    "baggage:user.id",
    "body:safety_identifier",
    "body:user",
    "metadata:user_id",
    "metadata:user",
];
const APP: [&str; 2] = ["x-threadtap-app", "caller"];
const CREDENTIALS: [&str; 5] =
    ["authorization", "cookie", "ocp-apim-subscription-key", "proxy-authorization", "x-functions-key"];
/// Longer than any user object needs to be. Keeps a hostile header out of every record.
const MAX_VALUE_BYTES: usize = 4096;
/// The number of metadata owners. Each source has that many ranks.
const OWNERS: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_named_as_it_is_shown() {
        for text in ["x-threadtap-user", "baggage:session.id", "body:user", "metadata:user_id", "caller"] {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), text);
        }
        for odd in ["", "a b", "body:", "metadata:", "Authorization", "api-key", "X-Api-Key", "cookie"] {
            assert!(odd.parse::<Source>().is_err(), "{odd}");
        }
    }

    #[test]
    fn baggage_is_read_as_the_standard_says() {
        let entry = |baggage| baggage_entry(baggage, "session.id").map(Cow::into_owned);
        assert_eq!(entry("a=1, session.id = s%201 ;p=2,b=3").as_deref(), Some("s 1"));
        assert_eq!(entry("session.idx=1,session.id"), None);
    }

    #[test]
    fn a_trace_is_read_as_the_standard_says() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        for version in ["00", "01", "cc"] {
            assert_eq!(trace_of(&format!("{version}-{id}-00f067aa0ba902b7-01-more")), Some(id));
        }
        let zeros = "0".repeat(32);
        for odd in [
            format!("ff-{id}-1-1"),
            format!("0-{id}"),
            format!("00-{zeros}-1-1"),
            format!("00-{}-1-1", id.to_uppercase()),
            format!("00-{}x", &id[1..]),
            "00".to_owned(),
            String::new(),
        ] {
            assert_eq!(trace_of(&odd), None, "{odd}");
        }
    }
}
