//! Why an exchange got no response from upstream, and what its client receives instead.

use std::error::Error as StdError;
use std::fmt;

use http::StatusCode;

use super::connect::ConnectError;
use crate::net::RequestBodyError;

/// Why an exchange got no response from upstream.
#[derive(Debug)]
pub(super) struct Error {
    kind: Kind,
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

/// What went wrong. The client receives it as a token that does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// The client's body cannot be read.
    ClientBody,
    /// The client sent two `Host` lines.
    ClientHost,
    /// The request target is a host and a port, which is only allowed for `CONNECT`.
    ClientTarget,
    /// The client asked for a `CONNECT` tunnel.
    Connect,
    /// Something went wrong that should be impossible.
    Internal,
    /// There are no root certificates to verify upstream's certificate with.
    NoRoots,
    /// The path is one of threadtap's own, and nothing is there.
    Reserved,
    /// Upstream's response is not HTTP.
    UpstreamAnswer,
    /// Upstream closed the connection before it responded.
    UpstreamClosed,
    /// Upstream's name cannot be resolved.
    UpstreamDns,
    /// The TLS session with upstream failed.
    UpstreamTls,
    /// Upstream did not accept a connection in time.
    UpstreamTimeout,
    /// Upstream does not accept connections.
    UpstreamUnreachable,
}

/// Who caused the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Client,
    Internal,
    Upstream,
}

impl Error {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, cause: None }
    }

    /// An error for a connection that could not be opened.
    pub(super) fn of_connecting(error: ConnectError) -> Self {
        let kind = match &error {
            ConnectError::Dns(_) => Kind::UpstreamDns,
            ConnectError::NoRoots(_) => Kind::NoRoots,
            ConnectError::Tls(_) => Kind::UpstreamTls,
            ConnectError::TimedOut(_) => Kind::UpstreamTimeout,
            ConnectError::Unreachable(_) => Kind::UpstreamUnreachable,
        };
        Self::of(kind, error)
    }

    /// An error with its cause.
    pub(super) fn of(kind: Kind, cause: impl StdError + Send + Sync + 'static) -> Self {
        Self { kind, cause: Some(Box::new(cause)) }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// All causes in one line, for a log. They come from sockets and parsers and contain no
    /// traffic.
    pub(super) fn causes(&self) -> String {
        let mut text = String::new();
        let mut cause: Option<&(dyn StdError + 'static)> = self.cause.as_deref().map(|cause| cause as _);
        while let Some(error) = cause {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }

    /// The body the client receives, in the format of OpenAI API errors.
    pub(super) fn body(&self) -> String {
        let Description { token, message, .. } = self.kind.describe();
        format!(
            r#"{{"error":{{"message":"threadtap: {message}","type":"threadtap_upstream_error","param":null,"code":"{token}"}}}}"#
        )
    }
}

impl Kind {
    pub(super) fn status(self) -> StatusCode {
        self.describe().status
    }

    /// The value of `x-threadtap-error`, and of the metric's `kind` label.
    pub(super) fn token(self) -> &'static str {
        self.describe().token
    }

    pub(super) fn fault(self) -> Fault {
        self.describe().fault
    }

    /// The single table that defines how each kind is reported.
    fn describe(self) -> Description {
        let (fault, status, token, message) = match self {
            Self::ClientBody => {
                (Fault::Client, StatusCode::BAD_REQUEST, "client_body", "the request body cannot be read")
            }
            Self::ClientHost => {
                (Fault::Client, StatusCode::BAD_REQUEST, "client_host", "the request has two Host headers")
            }
            Self::ClientTarget => {
                (Fault::Client, StatusCode::BAD_REQUEST, "client_target", "the request target is not a path")
            }
            Self::Connect => {
                (Fault::Client, StatusCode::NOT_IMPLEMENTED, "connect", "CONNECT is not supported")
            }
            Self::Internal => (
                Fault::Internal,
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "the request cannot be forwarded",
            ),
            Self::NoRoots => (
                Fault::Upstream,
                StatusCode::BAD_GATEWAY,
                "no_roots",
                "this machine has no root certificates to verify the upstream with; install them or set SSL_CERT_FILE",
            ),
            Self::Reserved => {
                (Fault::Client, StatusCode::NOT_FOUND, "not_found", "there is nothing at this path")
            }
            Self::UpstreamAnswer => (
                Fault::Upstream,
                StatusCode::BAD_GATEWAY,
                "upstream_answer",
                "the upstream's response is not HTTP",
            ),
            Self::UpstreamClosed => (
                Fault::Upstream,
                StatusCode::BAD_GATEWAY,
                "upstream_closed",
                "the upstream closed the connection before it responded",
            ),
            Self::UpstreamDns => (
                Fault::Upstream,
                StatusCode::BAD_GATEWAY,
                "upstream_dns",
                "the upstream's name cannot be resolved",
            ),
            Self::UpstreamTls => (
                Fault::Upstream,
                StatusCode::BAD_GATEWAY,
                "upstream_tls",
                "the TLS handshake with the upstream failed",
            ),
            Self::UpstreamTimeout => (
                Fault::Upstream,
                StatusCode::GATEWAY_TIMEOUT,
                "upstream_timeout",
                "the upstream did not accept a connection in time",
            ),
            Self::UpstreamUnreachable => (
                Fault::Upstream,
                StatusCode::BAD_GATEWAY,
                "upstream_unreachable",
                "cannot connect to the upstream",
            ),
        };
        Description { fault, status, token, message }
    }
}

struct Description {
    fault: Fault,
    status: StatusCode,
    token: &'static str,
    /// Written into JSON without escaping.
    message: &'static str,
}

/// The client's body ended in an error; the request must not be blamed on upstream.
#[derive(Debug)]
pub(super) struct ClientBodyError(pub(super) RequestBodyError);

impl fmt::Display for ClientBodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the client's body failed")
    }
}

impl StdError for ClientBodyError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Kind; 13] = [
        Kind::ClientBody,
        Kind::ClientHost,
        Kind::ClientTarget,
        Kind::Connect,
        Kind::Internal,
        Kind::NoRoots,
        Kind::Reserved,
        Kind::UpstreamAnswer,
        Kind::UpstreamClosed,
        Kind::UpstreamDns,
        Kind::UpstreamTimeout,
        Kind::UpstreamTls,
        Kind::UpstreamUnreachable,
    ];

    #[test]
    fn every_kind_has_a_body_of_the_shape_of_the_api_and_a_token_of_its_own() {
        let mut tokens = std::collections::HashSet::new();
        for kind in ALL {
            let body: serde_json::Value = serde_json::from_str(&Error::new(kind).body()).unwrap();
            assert_eq!(body["error"]["code"], kind.token());
            assert_eq!(body["error"]["type"], "threadtap_upstream_error");
            assert!(body["error"]["param"].is_null());
            assert!(tokens.insert(kind.token()), "{kind:?}");
        }
    }

    #[test]
    fn only_upstreams_faults_are_gateway_errors() {
        for kind in ALL {
            let gateway = matches!(kind.status(), StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT);
            assert_eq!(gateway, kind.fault() == Fault::Upstream, "{kind:?}");
        }
    }
}
