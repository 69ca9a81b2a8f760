//! HTTP/1 as it is read from a socket, by a parser that shares nothing with hyper.

use std::time::Duration;

use bytes::BytesMut;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

use super::case::{EXCHANGE, Leave, Line};

/// A message as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// The three parts of the first line.
    pub(crate) start: [String; 3],
    /// Values without the white space around them; folded lines joined by one space.
    pub(crate) lines: Vec<Line>,
    pub(crate) framing: Framed,
    pub(crate) body: Bytes,
    pub(crate) trailers: Vec<Line>,
    /// Whether it came to the end its framing tells.
    pub(crate) complete: bool,
}

/// What delimits a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framed {
    Absent,
    Chunked,
    Close,
    Length(u64),
}

/// Bytes that print in short.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown: String = self.0.iter().take(60).map(|byte| byte.escape_ascii().to_string()).collect();
        write!(f, "{} bytes \"{shown}\"", self.0.len())
    }
}

/// Whose message is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The answer to a request of this kind.
    Answer {
        to_head: bool,
    },
    Request,
}

impl Message {
    pub(crate) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.lines
            .iter()
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn names(&self, name: &str, token: &str) -> bool {
        self.values(name)
            .flat_map(|value| value.split(','))
            .any(|part| part.trim().eq_ignore_ascii_case(token))
    }

    pub(crate) fn status(&self) -> u16 {
        self.start[1].parse().unwrap_or_default()
    }

    /// The number of the exchange a request belongs to, which is then struck out.
    pub(crate) fn take_id(&mut self) -> Option<u64> {
        let (_, value) = self.lines.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case(EXCHANGE))?;
        std::mem::take(value).parse().ok()
    }

    /// Appends it as lines of text.
    pub(crate) fn write(&self, what: &str, lines: &mut Vec<String>) {
        lines.push(format!("{what}: {:?}", self.start));
        lines.extend(self.lines.iter().map(|(name, value)| format!("  {name}: {value:?}")));
        lines.push(format!("  {:?}, complete: {}, {:?}", self.framing, self.complete, self.body));
        lines.extend(self.trailers.iter().map(|(name, value)| format!("  trailer {name}: {value:?}")));
    }

    fn framing(&self, side: Side) -> Framed {
        if let Side::Answer { to_head } = side
            && (to_head || matches!(self.status(), 100..=199 | 204 | 304))
        {
            return Framed::Absent;
        }
        if self.names("transfer-encoding", "chunked") {
            return Framed::Chunked;
        }
        match self.values("content-length").next() {
            Some(length) => Framed::Length(length.parse().unwrap_or(u64::MAX)),
            None if side == Side::Request => Framed::Absent,
            None => Framed::Close,
        }
    }
}

/// One direction of a connection, read.
pub(crate) struct Reader {
    half: OwnedReadHalf,
    buffer: BytesMut,
}

impl Reader {
    /// Reads a head; `None` if the connection ends before it does.
    pub(crate) async fn head(&mut self, side: Side) -> Option<Message> {
        let first = loop {
            let line = self.line().await?;
            // A recipient ignores empty lines before a message (RFC 9112 §2.2).
            if !line.is_empty() {
                break line;
            }
        };
        let mut parts = first.splitn(3, ' ').map(str::to_owned);
        let start = std::array::from_fn(|_| parts.next().unwrap_or_default());
        let lines = self.lines().await?;
        let mut message = Message {
            start,
            lines,
            framing: Framed::Absent,
            body: Bytes::default(),
            trailers: Vec::new(),
            complete: false,
        };
        message.framing = message.framing(side);
        Some(message)
    }

