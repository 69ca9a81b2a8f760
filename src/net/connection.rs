//! One client connection from its first byte to its last.

use std::error::Error;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::ready;

use hyper::server::conn::http2 as hyper_http2;
use hyper_util::rt::TokioExecutor;
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::http1::Session;
use super::io::{ClientStream, Protocol};
use super::link::{Link, Phase};
use super::{Config, Handler, MIN_HEAD_BYTES, http2};
use crate::http1::{Input, Parser};

/// What all connections of a listener share.
pub(super) struct Server<H> {
    pub(super) config: Config,
    /// Reads the heads of HTTP/1.
    pub(super) parser: Parser,
    http2: hyper_http2::Builder<TokioExecutor>,
    pub(super) handler: H,
    open: Gauge,
}

impl<H: Handler> Server<H> {
    pub(super) fn new(config: Config, handler: H, open: Gauge) -> Self {
        let parser = Parser::new(config.max_headers, config.max_head_bytes.max(MIN_HEAD_BYTES));
        Self { http2: http2::builder(&config), parser, config, handler, open }
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
        mut stream: TcpStream,
        peer: SocketAddr,
        place: OwnedSemaphorePermit,
        mut phase: watch::Receiver<Phase>,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.config.tcp.apply(&stream);
        let link = Arc::new(Link::new(peer, self.open.clone(), place, phase.clone()));
        let mut input = Input::default();
        // Cancel safe: whatever ends the wait ends the connection.
        let protocol = tokio::select! {
            biased;
            protocol = protocol(&mut stream, &mut input) => protocol?,
            _ = phase.wait_for(|phase| *phase != Phase::Serving) => return Ok(()),
            () = tokio::time::sleep(self.config.first_byte_timeout) => return Ok(()),
        };
        match protocol {
            Protocol::Http1 => {
                let draining = AtomicBool::new(false);
                let session = Session::new(&self, stream, input, link, &draining);
                drive(pin!(session.serve()), |_| draining.store(true, Ordering::Relaxed), phase).await?;
            }
            Protocol::Http2 => {
                let stream = ClientStream::new(stream, Arc::clone(&link), input.bytes());
                let connection = http2::connection(&self.http2, stream, self.handler.clone(), link);
                drive(pin!(connection), |connection| connection.graceful_shutdown(), phase).await?;
            }
        }
        Ok(())
    }
}

/// Drives a connection until it is over, or cut. `drain` has it end what is in progress.
async fn drive<C: Future<Output = Result<(), E>>, E>(
    mut connection: Pin<&mut C>,
    drain: impl Fn(Pin<&mut C>),
    mut phase: watch::Receiver<Phase>,
) -> Result<(), E> {
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

/// Reads until it is clear what the client speaks.
async fn protocol(stream: &mut TcpStream, input: &mut Input) -> std::io::Result<Protocol> {
    poll_fn(|cx| {
        loop {
            if let Some(protocol) = Protocol::of(input.bytes()) {
                return Ok(protocol).into();
            }
            if ready!(input.poll_fill(stream, cx))? == 0 {
                return Ok(Protocol::Http1).into();
            }
        }
    })
    .await
}
