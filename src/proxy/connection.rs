//! A connection to upstream, driven by the exchange that uses it. One task reads from the client
//! and writes to upstream, and the reverse. No other task needs to be woken.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{StatusCode, Version};
use http_body::Frame;
use threadtap_http::head::RequestHead;
use threadtap_http::http1::{
    BodyError, Decoder, Encoder, Input, Malformed, Output, Parser, Response, SendError, Sending,
    write_request,
};
use tokio::io::WriteHalf;
use tokio::task::unconstrained;

use super::body::Upload;
use super::connect::Stream;
use super::error::{ClientBodyError, Error, Kind};
use crate::capture::RequestTee;

/// The body of a request to upstream.
pub(super) type RequestBody = RequestTee<Upload>;

/// A connection to upstream that carries one exchange at a time. It makes progress only while it is
/// polled, and dropping it closes it.
pub(super) struct Connection {
    io: Stream,
    input: Input,
    /// The buffer of the last request, reused for the next.
    output: Output,
    /// Whether it has carried an exchange before.
    used: bool,
    /// Whether upstream has sent anything in the current exchange.
    heard: bool,
}

/// The head of a response, and what continues after it.
pub(super) struct Answered {
    pub(super) response: Response,
    pub(super) connection: Connection,
    /// The rest of the request, if upstream responded before it had all of it.
    pub(super) unsent: Option<Sending<RequestBody>>,
}

/// A request that got no response.
pub(super) struct Unanswered {
    pub(super) error: Error,
    /// Whether the connection had carried another exchange before and upstream sent nothing in this
    /// one. Then upstream may just have been about to close the connection.
    pub(super) was_idle: bool,
}

impl Connection {
    /// Speaks HTTP/1 on a stream.
    pub(super) fn new(io: Stream) -> Self {
        Self { io, input: Input::default(), output: Output::default(), used: false, heard: false }
    }

    /// Writes the head of a request to the buffer, to be sent with its body. A response to an
    /// HTTP/2 client is read in small parts, because each of the client's streams holds one.
    pub(super) fn put(&mut self, head: &RequestHead) {
        self.input.set_sips(head.version == Version::HTTP_2);
        write_request(head, self.output.buffer());
    }

    /// Sends the request whose head is in the buffer, and waits for the head of the response.
    pub(super) async fn send(
        mut self,
        parser: &Parser,
        body: RequestBody,
        encoder: Encoder,
    ) -> Result<Answered, Unanswered> {
        let mut sending = Sending::new(std::mem::take(&mut self.output), body, encoder);
        self.heard = false;
        match poll_fn(|cx| self.poll_answer(parser, &mut sending, cx)).await {
            Ok(response) => {
                self.used = true;
                let unsent = if sending.is_sent() {
                    self.output = sending.into_output();
                    None
                } else {
                    Some(sending)
                };
                Ok(Answered { response, connection: self, unsent })
            }
            Err(error) => Err(Unanswered { error, was_idle: self.used && !self.heard }),
        }
    }

    fn poll_answer(
        &mut self,
        parser: &Parser,
        sending: &mut Sending<RequestBody>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response, Error>> {
        loop {
            if let Poll::Ready(Err(error)) = sending.poll(&mut self.io, cx) {
                return Poll::Ready(Err(unsent(error)));
            }
            let response = ready!(self.poll_head(parser, cx))?;
            match response.head.status {
                StatusCode::CONTINUE => sending.body_mut().get_mut().invite(),
                StatusCode::SWITCHING_PROTOCOLS => return Poll::Ready(Ok(response)),
                status if status.is_informational() => {}
                _ => return Poll::Ready(Ok(response)),
            }
        }
    }

    fn poll_head(&mut self, parser: &Parser, cx: &mut Context<'_>) -> Poll<Result<Response, Error>> {
        loop {
            if let Some(response) = parser.response(&mut self.input).map_err(malformed)? {
                return Poll::Ready(Ok(response));
            }
            if ready!(self.input.poll_fill(&mut self.io, cx)).map_err(closed)? == 0 {
                // What arrived is not a complete head.
                return Poll::Ready(Err(closed(io::ErrorKind::UnexpectedEof.into())));
            }
            self.heard = true;
        }
    }

    /// Reads the next frame of the response body with `decoder`.
    pub(super) fn poll_frame(
        &mut self,
        decoder: &mut Decoder,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { io, input, .. } = self;
        decoder.poll_frame(input, cx, |input, cx| input.poll_fill(io, cx))
    }

    /// Whether it can carry another exchange: upstream has neither closed it nor sent unexpected
    /// bytes.
    pub(super) fn poll_is_idle(&mut self, cx: &mut Context<'_>) -> bool {
        let Self { io, input, .. } = self;
        // A task that has used up its tokio budget would see `Pending` even if bytes are there.
        let fill = pin!(unconstrained(poll_fn(|cx| input.poll_fill(io, cx))));
        let silent = fill.poll(cx).is_pending();
        silent && input.is_empty()
    }

    /// Splits the connection into its parts.
    pub(super) fn into_parts(self) -> (Stream, Input) {
        (self.io, self.input)
    }
}

/// Sends the rest of a request while its response is read elsewhere.
pub(super) async fn send_rest(mut sending: Sending<RequestBody>, mut io: WriteHalf<Stream>) {
    if let Err(error) = poll_fn(|cx| sending.poll(&mut io, cx)).await {
        tracing::debug!(error = &error as &dyn std::error::Error, "the rest of a request cannot be sent");
    }
}

fn unsent(error: SendError<ClientBodyError>) -> Error {
    match error {
        SendError::Body(error) => Error::of(Kind::ClientBody, error),
        SendError::Io(error) => closed(error),
        SendError::WrongLength => Error::new(Kind::Internal),
    }
}

fn closed(error: io::Error) -> Error {
    Error::of(Kind::UpstreamClosed, error)
}

fn malformed(error: Malformed) -> Error {
    Error::of(Kind::UpstreamAnswer, error)
}
