//! HTTP/2 (RFC 9113): hyper's, with its messages as ours.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prometheus_client::metrics::counter::Counter;

use super::io::ClientStream;
use super::link::Link;
use super::message::{Answer, Request, RequestBody};
use super::places::{Exchange, Exchanges};
use super::{Config, Handler, MAX_WINDOW_BYTES};
use crate::head::{Fields, RequestHead};

pub(super) fn builder(config: &Config) -> http2::Builder<TokioExecutor> {
    let window = config.h2_stream_window_bytes.min(MAX_WINDOW_BYTES);
    let mut http2 = http2::Builder::new(TokioExecutor::new());
    http2
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .keep_alive_interval(config.h2_ping_interval)
        .keep_alive_timeout(config.h2_ping_timeout)
        .max_header_list_size(config.max_header_list_bytes)
        .max_concurrent_streams(config.h2_max_streams)
        .max_pending_accept_reset_streams(config.h2_max_pending_resets)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .initial_stream_window_size(window)
        .initial_connection_window_size(
            window.saturating_mul(config.h2_max_streams).clamp(window, MAX_WINDOW_BYTES),
        );
    http2
}

/// A connection whose requests `handler` answers.
pub(super) fn connection<H: Handler>(
    builder: &http2::Builder<TokioExecutor>,
    stream: ClientStream,
    handler: H,
    link: Arc<Link>,
    exchanges: Exchanges,
    left_out: Counter,
) -> http2::Connection<
    TokioIo<ClientStream>,
    impl HttpService<Incoming, Future: Send + 'static, Error = Infallible, ResBody = Open<H::Body>> + use<H>,
    TokioExecutor,
> {
    let service = service_fn(move |request| {
        let (handler, link, exchange) = (handler.clone(), Arc::clone(&link), exchanges.begin());
        let left_out = left_out.clone();
        async move {
            let answer = handler.handle(self::request(request), link).await;
            Ok::<_, Infallible>(response(answer, &left_out).map(|body| Open { body, _exchange: exchange }))
        }
    });
    builder.serve_connection(TokioIo::new(stream), service)
}

/// The body of an answer, whose exchange is open until all of it is sent.
pub(super) struct Open<B> {
    body: B,
    _exchange: Exchange,
}

impl<B: Body + Unpin> Body for Open<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn request(request: http::Request<Incoming>) -> Request {
    let (head, body) = request.into_parts();
    let target = match head.uri.path() {
        // It has no authority in front.
        "*" => "*".to_owned(),
        _ => head.uri.to_string(),
    };
    let fields = Fields::from(&head.headers);
    Request {
        head: RequestHead { method: head.method, target, version: head.version, fields },
        body: RequestBody::http2(body),
    }
}

fn response<B>(answer: Answer<B>, left_out: &Counter) -> http::Response<B> {
    let Answer { head, body, takeover: _ } = answer;
    let mut headers = HeaderMap::try_with_capacity(head.fields.len()).unwrap_or_default();
    for (name, value) in head.fields.iter() {
        // Values with control bytes are none of HTTP/2, and more than 32,768 lines more than any client would take.
        let line = HeaderName::from_bytes(name).ok().zip(HeaderValue::from_bytes(value).ok());
        if line.and_then(|(name, value)| headers.try_append(name, value).ok()).is_none() {
            left_out.inc();
        }
    }
    let mut response = http::Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = headers;
    response
}

/// What a stream of HTTP/2 holds of an answer that its client does not read. Hyper's own 400 KiB would be 80 MiB for a connection
/// of 200 such streams.
const SEND_BUFFER_BYTES: usize = 64 << 10;
