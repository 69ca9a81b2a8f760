//! The vendor that the fake server imitates, where the wire format depends on it.

use serde_json::{Value, json};

use super::fault::Fault;

/// The vendor of the server, chosen by the request path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vendor {
    /// Azure OpenAI: paths below `/openai`, dated or v1. Azure AI Foundry's classic agents: paths
    /// below `/api/projects/{p}`.
    Azure,
    /// OpenAI and compatible servers: all other paths.
    OpenAi,
}

impl Vendor {
    /// Determines the vendor from the path.
    pub(super) fn of(path: &str) -> Self {
        let azure = ["/openai/", "/api/projects/"].iter().any(|prefix| path.starts_with(prefix));
        if azure { Self::Azure } else { Self::OpenAi }
    }

    /// The headers of every response. `request` is the request's id.
    pub(super) fn headers(self, request: String) -> [(&'static str, String); 2] {
        match self {
            Self::Azure => [("apim-request-id", request.clone()), ("x-ms-request-id", request)],
            Self::OpenAi => [("openai-version", "2020-10-01".to_owned()), ("x-request-id", request)],
        }
    }

    /// The body of an error response. Azure's body always has a code, and has neither type nor
    /// parameter.
    pub(super) fn refusal(self, fault: &Fault) -> Value {
        let client_erred = fault.status < 500;
        match self {
            Self::Azure => {
                let kind = match fault.status {
                    404 => "NotFound",
                    _ if client_erred => "BadRequest",
                    _ => "InternalServerError",
                };
                json!({"error": {"code": fault.code.unwrap_or(kind), "message": fault.message}})
            }
            Self::OpenAi => json!({"error": {
                "message": fault.message, "type": if client_erred { "invalid_request_error" } else { "server_error" },
                "param": fault.param, "code": fault.code,
            }}),
        }
    }
}
