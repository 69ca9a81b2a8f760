//! The operator's listener.
//!
//! | path | what |
//! |---|---|
//! | `GET /healthz` | 200 while the process lives |
//! | `GET /readyz` | 200 while requests are accepted; 503 before and while draining |
//! | `GET /metrics` | Prometheus text |
//! | `GET /api/v1/interactions?limit=&before=` | records, newest first |
//! | `GET /api/v1/deliveries` | waiting deliveries and dead letters, by sink |
//! | `POST /api/v1/feedback`, `/api/v1/users` | what the app reports; see [`intake`](crate::intake) |
//! | `GET /api/v1/status` | the state of the instance and its store |
//! | `GET /api/v1/dead-letters?sink=&after=&events=`, `/dead-letters/{id}` | dead letters |
//! | `POST /api/v1/dead-letters/retry`, `/drop` | `"all"`, `{"ids":[…]}` or `{"sink":"…"}` |
//! | `GET /api/v1/export?since=&until=&after_at=&after_id=` | records of a period, oldest first |
//! | `POST /api/v1/resend` | `{"sink":…,"since":…,"until":…,"after":…}`: queues a page of records again |
//! | `POST /api/v1/forget` | `{"user":…}` or `{"conversation":…}` |
//!
//! The first three paths never need a token and show no content, but web pages may not read the
//! metrics. The API shows content. Without a token it responds only on a loopback address, and only
//! to requests that name a loopback address and do not come from a web page.

mod operations;
mod server;
mod service;

use std::future::Future;
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
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use threadtap_core::settings::Secret;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::admission::{Refusal, is_secret, names_loopback, refuse_web_pages};
use crate::intake::{Intake, Listener, Response as IntakeResponse};
use crate::metrics::Metrics;
use crate::operations::Operations;

pub use self::server::Limits;
pub use self::service::Service;

/// Settings of the admin listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The required token in `Authorization: Bearer …` for the API. `None` admits only loopback.
    pub token: Option<Secret>,
}

/// Whether requests are accepted. Clones share the state.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicU8>);

impl Readiness {
    /// Everything is up.
    pub fn ready(&self) {
        self.0.store(READY, Ordering::Relaxed);
    }

    /// The process is about to stop.
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

/// The parts that the admin listener uses.
pub struct Ports {
    /// Who may use it.
    pub config: watch::Receiver<Config>,
    /// The limits on its clients.
    pub limits: Limits,
    /// What `/metrics` shows.
    pub registry: Registry,
    /// Where refusals are counted.
    pub metrics: Metrics,
    /// What `/readyz` says.
    pub readiness: Readiness,
    /// What the API does.
    pub operations: Operations,
    /// Accepts feedback and users.
    pub intake: Intake,
}

/// Serves until `shutdown` resolves and all started responses are sent.
///
/// # Errors
/// When the listener has no address.
async fn serve(
    listener: TcpListener,
    ports: Ports,
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let Ports { config, limits, registry, metrics, readiness, operations, intake } = ports;
    let loopback = listener.local_addr()?.ip().is_loopback();
    let guard = Arc::new(Guard { config, loopback, metrics: metrics.clone() });
    let api = Router::new()
        .route("/interactions", get(interactions))
        .route("/deliveries", get(deliveries))
        .merge(operations::routes())
        .with_state(operations)
        .merge(Router::new().route("/feedback", post(told)).route("/users", post(told)).with_state(intake))
        .layer(from_fn_with_state(Arc::clone(&guard), admit));
    let registry = Arc::new(registry);
    let router = Router::new()
        .route("/metrics", get(move || async move { shown(&registry) }))
        .layer(from_fn_with_state(guard, admit_no_page))
        .route("/", get(|| async { INDEX }))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(move || async move { readiness.answer() }))
        .nest("/api/v1", api);
    server::serve(listener, router, limits, &metrics, shutdown).await;
    Ok(())
}

