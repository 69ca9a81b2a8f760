//! Settings for forwarding.

use std::time::Duration;

use http::Method;
use threadtap_core::dialect::Interest;

use super::local_endpoints::LocalEndpoints;
use super::upstream::Upstream;
use crate::net::tcp;

/// Where to forward requests, and the limits for it.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where requests go.
    pub upstream: Upstream,
    /// How much of an exchange is copied, decided by method and path.
    pub interest: fn(&Method, &str) -> Interest,
    /// Answers requests for threadtap itself; `None` refuses them.
    pub local_endpoints: Option<LocalEndpoints>,
    /// How many connections to upstream there may be, idle ones included. Requests beyond that wait
    /// for one.
    pub max_connections: usize,
    /// How long opening a connection to upstream may take, including name resolution and TLS.
    /// Responses have no time limit.
    pub connect_timeout: Duration,
    /// Whether upstream sees the `Host` the client sent instead of its own.
    pub keep_client_host: bool,
    /// How long an idle connection to upstream is kept.
    pub idle_timeout: Duration,
    /// How many idle connections each worker keeps.
    pub max_idle: usize,
    /// How many header lines a response may have.
    pub max_headers: usize,
    /// How long the head of a response may be.
    pub max_head_bytes: usize,
    /// How long the body of a request with `Expect: 100-continue` waits for upstream's 100 or
    /// response before it is sent anyway.
    pub continue_timeout: Duration,
    /// How much of a request body is still read after upstream stops taking it, so that the client
    /// can read the response.
    pub linger_bytes: usize,
    /// How long that reading may take.
    pub linger_timeout: Duration,
    /// How long a tapped response is still read after its client has disconnected; zero cancels it
    /// at once.
    pub finish_after_disconnect: Duration,
    /// Socket options of connections to upstream.
    pub tcp: tcp::Config,
}

impl Config {
    /// The defaults for `upstream`.
    #[must_use]
    pub fn new(upstream: Upstream, interest: fn(&Method, &str) -> Interest) -> Self {
        Self {
            upstream,
            interest,
            local_endpoints: None,
            max_connections: usize::MAX,
            connect_timeout: Duration::from_secs(10),
            keep_client_host: false,
            idle_timeout: Duration::from_secs(60),
            max_idle: 256,
            max_headers: 1000,
            max_head_bytes: 512 << 10,
            continue_timeout: Duration::from_secs(1),
            linger_bytes: 64 << 20,
            linger_timeout: Duration::from_secs(30),
            finish_after_disconnect: Duration::ZERO,
            tcp: tcp::Config::default(),
        }
    }
}
