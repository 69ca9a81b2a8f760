//! The responses of intake.

use http::StatusCode;
use serde_json::json;

use super::request::Invalid;

/// A response of intake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// A JSON object.
    pub body: String,
}

impl From<Invalid> for Response {
    fn from(invalid: Invalid) -> Self {
        refusal(StatusCode::BAD_REQUEST, &invalid.to_string(), invalid.field())
    }
}

pub(super) fn success(status: StatusCode, outcome: &str, key: &str) -> Response {
    Response { status, body: json!({"status": outcome, "key": key}).to_string() }
}

pub(super) fn unavailable() -> Response {
    refusal(StatusCode::SERVICE_UNAVAILABLE, "the store does not keep up; try again", None)
}

/// Has the shape of an error of the OpenAI API.
pub(super) fn refusal(status: StatusCode, message: &str, field: Option<&str>) -> Response {
    let error =
        json!({"message": format!("threadtap: {message}"), "type": "threadtap_intake_error", "param": field});
    Response { status, body: json!({ "error": error }).to_string() }
}
