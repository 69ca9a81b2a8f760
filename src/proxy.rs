//! Forwards each request to upstream and each response back, and changes nothing that matters.
//!
//! Only these things change: hop-by-hop fields and `x-threadtap-*` are removed, `Host` becomes the
//! upstream's, and messages are framed again. [`capture`](crate::capture) decides what is copied;
//! this module only attaches the tap. An upstream response is never replaced by one of our own,
//! whatever happens later, because SDKs would repeat the request. When upstream fails in the middle
//! of a body, the client's connection is aborted. It is never closed as if the response were
//! complete.
//!
//! Once a connection has taken a request, the request is not sent again, because nobody knows what
//! upstream did with it. The one exception is a GET or HEAD without a body, when upstream closed a
//! connection that had been used before.
//!
//! `docs/transparency.md` lists the guarantees, the test that proves each, and what cannot be kept.

mod body;
mod caller;
mod config;
mod connect;
mod connection;
mod error;
mod finish_after_disconnect;
mod frames;
mod headers;
mod local_endpoints;
mod pool;
mod room;
mod settings;
mod tunnel;
mod upstream;
mod upstream_body;

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode, Version};
use http_body::Body;
use prometheus_client::metrics::counter::Counter;
use thiserror::Error as ThisError;
use threadtap_core::dialect::Interest;
use threadtap_http::head::{Fields, RequestHead, ResponseHead, is};
use threadtap_http::http1::{self, Encoder, Parser, Settled, settle_response};
use tokio::sync::watch;

use self::body::{Linger, Progress, Upload};
use self::connect::Connector;
use self::connection::{Answered, Connection, Unanswered};
use self::error::{Error, Fault, Kind};
use self::finish_after_disconnect::FinishAfterDisconnect;
use self::headers::Hop;
use self::pool::Pool;
use self::room::Room;
use self::upstream_body::UpstreamBody;
use crate::capture::{Recorder, RequestTap, RequestTee, ResponseTee};
use crate::metrics::{KindLabel, Metrics, RESULTS, ResultLabel, result_index};
use crate::net::{self, Link, Request, Response, Takeover};

pub use self::body::ResponseBody;
pub use self::caller::CallerKey;
pub use self::config::Config;
#[cfg(any(test, fuzzing))]
pub use self::headers::assert_heads_are_sound;
pub use self::local_endpoints::{Door, LocalEndpoints, LocalRequest, LocalResponse};
pub use self::settings::Settings;
#[cfg(any(test, fuzzing))]
pub use self::upstream::assert_targets_are_kept;
pub use self::upstream::{ParseUpstreamError, Upstream};

/// Why a proxy cannot be created.
#[derive(Debug, ThisError)]
pub enum NewProxyError {
    /// The TLS library rejects its own defaults.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
}

/// Forwards requests to one upstream. Clones share its idle connections.
#[derive(Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
    pool: Pool,
}

