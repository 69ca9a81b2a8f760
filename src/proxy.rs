//! Forwards each request to upstream and each answer back, and changes nothing that matters.
//!
//! What is changed, and nothing else: hop-by-hop fields and `x-threadtap-*` end here, `Host` becomes the upstream's, messages
//! are framed anew. What is copied on the way is the matter of [`capture`](crate::capture); this module only puts the tap on.
//! An answer of upstream is never replaced by one of our own, whatever happens afterwards: SDKs would repeat the request.
//! When upstream fails in the middle of a body the client's connection is aborted, it is never ended as if all were well.
//!
//! A request that any connection took is not sent again, because nobody knows what upstream did with it. The one exception: a
//! GET or HEAD without a body, when upstream closed a connection that had been used before.
//!
//! What holds on the way, with the test that proves it, and what hyper cannot keep, is in `docs/transparency.md`.

mod body;
mod caller;
mod config;
mod connect;
mod connection;
mod download;
mod error;
mod frames;
mod headers;
mod own;
mod pool;
mod read_on;
mod tunnel;
mod upstream;

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version, request};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use prometheus_client::metrics::counter::Counter;
use thiserror::Error as ThisError;
use tokio::sync::oneshot;

pub use self::body::AnswerBody;
pub use self::caller::CallerKey;
pub use self::config::Config;
#[cfg(any(test, fuzzing))]
pub use self::headers::assert_heads_are_sound;
pub use self::own::{OwnAnswer, OwnRequest, OwnRequests};
#[cfg(any(test, fuzzing))]
pub use self::upstream::assert_targets_are_kept;
pub use self::upstream::{ParseUpstreamError, Upstream};

use self::body::{Linger, Progress, Upload};
use self::connect::Connector;
use self::connection::{Connection, RequestBody, SendError};
use self::download::Download;
use self::error::{Error, Fault, Kind};
use self::headers::Hop;
use self::pool::Pool;
use self::read_on::ReadOn;
use crate::capture::{Recorder, RequestTap, RequestTee, ResponseTee};
use crate::metrics::{ApiLabel, KindLabel, Metrics, RESULTS, ResultLabel, result_index, result_of};
use crate::net::{self, Link};

/// Why a proxy cannot be made.
#[derive(Debug, ThisError)]
pub enum NewProxyError {
    /// The TLS library refuses its own defaults.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
}

/// Forwards requests to one upstream. Clones share its unused connections.
#[derive(Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
    pool: Pool,
}

