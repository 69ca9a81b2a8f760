//! Everything a sink can be sent.

use serde::{Deserialize, Serialize};

use crate::interaction::Interaction;
use crate::observation::ConversationKey;

/// A domain event. Stored as JSON, so variants are never renamed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A run is settled.
    Interaction(Box<Interaction>),
}

impl Event {
    /// The key under which this event is stored once and delivered; the same however often it is derived.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Interaction(interaction) => &interaction.key,
        }
    }

    /// The conversation whose order it keeps.
    #[must_use]
    pub fn conversation(&self) -> &ConversationKey {
        match self {
            Self::Interaction(interaction) => &interaction.conversation,
        }
    }

    /// The kind's name in the store and in metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Interaction(_) => "interaction",
        }
    }
}
