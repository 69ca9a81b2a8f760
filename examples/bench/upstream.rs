//! The fake upstream and the fake collector: one parser of requests, answers from templates.
//!
//! It must cost far less than a proxy: no parsing beyond what is needed, no allocation per request, one write per answer and
//! per event.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use memchr::memmem;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::answers::{Answers, Ids};
use crate::pace::Pacer;

/// What both servers share.
pub(crate) struct World {
    pub(crate) answers: Answers,
    pub(crate) pacer: Pacer,
    pub(crate) began: Instant,
    began_unix_secs: u64,
    /// Keys of the records the collector has taken.
    records: Mutex<HashSet<u64>>,
    /// Records that came again.
    repeated: AtomicU64,
}

impl World {
    pub(crate) fn new(deltas: usize, pacer: Pacer) -> Arc<Self> {
        Arc::new(Self {
            answers: Answers::new(deltas),
            pacer,
            began: Instant::now(),
            began_unix_secs: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            records: Mutex::default(),
            repeated: AtomicU64::new(0),
        })
    }

    /// Nanoseconds since the bench began.
    pub(crate) fn stamp(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// How many different records were delivered so far.
    pub(crate) fn delivered(&self) -> u64 {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    /// How many records were delivered more than once.
    pub(crate) fn repeated(&self) -> u64 {
        self.repeated.load(Ordering::Relaxed)
    }
}

/// Serves plain connections from now on.
pub(crate) async fn listen(world: &Arc<World>) -> io::Result<SocketAddr> {
    let listener = bind()?;
    let address = listener.local_addr()?;
    let world = Arc::clone(world);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if stream.set_nodelay(true).is_ok() {
                tokio::spawn(serve(stream, Arc::clone(&world)));
            }
        }
    });
    Ok(address)
}

/// Serves TLS connections from now on.
pub(crate) async fn listen_tls(world: &Arc<World>, acceptor: TlsAcceptor) -> io::Result<SocketAddr> {
    let listener = bind()?;
    let address = listener.local_addr()?;
    let world = Arc::clone(world);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, world) = (acceptor.clone(), Arc::clone(&world));
            tokio::spawn(async move {
                stream.set_nodelay(true)?;
                serve(acceptor.accept(stream).await?, world).await
            });
        }
    });
    Ok(address)
}

/// With a backlog that takes a burst of thousands of connections.
fn bind() -> io::Result<TcpListener> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    socket.listen(4096)
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, world: Arc<World>) -> io::Result<()> {
    let mut input = Vec::with_capacity(INPUT_BYTES);
    let mut output = Vec::with_capacity(INPUT_BYTES);
    loop {
        let head_end = loop {
            if let Some(at) = memmem::find(&input, b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut input).await? == 0 {
                return Ok(());
            }
        };
        let mut request = Request::parse(&input[..head_end]).ok_or(io::ErrorKind::InvalidData)?;
        request.ids.now = world.began_unix_secs + world.began.elapsed().as_secs();
        let mut missing = request.length.saturating_sub(input.len() - head_end);
        let body_end = (head_end + request.length).min(input.len());
        let streamed = memmem::find(&input[head_end..body_end], b"\"stream\":true").is_some();
        input.drain(..body_end);
        if missing > 0 {
            let mut rest = vec![0; LARGE_BYTES.min(missing)];
            while missing > 0 {
                let most = rest.len().min(missing);
                let read = stream.read(&mut rest[..most]).await?;
                if read == 0 {
                    return Ok(());
                }
                missing -= read;
            }
        }
        output.clear();
        let answers = &world.answers;
        match request.kind {
            Kind::Collect { key } => {
                let mut records = world.records.lock().unwrap_or_else(PoisonError::into_inner);
                if !records.insert(key) {
                    world.repeated.fetch_add(1, Ordering::Relaxed);
                }
                output.extend_from_slice(COLLECTED);
            }
            Kind::CreateMessage => answers.message.render(&request.ids, &mut output),
            Kind::CreateRun if streamed => {
                stream_run(&mut stream, &world, &request, &mut output).await?;
                continue;
            }
            Kind::CreateRun => answers.run_queued.render(&request.ids, &mut output),
            Kind::Download => {
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: {LARGE_BODY_BYTES}\r\n\r\n"
                );
                stream.write_all(head.as_bytes()).await?;
                let part = vec![b'x'; LARGE_BYTES];
                for _ in 0..LARGE_BODY_BYTES / LARGE_BYTES {
                    stream.write_all(&part).await?;
                }
                stream.flush().await?;
                continue;
            }
            Kind::ListMessages => answers.messages.render(&request.ids, &mut output),
            Kind::Poll { last: false } => answers.run_in_progress.render(&request.ids, &mut output),
            Kind::Poll { last: true } => answers.run_completed.render(&request.ids, &mut output),
            Kind::Upload => output.extend_from_slice(COLLECTED),
        }
        stream.write_all(&output).await?;
        stream.flush().await?;
    }
}

