//! Connections to upstream.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::dns::{GaiAddrs, GaiResolver, Name};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tower_service::Service;

use super::room::Taken;
use super::upstream::Upstream;
use crate::descriptors;
use crate::net::tcp;

/// Connects to upstream: resolves the name, connects, and starts a TLS session if needed, all
/// within one time limit.
pub(super) struct Connector {
    /// Its scheme, host and port.
    target: Uri,
    transport: Transport,
    timeout: Duration,
}

/// Why a connection could not be opened.
#[derive(Debug, Error)]
pub(super) enum ConnectError {
    #[error("cannot resolve the name")]
    Dns(#[source] io::Error),
    #[error("this machine has no root certificates")]
    NoRoots(#[source] Arc<io::Error>),
    #[error("the TLS handshake failed")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("not connected within {0:?}")]
    TimedOut(Duration),
    #[error("cannot connect")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Connector {
    /// Creates a connector for plain or TLS connections. Root certificates are loaded only if
    /// needed; if there are none, each request for a connection gets the error.
    pub(super) fn new(
        upstream: &Upstream,
        timeout: Duration,
        tcp: tcp::Config,
    ) -> Result<Self, rustls::Error> {
        let target = upstream.origin();
        let mut http = HttpConnector::new_with_resolver(Resolver(GaiResolver::new()));
        http.enforce_http(false);
        let dialer = Dialer { http, tcp };
        if !upstream.is_tls() {
            return Ok(Self { target, transport: Transport::Plain(dialer), timeout });
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let transport = match config.with_native_roots() {
            Ok(config) => Transport::Tls(
                HttpsConnectorBuilder::new()
                    .with_tls_config(config.with_no_client_auth())
                    .https_only()
                    .enable_http1()
                    .wrap_connector(dialer),
            ),
            Err(error) => {
                tracing::error!(%error, "no root certificates; an https upstream cannot be reached");
                Transport::NoRoots(Arc::new(error))
            }
        };
        Ok(Self { target, transport, timeout })
    }

    /// Opens a new connection, which takes its room until it is closed. If the process has too many
    /// open files, it retries until the time is over, because other connections close meanwhile.
    pub(super) async fn connect(&self, taken: Taken) -> Result<Stream, ConnectError> {
        let connected = tokio::time::timeout(self.timeout, async {
            loop {
                match self.dial().await {
                    Err(error) if error.is_for_want_of_descriptors() => tokio::time::sleep(PAUSE).await,
                    dialled => return dialled,
                }
            }
        });
        let mut stream = connected.await.unwrap_or(Err(ConnectError::TimedOut(self.timeout)))?;
        socket(&mut stream).taken = Some(taken);
        Ok(Box::new(TokioIo::new(stream)))
    }

    async fn dial(&self) -> Result<MaybeHttpsStream<TokioIo<UpstreamStream>>, ConnectError> {
        let target = self.target.clone();
        match &self.transport {
            Transport::NoRoots(error) => Err(ConnectError::NoRoots(Arc::clone(error))),
            Transport::Plain(dialer) => dialer.clone().call(target).await.map(MaybeHttpsStream::Http),
            Transport::Tls(https) => https.clone().call(target).await.map_err(|error| {
                // An error that is not the dialer's comes from the TLS session on top of it.
                error.downcast::<ConnectError>().map_or_else(ConnectError::Tls, |error| *error)
            }),
        }
    }
}

impl ConnectError {
    fn is_for_want_of_descriptors(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if error.downcast_ref::<io::Error>().is_some_and(descriptors::are_used_up) {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

/// The socket, with or without TLS.
fn socket(stream: &mut MaybeHttpsStream<TokioIo<UpstreamStream>>) -> &mut UpstreamStream {
    match stream {
        MaybeHttpsStream::Http(io) => io.inner_mut(),
        MaybeHttpsStream::Https(tls) => tls.inner_mut().get_mut().0.inner_mut().inner_mut(),
    }
}

/// The stream that carries the bytes. Boxed: with TLS it is large, and it moves with each exchange.
pub(super) type Stream = Box<TokioIo<MaybeHttpsStream<TokioIo<UpstreamStream>>>>;

/// A connection to upstream that keeps a failed write from hiding a response that can still be
/// read. Upstream may refuse an upload (401, 413) and close while the client is still sending.
/// After such a failure, written data is discarded, and the read side decides the outcome of the
/// exchange.
pub(super) struct UpstreamStream {
    stream: TcpStream,
    write: WriteSide,
    /// Released when the socket is closed.
    taken: Option<Taken>,
}

enum WriteSide {
    Closed,
    Open,
}

enum Transport {
    NoRoots(Arc<io::Error>),
    Plain(Dialer),
    Tls(HttpsConnector<Dialer>),
}

type Connecting<C> = Pin<Box<dyn Future<Output = Result<C, ConnectError>> + Send>>;

/// Connects a socket.
#[derive(Clone)]
struct Dialer {
    http: HttpConnector<Resolver>,
    tcp: tcp::Config,
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<UpstreamStream>;
    type Error = ConnectError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        // An `HttpConnector` is always ready once its resolver is, and our resolver always is.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let connecting = self.http.call(target);
        let tcp = self.tcp.clone();
        Box::pin(async move {
            let stream = connecting.await.map_err(unconnected)?.into_inner();
            tcp.apply(&stream);
            Ok(TokioIo::new(UpstreamStream { stream, write: WriteSide::Open, taken: None }))
        })
    }
}

/// The system's resolver, with an error that can be distinguished from connection errors.
#[derive(Clone, Debug)]
struct Resolver(GaiResolver);

#[derive(Debug, Error)]
#[error("cannot resolve")]
struct Unresolved(#[source] io::Error);

impl Service<Name> for Resolver {
    type Response = GaiAddrs;
    type Error = Unresolved;
    type Future = Pin<Box<dyn Future<Output = Result<GaiAddrs, Unresolved>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Unresolved>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolving = self.0.call(name);
        Box::pin(async move { resolving.await.map_err(Unresolved) })
    }
}

fn unconnected<E: std::error::Error + Send + Sync + 'static>(error: E) -> ConnectError {
    match std::error::Error::source(&error).and_then(|source| source.downcast_ref::<Unresolved>()) {
        Some(Unresolved(cause)) => ConnectError::Dns(match cause.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(cause.kind(), cause.to_string()),
        }),
        None => ConnectError::Unreachable(Box::new(error)),
    }
}

impl Connection for UpstreamStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl UpstreamStream {
    /// Turns a failed write into a success. All later writes then succeed too.
    fn settle(&mut self, written: io::Result<usize>, length: usize) -> io::Result<usize> {
        match written {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) =>
            {
                self.write = WriteSide::Closed;
                Ok(length)
            }
            other => other,
        }
    }
}

impl AsyncRead for UpstreamStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let WriteSide::Closed = this.write {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, buf));
        Poll::Ready(this.settle(written, buf.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let length = bufs.iter().map(|buf| buf.len()).sum();
        if let WriteSide::Closed = this.write {
            return Poll::Ready(Ok(length));
        }
        let written = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, bufs));
        Poll::Ready(this.settle(written, length))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let WriteSide::Closed = this.write {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

/// How long to wait before trying again to open a socket.
const PAUSE: Duration = Duration::from_millis(25);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_answer_is_read_although_the_request_can_no_longer_be_written() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut stream = UpstreamStream { stream, write: WriteSide::Open, taken: None };
        let (mut peer, _) = listener.accept().await.unwrap();
        stream.write_all(b"one").await.unwrap();
        peer.readable().await.unwrap();
        peer.write_all(b"no").await.unwrap();
        // Closing with unread bytes is a reset.
        drop(peer);
        stream.stream.readable().await.unwrap();
        while let WriteSide::Open = stream.write {
            stream.write_all(b"more").await.unwrap();
        }
        stream.write_all(b"and more").await.unwrap();
        let mut response = [0; 2];
        stream.read_exact(&mut response).await.unwrap();
        assert_eq!(&response, b"no");
    }
}
