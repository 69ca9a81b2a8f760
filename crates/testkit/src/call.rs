//! Requests and what comes of them, whichever API they are for.

use serde_json::{Map, Value};
use threadtap_core::observation::Api;

use super::stream::Event;

/// A request, as far as an API's state is concerned.
pub(super) struct Call<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    /// Null when there is none.
    pub(super) body: &'a Value,
    /// Seconds since the epoch.
    pub(super) now: u64,
}

/// The answer to a request that is not refused.
pub(super) enum Routed {
    /// Something new.
    Created(Value),
    /// Something that was there.
    Found(Value),
    /// Nothing ever.
    Never,
    /// Events, as they happen.
    Stream(Source),
}

/// Where the events of a stream come from.
pub(super) enum Source {
    /// A chat completion, all of which is known.
    Chat {
        completion: usize,
        chunks: Vec<Event>,
        /// Whether the stream is never ended.
        stalls: bool,
    },
    /// A response, from one of its events on.
    Response {
        response: String,
        from: usize,
        /// Whether the response goes on only because of this stream.
        drives: bool,
    },
    /// A run, as it plays.
    Run {
        run: String,
        /// What the stream begins with.
        first: Vec<Event>,
    },
}

/// The API a path belongs to, and the path's segments from the API's own first one on. What precedes it is a prefix and ignored, so
/// that the server can stand in for any deployment. Paths of no API are left to Assistants, which refuses them.
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
