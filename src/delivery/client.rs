//! The HTTP client: one attempt at a time, with an end in any case.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use threadtap_core::payload::Payload;

/// Sends payloads to one sink. Cloning shares the connections. Follows no redirect.
#[derive(Clone, Debug)]
pub(super) struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    timeout: Duration,
}

/// What came back.
#[derive(Debug)]
pub(super) enum Outcome {
    Answer {
        status: StatusCode,
        retry_after: Option<HeaderValue>,
        /// Its beginning.
        body: Bytes,
    },
    /// There is no status to go by; why, in a word.
    None(&'static str),
}

impl Client {
    pub(super) fn new(connector: Connector, timeout: Duration, idle_connections: u32) -> Self {
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(idle_connections as usize)
            .timer(TokioTimer::new())
            // A request that is given up ends an HTTP/1 connection. An HTTP/2 connection outlives it: without a sign of life it
            // would be used on and on after its peer had vanished. This way it ends within an attempt.
            .http2_keep_alive_interval(timeout / 3)
            .http2_keep_alive_timeout(timeout / 3)
            // A backend may send what it likes: what is taken in of it is bounded by these.
            .http1_max_buf_size(MAX_HEAD_BYTES)
            .http2_max_header_list_size(MAX_HEAD_BYTES as u32)
            .http2_initial_stream_window_size(MAX_ANSWER_BYTES as u32)
            .http2_initial_connection_window_size(4 * MAX_ANSWER_BYTES as u32)
            .build(connector.0);
        Self { http, timeout }
    }

    /// Sends a payload and reads the beginning of the answer.
    pub(super) async fn send(&self, payload: Payload) -> Outcome {
        let mut request = Request::post(payload.uri);
        if let Some(headers) = request.headers_mut() {
            *headers = payload.headers;
            headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
        }
        let Ok(request) = request.body(Full::new(payload.body)) else { return Outcome::None("bad_request") };
        // The head counts even when the rest of the answer never comes.
        let mut head = None;
        let mut body = BytesMut::new();
        let attempt = async {
            let response = self.http.request(request).await.map_err(|error| {
                tracing::debug!(error = %Chain(&error), "a delivery attempt got no response");
                if error.is_connect() { "connect" } else { "broken_off" }
            })?;
            let (parts, incoming) = response.into_parts();
            head = Some((parts.status, parts.headers.get(RETRY_AFTER).cloned()));
            read_beginning(incoming, &mut body).await;
            Ok(())
        };
        let failure = match tokio::time::timeout(self.timeout, attempt).await {
            Ok(Ok(())) => "broken_off",
            Ok(Err(failure)) => failure,
            Err(_) => "timeout",
        };
        match head {
            Some((status, retry_after)) => Outcome::Answer { status, retry_after, body: body.freeze() },
            None => Outcome::None(failure),
        }
    }
}

async fn read_beginning(mut incoming: Incoming, body: &mut BytesMut) {
    while body.len() < MAX_ANSWER_BYTES
        && let Some(Ok(frame)) = incoming.frame().await
    {
        if let Some(data) = frame.data_ref() {
            body.extend_from_slice(&data[..data.len().min(MAX_ANSWER_BYTES - body.len())]);
        }
    }
}

/// Opens connections; made once, because reading the machine's certificate roots takes time.
#[derive(Clone, Debug)]
pub(super) struct Connector(HttpsConnector<HttpConnector>);

impl Connector {
    pub(super) fn new() -> Self {
        Self(https_or_http())
    }
}

fn https_or_http() -> HttpsConnector<HttpConnector> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    let provider = rustls::crypto::ring::default_provider();
    match HttpsConnectorBuilder::new().with_provider_and_native_roots(provider.clone()) {
        Ok(tls) => tls.https_or_http().enable_all_versions().wrap_connector(http),
        Err(error) => {
            // A machine without roots can still reach a backend over http.
            tracing::warn!(%error, "this machine has no root certificates; https backends cannot be reached");
            let tls = ClientConfig::builder_with_provider(provider.into())
                .with_safe_default_protocol_versions()
                .expect("ring speaks the default versions")
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth();
            HttpsConnectorBuilder::new()
                .with_tls_config(tls)
                .https_or_http()
                .enable_all_versions()
                .wrap_connector(http)
        }
    }
}

/// An error with its causes: hyper's own text says little.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

const AGENT: &str = concat!("threadtap/", env!("CARGO_PKG_VERSION"));
const IDLE: Duration = Duration::from_secs(60);
/// The head of an answer; a longer one is taken for none.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// What a verdict may need to see of an answer.
const MAX_ANSWER_BYTES: usize = 64 << 10;
