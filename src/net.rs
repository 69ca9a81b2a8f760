//! Listens for clients and serves their connections until told to drain.
//!
//! HTTP/1.1 and HTTP/2 with prior knowledge on one port. What is done with a request is the [`Handler`]'s matter; this module
//! knows connections only. A response has no time limit of any kind: what ends a connection is its client, its handler, a dead
//! peer, or the end of the drain's grace.
//!
//! What is promised of connections, and what cannot be, is in `docs/transparency.md`.

mod accept;
mod connection;
mod deadline;
mod http1;
mod http2;
mod incoming_body;
mod io;
mod link;
mod message;
mod places;
mod room;
mod service;
mod settings;
pub mod tcp;
mod workers;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;

pub use self::io::ClientStream;
#[cfg(any(test, fuzzing))]
pub use self::io::assert_greetings_are_told;
pub use self::link::Link;
pub use self::message::{Request, RequestBody, RequestBodyError, Response, Takeover};
pub use self::service::Service;
pub use self::settings::Settings;

pub(crate) use self::accept::{Acceptor, Arrival};
pub(crate) use self::connection::drive;
pub(crate) use self::link::Phase;
pub(crate) use self::places::{Exchanges, Places};
pub(crate) use self::settings::set_head;

use self::connection::{Counts, Server};
use self::room::Room;
use self::workers::Workers;
use crate::metrics::{KindLabel, Metrics};

/// How to listen, and the limits of client connections.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// How many threads serve connections; none is one per core.
    pub workers: Option<usize>,
    /// How many connections may be open, tunnels included. When another client comes, the connection that has waited longest for
    /// its client to send a request is closed; if none waits, further clients wait in the listener's backlog.
    pub max_connections: usize,
    /// How long a new connection may be silent, or stop within the preface of HTTP/2.
    pub first_byte_timeout: Duration,
    /// How long the head of an HTTP/1 request may take, from the end of the one before: idle time included.
    pub head_timeout: Duration,
    /// How many header lines an HTTP/1 request may have.
    pub max_headers: usize,
    /// How long the head of an HTTP/1 request may be; at least [`MIN_HEAD_BYTES`]. As much is read ahead of a body at most.
    pub max_head_bytes: usize,
    /// How long the header list of an HTTP/2 request may be.
    pub max_header_list_bytes: u32,
    /// How many requests an HTTP/2 connection may have in progress.
    pub h2_max_streams: u32,
    /// How much of one request's body an HTTP/2 client may send ahead of upstream; at most [`MAX_WINDOW_BYTES`].
    pub h2_stream_window_bytes: u32,
    /// How much of all bodies of a connection it may send ahead; at least as much as of one. So many uploads may stand still before
    /// they stall the others of their connection.
    pub h2_connection_window_bytes: u32,
    /// What the requests in progress of all HTTP/2 connections may take together, beyond 512 KiB for each connection. Further
    /// requests are refused, unlooked at.
    pub h2_memory_bytes: usize,
    /// How many requests an HTTP/2 client may have taken back before they were looked at. Beyond it the connection is closed.
    pub h2_max_pending_resets: usize,
    /// How often an HTTP/2 connection is asked whether it is alive.
    pub h2_ping_interval: Duration,
    /// How long the response to that may take.
    pub h2_ping_timeout: Duration,
    /// Whether a client may close its sending side and still wait for the response. When false that is an abort, and the
    /// request to upstream is cancelled at once.
    pub half_close: bool,
    /// Socket options of client connections.
    pub tcp: tcp::Config,
}

impl Config {
    /// The defaults for a listener on `listen`.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            workers: None,
            max_connections: 16_384,
            first_byte_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(75),
            max_headers: 1000,
            max_head_bytes: 256 << 10,
            max_header_list_bytes: 64 << 10,
            h2_max_streams: 200,
            h2_stream_window_bytes: 256 << 10,
            h2_connection_window_bytes: 1 << 20,
            h2_memory_bytes: 96 << 20,
            h2_max_pending_resets: 20,
            h2_ping_interval: Duration::from_secs(60),
            h2_ping_timeout: Duration::from_secs(20),
            half_close: false,
            tcp: tcp::Config::default(),
        }
    }
}

/// The least that [`Config::max_head_bytes`] can be.
pub const MIN_HEAD_BYTES: usize = 8 << 10;

/// The most that [`Config::h2_stream_window_bytes`] can be (RFC 9113 §6.9.1).
pub const MAX_WINDOW_BYTES: u32 = (1 << 31) - 1;

