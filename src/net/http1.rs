//! An HTTP/1 connection: one request after the other (RFC 9112 §9).
//!
//! While a body is incomplete, the body owns the reading side; it returns the reading side when it
//! is complete. While the connection has the reading side and a response is awaited or written, the
//! reading side is watched: a client that disconnects ends the exchange at once.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Method, StatusCode, Version};
use socket2::SockRef;
use thiserror::Error;
use threadtap_http::head::{RequestHead, ResponseHead};
use threadtap_http::http1::{
    Decoder, Encoder, Input, Malformed, Output, SendError, Sending, keeps_alive, of_request, write_response,
};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::connection::Server;
use super::deadline::Deadline;
use super::incoming_body::{IncomingBody, Reader};
use super::io::ClientStream;
use super::link::Link;
use super::message::{Request, RequestBody, Response};
use super::places::{Standing, Waiting};
use super::{Handler, tcp};

/// What happens to a connection after an exchange.
enum After {
    Close,
    KeepAlive,
}

/// Why a connection ends early.
#[derive(Debug, Error)]
pub(super) enum Ended {
    #[error("the response body failed")]
    ResponseFailed(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the client disconnected before its response ended")]
    ClientLeft,
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("a request was rejected")]
    Refused(#[source] Malformed),
    #[error("the length of the response body differs from its Content-Length")]
    WrongLength,
}

impl Ended {
    fn of_sending<E: Into<Box<dyn std::error::Error + Send + Sync>>>(error: SendError<E>) -> Self {
        match error {
            SendError::Body(error) => Self::ResponseFailed(error.into()),
            SendError::Io(error) => Self::Io(error),
            SendError::WrongLength => Self::WrongLength,
        }
    }
}

/// An HTTP/1 connection.
pub(super) struct Session<'a, H> {
    server: &'a Server<H>,
    link: Arc<Link>,
    reading: Reading,
    writing: WriteSide,
    output: Output,
    /// Whether the client has closed its sending side.
    is_closed: bool,
    /// While there is no request.
    waiting: Option<Waiting>,
    draining: &'a AtomicBool,
}

/// Where the reading side is.
enum Reading {
    Here(Reader),
    /// The body of a request has it.
    Away(oneshot::Receiver<Reader>),
    /// Lost: the body that had it was dropped before its end.
    Lost,
}

/// The writing side of a connection. It closes with a reset if the link says so.
struct WriteSide {
    /// `None` after a takeover.
    half: Option<OwnedWriteHalf>,
    link: Arc<Link>,
}

impl Drop for WriteSide {
    fn drop(&mut self) {
        if self.link.resets_on_close()
            && let Some(half) = self.half.take()
        {
            // Fails only if the socket is already gone.
            let _ = SockRef::from(half.as_ref()).set_linger(Some(Duration::ZERO));
            half.forget();
        }
    }
}

impl<'a, H: Handler> Session<'a, H> {
    /// Continues with a stream from which `input` was already read.
    pub(super) fn new(
        server: &'a Server<H>,
        stream: TcpStream,
        input: Input,
        link: Arc<Link>,
        waiting: Waiting,
        draining: &'a AtomicBool,
    ) -> Self {
        let (read, write) = stream.into_split();
        Self {
            server,
            reading: Reading::Here(Reader { half: read, input, link: Arc::clone(&link) }),
            writing: WriteSide { half: Some(write), link: Arc::clone(&link) },
            link,
            output: Output::default(),
            is_closed: false,
            waiting: Some(waiting),
            draining,
        }
    }

    /// Serves requests until either side ends the connection.
    pub(super) async fn serve(mut self) -> Result<(), Ended> {
        let mut deadline = Deadline::after(self.server.config.head_timeout);
        loop {
            let head = match self.head(&mut deadline).await {
                Ok(Some(head)) => head,
                Ok(None) => return Ok(()),
                Err(Ended::Refused(malformed)) => return self.refuse(malformed).await,
                Err(error) => return Err(error),
            };
            let (method, version) = (head.method.clone(), head.version);
            let may_go_on = keeps_alive(version, &head.fields)
                // Other parsers may have seen a different end of the body (RFC 9112 §6.1).
                && !(head.fields.contains("transfer-encoding") && head.fields.contains("content-length"));
            let body = match self.body(&head) {
                Ok(body) => body,
                Err(malformed) => return self.refuse(malformed).await,
            };
            let response = {
                let handler = self.server.handler.clone();
                let link = Arc::clone(&self.link);
                // Boxed: the connection reserves this memory while it lives, even while a stream
                // takes hours.
                let mut response =
                    Box::pin(async move { handler.handle(Request { head, body }, link).await });
                poll_fn(|cx| match response.as_mut().poll(cx) {
                    Poll::Ready(response) => Poll::Ready(Ok(response)),
                    Poll::Pending => self.poll_left(cx).map(|()| Err(Ended::ClientLeft)),
                })
                .await?
            };
            let Response { head, body, takeover } = response;
            if let Some(takeover) = takeover {
                write_response(&head, version, self.output.buffer());
                return self.hand_over(takeover).await;
            }
            match self.response(&method, version, head, body, may_go_on).await? {
                After::KeepAlive if self.returned().await => {
                    deadline.restart(self.server.config.head_timeout)
                }
                After::KeepAlive | After::Close => return Ok(()),
            }
        }
    }

