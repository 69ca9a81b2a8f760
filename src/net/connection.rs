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
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::io::ClientStream;
use super::link::{Link, Phase};
use super::{Config, Handler, MAX_WINDOW_BYTES, MIN_HEAD_BYTES};

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
            .max_buf_size(config.max_head_bytes.max(MIN_HEAD_BYTES))
            .preserve_header_case(config.preserve_header_case);
        let window = config.h2_stream_window_bytes.min(MAX_WINDOW_BYTES);
        protocol
            .http2()
            .timer(TokioTimer::new())
            .auto_date_header(false)
            .keep_alive_interval(config.h2_ping_interval)
            .keep_alive_timeout(config.h2_ping_timeout)
            .max_header_list_size(config.max_header_list_bytes)
            .max_concurrent_streams(config.h2_max_streams)
            .max_pending_accept_reset_streams(config.h2_max_pending_resets)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .initial_stream_window_size(window)
            .initial_connection_window_size(
                window.saturating_mul(config.h2_max_streams).clamp(window, MAX_WINDOW_BYTES),
            );
        Self { config, protocol, handler, open }
    }

    /// Serves one connection until it is over, drained or cut.
    pub(super) async fn run(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        place: OwnedSemaphorePermit,
        mut phase: watch::Receiver<Phase>,
    ) {
        self.config.tcp.apply(&stream);
        let link = Arc::new(Link::new(peer, self.open.clone(), place, phase.clone()));
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

/// What a stream of HTTP/2 holds of an answer that its client does not read. Hyper's own 400 KiB would be 80 MiB for a connection
/// of 200 such streams.
const SEND_BUFFER_BYTES: usize = 64 << 10;
