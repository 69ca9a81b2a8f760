//! Requests and their results, shared by all APIs.

use serde_json::{Map, Value};
use threadtap_core::observation::Api;

use super::stream::Event;

/// The parts of a request that an API's state needs.
pub(super) struct Call<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    /// Null if there is no body.
    pub(super) body: &'a Value,
    /// Seconds since the epoch.
    pub(super) now: u64,
}

/// The result of a request that is not refused.
pub(super) enum Routed {
    /// A new object.
    Created(Value),
    /// An existing object.
    Found(Value),
    /// No response, ever.
    Never,
    /// A stream of events, sent as they happen.
    Stream(Source),
}

/// The source of a stream's events.
pub(super) enum Source {
    /// A chat completion, which is already complete.
    Chat {
        completion: usize,
        chunks: Vec<Event>,
        /// Whether the stream never ends.
        stalls: bool,
    },
    /// A response, starting at one of its events.
    Response {
        response: String,
        from: usize,
        /// Whether this stream is what drives the response.
        drives: bool,
    },
    /// A run, while it plays.
    Run {
        run: String,
        /// The first events of the stream.
        first: Vec<Event>,
    },
}

/// The API a path belongs to, and the segments of the path, starting with the API's own first
/// segment. Any prefix before that is ignored, so that the server can stand in for any deployment.
/// Paths that belong to no API go to Assistants, which refuses them.
pub(super) fn api_of(path: &str) -> (Api, Vec<&str>) {
    let all: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    for (at, segment) in all.iter().enumerate() {
        let api = match *segment {
            "assistants" | "threads" => Api::Assistants,
            "chat" if all.get(at + 1) == Some(&"completions") => Api::Chat,
            "completions" | "embeddings" => Api::Chat,
            "conversations" | "responses" => Api::Responses,
            _ => continue,
        };
        return (api, all[at..].to_vec());
    }
    (Api::Assistants, Vec::new())
}

/// The `metadata` of a request.
pub(super) fn metadata(body: &Value) -> Map<String, Value> {
    body["metadata"].as_object().cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_tell_the_api_below_any_prefix() {
        for (path, api, first) in [
            ("/v1/threads/t/runs", Api::Assistants, "threads"),
            ("/openai/deployments/d/chat/completions", Api::Chat, "chat"),
            ("/v1/completions", Api::Chat, "completions"),
            ("/v1/responses/resp_1", Api::Responses, "responses"),
            ("/api/projects/p/openai/v1/conversations", Api::Responses, "conversations"),
        ] {
            let (found, segments) = api_of(path);
            assert_eq!((found, segments.first()), (api, Some(&first)), "{path}");
        }
        assert_eq!(api_of("/v1/models"), (Api::Assistants, Vec::new()));
    }
}
