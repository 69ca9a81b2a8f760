//! A proxy on a free port, an upstream that is scripted byte by byte, and clients of the same kind.

use std::cell::RefCell;
use std::collections::VecDeque;
pub(crate) mod binary;
pub(crate) mod http2;

use std::net::SocketAddr;
use std::time::Duration;

use threadtap::capture::{self, Receiver};
use threadtap::clock::Clock;
use threadtap::metrics::Metrics;
use threadtap::net::{self, Drained};
use threadtap::proxy::{self, Proxy};
use threadtap_core::dialect::Interest;
use threadtap_core::exchange::{Capture, End, Segment, Start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long a test waits for something that should happen at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// Settings of a rig; each starts from the defaults.
pub(crate) struct Settings {
    pub(crate) capture: capture::Config,
    pub(crate) net: net::Config,
    pub(crate) proxy: proxy::Config,
    pub(crate) grace: Duration,
}

fn tapped(_: &http::Method, path: &str) -> Interest {
    if path.starts_with("/tapped") { Interest::Whole } else { Interest::None }
}

/// A running proxy, its upstream, and what it captures. Everything ends when it is dropped.
pub(crate) struct Rig {
    pub(crate) address: SocketAddr,
    pub(crate) upstream: Upstream,
    pub(crate) captured: Option<Receiver>,
    /// Parts of the last capture that were not asked for yet.
    parts: RefCell<VecDeque<Captured>>,
    pub(crate) metrics: Metrics,
    shutdown: Option<oneshot::Sender<()>>,
    server: JoinHandle<Drained>,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        let upstream = Upstream::bind().await;
        let url = format!("http://{}", upstream.address);
        let mut settings = Settings {
            capture: capture::Config::default(),
            // One worker is the test's own runtime, whose clock a test may move.
            net: net::Config { workers: Some(1), ..net::Config::new(([127, 0, 0, 1], 0).into()) },
            proxy: proxy::Config::new(url.parse().unwrap(), tapped),
            grace: PATIENCE,
        };
        change(&mut settings);
        let (metrics, _registry) = Metrics::new();
        let (recorder, captured) = capture::new(settings.capture, metrics.clone(), Clock::start());
        let (_, callers) = tokio::sync::watch::channel(None);
        let proxy = Proxy::new(settings.proxy, callers, recorder, &metrics).unwrap();
        let listener = net::bind(settings.net.listen).unwrap();
        let address = listener.local_addr().unwrap();
        let (shutdown, told) = oneshot::channel();
        let server = tokio::spawn({
            let metrics = metrics.clone();
            let told = async move { _ = told.await };
            async move {
                let grace = async { tokio::time::sleep(settings.grace).await };
                net::serve(listener, settings.net, proxy, &metrics, told, grace).await
            }
        });
        Self {
            address,
            upstream,
            captured: Some(captured),
            parts: RefCell::default(),
            metrics,
            shutdown: Some(shutdown),
            server,
        }
    }

    pub(crate) async fn client(&self) -> Raw {
        Raw::connect(self.address).await
    }

    /// Sends a request, and returns its connection and the one upstream got it on. The request's head is left unread.
    pub(crate) async fn forward(&mut self, request: &str) -> (Raw, Raw) {
        let mut client = self.client().await;
        client.send(request).await;
        (client, self.upstream.accept().await)
    }

    /// Tells the server to drain.
    pub(crate) fn drain(&mut self) {
        drop(self.shutdown.take());
    }

    /// Waits until the server has drained.
    pub(crate) async fn drained(&mut self) -> Drained {
        soon("the drain", &mut self.server).await.unwrap()
    }

    /// The next part of a capture, which must be there already.
    pub(crate) fn captured(&self) -> Captured {
        self.next_captured().expect("a capture should be in the queue")
    }

    /// The next part of a capture, if one is there.
    pub(crate) fn next_captured(&self) -> Option<Captured> {
        let mut parts = self.parts.borrow_mut();
        if parts.is_empty() {
            let Capture { exchange: _, start, segment, end, charge: _ } =
                self.captured.as_ref()?.try_recv().ok()?;
            parts.extend(start.map(Captured::Start));
            parts.extend(segment.map(Captured::Segment));
            parts.extend(end.map(Captured::End));
        }
        parts.pop_front()
    }

    pub(crate) fn start_captured(&self) -> Start {
        match self.captured() {
            Captured::Start(start) => *start,
            other => panic!("not a start: {other:?}"),
        }
    }

    pub(crate) fn segment_captured(&self) -> Segment {
        match self.captured() {
            Captured::Segment(segment) => segment,
            other => panic!("not a segment: {other:?}"),
        }
    }

    pub(crate) fn end_captured(&self) -> End {
        match self.captured() {
            Captured::End(end) => end,
            other => panic!("not an end: {other:?}"),
        }
    }

    pub(crate) fn nothing_captured(&self) {
        let next = self.next_captured();
        assert!(next.is_none(), "{next:?}");
    }
}

