//! Settings of forwarding.

use std::time::Duration;

use http::Method;
use threadtap_core::dialect::Interest;

use super::local_endpoints::LocalEndpoints;
use super::upstream::Upstream;
use crate::net::tcp;

/// Where to forward to, and the limits of it.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where requests go.
    pub upstream: Upstream,
    /// How much of an exchange is copied, told by method and path.
    pub interest: fn(&Method, &str) -> Interest,
    /// Who answers requests for threadtap itself; none refuses them.
    pub local_endpoints: Option<LocalEndpoints>,
    /// How many connections to upstream there may be, unused ones included. Requests beyond it wait for one.
    pub max_connections: usize,
    /// How long a connection to upstream may take, with name resolution and TLS. Answers have no time limit.
    pub connect_timeout: Duration,
    /// Whether upstream sees the `Host` the client sent in place of its own.
    pub keep_client_host: bool,
    /// How long an unused connection to upstream is kept.
    pub idle_timeout: Duration,
    /// How many unused connections each worker keeps.
    pub max_idle: usize,
    /// How many header lines a response may have.
    pub max_headers: usize,
    /// How long the head of a response may be.
    pub max_head_bytes: usize,
    /// How long the body of a request with `Expect: 100-continue` waits for upstream's 100 or response before it is sent anyway.
    pub continue_timeout: Duration,
    /// How much is still read of a request body that upstream no longer takes, so that the client gets to read the response.
    pub linger_bytes: usize,
    /// How long that may take.
    pub linger_timeout: Duration,
    /// How long a response that is tapped is still read when its client has left; zero cancels it at once.
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