/// Writes a run's stream, each event by itself: what a model says never comes in one piece.
async fn stream_run<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    world: &World,
    request: &Request,
    output: &mut Vec<u8>,
) -> io::Result<()> {
    let mut ids = request.ids;
    world.answers.stream_begin.render(&ids, output);
    stream.write_all(output).await?;
    stream.flush().await?;
    let Pace { deltas, every, hold } = request.pace;
    if hold {
        // Until the client leaves.
        let mut rest = [0; 16];
        while stream.read(&mut rest).await? > 0 {}
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    let first = Instant::now();
    for count in 0..deltas {
        if every.is_zero() {
            tokio::task::yield_now().await;
        } else {
            // Streams that began together must not stay in step.
            let phase = every * (ids.turn % 1000) as u32 / 1000;
            world.pacer.until(first + phase + every * count).await;
        }
        ids.stamp = world.stamp();
        output.clear();
        world.answers.delta.render(&ids, output);
        stream.write_all(output).await?;
        stream.flush().await?;
    }
    for event in &world.answers.stream_end {
        output.clear();
        event.render(&ids, output);
        stream.write_all(output).await?;
        stream.flush().await?;
    }
    Ok(())
}

struct Request {
    kind: Kind,
    ids: Ids,
    length: usize,
    pace: Pace,
}

enum Kind {
    Collect { key: u64 },
    CreateMessage,
    CreateRun,
    Download,
    ListMessages,
    Poll { last: bool },
    Upload,
}

#[derive(Clone, Copy)]
struct Pace {
    deltas: u32,
    every: Duration,
    hold: bool,
}

impl Request {
    /// Reads a whole head. None when it is none of ours.
    fn parse(head: &[u8]) -> Option<Self> {
        let mut lines = head.split(|byte| *byte == b'\n');
        let mut words = lines.next()?.split(|byte| *byte == b' ');
        let (method, target) = (words.next()?, words.next()?);
        let (mut length, mut turn, mut key) = (0, 0, 0);
        for line in lines {
            if let Some(value) = header(line, b"content-length:") {
                length = value;
            } else if let Some(value) = header(line, b"x-bench-turn:") {
                turn = value;
            } else if line.len() > 16 && line[..16].eq_ignore_ascii_case(b"idempotency-key:") {
                key = fnv(&line[16..]);
            }
        }
        let (path, query) = match target.iter().position(|byte| *byte == b'?') {
            Some(at) => (&target[..at], &target[at + 1..]),
            None => (target, &[][..]),
        };
        let posted = method == b"POST";
        let mut segments = path.strip_prefix(b"/")?.split(|byte| *byte == b'/').skip(1);
        let (collection, id, kind, item) =
            (segments.next(), segments.next(), segments.next(), segments.next());
        let thread = id.and_then(|id| number(id.strip_prefix(b"thread_")?)).unwrap_or(0);
        let kind = match (collection, kind, item) {
            (None, ..) => Kind::Collect { key },
            (Some(b"files"), ..) if posted => Kind::Upload,
            (Some(b"files"), ..) => Kind::Download,
            (_, Some(b"messages"), _) if posted => Kind::CreateMessage,
            (_, Some(b"messages"), _) => Kind::ListMessages,
            (_, Some(b"runs"), None) => Kind::CreateRun,
            (_, Some(b"runs"), Some(_)) => Kind::Poll { last: query == b"last" },
            _ => return None,
        };
        Some(Self {
            kind,
            ids: Ids { thread, turn: turn as u64, ..Ids::default() },
            length,
            pace: Pace {
                deltas: parameter(query, b"deltas=").unwrap_or(0) as u32,
                every: Duration::from_micros(parameter(query, b"every_us=").unwrap_or(0)),
                hold: memmem::find(query, b"hold").is_some(),
            },
        })
    }
}

fn header(line: &[u8], name: &[u8]) -> Option<usize> {
    let found = line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name);
    if found { number(line[name.len()..].trim_ascii()).map(|number| number as usize) } else { None }
}

fn parameter(query: &[u8], name: &[u8]) -> Option<u64> {
    let at = memmem::find(query, name)? + name.len();
    number(query[at..].split(|byte| *byte == b'&').next()?)
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// FNV-1a, of keys that are hashes already.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Length of the bodies of the load with large ones.
pub(crate) const LARGE_BODY_BYTES: usize = 64 << 20;
const LARGE_BYTES: usize = 256 << 10;
const INPUT_BYTES: usize = 4 << 10;
const COLLECTED: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"status\":\"ok\"}";