    /// Reads a body into `message` and tells how much of it there is.
    pub(crate) async fn body(&mut self, message: &mut Message, progress: &watch::Sender<Option<usize>>) {
        progress.send_replace(Some(message.body.0.len()));
        message.complete = match message.framing {
            Framed::Absent => true,
            Framed::Close => self.take(usize::MAX, message, progress).await,
            Framed::Length(length) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                self.take(length - message.body.0.len(), message, progress).await
            }
            Framed::Chunked => self.chunks(message, progress).await.is_some(),
        };
    }

    /// Waits for the end of the connection; whether it came without more bytes.
    pub(crate) async fn end(&mut self) -> bool {
        while self.fill().await {}
        self.buffer.is_empty()
    }

    async fn chunks(&mut self, message: &mut Message, progress: &watch::Sender<Option<usize>>) -> Option<()> {
        loop {
            let line = self.line().await?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).ok()?;
            if size == 0 {
                message.trailers = self.lines().await?;
                return Some(());
            }
            if !self.take(size, message, progress).await || !self.line().await?.is_empty() {
                return None;
            }
        }
    }

    async fn take(
        &mut self,
        mut count: usize,
        message: &mut Message,
        progress: &watch::Sender<Option<usize>>,
    ) -> bool {
        let to_the_end = count == usize::MAX;
        loop {
            let now = count.min(self.buffer.len());
            message.body.0.extend_from_slice(&self.buffer.split_to(now));
            count -= now;
            progress.send_replace(Some(message.body.0.len()));
            if count == 0 {
                return true;
            }
            match self.half.read_buf(&mut self.buffer).await {
                Ok(0) => return to_the_end,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    }

    async fn lines(&mut self) -> Option<Vec<Line>> {
        let mut lines: Vec<Line> = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Some(lines);
            }
            match lines.last_mut() {
                Some((_, value)) if line.starts_with([' ', '\t']) => {
                    value.push(' ');
                    value.push_str(trimmed(&line));
                }
                _ => {
                    let (name, value) = line.split_once(':').unwrap_or((&line, "no colon"));
                    lines.push((name.to_owned(), trimmed(value).to_owned()));
                }
            }
        }
    }

    /// A line without its end.
    async fn line(&mut self) -> Option<String> {
        let mut searched = 0;
        loop {
            if let Some(found) = self.buffer[searched..].windows(2).position(|pair| pair == b"\r\n") {
                let line = self.buffer.split_to(searched + found + 2);
                return Some(line[..line.len() - 2].iter().map(|byte| char::from(*byte)).collect());
            }
            searched = self.buffer.len().saturating_sub(1);
            if !self.fill().await {
                return None;
            }
        }
    }

    async fn fill(&mut self) -> bool {
        self.half.read_buf(&mut self.buffer).await.is_ok_and(|count| count > 0)
    }
}

/// The other direction. A peer that has gone is no error: what it saw of it is compared.
pub(crate) struct Writer {
    half: OwnedWriteHalf,
}

impl Writer {
    /// Writes `bytes`, `stride` at a time if that is not 0.
    pub(crate) async fn send(&mut self, bytes: &[u8], stride: usize) {
        // A large body byte by byte would only take time.
        let stride = if stride == 0 { bytes.len() } else { stride.max(bytes.len() / 300) }.max(1);
        for piece in bytes.chunks(stride) {
            if self.half.write_all(piece).await.is_err() {
                return;
            }
        }
    }

    /// Goes.
    pub(crate) fn leave(self, how: Leave, reader: Reader) {
        if how == Leave::Reset {
            let _ = SockRef::from(self.half.as_ref()).set_linger(Some(Duration::ZERO));
            // Else its end would be announced first.
            self.half.forget();
        }
        drop(reader);
    }
}

pub(crate) fn split(stream: TcpStream) -> (Reader, Writer) {
    // Without it small writes wait for each other; a socket that is dead already does not matter.
    let _ = stream.set_nodelay(true);
    let (read, write) = stream.into_split();
    (Reader { half: read, buffer: BytesMut::new() }, Writer { half: write })
}

fn trimmed(value: &str) -> &str {
    value.trim_matches([' ', '\t'])
}
