//! The client's part over HTTP/2 with prior knowledge.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::case::{self, Case, Course, Framing, Line, Version};
use super::play::{Script, reached};
use super::wire::{self, Framed, Message};

/// The case in the words of HTTP/2: without what is said to one HTTP/1 connection only.
pub(crate) fn expressible(case: &Case) -> Case {
    let mut case = case.clone();
    case.pipelined = false;
    for exchange in &mut case.exchanges {
        let request = &mut exchange.request;
        request.version = Version::Http11;
        request.close = false;
        if !request.target.starts_with('/') {
            "/".clone_into(&mut request.target);
        }
        request.lines.retain(|(name, value)| {
            let hop = ["connection", "http2-settings", "keep-alive", "proxy-connection", "upgrade"];
            let name = name.to_ascii_lowercase();
            !hop.contains(&name.as_str()) && (name != "te" || value == " trailers")
        });
        if matches!(exchange.wish, Course::Invited | Course::Refused) {
            exchange.wish = Course::Plain;
        }
    }
    case
}

/// Plays the exchanges one after the other over one connection.
pub(crate) async fn client(scripts: &[Arc<Script>], address: SocketAddr) {
    let stream = TcpStream::connect(address).await.unwrap();
    let handshake = http2::Builder::new(TokioExecutor::new())
        .max_header_list_size(64 << 10)
        .handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    let driver = tokio::spawn(connection);
    for script in scripts {
        exchange(script, &mut sender).await;
    }
    drop(sender);
    driver.abort();
}

async fn exchange(script: &Script, sender: &mut SendRequest<Fed>) {
    let exchange = &script.exchange;
    let (feed, body) = match exchange.request.framing {
        Framing::Absent | Framing::Close => (None, Fed(None)),
        Framing::Length if exchange.request.body.length == 0 => (None, Fed(None)),
        _ => {
            let (feed, fed) = mpsc::channel(1);
            (Some(feed), Fed(Some(fed)))
        }
    };
    let answering = sender.send_request(request(script, body));
    let sending = async {
        if let Some(feed) = feed {
            upload(script, &feed).await;
        }
    };
    let receiving = async {
        match answering.await {
            Ok(response) => receive(response, script).await,
            // Whoever waits for an answer waits no longer.
            Err(_) => {
                script.download.send_replace(Some(usize::MAX));
            }
        }
    };
    tokio::join!(sending, receiving);
}

fn request(script: &Script, body: Fed) -> Request<Fed> {
    let spec = &script.exchange.request;
    let mut request = Request::new(body);
    *request.method_mut() = spec.method.parse().unwrap();
    *request.uri_mut() = format!("http://client.example{}", spec.target).parse().unwrap();
    // The same head as over HTTP/1, but for the lines that HTTP/2 says otherwise.
    let head = spec.head(script.id, Course::Plain);
    let head: String = head.iter().map(|byte| char::from(*byte)).collect();
    for line in head.trim_end_matches("\r\n").split("\r\n").skip(1) {
        let (name, value) = line.split_once(':').unwrap();
        if !name.eq_ignore_ascii_case("host") && !name.eq_ignore_ascii_case("transfer-encoding") {
            append(request.headers_mut(), &(name.to_owned(), value.to_owned()));
        }
    }
    request
}

async fn upload(script: &Script, feed: &mpsc::Sender<Result<Frame<Bytes>, std::io::Error>>) {
    let request = &script.exchange.request;
    let content = Bytes::from(request.body.bytes());
    let stride = if request.stride == 0 { content.len() } else { request.stride.max(content.len() / 300) };
    // A receiver that is gone has got its answer.
    let send = async |bytes: Bytes| {
        let mut at = 0;
        while at < bytes.len() {
            let end = bytes.len().min(at + stride.max(1));
            if feed.send(Ok(Frame::data(bytes.slice(at..end)))).await.is_err() {
                return;
            }
            at = end;
        }
    };
    match script.exchange.course() {
        Course::UploadBreaks { at, .. } => {
            let count = request.body.upto(at);
            send(content.slice(..count)).await;
            reached(&script.upload, count).await;
            let _ = feed.send(Err(std::io::Error::other("the client leaves"))).await;
            return;
        }
        Course::Early { at } => {
            let count = request.body.upto(at);
            send(content.slice(..count)).await;
            reached(&script.download, 0).await;
            send(content.slice(count..)).await;
        }
        _ => send(content).await,
    }
    if let Framing::Chunked { trailers, .. } = &request.framing
        && !trailers.is_empty()
    {
        let mut map = HeaderMap::new();
        trailers.iter().for_each(|line| append(&mut map, line));
        let _ = feed.send(Ok(Frame::trailers(map))).await;
    }
}

async fn receive(response: Response<Incoming>, script: &Script) {
    let (head, mut body) = response.into_parts();
    let to_head = script.exchange.request.method == "HEAD";
    let framing = match head.headers.get("content-length") {
        _ if to_head || matches!(head.status.as_u16(), 204 | 304) => Framed::Absent,
        Some(length) => Framed::Length(length.to_str().unwrap().parse().unwrap()),
        None => Framed::Close,
    };
    let mut answer = Message {
        start: [format!("{:?}", head.version), head.status.as_str().to_owned(), String::new()],
        lines: lines(&head.headers),
        framing,
        body: wire::Bytes::default(),
        trailers: Vec::new(),
        complete: false,
    };
    script.download.send_replace(Some(0));
    let reading = async {
        loop {
            match body.frame().await {
                None => return true,
                Some(Err(_)) => return false,
                Some(Ok(frame)) => {
                    if let Some(trailers) = frame.trailers_ref() {
                        answer.trailers = lines(trailers);
                    }
                    answer.body.0.extend(frame.into_data().unwrap_or_default());
                    script.download.send_replace(Some(answer.body.0.len()));
                }
            }
        }
    };
    answer.complete = match script.exchange.course() {
        Course::ClientLeaves { at, .. } => {
            let count = script.exchange.answer.body.upto(at);
            tokio::select! {
                complete = reading => complete,
                () = reached(&script.download, count) => false,
            }
        }
        _ => reading.await,
    };
    script.note(|seen| seen.answer = Some(answer));
}

fn append(map: &mut HeaderMap, (name, value): &Line) {
    let value = value.trim_matches([' ', '\t']);
    let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
    map.append(name, HeaderValue::from_bytes(&case::bytes(value)).unwrap());
}

fn lines(map: &HeaderMap) -> Vec<Line> {
    let text = |value: &HeaderValue| value.as_bytes().iter().map(|byte| char::from(*byte)).collect();
    map.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

/// A body that is fed from elsewhere, or none.
struct Fed(Option<mpsc::Receiver<Result<Frame<Bytes>, std::io::Error>>>);

impl Body for Fed {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match &mut self.0 {
            Some(feed) => feed.poll_recv(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}
