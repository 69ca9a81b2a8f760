//! One client connection from its first byte to its last.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::io::{ClientStream, Protocol};
use super::link::{Link, Phase};
use super::{Config, Handler, MAX_WINDOW_BYTES, MIN_HEAD_BYTES};

/// What all connections of a listener share.
pub(super) struct Server<H> {
    config: Config,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    handler: H,
    open: Gauge,
}

impl<H: Handler> Server<H> {
    pub(super) fn new(config: Config, handler: H, open: Gauge) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .auto_date_header(false)
            .half_close(config.half_close)
            .header_read_timeout(config.head_timeout)
            .max_headers(config.max_headers)
            .max_buf_size(config.max_head_bytes.max(MIN_HEAD_BYTES))
            .preserve_header_case(config.preserve_header_case);
        let window = config.h2_stream_window_bytes.min(MAX_WINDOW_BYTES);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
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
        Self { config, http1, http2, handler, open }
    }

    /// Serves one connection until it is over, drained or cut.
    pub(super) async fn run(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        place: OwnedSemaphorePermit,
        phase: watch::Receiver<Phase>,
    ) {
        if let Err(error) = self.serve(stream, peer, place, phase).await {
            tracing::debug!(%peer, error, "a client connection failed");
        }
    }

    async fn serve(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        place: OwnedSemaphorePermit,
        mut phase: watch::Receiver<Phase>,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.config.tcp.apply(&stream);
        let link = Arc::new(Link::new(peer, self.open.clone(), place, phase.clone()));
        let mut stream = ClientStream::new(stream, Arc::clone(&link));
        // Cancel safe: whatever ends the wait ends the connection.
        let protocol = tokio::select! {
            biased;
            protocol = stream.protocol() => protocol?,
            _ = phase.wait_for(|phase| *phase != Phase::Serving) => return Ok(()),
            () = tokio::time::sleep(self.config.first_byte_timeout) => return Ok(()),
        };
        let service = {
            let (server, link) = (Arc::clone(&self), Arc::clone(&link));
            service_fn(move |request| {
                let (handler, link) = (server.handler.clone(), Arc::clone(&link));
                // Boxed: a connection keeps room for it while it lives, also while the stream it began goes on for hours.
                Box::pin(async move { Ok::<_, Infallible>(handler.handle(request, link).await) })
            })
        };
        let io = TokioIo::new(stream);
        match protocol {
            Protocol::Http1 => {
                let connection = self.http1.serve_connection(io, service).with_upgrades();
                drive(pin!(connection), http1::UpgradeableConnection::graceful_shutdown, phase).await?;
            }
            Protocol::Http2 => {
                let connection = self.http2.serve_connection(io, service);
                drive(pin!(connection), http2::Connection::graceful_shutdown, phase).await?;
            }
        }
        Ok(())
    }
}

/// Drives a connection until it is over, or cut. `drain` has it end what is in progress.
async fn drive<C: Future<Output = hyper::Result<()>>>(
    mut connection: Pin<&mut C>,
    drain: fn(Pin<&mut C>),
    mut phase: watch::Receiver<Phase>,
) -> hyper::Result<()> {
    loop {
        // Cancel safe: the connection is polled in place, and `changed` loses nothing when dropped.
        tokio::select! {
            biased;
            result = connection.as_mut() => return result,
            changed = phase.changed() => match (changed, *phase.borrow_and_update()) {
                (Ok(()), Phase::Serving) => {}
                (Ok(()), Phase::Draining) => drain(connection.as_mut()),
                (Err(_), _) | (Ok(()), Phase::Cut) => return Ok(()),
            },
        }
    }
}

/// What a stream of HTTP/2 holds of an answer that its client does not read. Hyper's own 400 KiB would be 80 MiB for a connection
/// of 200 such streams.
const SEND_BUFFER_BYTES: usize = 64 << 10;