impl Proxy {
    /// Makes a proxy. It connects to nobody before the first request.
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up. That there are no root certificates is no error: it is told to whoever needs them.
    pub fn new(config: Config, recorder: Recorder, metrics: &Metrics) -> Result<Self, NewProxyError> {
        let connector = Connector::new(&config.upstream, config.connect_timeout, config.tcp.clone())
            .map_err(NewProxyError::Tls)?;
        let mut protocol = http1::Builder::new();
        protocol
            .max_headers(config.max_headers)
            .preserve_header_case(config.preserve_header_case)
            .allow_obsolete_multiline_headers_in_responses(true)
            .allow_spaces_after_header_name_in_responses(true)
            .ignore_invalid_headers_in_responses(true);
        let read_on = ReadOn::new(config.read_on);
        let results = RESULTS.map(|result| metrics.exchanges.get_or_create_owned(&ResultLabel { result }));
        let pool = Pool::new(config.max_idle, config.idle_timeout);
        let metrics = metrics.clone();
        Ok(Self {
            shared: Arc::new(Shared { config, connector, protocol, recorder, metrics, read_on, results }),
            pool,
        })
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl net::Handler for Proxy {
    type Body = AnswerBody;

    fn for_worker(&self) -> Self {
        let config = &self.shared.config;
        Self { shared: Arc::clone(&self.shared), pool: Pool::new(config.max_idle, config.idle_timeout) }
    }

    async fn handle(&self, request: Request<Incoming>, link: Arc<Link>) -> Response<AnswerBody> {
        let shared = &*self.shared;
        let progress = Progress::new(&shared.metrics.exchanges_in_progress);
        let to_head = request.method() == Method::HEAD;
        if let Some(own) = &shared.config.own
            && own::is_own(request.uri().path())
        {
            let (head, body) = request.into_parts();
            let OwnAnswer { status, body } = own::answer(own, head, body).await;
            return own_response(status, body, to_head, progress);
        }
        match self.forward(request, &link).await {
            Ok(Forwarded { response, delimited_by, uncaptured }) => {
                shared.results[result_index(response.status())].inc();
                if let Some(api) = uncaptured {
                    let label = ApiLabel { api, result: result_of(response.status()) };
                    shared.metrics.api_exchanges.get_or_create(&label).inc();
                }
                let reader = shared.read_on.as_ref().map(|read_on| read_on.reader(&link));
                response.map(|body| AnswerBody::upstream(body, delimited_by, reader, progress))
            }
            Err(error) => shared.own_answer(&error, to_head, progress),
        }
    }
}

struct Shared {
    config: Config,
    connector: Connector,
    /// How HTTP/1 is spoken to upstream.
    protocol: http1::Builder,
    recorder: Recorder,
    metrics: Metrics,
    /// For answers whose client leaves.
    read_on: Option<ReadOn>,
    /// The counters of [`RESULTS`], looked up once.
    results: [Counter; 6],
}

/// An answer of upstream's.
struct Forwarded {
    response: Response<ResponseTee<Download>>,
    /// The client's connection, when only its close will tell where the body ends.
    delimited_by: Option<Arc<Link>>,
    /// The API, where it is known and the exchange is not tapped.
    uncaptured: Option<&'static str>,
}

impl Proxy {
    async fn forward(&self, mut request: Request<Incoming>, link: &Arc<Link>) -> Result<Forwarded, Error> {
        let shared = &*self.shared;
        let config = &shared.config;
        let version = request.version();
        let client_side = hyper::upgrade::on(&mut request);
        let (mut head, body) = request.into_parts();
        let linger = Linger { bytes: config.linger_bytes, time: config.linger_timeout };
        let mut upload = Upload::new(body, (version != Version::HTTP_2).then_some(linger));
        if head.method == Method::CONNECT {
            return Err(Error::new(Kind::Connect));
        }
        // `host:port` has no path, and must not be taken for one (RFC 9112 §3.2.3).
        if head.uri.scheme().is_none() && head.uri.authority().is_some() {
            return Err(Error::new(Kind::ClientTarget));
        }
        if own::is_own(head.uri.path()) {
            return Err(Error::new(Kind::Reserved));
        }
        let tap = shared.is_tapped(&head).then(|| {
            let tap = shared.recorder.tap_request(Arc::clone(config.upstream.name()), &head);
            let caller = config.caller_key.as_ref().and_then(|key| key.caller(&head.headers));
            match caller {
                Some(caller) => tap.with_caller(caller),
                None => tap,
            }
        });
        let uncaptured = match &tap {
            Some(_) => None,
            None => (config.uncaptured)(&head.method, head.uri.path()),
        };
        let hop = headers::hop(&head);
        shared.prepare(&mut head, hop, &upload)?;
        let mut invite = None;
        if version == Version::HTTP_11 && !upload.is_end_stream() && expects_continue(&head) {
            invite = Some(upload.hold_back(config.continue_timeout));
        }
        upload.read_ahead().await;
        let upload_end = upload.watch_end();
        let (mut response, connection) = self.exchange(head, upload, invite, tap.as_ref()).await?;
        let upstream_side = hyper::upgrade::on(&mut response);
        let (mut head, body) = response.into_parts();
        let switches = head.status == StatusCode::SWITCHING_PROTOCOLS;
        if switches {
            if hop != Hop::WebSocket {
                return Err(Error::new(Kind::UpstreamAnswer));
            }
            let progress = Progress::new(&shared.metrics.exchanges_in_progress);
            link.spawn(tunnel::run(client_side, upstream_side, shared.metrics.clone(), progress));
        }
        let body = if !switches && upload_end.is_reached() {
            Download::new(body, connection, self.pool.clone())
        } else {
            // The upload goes on whether or not the client reads the answer.
            connection.detach();
            Download::detached(body)
        };
        let body = match tap {
            Some(tap) if !switches => tap.tap_response(&head).body(body),
            _ => ResponseTee::untapped(body),
        };
        headers::to_client(&mut head, version);
        head.version = Version::HTTP_11;
        let unbounded = version == Version::HTTP_10 && body.size_hint().exact().is_none();
        let delimited_by = unbounded.then(|| Arc::clone(link));
        Ok(Forwarded { response: Response::from_parts(head, body), delimited_by, uncaptured })
    }

    /// Sends a request to upstream and waits for the head of the answer.
    async fn exchange(
        &self,
        head: request::Parts,
        upload: Upload,
        invite: Option<oneshot::Sender<()>>,
        tap: Option<&RequestTap>,
    ) -> Result<(Response<Incoming>, Connection), Error> {
        let repeatable = matches!(head.method, Method::GET | Method::HEAD) && upload.is_end_stream();
        let spare = repeatable.then(|| head.clone());
        let body = match tap {
            Some(tap) => tap.body(upload),
            None => RequestTee::untapped(upload),
        };
        let mut request = Request::from_parts(head, Box::pin(body));
        if let Some(invite) = invite {
            invite_on_continue(&mut request, invite);
        }
        match (self.send(request).await, spare) {
            (Err(failure), Some(spare))
                if failure.was_used && failure.error.kind() == Kind::UpstreamClosed =>
            {
                let body = RequestTee::untapped(Upload::empty());
                self.send(Request::from_parts(spare, Box::pin(body))).await
            }
            (sent, _) => sent,
        }
        .map_err(|failure| failure.error)
    }

    /// Sends a request over a connection that is unused, or a new one. It is tried again only while no connection took it.
    async fn send(
        &self,
        mut request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Connection), SendError> {
        loop {
            let connection = match self.pool.take().await {
                Some(connection) => connection,
                None => self.shared.connect().await.map_err(SendError::unconnected)?,
            };
            match connection.send(request).await {
                Err(SendError { unsent: Some(unsent), was_used: true, .. }) => request = *unsent,
                sent => return sent,
            }
        }
    }
}

/// Lets `invite` be used when upstream answers 100.
fn invite_on_continue(request: &mut Request<RequestBody>, invite: oneshot::Sender<()>) {
    let invite = Mutex::new(Some(invite));
    hyper::ext::on_informational(request, move |informational| {
        if informational.status() == StatusCode::CONTINUE
            && let Some(invite) = invite.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            // Fails when the client is gone.
            let _ = invite.send(());
        }
    });
}

impl Shared {
    async fn connect(&self) -> Result<Connection, Error> {
        let stream = self.connector.connect().await.map_err(Error::of_connecting)?;
        Connection::new(&self.protocol, stream).await.map_err(Error::of_exchange)
    }