/// Who may use the API.
struct Guard {
    config: watch::Receiver<Config>,
    loopback: bool,
    metrics: Metrics,
}

impl Guard {
    fn admits(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        match &self.config.borrow().token {
            Some(token) => {
                let given = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
                let same = given.is_some_and(|given| is_secret(given.as_bytes(), token));
                if same { Ok(()) } else { Err(Refusal::Token) }
            }
            None if !self.loopback => Err(Refusal::NoToken),
            None if text(header::HOST).is_some_and(names_loopback) => refuse_web_pages(headers, true),
            None => Err(Refusal::Host),
        }
    }

    fn refuse(&self, refusal: Refusal) -> Response {
        refusal.count(&self.metrics, "admin");
        (refusal.status(), format!("{refusal}\n")).into_response()
    }
}

async fn admit(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    match guard.admits(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => guard.refuse(refusal),
    }
}

/// Keeps web pages from reading what needs no token.
async fn admit_no_page(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    match refuse_web_pages(request.headers(), guard.loopback) {
        Ok(()) => next.run(request).await,
        Err(refusal) => guard.refuse(refusal),
    }
}

fn shown(registry: &Registry) -> Response {
    let mut text = String::new();
    match encode(&mut text, registry) {
        Ok(()) => ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// A page of records: `limit` (1 to 500), and `before` from the previous page.
#[derive(Debug, Deserialize)]
struct Page {
    #[serde(default = "default_limit")]
    limit: usize,
    before: Option<u64>,
}

/// Records as stored JSON. Parsed JSON would take many times as much memory.
#[derive(Serialize)]
struct Records {
    data: Vec<Box<RawValue>>,
    before: Option<u64>,
}

fn default_limit() -> usize {
    50
}

async fn interactions(State(operations): State<Operations>, Query(page): Query<Page>) -> Response {
    let Ok(rows) = operations.store().interactions(page.limit.clamp(1, MAX_PAGE), page.before).await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "cannot read the store\n").into_response();
    };
    let before = rows.last().map(|row| row.id);
    let data: Vec<Box<RawValue>> =
        rows.into_iter().filter_map(|row| RawValue::from_string(row.body).ok()).collect();
    Json(Records { data, before }).into_response()
}

async fn deliveries(State(operations): State<Operations>) -> Response {
    let Ok(backlog) = operations.store().backlog().await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "cannot read the store\n").into_response();
    };
    let sinks = backlog.sinks.iter().map(|(sink, waiting)| {
        json!({ "sink": sink, "waiting": waiting.deliveries, "oldest_at": waiting.oldest, "dead_letters": waiting.dead_letters })
    });
    Json(json!({ "data": sinks.collect::<Vec<_>>() })).into_response()
}

/// Handles what the app reports.
async fn told(State(intake): State<Intake>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let IntakeResponse { status, body } = match intake.admit(Listener::Admin, &head) {
        Err(refused) => refused,
        // The whole body has been read already.
        Ok(()) => match axum::body::to_bytes(body, MAX_TOLD_BYTES).await {
            Ok(body) => intake.answer(&head, &body).await,
            Err(_) => {
                return (StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 64 KiB\n").into_response();
            }
        },
    };
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
        let (_, config) = watch::channel(Config { token: token.map(Secret::from) });
        let guard = Guard { config, loopback, metrics: Metrics::new().0 };
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect();
        let status = guard.admits(&headers).map_or_else(|refusal| refusal.status().as_u16(), |()| 200);
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
        check(None, true, &[("host", "localhost"), ("origin", "http://evil.example")], 403);
        check(None, false, &[("host", "127.0.0.1:9090")], 403);
        check(Some("secret"), false, &[("authorization", "Bearer secret")], 200);
        check(Some("secret"), true, &[("authorization", "Bearer wrong"), ("host", "localhost")], 401);
        check(Some("secret"), true, &[("host", "localhost")], 401);
    }
}
