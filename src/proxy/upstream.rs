//! The upstream that requests go to.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use http::uri::{Authority, InvalidUri, PathAndQuery, Scheme, Uri};
use thiserror::Error;
use threadtap_http::head::path_and_query;

/// An upstream: `http` or `https`, a host, a port, and a path prefix that is put before every
/// request's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    scheme: Scheme,
    authority: Authority,
    host: String,
    port: u16,
    prefix: String,
    name: Arc<str>,
}

/// Why a text does not name an upstream.
#[derive(Debug, Error)]
pub enum ParseUpstreamError {
    /// It has a query or a fragment, which no request could carry.
    #[error("an upstream URL must not have a query or a fragment")]
    Extra,
    /// It is not a URL.
    #[error("not a URL")]
    Invalid(#[source] InvalidUri),
    /// It has no host, or an invalid port.
    #[error("an upstream URL needs a host, and a port from 1 to 65535 if it has one")]
    Host,
    /// It is neither `http` nor `https`.
    #[error("an upstream starts with http:// or https://")]
    Scheme,
    /// It contains a user name or a password.
    #[error("an upstream URL must not have credentials; those of the clients are forwarded")]
    Userinfo,
}

impl FromStr for Upstream {
    type Err = ParseUpstreamError;

    fn from_str(text: &str) -> Result<Self, ParseUpstreamError> {
        let text = text.trim_ascii();
        let starts_with =
            |scheme: &str| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
        if !starts_with("http://") && !starts_with("https://") {
            return Err(ParseUpstreamError::Scheme);
        }
        if text.contains(['?', '#']) {
            return Err(ParseUpstreamError::Extra);
        }
        let uri: Uri = text.parse().map_err(ParseUpstreamError::Invalid)?;
        let parts = uri.into_parts();
        let (scheme, authority) = parts.scheme.zip(parts.authority).ok_or(ParseUpstreamError::Host)?;
        if authority.as_str().contains('@') {
            return Err(ParseUpstreamError::Userinfo);
        }
        let named_port = authority.as_str().len() > authority.host().len();
        let port = match authority.port_u16() {
            Some(port) if port > 0 => port,
            None if !named_port => default_port(&scheme),
            _ => return Err(ParseUpstreamError::Host),
        };
        if authority.host().is_empty() {
            return Err(ParseUpstreamError::Host);
        }
        let host_name = authority.host().to_ascii_lowercase();
        let prefix =
            parts.path_and_query.as_ref().map_or("", PathAndQuery::path).trim_end_matches('/').to_owned();
        // What a client would send if it were configured with this upstream directly: the port
        // appears only if it is not the scheme's default.
        let host =
            if port == default_port(&scheme) { host_name.clone() } else { format!("{host_name}:{port}") };
        Ok(Self {
            authority: host.parse().map_err(ParseUpstreamError::Invalid)?,
            host,
            name: format!("{host_name}:{port}{prefix}").into(),
            scheme,
            port,
            prefix,
        })
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.prefix)
    }
}

impl Upstream {
    /// The name that scopes conversations, keys and metrics: `host:port` and the path prefix.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether a server bound to `listener` is this upstream, so that a request would loop forever.
    /// Names are resolved once; an upstream that cannot be resolved is not ours.
    pub async fn is_served_by(&self, listener: SocketAddr) -> bool {
        if self.port != listener.port() {
            return false;
        }
        let host = self.authority.host().trim_start_matches('[').trim_end_matches(']');
        let Ok(addresses) = tokio::net::lookup_host((host, self.port)).await else { return false };
        addresses.map(|address| address.ip()).any(|address| {
            address == listener.ip()
                || (address.is_unspecified()
                    && (listener.ip().is_unspecified() || listener.ip().is_loopback()))
                || (listener.ip().is_unspecified() && is_own(address))
        })
    }

