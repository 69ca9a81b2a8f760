//! What stands before a backend and can be out of order below HTTP.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::support::soon;

/// How connections are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Answered with what is no HTTP.
    Garble,
    /// Led to the backend through TLS, with a certificate nobody trusts.
    Impersonate,
    /// Led to the backend.
    Pass,
    /// Led to the backend through TLS, with a certificate that is right.
    PassSecurely,
    /// Refused: nobody listens.
    Refuse,
    /// Accepted, and never answered.
    Swallow,
}

/// A port of its own, kept whatever the mode. Dropping it ends every connection.
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    mode: watch::Sender<Mode>,
    connections: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl Front {
    pub(crate) fn start(mode: Mode, backend: SocketAddr) -> Self {
        // A port that is bound but not listened at refuses connections, and nobody else can take it.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let (mode, modes) = watch::channel(mode);
        let (counted, connections) = watch::channel(0);
        let task = tokio::spawn(serve(socket, modes, counted, backend));
        Self { address, mode, connections, task }
    }

    /// Treats connections like this from now on; those there are end.
    pub(crate) fn turn(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// How many connections were accepted.
    pub(crate) fn connections(&self) -> usize {
        *self.connections.borrow()
    }

    /// The certificate clients are to trust.
    pub(crate) fn trusted() -> PathBuf {
        certificate("right.pem")
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    socket: Socket,
    mut modes: watch::Receiver<Mode>,
    counted: watch::Sender<usize>,
    backend: SocketAddr,
) {
    if modes.wait_for(|mode| *mode != Mode::Refuse).await.is_err() {
        return;
    }
    socket.listen(128).unwrap();
    socket.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(socket.into()).unwrap();
    let mut served = JoinSet::new();
    loop {
        let mode = *modes.borrow_and_update();
        // Cancel safe, both.
        tokio::select! {
            changed = modes.changed() => {
                served.abort_all();
                if changed.is_err() {
                    return;
                }
            }
            accepted = listener.accept() => {
                counted.send_modify(|count| *count += 1);
                let (stream, _) = accepted.unwrap();
                stream.set_nodelay(true).unwrap();
                // How a connection ends is the client's to judge.
                served.spawn(async move { treat(stream, mode, backend).await.ok() });
            }
        }
    }
}

async fn treat(mut stream: TcpStream, mode: Mode, backend: SocketAddr) -> std::io::Result<()> {
    match mode {
        Mode::Garble => {
            let mut beginning = [0; 1024];
            if stream.read(&mut beginning).await? == 0 {
                return Ok(());
            }
            stream.write_all(b"\x00\x01\x02 this is no head\r\n\r\n").await
        }
        Mode::Impersonate => lead(acceptor("wrong", &[]).accept(stream).await?, backend).await,
        Mode::Pass => lead(stream, backend).await,
        Mode::PassSecurely => lead(acceptor("right", &[]).accept(stream).await?, backend).await,
        Mode::Refuse | Mode::Swallow => std::future::pending().await,
    }
}

async fn lead(mut client: impl AsyncRead + AsyncWrite + Unpin, backend: SocketAddr) -> std::io::Result<()> {
    let mut backend = TcpStream::connect(backend).await?;
    copy_bidirectional(&mut client, &mut backend).await.map(drop)
}

/// A backend that speaks HTTP/2 through TLS. Its first connection answers once and then falls silent, as when the network to it
/// is gone; whoever connects again is served.
pub(crate) struct Vanishing {
    pub(crate) address: SocketAddr,
    answered: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl Vanishing {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (counted, answered) = watch::channel(0);
        let task = tokio::spawn(async move {
            let mut served = JoinSet::new();
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                served.spawn(serve_http2(stream, number == 0, counted.clone()));
            }
        });
        Self { address, answered, task }
    }

    /// Waits until so many requests were answered.
    pub(crate) async fn answered(&self, count: usize) {
        let mut answered = self.answered.clone();
        soon("answers", answered.wait_for(|answered| *answered >= count)).await.unwrap();
    }
}

impl Drop for Vanishing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve_http2(stream: TcpStream, vanishes: bool, counted: watch::Sender<usize>) {
    let stream = acceptor("right", &[b"h2"]).accept(stream).await.unwrap();
    let vanished = Arc::new(Notify::new());
    let vanish = Arc::clone(&vanished);
    let service = service_fn(move |request: Request<Incoming>| {
        let (vanish, counted) = (Arc::clone(&vanish), counted.clone());
        async move {
            if vanishes && *counted.borrow() > 0 {
                vanish.notify_one();
                std::future::pending::<()>().await;
            }
            request.into_body().collect().await.unwrap();
            counted.send_modify(|count| *count += 1);
            Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from_static(b"{}"))))
        }
    });
    let connection =
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // Cancel safe, both.
    tokio::select! {
        ended = &mut connection => drop(ended),
        // Kept, and never looked at again.
        () = vanished.notified() => std::future::pending().await,
    }
}

fn acceptor(name: &str, protocols: &[&[u8]]) -> TlsAcceptor {
    let chain = vec![CertificateDer::from_pem_file(certificate(&format!("{name}.pem"))).unwrap()];
    let key = PrivateKeyDer::from_pem_file(certificate(&format!("{name}.key"))).unwrap();
    let mut config = ServerConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

fn certificate(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(file)
}