    fn is_tapped(&self, head: &request::Parts) -> bool {
        (self.config.interest)(&head.method, head.uri.path())
            && head
                .headers
                .get(CAPTURE_LEVEL)
                .is_none_or(|level| !level.as_bytes().eq_ignore_ascii_case(b"none"))
    }

    /// Makes the head of a request what upstream is to see.
    fn prepare(&self, head: &mut request::Parts, hop: Hop, body: &Upload) -> Result<(), Error> {
        let upstream = &self.config.upstream;
        // On HTTP/2, and with an absolute target, the client's idea of the host is in the target.
        let client_host = match head.uri.authority() {
            Some(authority) if self.config.keep_client_host => HeaderValue::from_str(authority.as_str()).ok(),
            _ => None,
        };
        let keeps_host = self.config.keep_client_host && head.headers.contains_key(http::header::HOST);
        let host = match &client_host {
            Some(host) => Some(host),
            None if keeps_host => None,
            None => Some(upstream.host()),
        };
        headers::to_upstream(head, hop, host, body.size_hint().exact().is_none())?;
        head.uri = upstream
            .target(std::mem::take(&mut head.uri))
            .ok_or_else(|| Error::new(Kind::ClientTargetLength))?;
        head.version = Version::HTTP_11;
        Ok(())
    }

    /// What a client is told when there is no answer of upstream's. To a HEAD it is told without the body, which hyper would
    /// send over HTTP/2.
    fn own_answer(&self, error: &Error, to_head: bool, progress: Progress) -> Response<AnswerBody> {
        let kind = error.kind();
        match kind.fault() {
            Fault::Client => {
                tracing::debug!(kind = kind.token(), causes = error.causes(), "a request was refused")
            }
            Fault::Internal | Fault::Upstream => {
                tracing::warn!(kind = kind.token(), causes = error.causes(), "no answer from upstream");
            }
        }
        self.results[0].inc();
        self.metrics.upstream_errors.get_or_create(&KindLabel { kind: kind.token() }).inc();
        let mut response = own_response(kind.status(), error.body(), to_head, progress);
        response.headers_mut().append(ERROR_TOKEN, HeaderValue::from_static(kind.token()));
        response
    }
}

/// An answer of threadtap's own: a JSON object.
fn own_response(status: StatusCode, body: String, to_head: bool, progress: Progress) -> Response<AnswerBody> {
    let body = Bytes::from(body);
    let length = HeaderValue::from(body.len());
    let body = if to_head { Bytes::new() } else { body };
    let mut response = Response::new(AnswerBody::own(body, progress));
    *response.status_mut() = status;
    response.headers_mut().append(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().append(CONTENT_LENGTH, length);
    response
}

fn expects_continue(head: &request::Parts) -> bool {
    head.headers.get(EXPECT).is_some_and(|expect| expect.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

const CAPTURE_LEVEL: &str = "x-threadtap-capture";
const ERROR_TOKEN: &str = "x-threadtap-error";
