//! Traffic of LLM APIs that no dialect reads. It is forwarded but not recorded. The operator has to
//! know: an empty log must not look like no traffic.

use http::{Method, StatusCode};

use super::clean::{self, Rules};
use super::path::segments;
use crate::exchange::Start;

/// An exchange of an LLM API that no dialect reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uncaptured {
    /// The API's name in metrics.
    pub api: &'static str,
    /// The status code.
    pub status: StatusCode,
}

impl Uncaptured {
    /// Recognises an exchange by its path, or else by a `model` in its request.
    pub(super) fn of(start: &Start) -> Option<Self> {
        let status = StatusCode::from_u16(start.status).ok()?;
        let api = match start.method {
            Method::GET if status == StatusCode::SWITCHING_PROTOCOLS => socket(&start.path)?,
            Method::POST => of_post(start)?,
            _ => return None,
        };
        Some(Self { api, status })
    }
}

/// Whether a request that no dialect reads may belong to an LLM API. Looks at the request line
/// only.
pub(super) fn is_worth_a_glance(method: &Method, path: &str) -> bool {
    *method == Method::POST || (*method == Method::GET && socket(path).is_some())
}

fn of_post(start: &Start) -> Option<&'static str> {
    let segments = segments(&start.path);
    let segments: Vec<&str> = segments.iter().map(|segment| &**segment).collect();
    named(&segments).or_else(|| (!is_management(&segments) && names_model(start)).then_some("other"))
}

/// Whether a request only sets up, trains, tests or counts. Such a request may still name a model.
fn is_management(segments: &[&str]) -> bool {
    let (_, action) = segments.last().and_then(|last| last.rsplit_once(':')).unwrap_or_default();
    action == "countTokens"
        || matches!(
            segments,
            [.., "assistants"]
                | [.., "assistants" | "agents", _]
                | [.., "agents" | "batches" | "evals" | "tokenize"]
                | [.., "fine_tuning", "jobs"]
                | [.., "count_tokens" | "input_tokens"]
                | [.., "realtime", "client_secrets" | "sessions" | "transcription_sessions"]
        )
}

/// The API of the endpoint at the end of a path, under any prefix.
fn named(segments: &[&str]) -> Option<&'static str> {
    let (_, action) = segments.last()?.rsplit_once(':').unwrap_or_default();
    Some(match *segments {
        // https://docs.anthropic.com/en/api/messages; on Vertex AI `{model}:rawPredict`.
        [.., "v1", "messages"] => "anthropic_messages",
        _ if matches!(action, "rawPredict" | "streamRawPredict") => "anthropic_messages",
        // https://ai.google.dev/api/generate-content
        _ if matches!(action, "generateContent" | "streamGenerateContent") => "gemini",
        // https://docs.aws.amazon.com/bedrock/latest/APIReference/API_Operations_Amazon_Bedrock_Runtime.html
        [.., "model", _, "converse" | "converse-stream" | "invoke" | "invoke-with-response-stream"] => {
            "bedrock"
        }
        // https://docs.ollama.com/api
        [.., "api", "chat" | "generate"] => "ollama",
        // https://docs.cohere.com/reference/chat
        [.., "v1" | "v2", "chat"] => "cohere",
        // The Agents API of OpenAI (beta since 2026-09-10).
        [.., "agents", "sessions"] | [.., "agents", "sessions", _, "events"] => "openai_agents",
        [.., "completions"] => "completions",
        [.., "embeddings"] => "embeddings",
        [.., "moderations"] => "moderations",
        [.., "audio", "speech" | "transcriptions" | "translations"] => "audio",
        [.., "images", "edits" | "generations" | "variations"] => "images",
        _ => return None,
    })
}

/// The API of a WebSocket at this path.
fn socket(path: &str) -> Option<&'static str> {
    match path.trim_end_matches('/').rsplit('/').next()? {
        "realtime" => Some("realtime"),
        "responses" => Some("responses_websocket"),
        _ => None,
    }
}

fn names_model(start: &Start) -> bool {
    let body = &start.request_body.bytes;
    body.trim_ascii_start().starts_with(b"{")
        && clean::members(body, Rules::PLAIN).get("model").is_some_and(serde_json::Value::is_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::RequestBody;
    use crate::time::UnixMillis;

    fn check(request: &str, body: &str, status: u16, expected: Option<&str>) {
        let (method, path) = request.split_once(' ').unwrap();
        let start = Start {
            upstream: "api".into(),
            caller: None,
            method: method.parse().unwrap(),
            path: path.to_owned(),
            query: String::new(),
            request_headers: Vec::new(),
            request_body: RequestBody { bytes: body.as_bytes().to_vec(), complete: true },
            request_at: UnixMillis(1),
            status,
            content_type: None,
            content_encoding: None,
            response_at: UnixMillis(1),
        };
        assert_eq!(Uncaptured::of(&start).map(|uncaptured| uncaptured.api), expected, "{request} {body}");
    }

    #[test]
    fn apis_are_known_by_their_paths() {
        for (path, api) in [
            ("/v1/messages", "anthropic_messages"),
            ("/anthropic/v1/messages/", "anthropic_messages"),
            (
                "/v1/projects/p/locations/l/publishers/anthropic/models/m:streamRawPredict",
                "anthropic_messages",
            ),
            ("/v1beta/models/gemini-3:streamGenerateContent", "gemini"),
            ("/model/m/converse-stream", "bedrock"),
            ("/api/chat", "ollama"),
            ("/v2/chat", "cohere"),
            ("/v1/agents/sessions", "openai_agents"),
            ("/v1/agents/sessions/s/events", "openai_agents"),
            ("/v1/completions", "completions"),
            ("/openai/deployments/d/embeddings/", "embeddings"),
            ("/v1/audio/transcriptions", "audio"),
        ] {
            check(&format!("POST {path}"), "", 200, Some(api));
            check(&format!("GET {path}"), "", 200, None);
        }
    }

    #[test]
    fn a_request_that_names_a_model_is_one_of_some_api() {
        check("POST /x", r#"{"model": "m", "prompt": "p"}"#, 200, Some("other"));
        check("POST /x", r#"{"prompt": "p", "model": "m", "cut": ["#, 200, Some("other"));
        for body in [r#"{"model": 7}"#, r#"{"car": {"model": "m"}}"#, r#"["model"]"#, "", "model=m", "{"] {
            check("POST /x", body, 200, None);
        }
    }

    #[test]
    fn what_only_sets_up_or_counts_is_none() {
        for path in [
            "/v1/assistants",
            "/v1/assistants/asst_1",
            "/v1/fine_tuning/jobs",
            "/v1/responses/input_tokens",
            "/v1/messages/count_tokens",
            "/v1/realtime/sessions",
            "/v1beta/models/m:countTokens",
        ] {
            check(&format!("POST {path}"), r#"{"model": "m"}"#, 200, None);
        }
    }

    #[test]
    fn sockets_are_known_once_they_are_open() {
        check("GET /v1/responses", "", 101, Some("responses_websocket"));
        check("GET /openai/v1/realtime", "", 101, Some("realtime"));
        check("GET /v1/responses", "", 200, None);
        check("GET /socket", "", 101, None);
    }
}
