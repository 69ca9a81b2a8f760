//! Clients that speak HTTP/2: a well-behaved one, and one that writes frames by hand.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::channel::{Channel, Sender};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::{Raw, soon};

/// A request's body: whole, or sent piece by piece.
pub(crate) type Upload = Either<Full<Bytes>, Channel<Bytes>>;

/// A connection of a client that keeps to the protocol.
pub(crate) struct Http2 {
    sender: http2::SendRequest<Upload>,
    connection: JoinHandle<hyper::Result<()>>,
}

/// An answer that may not have come yet. Dropping it resets its stream.
pub(crate) struct Answer(JoinHandle<hyper::Result<Response<Incoming>>>);

impl Http2 {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, |_| {}).await
    }

    pub(crate) async fn connect_with(
        address: SocketAddr,
        change: impl FnOnce(&mut http2::Builder<TokioExecutor>),
    ) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut builder = http2::Builder::new(TokioExecutor::new());
        change(&mut builder);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
        Self { sender, connection: tokio::spawn(connection) }
    }

    pub(crate) fn send(&mut self, request: Request<Upload>) -> Answer {
        Answer(tokio::spawn(self.sender.send_request(request)))
    }

    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.send(request(Method::GET, path).body(whole("")).unwrap())
    }

    /// Sends a POST whose body is what is put into the sender.
    pub(crate) fn post_streamed(&mut self, path: &str) -> (Answer, Sender<Bytes>) {
        let (sender, body) = Channel::new(8);
        (self.send(request(Method::POST, path).body(Either::Right(body)).unwrap()), sender)
    }

    /// Waits until the connection is over.
    pub(crate) async fn closed(self) {
        drop(self.sender);
        let _ = soon("the connection's end", self.connection).await.unwrap();
    }
}

impl Answer {
    /// Waits for the head.
    pub(crate) async fn head(self) -> Response<Incoming> {
        self.result().await.unwrap()
    }

    pub(crate) async fn result(mut self) -> hyper::Result<Response<Incoming>> {
        soon("the head", &mut self.0).await.unwrap()
    }

    /// Waits for the body, which must be text.
    pub(crate) async fn text(self) -> String {
        text(self.head().await).await
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(crate) fn request(method: Method, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("http://client.example{path}"))
}

pub(crate) fn whole(body: impl Into<Bytes>) -> Upload {
    Either::Left(Full::new(body.into()))
}

pub(crate) async fn text(response: Response<Incoming>) -> String {
    let body = soon("the body", response.into_body().collect()).await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// A frame as it is on the wire (RFC 9113 §4.1).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    /// A GET for `/` of the host `h`, complete.
    pub(crate) fn get(stream: u32) -> Self {
        Self::new(HEADERS, END_STREAM | END_HEADERS, stream, GET_BLOCK)
    }

    pub(crate) fn reset(stream: u32) -> Self {
        Self::new(RST_STREAM, 0, stream, 8_u32.to_be_bytes())
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = u32::try_from(self.payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// Reads the next frame, `None` when the connection is over.
    pub(crate) async fn read(raw: &mut Raw) -> Option<Self> {
        let head = raw.exactly_or_end(9).await?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
        let payload = raw.exactly_or_end(length).await?;
        Some(Self { kind: head[3], flags: head[4], stream, payload })
    }

    /// Reads frames up to one of this kind.
    pub(crate) async fn read_until(raw: &mut Raw, kind: u8) -> Self {
        loop {
            let frame = Self::read(raw).await.unwrap_or_else(|| panic!("closed before a frame {kind}"));
            if frame.kind == kind {
                return frame;
            }
        }
    }
}

/// What a client sends first: the preface and its settings.
pub(crate) fn preface() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(Frame::new(SETTINGS, 0, 0, []).bytes());
    bytes
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
/// `:method GET`, `:scheme http` and `:path /` from the static table, and `:authority h` (RFC 7541 §6).
pub(crate) const GET_BLOCK: [u8; 6] = [0x82, 0x86, 0x84, 0x01, 1, b'h'];