    /// Waits for the head of the next request. Returns `None` when the client has closed or is too
    /// slow, when another client needs the place, or when a drain has begun.
    async fn head(&mut self, deadline: &mut Deadline) -> Result<Option<RequestHead>, Ended> {
        let Reading::Here(reader) = &mut self.reading else { return Ok(None) };
        let waiting = &mut self.waiting;
        poll_fn(|cx| {
            loop {
                if let Some(head) = self.server.parser.request(&mut reader.input).map_err(Ended::Refused)? {
                    if let Some(waiting) = waiting.take() {
                        waiting.end();
                    }
                    return Ok(Some(head)).into();
                }
                if self.is_closed || (reader.input.is_empty() && self.draining.load(Ordering::Relaxed)) {
                    return Ok(None).into();
                }
                match reader.input.poll_fill(&mut reader.half, cx)? {
                    Poll::Ready(0) => return Ok(None).into(),
                    Poll::Ready(_) => {}
                    Poll::Pending => {
                        let waiting = waiting.get_or_insert_with(|| self.link.place().wait(Standing::Known));
                        if waiting.poll_asked(cx).is_pending() {
                            ready!(deadline.poll_over(cx));
                        } else if tcp::has_input(reader.half.as_ref()) {
                            // It stays, because the runtime only has not reported the input yet.
                            waiting.stay(self.link.place());
                            return Poll::Pending;
                        }
                        return Ok(None).into();
                    }
                }
            }
        })
        .await
    }

    /// The body of a request. It takes the reading side, unless the whole body has been read
    /// already.
    fn body(&mut self, head: &RequestHead) -> Result<RequestBody, Malformed> {
        let mut decoder = Decoder::of_request(of_request(head.version, &head.fields)?);
        if decoder.is_over() {
            return Ok(RequestBody::empty());
        }
        let Reading::Here(mut reader) = std::mem::replace(&mut self.reading, Reading::Lost) else {
            return Ok(RequestBody::empty());
        };
        if decoder.length().is_some_and(|length| length <= reader.input.bytes().len() as u64) {
            let whole = decoder.data(&mut reader.input)?.unwrap_or_default();
            self.reading = Reading::Here(reader);
            return Ok(RequestBody::whole(whole));
        }
        let (incoming, returned) = IncomingBody::new(reader, decoder, head.expects_continue());
        self.reading = Reading::Away(returned);
        Ok(RequestBody::http1(incoming))
    }