    pub(super) fn is_tls(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    /// The value of `Host` for upstream.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Its scheme, host and port.
    pub(super) fn origin(&self) -> Uri {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(PathAndQuery::from_static("/"));
        Uri::from_parts(parts).expect("scheme, authority and path are a URI")
    }

    /// The path and query to request from upstream, given a request target, with the prefix put
    /// before it.
    pub(super) fn target(&self, target: String) -> String {
        let path = path_and_query(&target);
        // `OPTIONS *` concerns the whole server and has no path.
        if path == "*" || (self.prefix.is_empty() && path.starts_with('/')) {
            return if path.len() == target.len() { target } else { path.to_owned() };
        }
        let slash =
            if path.starts_with('/') || (path.is_empty() && !self.prefix.is_empty()) { "" } else { "/" };
        format!("{}{slash}{path}", self.prefix)
    }
}

fn default_port(scheme: &Scheme) -> u16 {
    if *scheme == Scheme::HTTPS { 443 } else { 80 }
}

/// Whether `address` belongs to this machine: only then can a socket be bound to it.
fn is_own(address: IpAddr) -> bool {
    std::net::UdpSocket::bind((address, 0)).is_ok()
}

/// Asserts that an upstream is what its text says and that any target reaches it unchanged. The
/// first line of `text` is the upstream, the second is a target.
#[cfg(any(test, fuzzing))]
pub fn assert_targets_are_kept(text: &str) {
    let (upstream, target) = text.split_once('\n').unwrap_or((text, "/"));
    let Ok(upstream) = upstream.parse::<Upstream>() else { return };
    assert_eq!(upstream.to_string().parse::<Upstream>().expect("what is printed can be read"), upstream);
    assert!(upstream.port > 0 && !upstream.host.is_empty());
    let sent = upstream.target(target.to_owned());
    assert!(sent.starts_with('/') || sent == "*");
    if target.starts_with('/') {
        assert_eq!(sent, format!("{}{target}", upstream.prefix));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_target_is_kept(text in UPSTREAM_AND_TARGET) {
            assert_targets_are_kept(&text);
        }
    }

    #[test]
    fn every_input_that_fuzzing_kept_is_sound() {
        threadtap_corpus::replay("targets", |data| assert_targets_are_kept(&String::from_utf8_lossy(data)));
    }

    fn upstream(text: &str) -> Upstream {
        text.parse().unwrap()
    }

    #[test]
    fn is_named_by_host_port_and_prefix() {
        let check = |text, name, host| {
            let upstream = upstream(text);
            assert_eq!((&**upstream.name(), upstream.host()), (name, host), "{text}");
            assert_eq!(upstream.to_string().parse::<Upstream>().unwrap(), upstream, "{text}");
        };
        check("https://api.openai.com", "api.openai.com:443", "api.openai.com");
        check("https://API.openai.com:443/", "api.openai.com:443", "api.openai.com");
        check("http://127.0.0.1:8000/v1/", "127.0.0.1:8000/v1", "127.0.0.1:8000");
        check("HTTP://localhost", "localhost:80", "localhost");
        check("http://[::1]:81/a/b", "[::1]:81/a/b", "[::1]:81");
        check(" https://h:80 ", "h:80", "h:80");
        check("https://h/a\u{a0}//", "h:443/a\u{a0}", "h");
    }

    #[test]
    fn says_what_is_wrong() {
        let check = |text: &str, message: &str| {
            let error = text.parse::<Upstream>().unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        };
        check("api.openai.com", "starts with http://");
        check("ftp://host", "starts with http://");
        check("", "starts with http://");
        check("http://", "not a URL");
        check("http://a b", "not a URL");
        check("http://host:0", "port");
        check("http://host:99999", "port");
        check("http://host:", "port");
        check("http://host/?a=b", "a query or a fragment");
        check("http://host/#a", "a query or a fragment");
        check("http://me:secret@host", "must not have credentials");
    }

    #[test]
    fn the_target_is_kept_as_it_is_and_the_prefix_goes_before_it() {
        let check = |to: &str, target: &str, expected: &str| {
            assert_eq!(upstream(to).target(target.to_owned()), expected, "{to} {target}");
        };
        check("http://h", "/v1//threads/%2F;x?", "/v1//threads/%2F;x?");
        check("http://h", "/?q=a%20b", "/?q=a%20b");
        check("http://h", "*", "*");
        check("http://h/p/", "/v1/x?a=b", "/p/v1/x?a=b");
        check("http://h/p", "/", "/p/");
        check("http://h/p", "*", "*");
        check("http://h/p", "http://other/x", "/p/x");
        check("http://h", "http://other", "/");
        check("http://h/p", "http://other", "/p");
        check("http://h/p", "http://other?a", "/p/?a");
    }

    #[tokio::test]
    async fn knows_a_listener_of_its_own() {
        let check = async |text: &str, listener: &str, expected| {
            let served = upstream(text).is_served_by(listener.parse().unwrap()).await;
            assert_eq!(served, expected, "{text} {listener}");
        };
        check("http://127.0.0.1:8080", "127.0.0.1:8080", true).await;
        check("http://localhost:8080/v1", "127.0.0.1:8080", true).await;
        check("http://127.0.0.1:8080", "0.0.0.0:8080", true).await;
        check("http://0.0.0.0:8080", "127.0.0.1:8080", true).await;
        check("http://127.0.0.1:8081", "127.0.0.1:8080", false).await;
        check("http://192.0.2.1:8080", "0.0.0.0:8080", false).await;
        check("http://127.0.0.2:8080", "127.0.0.1:8080", false).await;
    }

    const UPSTREAM_AND_TARGET: &str =
        "(https?|HTTP)://[a-z.]{1,8}(:[0-9]{1,5})?(/[a-z%/]{0,6})?\n(/[!-~]{0,12}|\\*|[!-~]{0,12})";
}
