//! The wire APIs there are.

use serde::{Deserialize, Serialize};

/// A wire API: the one list of them. What a dialect reads of one stands in `dialect::registry`, what has to be known of it behind that
/// in [`ApiTraits`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Api {
    /// Threads, messages and runs. A run that was not told as a turn is of this API.
    #[default]
    Assistants,
    /// Chat Completions.
    Chat,
    /// Responses and Conversations.
    Responses,
}

/// What has to be known of an API's runs beside what observations tell.
#[derive(Clone, Copy, Debug)]
pub struct ApiTraits {
    /// The name in records, settings and metrics. It is part of stored keys and never changes.
    pub name: &'static str,
    /// Whether the server keeps a run, so that it can be looked at again and later requests can name it. Else it is over when its
    /// exchange is, and only what its tools returned leads back to it.
    pub keeps_runs: bool,
    /// Whether ids of runs may repeat: then a dialect makes them unique (see [`unique_id`](super::unique_id)), and records show the
    /// API's own.
    pub run_ids_repeat: bool,
}

impl Api {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Assistants, Self::Chat, Self::Responses];

    /// What has to be known of it.
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
        // A further variant does not compile here, and belongs in the list, too.
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