    /// Reads ahead to learn whether the client disconnects; ready when it has.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.reading {
                Reading::Here(reader) => {
                    if self.is_closed || reader.input.bytes().len() >= MAX_READ_AHEAD_BYTES {
                        return Poll::Pending;
                    }
                    match ready!(reader.input.poll_fill(&mut reader.half, cx)) {
                        Ok(0) if self.server.config.half_close => self.is_closed = true,
                        Ok(0) | Err(_) => return Poll::Ready(()),
                        Ok(_) => {}
                    }
                }
                Reading::Away(returned) => {
                    self.reading = ready!(Pin::new(returned).poll(cx)).map_or(Reading::Lost, Reading::Here);
                }
                Reading::Lost => return Poll::Pending,
            }
        }
    }

    /// Takes the reading side back if it was returned or is lost.
    fn settle(&mut self) {
        if let Reading::Away(returned) = &mut self.reading {
            match returned.try_recv() {
                Ok(reader) => self.reading = Reading::Here(reader),
                Err(TryRecvError::Closed) => self.reading = Reading::Lost,
                Err(TryRecvError::Empty) => {}
            }
        }
    }

    /// Waits for the reading side; returns false if it is lost.
    async fn returned(&mut self) -> bool {
        if let Reading::Away(returned) = &mut self.reading {
            self.reading = returned.await.map_or(Reading::Lost, Reading::Here);
        }
        matches!(self.reading, Reading::Here(_))
    }

    /// Writes a response.
    async fn response(
        &mut self,
        method: &Method,
        version: Version,
        mut head: ResponseHead,
        body: H::Body,
        may_go_on: bool,
    ) -> Result<After, Ended> {
        let encoder = Encoder::of_response(method, version, &mut head).map_err(Ended::Refused)?;
        let is_until_close = encoder.is_until_close();
        self.settle();
        let goes_on = may_go_on
            && !is_until_close
            && !matches!(self.reading, Reading::Lost)
            && !self.link.place().is_needed()
            && !self.draining.load(Ordering::Relaxed);
        match version {
            Version::HTTP_10 if goes_on => head.fields.push("connection", "keep-alive"),
            Version::HTTP_10 => {}
            _ if !goes_on => head.fields.push("connection", "close"),
            _ => {}
        }
        write_response(&head, version, self.output.buffer());
        drop(head);
        let mut sending = Sending::new(std::mem::take(&mut self.output), body, encoder);
        let mut failed = None;
        poll_fn(|cx| {
            let Some(half) = &mut self.writing.half else { return Poll::Ready(Ok(())) };
            if failed.is_none() {
                match sending.poll(half, cx) {
                    Poll::Ready(Err(SendError::Body(error))) => {
                        if is_until_close {
                            self.link.reset_on_close();
                        }
                        failed = Some(error.into());
                    }
                    Poll::Ready(sent) => return Poll::Ready(sent.map_err(Ended::of_sending)),
                    Poll::Pending => {}
                }
            }
            // The client still gets what arrived before the failure.
            if failed.is_some()
                && sending.poll_flush(half, cx)?.is_ready()
                && let Some(error) = failed.take()
            {
                return Poll::Ready(Err(Ended::ResponseFailed(error)));
            }
            self.poll_left(cx).map(|()| Err(Ended::ClientLeft))
        })
        .await?;
        self.output = sending.into_output();
        Ok(if goes_on { After::KeepAlive } else { After::Close })
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(half) = &mut self.writing.half else { return Poll::Ready(Ok(())) };
        self.output.poll_flush(half, cx)
    }

    /// Hands the connection to `takeover`, once the head is written.
    async fn hand_over(mut self, takeover: super::Takeover) -> Result<(), Ended> {
        self.settle();
        poll_fn(|cx| self.poll_flush(cx)).await?;
        if let (Reading::Here(Reader { half, input, link: _ }), Some(write)) =
            (self.reading, self.writing.half.take())
            && let Ok(stream) = half.reunite(write)
        {
            takeover(ClientStream::new(stream, self.link, input.bytes()));
        }
        Ok(())
    }

    /// Tells a client that its request cannot be read, and closes the connection.
    async fn refuse(mut self, malformed: Malformed) -> Result<(), Ended> {
        let mut head = ResponseHead::new(match malformed {
            Malformed::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Malformed::Head | Malformed::Framing | Malformed::Chunk => StatusCode::BAD_REQUEST,
        });
        head.fields.push("connection", "close");
        head.fields.push("content-length", "0");
        write_response(&head, Version::HTTP_11, self.output.buffer());
        // A client that does not read, or keeps sending, is not waited for any longer.
        let closing = async {
            poll_fn(|cx| self.poll_flush(cx)).await?;
            if let Some(half) = &mut self.writing.half {
                half.shutdown().await?;
            }
            self.drain().await
        };
        tokio::time::timeout(LINGER_TIME, closing).await.unwrap_or(Ok(()))?;
        Err(Ended::Refused(malformed))
    }

    /// Reads what the client still sends. Closing earlier would send a reset, and the client could
    /// lose the response.
    async fn drain(&mut self) -> io::Result<()> {
        let Reading::Here(reader) = &mut self.reading else { return Ok(()) };
        let mut left = LINGER_BYTES;
        poll_fn(|cx| {
            loop {
                let read = ready!(reader.input.poll_fill(&mut reader.half, cx))?;
                drop(reader.input.take_all());
                left = left.saturating_sub(read);
                if read == 0 || left == 0 {
                    return Poll::Ready(Ok(()));
                }
            }
        })
        .await
    }
}

/// How much is read ahead while a response is awaited. Beyond this, a disconnect is not noticed.
const MAX_READ_AHEAD_BYTES: usize = 64 << 10;
/// How long a refused client may keep sending, and how much.
const LINGER_TIME: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1 << 20;
