//! Error responses, with OpenAI's wording.

/// A response that is not 2xx.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) status: u16,
    pub(super) message: String,
    pub(super) param: Option<&'static str>,
    pub(super) code: Option<&'static str>,
}

impl Fault {
    /// The request is not possible in the current state.
    pub(super) fn refused(message: impl Into<String>) -> Self {
        Self { status: 400, message: message.into(), param: None, code: None }
    }

    /// A value in the request is invalid.
    pub(super) fn invalid(param: &'static str, message: impl Into<String>) -> Self {
        Self { status: 400, message: message.into(), param: Some(param), code: Some("invalid_value") }
    }

    /// A value in the request is missing.
    pub(super) fn missing(param: &'static str) -> Self {
        let message = format!("Missing required parameter: '{param}'.");
        Self { status: 400, message, param: Some(param), code: Some("missing_required_parameter") }
    }

    /// The object does not exist.
    pub(super) fn unknown(kind: &str, id: &str) -> Self {
        Self { status: 404, message: format!("No {kind} found with id '{id}'."), param: None, code: None }
    }

    /// The URL does not exist.
    pub(super) fn unknown_url(method: &str, path: &str) -> Self {
        let message = format!("Unknown request URL: {method} {path}. Please check the URL for typos.");
        Self { status: 404, message, param: None, code: Some("unknown_url") }
    }

    /// The server has an internal error.
    pub(super) fn trouble(status: u16) -> Self {
        let message = "The server had an error while processing your request. Sorry about that!".to_owned();
        Self { status, message, param: None, code: None }
    }
}