/// Answers requests. One value is cloned for each of them, so clones should be cheap.
pub trait Handler: Clone + Send + Sync + 'static {
    /// The body of a response. An error of it aborts the client's connection, or its stream on HTTP/2.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + Unpin
        + 'static;

    /// A handler for the connections of another thread: what threads should not share is made anew.
    fn for_worker(&self) -> Self;

    /// Answers `request`, which came over the connection `link` belongs to. Dropped when the client goes away.
    fn handle(&self, request: Request, link: Arc<Link>) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every exchange and tunnel came to its end.
    Complete,
    /// The grace was over before; the rest was cut.
    Cut,
}

impl Drained {
    /// How both of two ended.
    fn and(self, other: Self) -> Self {
        if self == Self::Complete { other } else { self }
    }
}

/// How many threads serve connections where `wished` are asked for; none is one per core.
#[must_use]
pub fn workers(wished: Option<usize>) -> usize {
    workers::count(wished)
}

/// Listens on `address`. It has to be called within a runtime.
///
/// # Errors
///
/// Those of the operating system: the address is in use, is not ours, or is privileged.
pub fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Or a restart would have to wait until the connections of the process before are forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves the clients of `listener` until `shutdown` completes, then drains: closes the listener, lets exchanges and tunnels
/// in progress end until `grace` completes, and cuts what is left. Returns when no connection is open. `grace` is first polled
/// when `shutdown` has completed.
///
/// The runtime it is called on is the first worker; the others have a thread each. It should be of a single thread: on a runtime
/// that moves tasks between threads every wake-up costs more.
pub async fn serve<H: Handler>(
    listener: TcpListener,
    config: Config,
    handler: H,
    metrics: &Metrics,
    shutdown: impl Future<Output = ()>,
    grace: impl Future<Output = ()>,
) -> Drained {
    let count = workers::count(config.workers);
    let listening = Listening {
        places: Places::new(config.max_connections, metrics.connections_closed.clone()),
        room: Room::new(config.h2_memory_bytes),
        counts: Counts {
            open: metrics.connections.clone(),
            refused: metrics.h2_refused.clone(),
            left_out: metrics.lines_left_out.get_or_create_owned(&KindLabel { kind: "http2" }),
        },
        config,
        handler,
    };
    let (tell, told) = watch::channel(Phase::Serving);
    let others = Workers::start(count - 1, &listener, &listening, &told);
    let telling = async {
        shutdown.await;
        tell.send_replace(Phase::Draining);
        grace.await;
        tell.send_replace(Phase::Cut);
        std::future::pending().await
    };
    let serving = async {
        let drained = listening.serve(listener, told).await;
        drained.and(others.drained().await)
    };
    tokio::select! {
        drained = serving => drained,
        never = telling => never,
    }
}

/// What a worker needs.
struct Listening<H> {
    config: Config,
    handler: H,
    places: Places,
    /// For requests over HTTP/2; all workers share it.
    room: Arc<Room>,
    counts: Counts,
}

impl<H: Handler> Listening<H> {
    fn for_worker(&self) -> Self {
        Self {
            config: self.config.clone(),
            handler: self.handler.for_worker(),
            places: self.places.for_worker(),
            room: Arc::clone(&self.room),
            counts: self.counts.clone(),
        }
    }

    /// Serves on the current runtime until it is told to drain. Whoever told is gone means that it is to be cut.
    async fn serve(self, listener: TcpListener, mut told: watch::Receiver<Phase>) -> Drained {
        let Self { config, handler, places, room, counts } = self;
        let (phase, watcher) = watch::channel(Phase::Serving);
        let server = Arc::new(Server::new(config, handler, room, counts));
        let mut acceptor = Acceptor::new(listener, places);
        {
            let mut drain = told.clone();
            let mut shutdown =
                pin!(async move { _ = drain.wait_for(|phase| *phase != Phase::Serving).await });
            loop {
                // A client that has no place yet is not served any more.
                let arrival = tokio::select! {
                    () = &mut shutdown => break,
                    accepted = acceptor.next() => accepted,
                };
                tokio::spawn(Arc::clone(&server).run(arrival, watcher.clone()));
            }
        }
        drop((acceptor, watcher));
        phase.send_replace(Phase::Draining);
        tokio::select! {
            biased;
            () = phase.closed() => return Drained::Complete,
            _ = told.wait_for(|phase| *phase == Phase::Cut) => {}
        }
        phase.send_replace(Phase::Cut);
        phase.closed().await;
        Drained::Cut
    }
}

/// Clients that may wait to be accepted. The system may allow fewer: `net.core.somaxconn` of Linux is 4096.
const BACKLOG: u32 = 4096;
