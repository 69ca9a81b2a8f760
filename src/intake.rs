//! What the app reports directly, besides its traffic: feedback on answers and sessions, and its
//! users.
//!
//! Two endpoints, on the proxy's listener below `/_threadtap/` and on the admin listener below
//! `/api/v1/`:
//!
//! | endpoint | responses |
//! |---|---|
//! | `POST feedback` | 200 recorded; 202 held until its record exists; 404 unknown id; 400 names the field |
//! | `POST users` | 200 recorded; 400 names the field |
//!
//! Both require `Content-Type: application/json` (else 415). On the proxy's listener they require
//! the key if one is set (else 401); without a key, requests from web pages are refused (403).
//! After a 2xx the data is written. After a 503 it is not; retry, with an `Idempotency-Key` to
//! count once.
//!
//! Held feedback is checked about every second. If there is no record after [`Config::hold`], the
//! feedback is dropped and counted.

mod request;
mod response;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, StatusCode, request::Parts};
use serde::{Deserialize, Serialize};
use threadtap_core::event::{self, Event, FeedbackTarget, SessionKey, UserIdentified, key_of};
use threadtap_core::settings::Secret;
use threadtap_core::sink::{self, Sink};
use threadtap_core::time::UnixMillis;
use tokio::sync::{Notify, watch};

use self::request::{Feedback, Profile};
use self::response::{refusal, success, unavailable};
use crate::admission::{Refusal, is_secret, refuse_web_pages};
use crate::clock::Clock;
use crate::metrics::{IntakeLabel, Metrics};
use crate::store::{Found, Held, Mention, Op, Store};
use crate::users::Users;

pub use self::response::Response;
pub use self::settings::Settings;

/// Settings of intake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Whether requests are answered on the proxy's listener too.
    pub on_proxy: bool,
    /// The required value of `x-threadtap-key` on the proxy's listener; `None` refuses only web
    /// pages.
    pub key: Option<Secret>,
    /// How long feedback is held while its record does not exist.
    pub hold: Duration,
    /// How much feedback may be held.
    pub max_held: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { on_proxy: true, key: None, hold: Duration::from_secs(24 * 3600), max_held: 10_000 }
    }
}

/// The listener on which a request arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// The admin listener, which has admitted the request already.
    Admin,
    /// The proxy's listener.
    Proxy {
        /// Whether it listens on a loopback address.
        on_loopback: bool,
    },
}

/// Accepts what the app reports. Clones share their state.
#[derive(Clone)]
pub struct Intake {
    shared: Arc<Shared>,
}

struct Shared {
    config: watch::Receiver<Config>,
    store: Store,
    users: Users,
    sinks: watch::Receiver<Vec<Arc<Sink>>>,
    metrics: Metrics,
    clock: Clock,
    /// Notified when something is held.
    held: Notify,
}

impl Intake {
    /// Creates it from its parts.
    #[must_use]
    pub fn new(
        config: watch::Receiver<Config>,
        store: Store,
        users: Users,
        sinks: watch::Receiver<Vec<Arc<Sink>>>,
        metrics: Metrics,
        clock: Clock,
    ) -> Self {
        let held = Notify::new();
        Self { shared: Arc::new(Shared { config, store, users, sinks, metrics, clock, held }) }
    }

    /// Whether requests are answered on the proxy's listener.
    #[must_use]
    pub fn is_on_proxy(&self) -> bool {
        self.shared.config.borrow().on_proxy
    }

    /// Checks whether a request may be answered. Reads only its head, and does not block.
    ///
    /// # Errors
    /// When the request is refused: the response to send.
    pub fn admit(&self, listener: Listener, head: &Parts) -> Result<(), Response> {
        let Some(endpoint) = endpoint(head) else {
            return Err(refusal(StatusCode::NOT_FOUND, "use POST feedback or POST users", None));
        };
        let admitted = self.shared.admit(listener, head);
        if admitted.is_err() {
            self.shared.count(endpoint, "refused");
        }
        admitted
    }

    /// Answers a request that was admitted.
    pub async fn answer(&self, head: &Parts, body: &[u8]) -> Response {
        let shared = &*self.shared;
        let endpoint = endpoint(head).unwrap_or("users");
        let response = match endpoint {
            "feedback" => shared.feedback(&head.headers, body).await,
            _ => shared.profile(&head.headers, body).await,
        };
        let outcome = match response.status {
            StatusCode::OK => "recorded",
            StatusCode::ACCEPTED => "held",
            StatusCode::NOT_FOUND => "unknown",
            StatusCode::SERVICE_UNAVAILABLE => "unavailable",
            _ => "refused",
        };
        shared.count(endpoint, outcome);
        response
    }