/// A part of a capture.
#[derive(Debug)]
pub(crate) enum Captured {
    End(End),
    Segment(Segment),
    Start(Box<Start>),
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A listener whose connections a test answers itself.
pub(crate) struct Upstream {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
}

impl Upstream {
    pub(crate) async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    pub(crate) async fn accept(&mut self) -> Raw {
        let (stream, _) = soon("a connection to upstream", self.listener.accept()).await.unwrap();
        Raw::new(stream)
    }
}

/// A socket that is spoken to in bytes. Reads fail the test when nothing comes.
pub(crate) struct Raw {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Raw {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new() }
    }

    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).await.unwrap())
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends to a peer that may have closed.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        soon("the peer to read", self.stream.write_all(bytes)).await
    }

    pub(crate) async fn finish_sending(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Closes with a reset.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Sends for as long as the peer takes it, a megabyte at a time and at most `limit` of them. Tells how many it took.
    pub(crate) async fn fill(&mut self, limit: usize) -> usize {
        let megabyte = vec![b'x'; 1_000_000];
        for sent in 0..limit {
            if tokio::time::timeout(Duration::from_millis(300), self.send(&megabyte)).await.is_err() {
                return sent;
            }
        }
        limit
    }

    /// Reads up to and including `pattern`.
    pub(crate) async fn until(&mut self, pattern: &str) -> String {
        let pattern_bytes = pattern.as_bytes();
        loop {
            let found = self.read.windows(pattern_bytes.len()).position(|window| window == pattern_bytes);
            if let Some(at) = found {
                let rest = self.read.split_off(at + pattern_bytes.len());
                return String::from_utf8(std::mem::replace(&mut self.read, rest)).unwrap();
            }
            let so_far = String::from_utf8_lossy(&self.read).into_owned();
            let count =
                soon(&format!("{pattern:?} after {so_far:?}"), self.stream.read_buf(&mut self.read)).await;
            assert!(count.unwrap() > 0, "closed before {pattern:?}, after {so_far:?}");
        }
    }

    /// Reads a head.
    pub(crate) async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await
    }

    /// Reads the next head, if the peer sends one.
    pub(crate) async fn head_or_end(&mut self) -> Option<String> {
        while !self.read.windows(4).any(|window| window == b"\r\n\r\n") {
            let more = soon("a head or the end", self.stream.read_buf(&mut self.read)).await;
            if !more.is_ok_and(|count| count > 0) {
                return None;
            }
        }
        Some(self.head().await)
    }

    /// Reads a head and compares it with its lines.
    pub(crate) async fn expect_head(&mut self, lines: &[&str]) {
        let head = self.head().await;
        assert_eq!(head.trim_end().split("\r\n").collect::<Vec<_>>(), lines);
    }

    /// Reads exactly so many bytes.
    pub(crate) async fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count {
            let more = soon(&format!("{count} bytes"), self.stream.read_buf(&mut self.read)).await.unwrap();
            assert!(more > 0, "closed after {} of {count} bytes", self.read.len());
        }
        let rest = self.read.split_off(count);
        std::mem::replace(&mut self.read, rest)
    }

    /// Reads exactly so many bytes, or `None` if the connection ends before, cleanly or not.
    pub(crate) async fn exactly_or_end(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.read.len() < count {
            let more = soon(&format!("{count} bytes or the end"), self.stream.read_buf(&mut self.read)).await;
            if !more.is_ok_and(|count| count > 0) {
                return None;
            }
        }
        let rest = self.read.split_off(count);
        Some(std::mem::replace(&mut self.read, rest))
    }

    /// Reads exactly this text.
    pub(crate) async fn expect(&mut self, text: &str) {
        let got = self.exactly(text.len()).await;
        assert_eq!(String::from_utf8_lossy(&got), text);
    }

    /// Reads until the peer closes; an error is a reset.
    pub(crate) async fn rest(&mut self) -> std::io::Result<Vec<u8>> {
        soon("the end of the connection", self.stream.read_to_end(&mut self.read)).await?;
        Ok(std::mem::take(&mut self.read))
    }

    /// Reads until the peer closes, cleanly or not.
    pub(crate) async fn closed(&mut self) -> Vec<u8> {
        // A reset is an end too.
        let _ = soon("the end of the connection", self.stream.read_to_end(&mut self.read)).await;
        std::mem::take(&mut self.read)
    }
}

/// Lets time pass on every timer of the program.
pub(crate) async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

/// Waits for what needs no timer of the program: all of them stand still meanwhile.
pub(crate) async fn without_timers<T>(future: impl Future<Output = T>) -> T {
    tokio::time::pause();
    let (done, ended) = std::sync::mpsc::channel::<()>();
    // While a blocking task runs, a clock that stands still is not moved on for want of other work. After that, `soon` gives up.
    let holding = tokio::task::spawn_blocking(move || ended.recv_timeout(PATIENCE));
    let output = future.await;
    drop(done);
    _ = holding.await;
    tokio::time::resume();
    output
}

/// Waits for what should happen at once.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// Waits until `fact` holds.
pub(crate) async fn eventually(what: &str, fact: impl Fn() -> bool) {
    soon(what, async {
        while !fact() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
