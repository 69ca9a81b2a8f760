//! The settings of a filter.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Filter;
use crate::interaction::Status;
use crate::settings::Invalid;

/// The selection of events for a sink, in the settings file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FilterSettings {
    statuses: Vec<String>,
    apps: Vec<String>,
    assistants: Vec<String>,
    metadata: BTreeMap<String, String>,
    sample: Option<f64>,
}

impl FilterSettings {
    /// Builds the filter. `section` is the section of the settings.
    pub(crate) fn build(self, section: &str) -> Result<Filter, Invalid> {
        let Self { statuses, apps, assistants, metadata, sample } = self;
        let at = |key: &str| format!("{section}.{key}");
        if let Some(share) = sample
            && !(0.0..=1.0).contains(&share)
        {
            return Err(Invalid::new(at("sample"), share.to_string(), "use a share from 0.0 to 1.0"));
        }
        let statuses = statuses.iter().map(|name| status(&at("statuses"), name)).collect::<Result<_, _>>()?;
        Ok(Filter { statuses, apps, assistants, metadata, sample })
    }
}

fn status(key: &str, name: &str) -> Result<Status, Invalid> {
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
        Invalid::new(key, name, format!("use any of {}", names.join(", ")))
    })
}