    /// Pairs held feedback with records as they arrive. Runs until dropped.
    ///
    /// # Cancel safety
    /// Held feedback stays in the store.
    pub async fn resolve(&self) {
        loop {
            if self.shared.resolve_held().await {
                tokio::time::sleep(LOOK_AGAIN).await;
            } else {
                self.shared.held.notified().await;
            }
        }
    }
}

impl std::fmt::Debug for Intake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Intake").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl Shared {
    fn admit(&self, listener: Listener, head: &Parts) -> Result<(), Response> {
        if let Listener::Proxy { on_loopback } = listener {
            self.knows(&head.headers, on_loopback).map_err(|refused| {
                refused.count(&self.metrics, "proxy");
                refusal(refused.status(), &refused.to_string(), None)
            })?;
        }
        if head.method != Method::POST {
            return Err(refusal(StatusCode::METHOD_NOT_ALLOWED, "use POST", None));
        }
        let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            let needed = "set the header Content-Type to application/json";
            return Err(refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, needed, None));
        }
        Ok(())
    }

    /// Checks whether a request to the proxy's listener is allowed.
    fn knows(&self, headers: &HeaderMap, on_loopback: bool) -> Result<(), Refusal> {
        match &self.config.borrow().key {
            None => refuse_web_pages(headers, on_loopback),
            Some(key) => {
                let given = headers.get(KEY).map(|given| given.as_bytes()).unwrap_or_default();
                if is_secret(given, key) { Ok(()) } else { Err(Refusal::Key) }
            }
        }
    }

    async fn feedback(&self, headers: &HeaderMap, body: &[u8]) -> Response {
        let mut said = match Feedback::parse(body) {
            Ok(said) => said,
            Err(invalid) => return invalid.into(),
        };
        said.app = said.app.or_else(|| header(headers, APP));
        let Some(reference) = said.reference().map(str::to_owned) else {
            return refusal(StatusCode::BAD_REQUEST, "nothing is named", None);
        };
        let at = self.clock.now();
        let key = match header(headers, IDEMPOTENCY_KEY) {
            Some(key) => key_of(&["feedback", &key]),
            None => key_of(&["feedback", &String::from_utf8_lossy(body), &at.0.to_string()]),
        };
        let waiting = Waiting { key, at, said };
        // What a run reported just now may not be in the store yet.
        for patience in [GATHERED, Duration::ZERO] {
            let find = self.store.find(reference.clone(), waiting.said.thread.clone());
            let Ok(Ok(found)) = tokio::time::timeout(STORE_PATIENCE, find).await else {
                return unavailable();
            };
            let (ops, status) = match found {
                Found::Record(mention) => (self.event(&waiting, &mention), StatusCode::OK),
                Found::Pending => match self.store.held_count().await {
                    Ok(count) if count < self.config.borrow().max_held => {
                        let body = serde_json::to_string(&waiting).expect("feedback has finite numbers only");
                        (vec![Op::Hold { reference, body }], StatusCode::ACCEPTED)
                    }
                    Ok(_) | Err(_) => return unavailable(),
                },
                Found::Elsewhere => {
                    let reason = format!("{reference} is not known to belong to that thread");
                    return refusal(StatusCode::NOT_FOUND, &reason, Some("thread_id"));
                }
                Found::Unknown if patience.is_zero() => {
                    let reason = format!("no record or pending run mentions {reference}");
                    return refusal(StatusCode::NOT_FOUND, &reason, None);
                }
                Found::Unknown => {
                    tokio::time::sleep(patience).await;
                    continue;
                }
            };
            if !self.write(ops).await {
                return unavailable();
            }
            if status == StatusCode::ACCEPTED {
                self.held.notify_one();
                return success(status, "held", &waiting.key);
            }
            return success(status, "recorded", &waiting.key);
        }
        unavailable()
    }

    async fn profile(&self, headers: &HeaderMap, body: &[u8]) -> Response {
        let Profile { id, user, app } = match Profile::parse(body) {
            Ok(profile) => profile,
            Err(invalid) => return invalid.into(),
        };
        let at = self.clock.now();
        let known = self.users.learn(&user);
        let body = serde_json::to_string(&known.user).expect("a user has string keys");
        let key = key_of(&["user_identified", &id, &body, &at.0.to_string()]);
        // Write it even if nothing changed: an earlier attempt may be learnt but not written.
        let mut ops = vec![Op::User { id, body }];
        let event = Event::UserIdentified(Box::new(UserIdentified {
            key: key.clone(),
            user: known.user,
            at,
            session: None,
            conversation: None,
            app: app.or_else(|| header(headers, APP)),
        }));
        if known.changed {
            ops.push(Op::event(&event, at, self.due(&event)));
        }
        if self.write(ops).await { success(StatusCode::OK, "recorded", &key) } else { unavailable() }
    }

    /// Checks all held feedback. Returns whether any remains.
    async fn resolve_held(&self) -> bool {
        let mut after = 0;
        let mut remains = false;
        loop {
            let Ok(page) = self.store.held(after, PAGE).await else { return true };
            let Some(last) = page.last() else { return remains };
            after = last.id;
            let mut ops = Vec::new();
            for held in page {
                match self.settle(&held).await {
                    Some(settled) => ops.extend(settled.into_iter().chain([Op::Release { id: held.id }])),
                    None => remains = true,
                }
            }
            // This has no timeout: a retry would be another batch.
            if !ops.is_empty() && self.store.apply(ops).await.is_err() {
                return true;
            }
        }
    }

    /// The operations that settle held feedback; `None` if it must wait longer.
    async fn settle(&self, held: &Held) -> Option<Vec<Op>> {
        let Ok(waiting) = serde_json::from_str::<Waiting>(&held.body) else {
            tracing::error!("held feedback cannot be read; it is dropped");
            self.count("feedback", "expired");
            return Some(Vec::new());
        };
        let mention = self.store.mention(held.reference.clone(), waiting.said.thread.clone()).await.ok()?;
        if let Some(mention) = mention {
            self.count("feedback", "recorded");
            return Some(self.event(&waiting, &mention));
        }
        if self.clock.now().since(held.at) < self.config.borrow().hold {
            return None;
        }
        tracing::warn!("dropped held feedback: its record never came");
        self.count("feedback", "expired");
        Some(Vec::new())
    }

    /// Creates the event of feedback whose record is known.
    fn event(&self, waiting: &Waiting, mention: &Mention) -> Vec<Op> {
        let Waiting { key, at, said } = waiting;
        let Ok(Event::Interaction(record)) = serde_json::from_str(&mention.body) else {
            tracing::error!("the record feedback is about cannot be read; the feedback is dropped");
            self.count("feedback", "expired");
            return Vec::new();
        };
        let target = match mention.message.filter(|_| said.is_of_a_message()) {
            Some(number) => FeedbackTarget::Message { number, id: said.message.clone() },
            None => FeedbackTarget::Session,
        };
        let event = Event::Feedback(Box::new(event::Feedback {
            key: key.clone(),
            rating: said.rating,
            comment: said.comment.clone(),
            score: said.score,
            target,
            session: SessionKey::of(&record.attribution, &record.conversation),
            run: said.is_of_a_message().then_some(record.run),
            conversation: Some(record.conversation),
            at: *at,
            app: said.app.clone().or(record.attribution.app),
        }));
        vec![Op::event(&event, self.clock.now(), self.due(&event))]
    }

    /// Writes, and returns whether that succeeded.
    async fn write(&self, ops: Vec<Op>) -> bool {
        matches!(tokio::time::timeout(STORE_PATIENCE, self.store.apply(ops)).await, Ok(Ok(())))
    }

    fn due(&self, event: &Event) -> Vec<Arc<str>> {
        sink::accepting(&self.sinks.borrow(), event)
    }

    fn count(&self, endpoint: &'static str, outcome: &'static str) {
        self.metrics.intake.get_or_create(&IntakeLabel { endpoint, outcome }).inc();
    }
}

/// Feedback that waits for its record. It is stored, so fields are never renamed.
#[derive(Debug, Serialize, Deserialize)]
struct Waiting {
    key: String,
    at: UnixMillis,
    said: Feedback,
}

/// The endpoint that a path ends with.
fn endpoint(head: &Parts) -> Option<&'static str> {
    match head.uri.path().rsplit('/').next()? {
        "feedback" => Some("feedback"),
        "users" => Some("users"),
        _ => None,
    }
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().filter(|text| !text.is_empty()).map(str::to_owned)
}

const APP: &str = "x-threadtap-app";
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const KEY: &str = "x-threadtap-key";
/// The longest time that the app waits for the store.
const STORE_PATIENCE: Duration = Duration::from_secs(3);
/// After this time the pipeline has handed over what it gathered.
const GATHERED: Duration = Duration::from_millis(250);
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const PAGE: usize = 256;
