//! Serves HTTP on a free loopback port, and controls how connections end.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

/// A handler for requests. An error closes the connection without a response.
pub(super) trait Answer: Send + Sync + 'static {
    fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        link: Link,
    ) -> impl Future<Output = io::Result<Response<Reply>>> + Send;
}

/// A response body: complete, or produced while it is sent.
pub(super) type Reply = Either<Full<Bytes>, Chunks>;

/// A listening server. Dropping it closes every connection.
#[derive(Debug)]
pub(super) struct Listener {
    addr: SocketAddr,
    task: JoinHandle<()>,
    input: Arc<Mutex<Vec<Input>>>,
}

/// The bytes received on one connection.
type Input = Arc<Mutex<Vec<u8>>>;

impl Listener {
    /// Binds a free port and serves it. With `keep_input`, all received bytes are kept.
    pub(super) async fn start<A: Answer>(answer: Arc<A>, keep_input: bool) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let input = Arc::default();
        let task = tokio::spawn(accept(listener, answer, keep_input.then(|| Arc::clone(&input))));
        Ok(Self { addr, task, input })
    }

    /// The address it listens on.
    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The bytes received so far, one string per connection, oldest first. Empty unless they are
    /// kept.
    pub(super) fn input(&self) -> Vec<Vec<u8>> {
        let input = self.input.lock().expect("no holder panics");
        input.iter().map(|bytes| bytes.lock().expect("no holder panics").clone()).collect()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // This task owns the connection tasks, so they end with it.
        self.task.abort();
    }
}

/// The connection of a request.
#[derive(Clone, Debug)]
pub(super) struct Link(Arc<AtomicBool>);

impl Link {
    /// Makes the connection end with a reset instead of a normal close.
    pub(super) fn reset_at_end(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A body whose chunks come from another task. Each chunk is written to the socket separately.
#[derive(Debug)]
pub(super) struct Chunks {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    flush: bool,
}

impl Chunks {
    /// Creates a body and its sender. Sending an error breaks the body off. Dropping the sender
    /// ends it.
    pub(super) fn new() -> (mpsc::Sender<io::Result<Bytes>>, Self) {
        let (sender, chunks) = mpsc::channel(1);
        (sender, Self { chunks, flush: false })
    }
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        // hyper flushes only when a body has nothing more to send for now.
        if std::mem::take(&mut self.flush) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.chunks.poll_recv(cx).map(|chunk| {
            self.flush = true;
            chunk.map(|chunk| chunk.map(Frame::data))
        })
    }
}

async fn accept<A: Answer>(listener: TcpListener, answer: Arc<A>, input: Option<Arc<Mutex<Vec<Input>>>>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            // Probably out of file descriptors. Wait until some connections end.
            tokio::time::sleep(ACCEPT_BACKOFF).await;
            continue;
        };
        let input = input.as_ref().map(|all| {
            let bytes = Input::default();
            all.lock().expect("no holder panics").push(Arc::clone(&bytes));
            bytes
        });
        connections.spawn(serve(stream, Arc::clone(&answer), input));
    }
}

async fn serve<A: Answer>(stream: TcpStream, answer: Arc<A>, input: Option<Input>) {
    // A failure only costs latency.
    stream.set_nodelay(true).ok();
    let link = Link(Arc::default());
    let io = TokioIo::new(Socket { stream, link: link.clone(), input });
    let service = service_fn(move |request| Arc::clone(&answer).answer(request, link.clone()));
    // The client checks how a connection ends.
    auto::Builder::new(TokioExecutor::new()).serve_connection(io, service).await.ok();
}

/// A socket that can record what it reads and can end with a reset.
struct Socket {
    stream: TcpStream,
    link: Link,
    input: Option<Input>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.link.0.load(Ordering::Acquire) {
            // If this fails, the peer is already gone.
            SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).ok();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Some(input) = &self.input {
            input.lock().expect("no holder panics").extend_from_slice(&buf.filled()[before..]);
        }
        poll
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.link.0.load(Ordering::Acquire) {
            // A shutdown would signal a clean end before the reset.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
