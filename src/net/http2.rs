//! HTTP/2 (RFC 9113): uses hyper, and converts its messages to ours.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prometheus_client::metrics::counter::Counter;
use threadtap_http::head::{Fields, RequestHead};

use super::connection::Counts;
use super::io::ClientStream;
use super::link::Link;
use super::message::{Request, RequestBody, Response};
use super::places::{Exchange, Exchanges};
use super::room::{Held, Room};
use super::{Config, Handler, MAX_WINDOW_BYTES};

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
        .initial_connection_window_size(config.h2_connection_window_bytes.clamp(window, MAX_WINDOW_BYTES));
    http2
}

/// A connection whose requests `handler` answers, as long as there is room for them. A refused
/// request was not processed, so a client may send it again (RFC 9113 §8.7).
pub(super) fn connection<H: Handler>(
    builder: &http2::Builder<TokioExecutor>,
    stream: ClientStream,
    handler: H,
    link: Arc<Link>,
    exchanges: Exchanges,
    room: &Arc<Room>,
    counts: Counts,
) -> http2::Connection<
    TokioIo<ClientStream>,
    impl HttpService<Incoming, Future: Send + 'static, Error = h2::Error, ResBody = Holding<H::Body>> + use<H>,
    TokioExecutor,
> {
    let part = room.part();
    let service = service_fn(move |request| {
        let (handler, link, counts) = (handler.clone(), Arc::clone(&link), counts.clone());
        let exchange = exchanges.begin();
        // Done at once, not when first polled: hundreds may have arrived together, and hyper's
        // heads are larger.
        let admitted = part.hold(size(&request)).map(|held| (held, self::request(request)));
        async move {
            let Some((held, request)) = admitted else {
                counts.refused.inc();
                return Err(h2::Error::from(Reason::REFUSED_STREAM));
            };
            let response = handler.handle(request, link).await;
            Ok(to_hyper(response, &counts.left_out).map(|body| Holding {
                body,
                _held: held,
                _exchange: exchange,
            }))
        }
    });
    builder.serve_connection(TokioIo::new(stream), service)
}

/// Roughly how much memory a request takes while it is in progress.
fn size(request: &http::Request<Incoming>) -> usize {
    let lines = request.headers().iter();
    let lines = lines.map(|(name, value)| name.as_str().len() + value.len() + Fields::LINE_BYTES);
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    REQUEST_BYTES + target + lines.sum::<usize>()
}

/// The body of a response. Until it is over, it holds the memory reserved for its request, and its
/// exchange stays open.
pub(super) struct Holding<B> {
    body: B,
    _held: Held,
    _exchange: Exchange,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Holding<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
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
        // It has no authority before it.
        "*" => "*".to_owned(),
        _ => head.uri.to_string(),
    };
    let fields = Fields::from(&head.headers);
    Request {
        head: RequestHead { method: head.method, target, version: head.version, fields },
        body: RequestBody::http2(body),
    }
}

fn to_hyper<B>(response: Response<B>, left_out: &Counter) -> http::Response<B> {
    let Response { head, body, takeover: _ } = response;
    let mut headers = HeaderMap::try_with_capacity(head.fields.len()).unwrap_or_default();
    for (name, value) in head.fields.iter() {
        // HTTP/2 does not allow values with control bytes, and no client would accept more than
        // 32,768 lines.
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

/// Roughly how much memory a request takes in addition to its head: its tasks, its connection to
/// upstream, and two parts of a response that its client does not read.
const REQUEST_BYTES: usize = 24 << 10;
/// A stream keeps one part of a response in the connection's buffers; the next follows when that is
/// written. What arrives meanwhile becomes one part. Hyper's default of 400 KiB would take 80 MiB
/// for a connection of 200 streams whose client does not read.
const SEND_BUFFER_BYTES: usize = 1;
