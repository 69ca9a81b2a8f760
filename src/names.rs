//! The names of assistants, learnt from passing responses.
//!
//! It is a cache. A name that was forgotten, or never seen, is missing from records until a
//! response has it again.

use std::sync::Arc;

use moka::sync::Cache;
use threadtap_core::dialect::NamedAssistant;
use threadtap_core::interaction::Interaction;

/// The names of assistants, by upstream and id.
#[derive(Debug)]
pub struct Names(Cache<(Arc<str>, String), Arc<str>>);

impl Names {
    /// Creates an empty cache.
    #[must_use]
    pub fn new() -> Self {
        let weight = |(upstream, id): &(Arc<str>, String), name: &Arc<str>| {
            u32::try_from(ENTRY_BYTES + upstream.len() + id.len() + name.len()).unwrap_or(u32::MAX)
        };
        Self(Cache::builder().max_capacity(MAX_BYTES).weigher(weight).build())
    }

    /// Adds a name.
    pub fn learn(&self, named: NamedAssistant) {
        let NamedAssistant { upstream, id, name } = named;
        self.0.insert((upstream, id), name.into());
    }

    /// Sets the name of an interaction's assistant, if it is known.
    pub fn complete(&self, interaction: &mut Interaction) {
        let Some(id) = &interaction.assistant else { return };
        let key = (interaction.conversation.upstream.clone(), id.clone());
        interaction.assistant_name = self.0.get(&key).map(|name| name.to_string());
    }
}

impl Default for Names {
    fn default() -> Self {
        Self::new()
    }
}

/// Some 10,000 names.
const MAX_BYTES: u64 = 4 << 20;
/// What the cache takes for a name besides its text.
const ENTRY_BYTES: usize = 300;

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Method};
    use serde_json::{Value, json};
    use threadtap_core::dialect::{Config, Observed, Observer};
    use threadtap_core::exchange::{End, Ending, ExchangeId, RequestBody, Segment, Start};
    use threadtap_core::time::UnixMillis;

    use super::*;

    fn pass(names: &Names, method: Method, path: &str, body: &Value) {
        let at = UnixMillis(1);
        let start = Start {
            upstream: "u".into(),
            caller: None,
            method,
            path: path.to_owned(),
            query: String::new(),
            request_headers: Vec::new(),
            request_body: RequestBody { bytes: b"{}".to_vec(), complete: true },
            request_at: at,
            status: 200,
            content_type: Some(HeaderValue::from_static("application/json")),
            content_encoding: None,
            response_at: at,
        };
        let mut observed = Observed::default();
        let observer = Observer::start(ExchangeId(1), &start, &Config::default(), &mut observed);
        let mut observer = observer.expect("it is of interest");
        observer.feed(&Segment { seq: 0, at, bytes: body.to_string().into_bytes() }, &mut observed);
        observer.end(&End { segments: 1, at, ending: Ending::Complete }, &mut observed);
        assert_eq!(observed.problems, []);
        observed.assistants.into_iter().for_each(|named| names.learn(named));
    }

    fn name_of(names: &Names, upstream: &str, assistant: &str) -> Option<String> {
        let mut interaction: Interaction = serde_json::from_value(json!({"key": "k",
            "conversation": {"upstream": upstream, "id": "t"}, "run": "r", "status": "completed", "assistant": assistant,
            "model": null, "inputs": [], "outputs": [], "tool_calls": [], "usage": null, "usage_absent": "not_reported",
            "error": null, "metadata": null, "times": {"created_at": null, "started_at": null, "ended_at": null,
            "request_at": 1, "first_token_at": null, "end_at": 2}, "inputs_complete": true, "outputs_complete": true,
            "assumed": false, "pairing": "exact"}))
        .expect("a record");
        names.complete(&mut interaction);
        interaction.assistant_name
    }

    #[test]
    fn assistants_are_known_by_what_responses_called_them_last() {
        let names = Names::new();
        let clerk = json!({"id": "asst_1", "object": "assistant", "name": "Clerk", "model": "gpt-4o", "instructions": "i"});
        pass(&names, Method::POST, "/v1/assistants", &clerk);
        assert_eq!(name_of(&names, "u", "asst_1").as_deref(), Some("Clerk"));
        let data = json!([
            {"id": "asst_1", "object": "assistant", "name": "Chief clerk"},
            {"id": "asst_2", "name": "Guide"},
            {"id": "asst_3", "object": "assistant", "name": null},
            {"assistant_id": "4", "graph_id": "g", "name": "of another product"},
            {"id": "asst_5", "object": "graph", "name": "of another product"},
            7
        ]);
        pass(&names, Method::GET, "/api/projects/p/assistants", &json!({"object": "list", "data": data}));
        let known = |id: &str| name_of(&names, "u", id);
        assert_eq!(known("asst_1").as_deref(), Some("Chief clerk"));
        assert_eq!(known("asst_2").as_deref(), Some("Guide"));
        for other in ["asst_3", "4", "asst_5"] {
            assert_eq!(known(other), None, "{other}");
        }
        assert_eq!(name_of(&names, "other", "asst_1"), None, "an id is its upstream's");
    }

    #[test]
    fn of_a_list_longer_than_any_page_the_first_are_taken() {
        let names = Names::new();
        let data: Vec<Value> =
            (0..5000).map(|number| json!({"id": format!("asst_{number}"), "name": "x"})).collect();
        pass(&names, Method::GET, "/v1/assistants", &json!({ "data": data }));
        assert!(name_of(&names, "u", "asst_999").is_some() && name_of(&names, "u", "asst_1000").is_none());
    }

    #[test]
    fn what_names_take_in_memory_is_bounded() {
        let names = Names::new();
        for number in 0..50_000 {
            names.learn(NamedAssistant {
                upstream: "u".into(),
                id: number.to_string(),
                name: "x".repeat(1000),
            });
        }
        names.0.run_pending_tasks();
        assert!(names.0.weighted_size() <= MAX_BYTES && names.0.entry_count() > 1000);
    }
}
