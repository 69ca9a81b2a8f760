//! One connection of the load: writes rendered requests, and reads answers no further than it must.

use std::io;
use std::net::SocketAddr;

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::answers::{STAMP_BYTES, STAMP_MARK};

/// Where the API is: what an app has as its base URL.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// What goes before the API's own paths.
    pub(crate) prefix: &'static str,
}

/// A keep-alive connection.
pub(crate) struct Client {
    stream: TcpStream,
    prefix: &'static str,
    input: Vec<u8>,
    output: Vec<u8>,
}

/// What to ask for.
pub(crate) enum Ask {
    CreateMessage,
    CreateRun,
    Download,
    /// Streamed: so many deltas, so many microseconds apart.
    Stream {
        deltas: u32,
        every_us: u64,
    },
    /// A stream that stays open after its beginning.
    StreamHeld,
    List,
    Poll {
        last: bool,
    },
    Upload(usize),
}

impl Client {
    pub(crate) async fn connect(Target { address, prefix }: Target) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let buffer = || Vec::with_capacity(INPUT_BYTES);
        Ok(Self { stream, prefix, input: buffer(), output: buffer() })
    }

    /// Asks, and reads the whole answer.
    pub(crate) async fn exchange(&mut self, ask: &Ask, thread: u64, turn: u64) -> io::Result<()> {
        self.send(ask, thread, turn).await?;
        self.read_answer(&mut |_| {}).await
    }

    /// Asks for a stream, and calls `on_stamp` with the stamp of each delta as it is read.
    pub(crate) async fn stream(
        &mut self,
        ask: &Ask,
        thread: u64,
        turn: u64,
        on_stamp: &mut (dyn FnMut(u64) + Send),
    ) -> io::Result<()> {
        self.send(ask, thread, turn).await?;
        let mut kept: Vec<u8> = Vec::new();
        self.read_answer(&mut |part| {
            kept.extend_from_slice(part);
            let mut read = 0;
            while let Some(at) = memmem::find(&kept[read..], STAMP_MARK) {
                let digits = read + at + STAMP_MARK.len();
                let Some(stamp) = kept.get(digits..digits + STAMP_BYTES + 2) else { break };
                read = digits;
                if let Some(stamp) = stamp.strip_suffix(b" \"") {
                    on_stamp(
                        stamp.iter().fold(0, |value, digit| value * 10 + u64::from(digit.wrapping_sub(b'0'))),
                    );
                }
            }
            let begun = kept.len().saturating_sub(STAMP_MARK.len() + STAMP_BYTES + 1);
            kept.drain(..read.max(begun));
        })
        .await
    }

    /// Asks for a stream that is held, and reads its beginning.
    pub(crate) async fn hold(&mut self, thread: u64, turn: u64) -> io::Result<()> {
        self.send(&Ask::StreamHeld, thread, turn).await?;
        loop {
            if self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if memmem::find(&self.input, b"thread.message.in_progress").is_some() {
                return Ok(());
            }
        }
    }

    async fn send(&mut self, ask: &Ask, thread: u64, turn: u64) -> io::Result<()> {
        use io::Write;
        let (method, path, body): (_, String, &[u8]) = match ask {
            Ask::CreateMessage => ("POST", format!("threads/thread_{thread:018}/messages"), MESSAGE),
            Ask::CreateRun => ("POST", format!("threads/thread_{thread:018}/runs"), RUN),
            Ask::Download => ("GET", "files/file-large/content".to_owned(), b""),
            Ask::List => ("GET", format!("threads/thread_{thread:018}/messages?limit=2"), b""),
            Ask::Poll { last } => {
                let query = if *last { "?last" } else { "" };
                ("GET", format!("threads/thread_{thread:018}/runs/run_{turn:018}{query}"), b"")
            }
            Ask::Stream { deltas, every_us } => {
                let query = format!("deltas={deltas}&every_us={every_us}");
                ("POST", format!("threads/thread_{thread:018}/runs?{query}"), STREAM)
            }
            Ask::StreamHeld => ("POST", format!("threads/thread_{thread:018}/runs?hold"), STREAM),
            Ask::Upload(_) => ("POST", "files".to_owned(), b""),
        };
        let length = match ask {
            Ask::Upload(length) => *length,
            _ => body.len(),
        };
        self.output.clear();
        write!(
            self.output,
            "{method} {}/v1/{path} HTTP/1.1\r\n{HEADERS}x-bench-turn: {turn}\r\n",
            self.prefix
        )?;
        if method == "POST" {
            write!(self.output, "Content-Type: application/json\r\nContent-Length: {length}\r\n")?;
        }
        self.output.extend_from_slice(b"\r\n");
        self.output.extend_from_slice(body);
        self.stream.write_all(&self.output).await?;
        if let Ask::Upload(length) = ask {
            let part = vec![b'x'; PART_BYTES];
            let mut rest = *length;
            while rest > 0 {
                let most = rest.min(part.len());
                self.stream.write_all(&part[..most]).await?;
                rest -= most;
            }
        }
        Ok(())
    }

    /// Reads an answer to its end; what came of an event stream's body goes to `on_part`.
    async fn read_answer(&mut self, on_part: &mut (dyn FnMut(&[u8]) + Send)) -> io::Result<()> {
        let head_end = loop {
            if let Some(at) = memmem::find(&self.input, b"\r\n\r\n") {
                break at + 4;
            }
            if self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let head = &self.input[..head_end];
        if !head.starts_with(b"HTTP/1.1 200") {
            let status = String::from_utf8_lossy(&head[..head.len().min(40)]).into_owned();
            return Err(io::Error::other(format!("answered {status}")));
        }
        let length = head.split(|byte| *byte == b'\n').find_map(|line| {
            let name = b"content-length:";
            let found = line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name);
            let value = if found { std::str::from_utf8(&line[name.len()..]).ok() } else { None };
            value.and_then(|value| value.trim().parse::<usize>().ok())
        });
        match length {
            Some(length) => {
                let mut missing = length.saturating_sub(self.input.len() - head_end);
                self.input.clear();
                if missing > INPUT_BYTES {
                    self.input.resize(PART_BYTES, 0);
                }
                while missing > 0 {
                    let read = if missing > INPUT_BYTES {
                        let most = self.input.len().min(missing);
                        self.stream.read(&mut self.input[..most]).await?
                    } else {
                        self.input.clear();
                        self.fill().await?
                    };
                    if read == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    missing = missing.saturating_sub(read);
                }
            }
            None => {
                on_part(&self.input[head_end..]);
                // The last chunk ends in what no event contains.
                while !self.input.ends_with(b"\r\n0\r\n\r\n") {
                    let kept = self.input.len().min(LAST_CHUNK_BYTES);
                    self.input.drain(..self.input.len() - kept);
                    let before = self.input.len();
                    if self.fill().await? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    on_part(&self.input[before..]);
                }
            }
        }
        self.input.clear();
        Ok(())
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.input.reserve(INPUT_BYTES);
        self.stream.read_buf(&mut self.input).await
    }
}

const INPUT_BYTES: usize = 8 << 10;
const PART_BYTES: usize = 256 << 10;
/// Length of `\r\n0\r\n\r\n`.
const LAST_CHUNK_BYTES: usize = 7;
/// As the vendor's Python SDK sends them.
const HEADERS: &str = concat!(
    "Host: api.bench.test\r\nAccept: application/json\r\nUser-Agent: OpenAI/Python 2.1.0\r\n",
    "Authorization: Bearer sk-bench-0123456789abcdef0123456789abcdef\r\nOpenAI-Beta: assistants=v2\r\n",
    "X-Stainless-Lang: python\r\nX-Stainless-OS: Linux\r\nX-Stainless-Retry-Count: 0\r\n"
);
const MESSAGE: &[u8] = br#"{"role":"user","content":"How fast is it, and how do you know?"}"#;
const RUN: &[u8] = br#"{"assistant_id":"asst_bench"}"#;
const STREAM: &[u8] = br#"{"assistant_id":"asst_bench","stream":true}"#;
