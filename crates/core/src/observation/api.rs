//! The supported wire APIs.

use serde::{Deserialize, Serialize};

/// A wire API. This is the only list of them. `dialect::registry` defines how a dialect reads one.
/// [`ApiTraits`] defines what the other parts must know about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Api {
    /// Threads, messages and runs. A run that was not reported as a turn belongs to this API.
    #[default]
    Assistants,
    /// Chat Completions.
    Chat,
    /// Responses and Conversations.
    Responses,
}

/// What other parts must know about an API's runs, besides the observations.
#[derive(Clone, Copy, Debug)]
pub struct ApiTraits {
    /// The name in records, settings and metrics. It is part of stored keys and must never change.
    pub name: &'static str,
    /// Whether the server stores a run, so that clients can fetch it and later requests can name
    /// it. If not, the run is over when its exchange is, and only tool outputs refer back to it.
    pub keeps_runs: bool,
    /// Whether ids of runs may repeat. If so, a dialect makes them unique (see
    /// [`unique_id`](super::unique_id)), and records show the API's own id.
    pub run_ids_repeat: bool,
}

impl Api {
    /// All wire APIs.
    pub const ALL: [Self; 3] = [Self::Assistants, Self::Chat, Self::Responses];

    /// The traits of this API.
    #[must_use]
    pub const fn traits(self) -> ApiTraits {
        match self {
            Self::Assistants => ApiTraits { name: "assistants", keeps_runs: true, run_ids_repeat: false },
            Self::Chat => ApiTraits { name: "chat", keeps_runs: false, run_ids_repeat: true },
            Self::Responses => ApiTraits { name: "responses", keeps_runs: true, run_ids_repeat: false },
        }
    }

    /// The name in records, settings and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.traits().name
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn all_apis_are_listed_once_and_stored_by_their_names() {
        // A new variant does not compile here. It must also be added to the list.
        let place = |api| match api {
            Api::Assistants => 0,
            Api::Chat => 1,
            Api::Responses => 2,
        };
        let places: HashSet<usize> = Api::ALL.into_iter().map(place).collect();
        assert_eq!(places.len(), Api::ALL.len());
        for api in Api::ALL {
            let stored = serde_json::to_string(&api).unwrap();
            assert_eq!(stored, format!("\"{}\"", api.as_str()));
            assert_eq!(serde_json::from_str::<Api>(&stored).unwrap(), api);
        }
    }
}
