//! Selects the events for a sink.

mod settings;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

pub(crate) use self::settings::FilterSettings;

use crate::event::{Event, key_of};
use crate::interaction::{Interaction, Status};

/// The conditions on an event. An empty or missing condition matches everything.
///
/// Statuses and metadata apply to interactions only. Assistants also apply to sessions, by the
/// first response in them. An event without an app matches no app filter. Message numbers are those
/// of the whole session, even if a filter omits messages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// How a run ended.
    pub statuses: Vec<Status>,
    /// The app that the event belongs to.
    pub apps: Vec<String>,
    /// The assistant that responded.
    pub assistants: Vec<String>,
    /// Metadata that the run must have.
    pub metadata: BTreeMap<String, String>,
    /// The share of conversations to send, from 0 to 1. None means all. The selection is the same
    /// on every machine.
    pub sample: Option<f64>,
}

impl Filter {
    /// Whether to send the event to the sink.
    #[must_use]
    pub fn admits(&self, event: &Event) -> bool {
        let status = match event {
            Event::Interaction(interaction) => self.admits_status(interaction.status),
            _ => true,
        };
        status && self.admits_but_for_status(event)
    }

    /// Whether runs with this status are sent.
    #[must_use]
    pub fn admits_status(&self, status: Status) -> bool {
        self.statuses.is_empty() || self.statuses.contains(&status)
    }

    /// Whether to send the event to the sink, regardless of the run's status.
    #[must_use]
    pub fn admits_but_for_status(&self, event: &Event) -> bool {
        let assistant = match event {
            Event::Interaction(interaction) => Some(&interaction.assistant),
            Event::SessionOpened(opened) => Some(&opened.assistant),
            Event::Feedback(_) | Event::SessionClosed(_) | Event::UserIdentified(_) => None,
        };
        let names = |names: &[String], name: Option<&str>| {
            names.is_empty() || name.is_some_and(|name| names.iter().any(|known| known == name))
        };
        names(&self.apps, event.app())
            && assistant.is_none_or(|assistant| names(&self.assistants, assistant.as_deref()))
            && self.samples(event)
            && match event {
                Event::Interaction(interaction) => self.metadata.is_empty() || self.has_metadata(interaction),
                _ => true,
            }
    }

    fn has_metadata(&self, interaction: &Interaction) -> bool {
        let metadata = interaction.metadata.as_deref().map(|json| json.get());
        let metadata: Map<String, Value> =
            metadata.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
        self.metadata.iter().all(|(key, wanted)| metadata.get(key).and_then(Value::as_str) == Some(wanted))
    }

    /// Users belong to no single conversation, so they are always in the sample.
    fn samples(&self, event: &Event) -> bool {
        let (Some(share), Some(conversation)) = (self.sample, event.conversation()) else { return true };
        if matches!(event, Event::UserIdentified(_)) {
            return true;
        }
        let hash = key_of(&["sample", &conversation.upstream, &conversation.id]);
        let drawn = u32::from_str_radix(&hash[..8], 16).unwrap_or_default();
        f64::from(drawn) < share * 4_294_967_296.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(thread: &str, status: &str) -> Event {
        let json = json!({"interaction": {"key": "k", "conversation": {"upstream": "u", "id": thread}, "run": "r",
            "status": status, "assistant": "asst", "model": "m", "attribution": {"app": "shop"}, "inputs": [], "outputs": [],
            "tool_calls": [], "usage": null, "usage_absent": "not_reported", "error": null, "metadata": {"tier": "gold", "n": 1},
            "times": {"created_at": null, "started_at": null, "ended_at": null, "request_at": 1, "first_token_at": null,
            "end_at": 2}, "inputs_complete": true, "outputs_complete": true, "assumed": false, "pairing": "exact"}});
        serde_json::from_str(&json.to_string()).unwrap()
    }

    fn check(filter: Filter, expected: bool) {
        assert_eq!(filter.admits(&event("t", "failed")), expected, "{filter:?}");
    }

    #[test]
    fn each_condition_must_hold_and_none_is_no_condition() {
        let names = |name: &str| vec!["other".to_owned(), name.to_owned()];
        let metadata = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let all = Filter::default;
        check(all(), true);
        check(Filter { statuses: vec![Status::Failed, Status::Completed], ..all() }, true);
        check(Filter { statuses: vec![Status::Completed], ..all() }, false);
        check(Filter { apps: names("shop"), ..all() }, true);
        check(Filter { apps: names("bank"), ..all() }, false);
        check(Filter { assistants: names("asst"), ..all() }, true);
        check(Filter { assistants: names("as"), ..all() }, false);
        check(Filter { metadata: metadata("tier", "gold"), ..all() }, true);
        check(Filter { metadata: metadata("tier", "silver"), ..all() }, false);
        check(Filter { metadata: metadata("n", "1"), ..all() }, false);
        check(Filter { apps: names("shop"), statuses: vec![Status::Completed], ..all() }, false);
        check(Filter { sample: Some(1.0), ..all() }, true);
        check(Filter { sample: Some(0.0), ..all() }, false);
    }

    #[test]
    fn a_sample_holds_its_share_of_conversations_and_always_the_same_ones() {
        let filter = |share| Filter { sample: Some(share), ..Filter::default() };
        let admitted = |share| {
            (0..2000)
                .filter(|n| filter(share).admits(&event(&format!("t{n}"), "completed")))
                .collect::<Vec<_>>()
        };
        let (tenth, half) = (admitted(0.1), admitted(0.5));
        assert!((140..260).contains(&tenth.len()), "{}", tenth.len());
        assert!((900..1100).contains(&half.len()), "{}", half.len());
        assert!(tenth.iter().all(|n| half.contains(n)), "a smaller sample is part of a larger one");
    }
}