impl Proxy {
    /// Creates a proxy. It does not connect before the first request. With `caller_key`, callers
    /// are told apart by their credentials; without it, credentials are not examined.
    ///
    /// # Errors
    ///
    /// If TLS cannot be set up. Missing root certificates are not an error here: they are reported
    /// to each request that needs them.
    pub fn new(
        config: Config,
        caller_key: watch::Receiver<Option<CallerKey>>,
        recorder: Recorder,
        metrics: &Metrics,
    ) -> Result<Self, NewProxyError> {
        let room = Arc::new(Room::new(config.max_connections, metrics));
        let connector = Connector::new(&config.upstream, config.connect_timeout, config.tcp.clone())
            .map_err(NewProxyError::Tls)?;
        let parser = Parser::new(config.max_headers, config.max_head_bytes);
        let finish_after_disconnect = FinishAfterDisconnect::new(config.finish_after_disconnect);
        let results = RESULTS.map(|result| metrics.exchanges.get_or_create_owned(&ResultLabel { result }));
        let pool = Pool::new(config.max_idle, config.idle_timeout, &room);
        let left_out = metrics.lines_left_out.get_or_create_owned(&KindLabel { kind: "malformed" });
        let metrics = metrics.clone();
        Ok(Self {
            shared: Arc::new(Shared {
                config,
                caller_key,
                connector,
                room,
                parser,
                recorder,
                metrics,
                finish_after_disconnect,
                results,
                left_out,
            }),
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
    type Body = ResponseBody;

    fn for_worker(&self) -> Self {
        let Shared { config, room, .. } = &*self.shared;
        let pool = Pool::new(config.max_idle, config.idle_timeout, room);
        Self { shared: Arc::clone(&self.shared), pool }
    }

    async fn handle(&self, request: Request, link: Arc<Link>) -> Response<ResponseBody> {
        let shared = &*self.shared;
        let progress = Progress::new(&shared.metrics.exchanges_in_progress);
        let to_head = request.head.method == Method::HEAD;
        if let Some(endpoints) = &shared.config.local_endpoints
            && local_endpoints::is_local(request.head.path())
            && endpoints.is_open()
        {
            let LocalResponse { status, body } =
                local_endpoints::respond(endpoints, &request.head, request.body, &shared.metrics).await;
            return local_response(status, body, to_head, progress);
        }
        match self.forward(request, &link).await {
            Ok(Forwarded { head, body, takeover }) => {
                shared.results[result_index(head.status)].inc();
                let reader = shared
                    .finish_after_disconnect
                    .as_ref()
                    .map(|finish_after_disconnect| finish_after_disconnect.reader(&link));
                Response { head, body: ResponseBody::upstream(body, reader, progress), takeover }
            }
            Err(error) => shared.error_response(&error, to_head, progress),
        }
    }
}

struct Shared {
    config: Config,
    caller_key: watch::Receiver<Option<CallerKey>>,
    connector: Connector,
    room: Arc<Room>,
    /// Parses response heads.
    parser: Parser,
    recorder: Recorder,
    metrics: Metrics,
    /// For responses whose client disconnects.
    finish_after_disconnect: Option<FinishAfterDisconnect>,
    /// The counters of [`RESULTS`], looked up once.
    results: [Counter; 6],
    /// Counts lines in response heads that are not header lines.
    left_out: Counter,
}

/// A response from upstream.
struct Forwarded {
    head: ResponseHead,
    body: ResponseTee<UpstreamBody>,
    /// Takes over the connection after a protocol switch.
    takeover: Option<Takeover>,
}

impl Proxy {
    async fn forward(&self, request: Request, link: &Arc<Link>) -> Result<Forwarded, Error> {
        let shared = &*self.shared;
        let config = &shared.config;
        let Request { mut head, body } = request;
        let version = head.version;
        let linger = Linger { bytes: config.linger_bytes, time: config.linger_timeout };
        let mut upload = Upload::new(body, (version != Version::HTTP_2).then_some(linger));
        if head.expects_continue() && !upload.is_end_stream() {
            upload.hold_back(config.continue_timeout);
        }
        if head.method == Method::CONNECT {
            return Err(Error::new(Kind::Connect));
        }
        // `host:port` has no path and must not be taken for one (RFC 9112 §3.2.3).
        if head.path().is_empty() && head.authority().is_none() {
            return Err(Error::new(Kind::ClientTarget));
        }
        if local_endpoints::is_local(head.path()) {
            return Err(Error::new(Kind::Reserved));
        }
        let interest = shared.interest(&head);
        let tap = (interest != Interest::None).then(|| {
            let tap = shared.recorder.tap_request(Arc::clone(config.upstream.name()), &head);
            if interest == Interest::Glance {
                return tap.glancing();
            }
            let caller = shared.caller_key.borrow().as_ref().and_then(|key| key.caller(&head.fields));
            match caller {
                Some(caller) => tap.with_caller(caller),
                None => tap,
            }
        });
        let hop = headers::hop(&head);
        shared.prepare(&mut head, hop)?;
        let Answered { response, connection, unsent } =
            self.exchange(&mut head, upload, tap.as_ref()).await?;
        let says_so = response.keeps_alive();
        let http1::Response { head: mut response, version: upstream_version, left_out } = response;
        if left_out > 0 {
            shared.left_out.inc_by(left_out as u64);
        }
        let Settled { framing, is_certain } = settle_response(&head.method, upstream_version, &mut response);
        let keeps_alive = says_so && is_certain;
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            if hop != Hop::WebSocket || unsent.is_some() {
                return Err(Error::new(Kind::UpstreamAnswer));
            }
            drop(tap.and_then(|tap| tap.tap_response(&response)));
            headers::to_client(&mut response, version);
            return Ok(Forwarded {
                head: response,
                body: ResponseTee::untapped(UpstreamBody::none()),
                takeover: Some(shared.takeover(connection, link)),
            });
        }
        let body = match unsent {
            None => UpstreamBody::new(framing, connection, keeps_alive.then(|| self.pool.clone())),
            Some(unsent) if unsent.body().get_ref().is_held_back() => {
                UpstreamBody::new(framing, connection, None)
            }
            Some(mut unsent) => {
                unsent.body_mut().get_mut().withdraw_invitation();
                UpstreamBody::with_upload(framing, connection, keeps_alive, unsent, link)
            }
        };
        let body = match tap.and_then(|tap| tap.tap_response(&response)) {
            Some(tap) => tap.body(body),
            None => ResponseTee::untapped(body),
        };
        headers::to_client(&mut response, version);
        Ok(Forwarded { head: response, body, takeover: None })
    }

    /// Sends a request to upstream and waits for the head of the response. If upstream closes a
    /// connection that was used before, a request that nobody can have acted on is sent again.
    async fn exchange(
        &self,
        head: &mut RequestHead,
        upload: Upload,
        tap: Option<&RequestTap>,
    ) -> Result<Answered, Error> {
        let is_empty = upload.is_end_stream();
        let repeatable = is_empty && matches!(head.method, Method::GET | Method::HEAD);
        let encoder = Encoder::of_request(&mut head.fields, is_empty);
        let encoder = encoder.map_err(|error| Error::of(Kind::ClientBody, error))?;
        let body = match tap {
            Some(tap) => tap.body(upload),
            None => RequestTee::untapped(upload),
        };
        let mut connection = self.connection().await?;
        connection.put(head);
        if !repeatable {
            // A response may take hours, and this is no longer needed.
            head.fields = Fields::default();
        }
        match connection.send(&self.shared.parser, body, encoder).await {
            Err(Unanswered { error, was_idle: true })
                if repeatable && error.kind() == Kind::UpstreamClosed =>
            {
                let body = RequestTee::untapped(Upload::empty());
                let mut connection = self.connection().await?;
                connection.put(head);
                connection.send(&self.shared.parser, body, Encoder::empty()).await
            }
            sent => sent,
        }
        .map_err(|unanswered| unanswered.error)
    }

    /// Returns an idle connection, or a new one as soon as there is room for it.
    async fn connection(&self) -> Result<Connection, Error> {
        match self.pool.take().await {
            Some(connection) => Ok(connection),
            None => {
                let taken = self.shared.room.take().await;
                let stream = self.shared.connector.connect(taken).await.map_err(Error::of_connecting)?;
                Ok(Connection::new(stream))
            }
        }
    }
}

impl Shared {
    /// Joins the connection to the client's connection, once the response head is written.
    fn takeover(&self, connection: Connection, link: &Arc<Link>) -> Takeover {
        let (metrics, link) = (self.metrics.clone(), Arc::clone(link));
        let progress = Progress::new(&metrics.exchanges_in_progress);
        let (upstream, input) = connection.into_parts();
        Box::new(move |client| _ = link.spawn(tunnel::run(client, upstream, input, metrics, progress)))
    }

    fn interest(&self, head: &RequestHead) -> Interest {
        match head.fields.get(CAPTURE_LEVEL) {
            Some(level) if is(level, "none") => Interest::None,
            _ => (self.config.interest)(&head.method, head.path()),
        }
    }

    /// Rewrites the head of a request into what upstream should see.
    fn prepare(&self, head: &mut RequestHead, hop: Hop) -> Result<(), Error> {
        let upstream = &self.config.upstream;
        let keeps_host = self.config.keep_client_host;
        // On HTTP/2, and with an absolute target, the host the client means is in the target.
        let client_host = head.authority().filter(|_| keeps_host).map(str::to_owned);
        let host = match &client_host {
            Some(host) => Some(&**host),
            None if keeps_host && head.fields.contains("host") => None,
            None => Some(upstream.host()),
        };
        headers::to_upstream(head, hop, host)?;
        head.target = upstream.target(std::mem::take(&mut head.target));
        Ok(())
    }

    /// The response for a client when upstream sent none. For a HEAD request it has no body,
    /// because hyper would send one over HTTP/2.
    fn error_response(&self, error: &Error, to_head: bool, progress: Progress) -> Response<ResponseBody> {
        let kind = error.kind();
        match kind.fault() {
            Fault::Client => {
                tracing::debug!(kind = kind.token(), causes = error.causes(), "a request was refused")
            }
            Fault::Internal | Fault::Upstream => {
                tracing::warn!(kind = kind.token(), causes = error.causes(), "no response from upstream");
            }
        }
        self.results[0].inc();
        self.metrics.upstream_errors.get_or_create(&KindLabel { kind: kind.token() }).inc();
        let mut response = local_response(kind.status(), error.body(), to_head, progress);
        response.head.fields.push(ERROR_TOKEN, kind.token());
        response
    }
}

/// A response from threadtap itself: a JSON object.
fn local_response(
    status: StatusCode,
    body: String,
    to_head: bool,
    progress: Progress,
) -> Response<ResponseBody> {
    let mut head = ResponseHead::new(status);
    head.fields.push("content-type", "application/json");
    head.fields.push("content-length", body.len().to_string());
    let body = if to_head { Bytes::new() } else { Bytes::from(body) };
    Response { head, body: ResponseBody::own(body, progress), takeover: None }
}

const CAPTURE_LEVEL: &str = "x-threadtap-capture";
const ERROR_TOKEN: &str = "x-threadtap-error";
