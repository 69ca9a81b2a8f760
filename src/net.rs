//! Listens for clients and serves their connections until it is told to drain.
//!
//! Serves HTTP/1.1 and HTTP/2 with prior knowledge on one port. The [`Handler`] processes the
//! requests; this module only knows connections. A response has no time limit of any kind. A
//! connection is ended by its client, its handler, a dead peer, or the end of the drain's grace
//! period.
//!
//! `docs/transparency.md` says what is guaranteed for connections, and what cannot be.

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
    /// How many threads serve connections; `None` means one per core.
    pub workers: Option<usize>,
    /// How many connections may be open, tunnels included. When another client connects, the
    /// connection that has waited longest for a request from its client is closed. If no connection
    /// is waiting, new clients wait in the listener's backlog.
    pub max_connections: usize,
    /// How long a new connection may stay silent, or stop within the HTTP/2 preface.
    pub first_byte_timeout: Duration,
    /// How long the head of an HTTP/1 request may take, measured from the end of the previous
    /// request. Idle time counts.
    pub head_timeout: Duration,
    /// How many header lines an HTTP/1 request may have.
    pub max_headers: usize,
    /// How long the head of an HTTP/1 request may be; at least [`MIN_HEAD_BYTES`]. It also limits
    /// how much of a body is read ahead.
    pub max_head_bytes: usize,
    /// How long the header list of an HTTP/2 request may be.
    pub max_header_list_bytes: u32,
    /// How many requests an HTTP/2 connection may have in progress.
    pub h2_max_streams: u32,
    /// How much of one request's body an HTTP/2 client may send ahead of upstream; at most
    /// [`MAX_WINDOW_BYTES`].
    pub h2_stream_window_bytes: u32,
    /// How much of all bodies of a connection the client may send ahead; at least as much as for
    /// one body. This decides how many stalled uploads it takes to stall the other uploads on the
    /// connection.
    pub h2_connection_window_bytes: u32,
    /// How much memory the requests in progress on all HTTP/2 connections may take together, in
    /// addition to 512 KiB for each connection. Further requests are refused without being
    /// processed.
    pub h2_memory_bytes: usize,
    /// How many requests an HTTP/2 client may cancel before they are processed. Beyond that the
    /// connection is closed.
    pub h2_max_pending_resets: usize,
    /// How often an HTTP/2 connection is pinged to check that it is alive.
    pub h2_ping_interval: Duration,
    /// How long the reply to that ping may take.
    pub h2_ping_timeout: Duration,
    /// Whether a client may close its sending side and still wait for the response. If false,
    /// closing the sending side is an abort, and the request to upstream is cancelled at once.
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

/// The minimum for [`Config::max_head_bytes`].
pub const MIN_HEAD_BYTES: usize = 8 << 10;

/// The maximum for [`Config::h2_stream_window_bytes`] (RFC 9113 §6.9.1).
pub const MAX_WINDOW_BYTES: u32 = (1 << 31) - 1;

/// Answers requests. One clone is made for each request, so cloning should be cheap.
pub trait Handler: Clone + Send + Sync + 'static {
    /// The body of a response. If it fails, the client's connection is aborted, or only its stream
    /// on HTTP/2.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + Unpin
        + 'static;

    /// Returns a handler for the connections of another thread. State that threads should not share
    /// is created again.
    fn for_worker(&self) -> Self;

    /// Answers `request`, which came over the connection that `link` belongs to. The future is
    /// dropped when the client disconnects.
    fn handle(&self, request: Request, link: Arc<Link>) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every exchange and tunnel finished.
    Complete,
    /// The grace period ended first; the rest was cut off.
    Cut,
}

impl Drained {
    /// Combines how two of them ended.
    fn and(self, other: Self) -> Self {
        if self == Self::Complete { other } else { self }
    }
}

/// How many threads serve connections if `wished` are requested; `None` means one per core.
#[must_use]
pub fn workers(wished: Option<usize>) -> usize {
    workers::count(wished)
}

/// Listens on `address`. Must be called within a runtime.
///
/// # Errors
///
/// Errors of the operating system: the address is in use, is not ours, or is privileged.
pub fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Otherwise a restart would have to wait until the system forgets the connections of the
    // previous process.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves the clients of `listener` until `shutdown` completes, then drains. To drain is to close
/// the listener, to let exchanges and tunnels in progress finish until `grace` completes, and to
/// cut off the rest. Returns when no connection is open. `grace` is first polled after `shutdown`
/// has completed.
///
/// The runtime it is called on is the first worker; each other worker has its own thread. The
/// runtime should be single-threaded: on a runtime that moves tasks between threads, every wake-up
/// costs more.
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
    /// For requests over HTTP/2; shared by all workers.
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

    /// Serves on the current runtime until it is told to drain. If the sender of `told` is gone,
    /// connections are cut off.
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
                // A client that has no place yet is no longer served.
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

/// How many clients may wait to be accepted. The system may allow fewer: `net.core.somaxconn` on
/// Linux is 4096.
const BACKLOG: u32 = 4096;
