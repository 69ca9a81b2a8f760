//! Who may send requests to threadtap itself: to the admin listener, and to `/_threadtap/` on the
//! proxy's listener.
//!
//! A web page can make a browser send requests to an address of this machine, even under the page's
//! own domain name if that resolves to the address (DNS rebinding). Where no secret distinguishes
//! the app from a web page, such requests are refused. These are requests that state their origin
//! (`Origin`, Fetch standard §3.1; `Sec-Fetch-Site`, Fetch Metadata), and on a loopback listener
//! also requests that name another host. Probes and scrapers send neither.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, StatusCode, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;
use threadtap_core::settings::Secret;

use crate::metrics::{AccessLabel, Metrics};

/// Why a request was refused, whatever its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// It comes from a web page.
    #[error(
        "requests from web pages are refused: there is an Origin header, or Sec-Fetch-Site names another site"
    )]
    CrossSite,
    /// It names another host, on a loopback listener.
    #[error("the Host header must name a loopback address")]
    Host,
    /// Its key is not the one of `intake.key`.
    #[error("the header x-threadtap-key must have the key of [intake]")]
    Key,
    /// This address needs a token, and none is set.
    #[error("set admin.token to use the API on an address that is not loopback")]
    NoToken,
    /// Its token is not the one of `admin.token`.
    #[error("a bearer token is required")]
    Token,
}

impl Refusal {
    /// The status of the response.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::CrossSite | Self::Host | Self::NoToken => StatusCode::FORBIDDEN,
            Self::Key | Self::Token => StatusCode::UNAUTHORIZED,
        }
    }

    /// Counts the refusal for a listener, `admin` or `proxy`.
    pub fn count(self, metrics: &Metrics, listener: &'static str) {
        let reason = match self {
            Self::CrossSite => "cross_site",
            Self::Host => "host",
            Self::Key => "key",
            Self::NoToken => "no_token",
            Self::Token => "token",
        };
        metrics.access_refused.get_or_create(&AccessLabel { listener, reason }).inc();
    }
}

/// Refuses requests that a web page may have sent. Use it for requests that carry no secret.
/// `on_loopback` is whether the listener has a loopback address.
///
/// # Errors
/// When the request is refused.
pub fn refuse_web_pages(headers: &HeaderMap, on_loopback: bool) -> Result<(), Refusal> {
    if headers.contains_key(header::ORIGIN) {
        return Err(Refusal::CrossSite);
    }
    let sites = headers.get_all("sec-fetch-site").iter();
    if !sites.into_iter().all(|site| matches!(site.as_bytes(), b"none" | b"same-origin")) {
        return Err(Refusal::CrossSite);
    }
    if on_loopback
        && !headers.get_all(header::HOST).iter().all(|host| host.to_str().is_ok_and(names_loopback))
    {
        return Err(Refusal::Host);
    }
    Ok(())
}

/// Whether `given` is the secret. The time this takes reveals neither the secret nor its length.
#[must_use]
pub fn is_secret(given: &[u8], secret: &Secret) -> bool {
    let [given, secret] = [given, secret.expose().as_bytes()].map(Sha256::digest);
    given.as_slice().ct_eq(secret.as_slice()).into()
}

/// Whether a `Host` is a loopback address, `localhost`, or a name below `localhost`. No name server
/// is asked for such names (RFC 6761 §6.3).
#[must_use]
pub fn names_loopback(host: &str) -> bool {
    let name = host.parse::<SocketAddr>().map(|address| address.ip().to_string());
    let name = name.unwrap_or_else(|_| host.rsplit_once(':').map_or(host, |(name, _)| name).to_owned());
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn check(on_loopback: bool, headers: &[(&'static str, &'static str)], expected: Result<(), Refusal>) {
        let map: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect();
        assert_eq!(refuse_web_pages(&map, on_loopback), expected, "{on_loopback} {headers:?}");
    }

    #[test]
    fn web_pages_are_refused_and_probes_are_not() {
        check(true, &[("host", "127.0.0.1:9090")], Ok(()));
        check(true, &[("host", "localhost:9090"), ("user-agent", "Prometheus/3")], Ok(()));
        check(true, &[("host", "LocalHost.")], Ok(()));
        check(true, &[("host", "tap.localhost:8080")], Ok(()));
        check(true, &[("host", "[::1]:9090")], Ok(()));
        check(true, &[], Ok(()));
        check(true, &[("host", "evil.example:9090")], Err(Refusal::Host));
        check(true, &[("host", "localhost.evil.example")], Err(Refusal::Host));
        check(true, &[("host", "notlocalhost")], Err(Refusal::Host));
        check(true, &[("host", "10.0.0.1:9090")], Err(Refusal::Host));
        check(true, &[("host", "localhost"), ("host", "evil.example")], Err(Refusal::Host));
        // Kubernetes probes a pod by its address; Prometheus may use any name.
        check(false, &[("host", "10.0.0.1:9090"), ("user-agent", "kube-probe/1.33")], Ok(()));
        check(false, &[("host", "threadtap.monitoring.svc:9090")], Ok(()));
        for on_loopback in [true, false] {
            let host = ("host", "127.0.0.1");
            check(on_loopback, &[host, ("origin", "http://evil.example")], Err(Refusal::CrossSite));
            check(on_loopback, &[host, ("origin", "http://127.0.0.1")], Err(Refusal::CrossSite));
            check(on_loopback, &[host, ("origin", "null")], Err(Refusal::CrossSite));
            check(on_loopback, &[host, ("sec-fetch-site", "cross-site")], Err(Refusal::CrossSite));
            check(on_loopback, &[host, ("sec-fetch-site", "same-site")], Err(Refusal::CrossSite));
            check(on_loopback, &[host, ("sec-fetch-site", "none")], Ok(()));
            check(on_loopback, &[host, ("sec-fetch-site", "same-origin")], Ok(()));
        }
    }

    #[test]
    fn only_the_secret_is_the_secret() {
        let secret = Secret::from("secret");
        assert!(is_secret(b"secret", &secret));
        for wrong in [&b""[..], b"secre", b"secrets", b"Secret", b"\xffecret"] {
            assert!(!is_secret(wrong, &secret), "{wrong:?}");
        }
    }
}
