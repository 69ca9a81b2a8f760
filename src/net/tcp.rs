//! Socket options, the same for clients and upstreams.

use std::mem::MaybeUninit;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// How to find a peer that vanished without closing the connection. There is no other timeout on a
/// response.
#[derive(Clone, Debug)]
pub struct Config {
    /// After how long without traffic the first keep-alive probe is sent.
    pub keepalive_idle: Duration,
    /// The time between probes.
    pub keepalive_interval: Duration,
    /// How long sent data may wait for its acknowledgement (`TCP_USER_TIMEOUT`, Linux only). It
    /// also limits how long a live peer may refuse to read, and it replaces the number of
    /// keep-alive probes, so it is generous.
    pub user_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            keepalive_idle: Duration::from_secs(60),
            keepalive_interval: Duration::from_secs(20),
            user_timeout: Duration::from_secs(300),
        }
    }
}

impl Config {
    /// Sets the options. A platform that lacks one only finds dead peers later, so failures are
    /// logged and not returned.
    pub fn apply(&self, stream: &TcpStream) {
        let socket = SockRef::from(stream);
        let keepalive =
            TcpKeepalive::new().with_time(self.keepalive_idle).with_interval(self.keepalive_interval);
        let applied = stream.set_nodelay(true).and_then(|()| socket.set_tcp_keepalive(&keepalive));
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let applied = applied.and_then(|()| socket.set_tcp_user_timeout(Some(self.user_timeout)));
        if let Err(error) = applied {
            tracing::debug!(%error, "cannot set a socket option");
        }
    }
}

/// Whether input has arrived, also if the runtime has not reported it yet.
pub(super) fn has_input(stream: &TcpStream) -> bool {
    SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]).is_ok_and(|count| count > 0)
}
