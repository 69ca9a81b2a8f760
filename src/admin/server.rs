//! The connections of the admin listener. They are few, and every wait has a time limit.
//!
//! Each step that a client must take has its own time limit. If all connections are in use and
//! another client connects, the connection that has waited longest for its client is closed
//! ([`Places`]). A client that holds all of them and sends nothing keeps nobody out.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Sleep, sleep, timeout};
use tower_service::Service;

use crate::metrics::Metrics;
use crate::net::{Acceptor, Arrival, Exchanges, Phase, Places, drive, tcp};

/// Limits on the clients of the admin listener.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How many connections may be open at a time. If another client connects, the connection that
    /// has waited longest for its client is closed.
    pub connections: usize,
    /// How long the head of a request may take, counted from the end of the previous response. This
    /// also limits how long a connection may be idle.
    pub head: Duration,
    /// How long the body of a request may take.
    pub body: Duration,
    /// The maximum size of a body.
    pub body_bytes: usize,
    /// How long a client may take to read a response, beyond what its socket accepts at once.
    pub write: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            head: Duration::from_secs(10),
            body: Duration::from_secs(10),
            body_bytes: 1 << 20,
            write: Duration::from_secs(30),
        }
    }
}

/// Serves until `shutdown` resolves and all started responses are sent.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    metrics: &Metrics,
    shutdown: impl Future<Output = ()>,
) {
    let places = Places::new(limits.connections, metrics.admin_connections_closed.clone());
    let mut acceptor = Acceptor::new(listener, places);
    let (phase, watcher) = watch::channel(Phase::Serving);
    let limits = Arc::new(limits);
    {
        let mut shutdown = pin!(shutdown);
        loop {
            let arrival = tokio::select! {
                () = &mut shutdown => break,
                accepted = acceptor.next() => accepted,
            };
            tokio::spawn(connection(arrival, router.clone(), Arc::clone(&limits), watcher.clone()));
        }
    }
    drop((acceptor, watcher));
    phase.send_replace(Phase::Draining);
    phase.closed().await;
}

async fn connection(arrival: Arrival, router: Router, limits: Arc<Limits>, phase: watch::Receiver<Phase>) {
    let Arrival { stream, place, waiting, peer: _ } = arrival;
    tcp::Config::default().apply(&stream);
    let exchanges = Exchanges::default();
    let service = service_fn(|request: Request<Incoming>| {
        let (mut router, limits, exchanges) = (router.clone(), Arc::clone(&limits), exchanges.clone());
        async move {
            let request = match whole(request, &limits).await {
                Ok(request) => request,
                Err(refusal) => return Ok(refusal),
            };
            // The exchange excludes the arrival of the body and the reading of the response,
            // because the connection waits for its client then.
            let _exchange = exchanges.begin();
            router.call(request).await
        }
    });
    let stream = TokioIo::new(Unread { stream, limit: limits.write, stalled: None });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(stream, service);
    let asked = exchanges.asked_to_leave(&place, waiting);
    let drain = |connection: Pin<&mut http1::Connection<_, _>>| connection.graceful_shutdown();
    if let Err(error) = drive(pin!(connection), drain, phase, asked).await {
        tracing::debug!(%error, "a connection to the admin listener failed");
    }
}

/// Reads the whole body of a request.
async fn whole(request: Request<Incoming>, limits: &Limits) -> Result<Request<Body>, Response> {
    let (head, body) = request.into_parts();
    let read = timeout(limits.body, Limited::new(body, limits.body_bytes).collect()).await;
    match read {
        Ok(Ok(body)) => Ok(Request::from_parts(head, Body::from(body.to_bytes()))),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err((StatusCode::PAYLOAD_TOO_LARGE, "the body is too large\n").into_response())
        }
        Ok(Err(_)) => Err((StatusCode::BAD_REQUEST, "the body is incomplete\n").into_response()),
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time\n").into_response()),
    }
}

/// A socket that fails if its client does not read a response within a time limit, even if the
/// client reads a byte now and then.
struct Unread {
    stream: TcpStream,
    limit: Duration,
    /// Runs from the moment the client's side accepts no more of the response.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Unread {
    fn timed(&mut self, written: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if written.is_pending() {
            let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(self.limit)));
            if stalled.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        written
    }
}

impl AsyncRead for Unread {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Unread {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.timed(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.timed(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper calls this when it has written everything it has.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stalled = None;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

const MAX_HEAD_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    use super::*;

    /// For steps that never finish in time.
    const SHORT: Duration = Duration::from_millis(50);
    /// For steps that finish in time, however busy the machine is.
    const ENOUGH: Duration = Duration::from_secs(2);

    struct Served {
        address: std::net::SocketAddr,
        stop: oneshot::Sender<()>,
        task: JoinHandle<()>,
    }

    /// Each test makes one limit short, so that no other limit applies.
    async fn serve_with(change: impl FnOnce(&mut Limits)) -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let long = Duration::from_secs(3600);
        let mut limits = Limits { connections: 8, head: long, body: long, body_bytes: 10, write: long };
        change(&mut limits);
        let router = Router::new()
            .route("/", post(|body: String| async { body }))
            .route("/large", get(|| async { vec![b'x'; 64 << 20] }));
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let stopped = async { stopped.await.unwrap_or_default() };
            serve(listener, router, limits, &Metrics::new().0, stopped).await;
        });
        Served { address, stop, task }
    }

    async fn answered(served: &Served, request: &str) -> String {
        let mut client = TcpStream::connect(served.address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn heads_have_a_time_limit_and_so_have_connections_without_one() {
        let served = serve_with(|limits| limits.head = SHORT).await;
        for request in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: h\r\n"] {
            let answer = answered(&served, request).await;
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{request:?} {answer:?}");
        }
        let served = serve_with(|limits| limits.head = ENOUGH).await;
        let kept = answered(&served, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nok").await;
        assert!(kept.starts_with("HTTP/1.1 200 OK\r\n") && kept.ends_with("\r\n\r\nok"), "{kept}");
    }

    #[tokio::test]
    async fn bodies_have_a_time_limit_and_one_of_their_length() {
        let served = serve_with(|limits| (limits.body, limits.head) = (SHORT, ENOUGH)).await;
        let slow = answered(&served, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nslow").await;
        assert!(slow.starts_with("HTTP/1.1 408 "), "{slow}");
        let served = serve_with(|limits| limits.head = ENOUGH).await;
        let long =
            answered(&served, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n12345678901").await;
        assert!(long.starts_with("HTTP/1.1 413 "), "{long}");
    }

    #[tokio::test]
    async fn a_response_that_is_not_read_or_a_little_at_a_time_is_cut() {
        let served = serve_with(|limits| limits.write = ENOUGH).await;
        let mut clients = Vec::new();
        for _ in 0..2 {
            let mut client = TcpStream::connect(served.address).await.unwrap();
            client.write_all(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
            client.read_u8().await.unwrap();
            clients.push(client);
        }
        served.stop.send(()).unwrap();
        let mut ended = pin!(served.task);
        let reading = async {
            loop {
                // Once it is cut, this ends in an error.
                clients[0].read_u8().await.ok();
                sleep(Duration::from_millis(1)).await;
            }
        };
        // It ends when no connection is open.
        tokio::select! {
            ended = &mut ended => ended.unwrap(),
            () = reading => {}
            () = sleep(Duration::from_secs(60)) => panic!("a connection is still open"),
        }
    }
}
