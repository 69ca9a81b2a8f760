//! One client connection from its first byte to its last.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::io::ClientStream;
use super::link::{Link, Phase};
use super::{Config, Handler};

/// What all connections of a listener share.
pub(super) struct Server<H> {
    config: Config,
    protocol: auto::Builder<TokioExecutor>,
    handler: H,
    open: Gauge,
}

impl<H: Handler> Server<H> {
    pub(super) fn new(config: Config, handler: H, open: Gauge) -> Self {
        let mut protocol = auto::Builder::new(TokioExecutor::new());
        protocol
            .http1()
            .timer(TokioTimer::new())
            .auto_date_header(false)
            .half_close(config.half_close)
            .header_read_timeout(config.head_timeout)
            .max_headers(config.max_headers)
            .preserve_header_case(config.preserve_header_case);
        protocol
            .http2()
            .timer(TokioTimer::new())
            .auto_date_header(false)
            .keep_alive_interval(config.h2_ping_interval)
            .keep_alive_timeout(config.h2_ping_timeout)
            .max_header_list_size(config.max_header_list_bytes);
        Self { config, protocol, handler, open }
    }

    /// Serves one connection until it is over, drained or cut.
    pub(super) async fn run(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        mut phase: watch::Receiver<Phase>,
    ) {
        let _open = Open::new(&self.open);
        self.config.tcp.apply(&stream);
        let link = Arc::new(Link::new(peer, phase.clone()));
        let io = TokioIo::new(ClientStream::new(stream, Arc::clone(&link)));
        let service = {
            let (server, link) = (Arc::clone(&self), Arc::clone(&link));
            service_fn(move |request| {
                let (handler, link) = (server.handler.clone(), Arc::clone(&link));
                async move { Ok::<_, Infallible>(handler.handle(request, link).await) }
            })
        };
        let mut connection = pin!(self.protocol.serve_connection_with_upgrades(io, service));
        let mut silence = pin!(tokio::time::sleep(self.config.first_byte_timeout));
        let mut timed = true;
        loop {
            // Cancel safe: the connection and the timer are polled in place, and `changed` loses nothing when dropped.
            tokio::select! {
                biased;
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(%peer, error, "a client connection failed");
                    }
                    return;
                }
                changed = phase.changed() => match (changed, *phase.borrow_and_update()) {
                    (Ok(()), Phase::Serving) => {}
                    (Ok(()), Phase::Draining) => connection.as_mut().graceful_shutdown(),
                    (Err(_), _) | (Ok(()), Phase::Cut) => return,
                },
                () = silence.as_mut(), if timed => {
                    if !link.is_greeted() {
                        return;
                    }
                    timed = false;
                }
            }
        }
    }
}

/// Counts a connection while it is open.
struct Open<'a>(&'a Gauge);

impl<'a> Open<'a> {
    fn new(gauge: &'a Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
