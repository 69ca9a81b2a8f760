//! The operator's listener.
//!
//! | path | what |
//! |---|---|
//! | `GET /healthz` | 200 while the process lives |
//! | `GET /readyz` | 200 while requests are accepted; 503 before and while draining |
//! | `GET /metrics` | Prometheus text |
//! | `GET /api/v1/interactions?limit=&before=` | records, newest first |
//! | `GET /api/v1/deliveries` | what waits and what was given up, by sink |
//! | `POST /api/v1/feedback`, `/api/v1/users` | what the app says itself; see [`intake`](crate::intake) |
//! | `GET /api/v1/status` | how the instance and its store are |
//! | `GET /api/v1/dead-letters?sink=&after=&events=`, `/dead-letters/{id}` | what was given up |
//! | `POST /api/v1/dead-letters/retry`, `/drop` | `"all"`, `{"ids":[…]}` or `{"sink":"…"}` |
//! | `GET /api/v1/export?since=&until=&after_at=&after_id=` | records of a period, oldest first |
//! | `POST /api/v1/resend` | `{"sink":…,"since":…,"until":…,"after":…}`: makes a page of records due once more |
//! | `POST /api/v1/forget` | `{"user":…}` or `{"conversation":…}` |
//!
//! The first three never need a token and hold no content. The API does hold content: without a token it answers only on a
//! loopback address, and only to requests that name one, so that a web page cannot reach it through a name of its own.

mod operations;

use std::future::{Future, IntoFuture};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::intake::{Answer, Intake, Listener};
use crate::operations::Operations;

/// Settings of the admin listener.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// What `Authorization: Bearer …` must carry to use the API; none admits loopback only.
    pub token: Option<SecretString>,
}

/// Whether requests are accepted. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicU8>);

impl Readiness {
    /// Everything is up.
    pub fn ready(&self) {
        self.0.store(READY, Ordering::Relaxed);
    }

    /// The process is about to end.
    pub fn draining(&self) {
        self.0.store(DRAINING, Ordering::Relaxed);
    }

    fn answer(&self) -> (StatusCode, &'static str) {
        match self.0.load(Ordering::Relaxed) {
            READY => (StatusCode::OK, "ready\n"),
            DRAINING => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        }
    }
}

/// Serves until `shutdown` resolves.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    config: watch::Receiver<Config>,
    registry: Registry,
    readiness: Readiness,
    operations: Operations,
    intake: Intake,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let address = listener.local_addr()?;
    let guard = Guard { config, loopback: address.ip().is_loopback() };
    let api = Router::new()
        .route("/interactions", get(interactions))
        .route("/deliveries", get(deliveries))
        .merge(operations::routes())
        .with_state(operations)
        .merge(Router::new().route("/feedback", post(told)).route("/users", post(told)).with_state(intake))
        .layer(from_fn_with_state(Arc::new(guard), admit));
    let registry = Arc::new(registry);
    let router = Router::new()
        .route("/", get(|| async { INDEX }))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(move || async move { readiness.answer() }))
        .route("/metrics", get(move || async move { metrics(&registry) }))
        .nest("/api/v1", api);
    axum::serve(listener, router).with_graceful_shutdown(shutdown).into_future().await
}

/// Who may use the API.
struct Guard {
    config: watch::Receiver<Config>,
    loopback: bool,
}

impl Guard {
    fn admits(&self, headers: &HeaderMap) -> Result<(), (StatusCode, &'static str)> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        match &self.config.borrow().token {
            Some(token) => {
                let given = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
                // Hashes are compared, so that the time it takes says nothing about the token.
                let same = given.is_some_and(|given| {
                    Sha256::digest(given.as_bytes()) == Sha256::digest(token.expose_secret().as_bytes())
                });
                if same { Ok(()) } else { Err((StatusCode::UNAUTHORIZED, "a bearer token is needed\n")) }
            }
            None if !self.loopback => Err((
                StatusCode::FORBIDDEN,
                "set admin.token to use the API on an address that is not loopback\n",
            )),
            None if text(header::HOST).is_some_and(names_loopback) => Ok(()),
            None => Err((StatusCode::FORBIDDEN, "the Host header must name a loopback address\n")),
        }
    }
}

