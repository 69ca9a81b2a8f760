//! The settings of all sinks, by type.

use http::Uri;
use serde::Deserialize;

use super::{align, reconify};
use crate::settings::{Invalid, Secret};

/// A sink in the settings file.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum SinkSettings {
    /// Of type `align`.
    Align(align::Settings),
    /// Of type `reconify`.
    Reconify(reconify::Settings),
}

/// The names of two variables that must be set together, if only one of them is set.
pub(super) fn half(one: (&'static str, bool), other: (&'static str, bool)) -> Option<[&'static str; 2]> {
    (one.1 != other.1).then_some([one.0, other.0])
}

pub(super) fn required(key: &str, value: Option<Secret>, variable: &str) -> Result<Secret, Invalid> {
    value.ok_or_else(|| Invalid::new(key, "", format!("set {key}, {key}_file or {variable}")))
}

pub(super) fn uri(key: &str, text: &str) -> Result<Uri, Invalid> {
    text.parse().map_err(|_| Invalid::new(key, text, "use an absolute http:// or https:// address"))
}
