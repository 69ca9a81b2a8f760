//! An observation with its placement: the content of a journal entry.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::attribution::Attribution;
use crate::observation::{ConversationKey, Fact, Observation, Turn};
use crate::time::UnixMillis;

/// An observation with the conversation it belongs to, and the decisions made when it was placed. A
/// replay at another time or with other settings therefore decides nothing again.
///
/// Its JSON is that of the observation. The decisions are stored among the fields of the turn.
#[derive(Clone, Debug)]
pub struct Placed {
    pub(super) observation: Observation,
    pub(super) placement: Placement,
}

/// The decisions about a turn.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Placement {
    /// Whether the previous run was found by the history that the request repeats.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) by_history: bool,
    /// The run whose tool calls it submits outputs for, if both become one record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) continues: Option<String>,
    /// Until when its run is held for one that submits outputs for its tool calls. None if it is
    /// not held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) held_until: Option<UnixMillis>,
}

impl Placed {
    /// The conversation.
    #[must_use]
    pub fn conversation(&self) -> &ConversationKey {
        &self.observation.conversation
    }

    /// When it was seen.
    #[must_use]
    pub fn at(&self) -> UnixMillis {
        self.observation.at
    }
}

impl Serialize for Placed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { observation, placement } = self;
        let Observation { conversation, at, attribution, fact } = observation;
        let Fact::TurnSeen(turn) = fact else { return observation.serialize(serializer) };
        let fact = TurnRow { turn_seen: PlacedTurn { turn, placement } };
        Row { conversation, at, attribution, fact }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Placed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Parsed twice, because a flattened struct cannot contain raw JSON.
        let json = Box::<RawValue>::deserialize(deserializer)?;
        let observation: Observation = serde_json::from_str(json.get()).map_err(D::Error::custom)?;
        let placement = match observation.fact {
            Fact::TurnSeen(_) => {
                let Decided { fact } = serde_json::from_str(json.get()).map_err(D::Error::custom)?;
                fact.turn_seen
            }
            _ => Placement::default(),
        };
        Ok(Self { observation, placement })
    }
}

/// An [`Observation`] of a turn.
#[derive(Serialize)]
struct Row<'a> {
    conversation: &'a ConversationKey,
    at: &'a UnixMillis,
    #[serde(skip_serializing_if = "Attribution::is_empty")]
    attribution: &'a Attribution,
    fact: TurnRow<'a>,
}

#[derive(Serialize)]
struct TurnRow<'a> {
    turn_seen: PlacedTurn<'a>,
}

#[derive(Serialize)]
struct PlacedTurn<'a> {
    #[serde(flatten)]
    turn: &'a Turn,
    #[serde(flatten)]
    placement: &'a Placement,
}

/// Only the decisions of a row.
#[derive(Deserialize)]
struct Decided {
    fact: DecidedFact,
}

#[derive(Deserialize)]
struct DecidedFact {
    turn_seen: Placement,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_row_is_read_and_written_as_earlier_versions_wrote_it() {
        let turn = json!({
            "api": "chat",
            "run": {"id": "c~1", "status": "completed", "assistant": null, "model": "m", "created_at": 1.5, "started_at": null,
                    "ended_at": null, "expires_at": null, "usage": {"prompt_tokens": 1.50}, "error": null, "metadata": null,
                    "tool_calls": []},
            "origin": "seen", "previous": "c~0", "by_history": true, "continues": "c~0", "held_until": 9,
            "whole": true, "response": {"a": 1.5},
        });
        let row = |fact: Value| json!({"conversation": {"upstream": "u", "id": "c"}, "at": 7, "fact": fact});
        for fact in [
            json!({ "turn_seen": turn }),
            json!("conversation_deleted"),
            json!({"run_goes_on": {"run": "r"}}),
        ] {
            let row = row(fact);
            let placed: Placed = serde_json::from_str(&row.to_string()).unwrap();
            let written: Value = serde_json::from_str(&serde_json::to_string(&placed).unwrap()).unwrap();
            assert_eq!(written, row);
        }
        let placed: Placed = serde_json::from_str(&row(json!({ "turn_seen": turn })).to_string()).unwrap();
        let Placement { by_history, continues, held_until } = placed.placement;
        assert_eq!((by_history, continues.as_deref(), held_until), (true, Some("c~0"), Some(UnixMillis(9))));
    }
}