fn names_loopback(host: &str) -> bool {
    let name = host.parse::<SocketAddr>().map(|address| address.ip().to_string());
    let name = name.unwrap_or_else(|_| host.rsplit_once(':').map_or(host, |(name, _)| name).to_owned());
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

async fn admit(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    match guard.admits(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

fn metrics(registry: &Registry) -> Response {
    let mut text = String::new();
    match encode(&mut text, registry) {
        Ok(()) => ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// A page of records: `limit` (1 to 500), and `before` from the page before.
#[derive(Debug, Deserialize)]
struct Page {
    #[serde(default = "default_limit")]
    limit: usize,
    before: Option<u64>,
}

fn default_limit() -> usize {
    50
}

async fn interactions(State(operations): State<Operations>, Query(page): Query<Page>) -> Response {
    let Ok(rows) = operations.store().interactions(page.limit.clamp(1, MAX_PAGE), page.before).await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "the store cannot be read\n").into_response();
    };
    let before = rows.last().map(|row| row.id);
    let data: Vec<Box<RawValue>> =
        rows.into_iter().filter_map(|row| RawValue::from_string(row.body).ok()).collect();
    Json(json!({ "data": data, "before": before })).into_response()
}

async fn deliveries(State(operations): State<Operations>) -> Response {
    let Ok(backlog) = operations.store().backlog().await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "the store cannot be read\n").into_response();
    };
    let sinks = backlog.sinks.iter().map(|(sink, waiting)| {
        json!({ "sink": sink, "waiting": waiting.deliveries, "oldest_at": waiting.oldest, "dead_letters": waiting.dead_letters })
    });
    Json(json!({ "data": sinks.collect::<Vec<_>>() })).into_response()
}

/// What the app says itself.
async fn told(State(intake): State<Intake>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, MAX_TOLD_BYTES).await else {
        return (StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than 64 KiB\n").into_response();
    };
    let Answer { status, body } = intake.answer(Listener::Admin, &head, &body).await;
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

const MAX_TOLD_BYTES: usize = 64 << 10;
const READY: u8 = 1;
const DRAINING: u8 = 2;
const MAX_PAGE: usize = 500;
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const INDEX: &str = "threadtap\n\n/healthz\n/readyz\n/metrics\n/api/v1/interactions?limit=50\n/api/v1/deliveries\n/api/v1/status\n/api/v1/dead-letters\n";

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn check(token: Option<&str>, loopback: bool, headers: &[(&'static str, &'static str)], expected: u16) {
        let (_, config) = watch::channel(Config { token: token.map(SecretString::from) });
        let guard = Guard { config, loopback };
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect();
        let status = guard.admits(&headers).map_or_else(|(status, _)| status.as_u16(), |()| 200);
        assert_eq!(status, expected, "{token:?} {loopback} {headers:?}");
    }

    #[test]
    fn the_api_is_for_loopback_or_for_who_has_the_token() {
        check(None, true, &[("host", "127.0.0.1:9090")], 200);
        check(None, true, &[("host", "localhost:9090")], 200);
        check(None, true, &[("host", "[::1]:9090")], 200);
        check(None, true, &[("host", "localhost")], 200);
        check(None, true, &[("host", "evil.example:9090")], 403);
        check(None, true, &[], 403);
        check(None, false, &[("host", "127.0.0.1:9090")], 403);
        check(Some("secret"), false, &[("authorization", "Bearer secret")], 200);
        check(Some("secret"), true, &[("authorization", "Bearer wrong"), ("host", "localhost")], 401);
        check(Some("secret"), true, &[("host", "localhost")], 401);
    }
}
