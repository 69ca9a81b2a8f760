//! Requests for threadtap itself, below `/_threadtap/`. They are read and handed to their handler,
//! and are never forwarded.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, request};
use http_body_util::{BodyExt, Limited};
use threadtap_http::head::RequestHead;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::metrics::{AccessLabel, Metrics};
use crate::net::RequestBody;

/// A request for threadtap itself.
#[derive(Debug)]
pub struct LocalRequest {
    /// Its head.
    pub head: request::Parts,
    /// Its complete body.
    pub body: Bytes,
    /// Where to send the response.
    pub response: oneshot::Sender<LocalResponse>,
}

/// The response: a status and a JSON object.
#[derive(Debug)]
pub struct LocalResponse {
    /// The status.
    pub status: StatusCode,
    /// The body.
    pub body: String,
}

/// Decides at once, from the head, whether a request is accepted. If not, returns the response that
/// refuses it.
pub type Door = dyn Fn(&request::Parts) -> Result<(), LocalResponse> + Send + Sync;

/// The destination of requests for threadtap itself. A full queue means that threadtap is busy.
///
/// If the door refuses a request, its body is not read. A request refused for its key (401) is
/// delayed for a second, so that a connection can try one key per second. The number of delayed
/// requests is limited; beyond that, a request is told at once that there are too many. A request
/// with the right key is never delayed.
#[derive(Clone)]
pub struct LocalEndpoints {
    is_open: Arc<dyn Fn() -> bool + Send + Sync>,
    door: Arc<Door>,
    queue: mpsc::Sender<LocalRequest>,
    /// Limits how many requests with a wrong key are delayed.
    waiting: Arc<Semaphore>,
}

impl LocalEndpoints {
    /// Requests that `door` accepts go to `queue`, as long as `is_open` returns true.
    pub fn new(
        is_open: impl Fn() -> bool + Send + Sync + 'static,
        door: impl Fn(&request::Parts) -> Result<(), LocalResponse> + Send + Sync + 'static,
        queue: mpsc::Sender<LocalRequest>,
    ) -> Self {
        Self {
            is_open: Arc::new(is_open),
            door: Arc::new(door),
            queue,
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
        }
    }

    /// Whether requests are answered at all.
    pub(super) fn is_open(&self) -> bool {
        (self.is_open)()
    }

    async fn admit(&self, head: &request::Parts, metrics: &Metrics) -> Result<(), LocalResponse> {
        let Err(refused) = (self.door)(head) else { return Ok(()) };
        if refused.status == StatusCode::UNAUTHORIZED {
            let Ok(_place) = self.waiting.try_acquire() else {
                let label = AccessLabel { listener: "proxy", reason: "many_keys" };
                metrics.access_refused.get_or_create(&label).inc();
                return Err(refusal(StatusCode::TOO_MANY_REQUESTS, "too many requests have a wrong key"));
            };
            tokio::time::sleep(WRONG_KEY_WAIT).await;
        }
        Err(refused)
    }
}

impl fmt::Debug for LocalEndpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalEndpoints").finish_non_exhaustive()
    }
}

/// Whether `path` is one of threadtap's own.
pub(super) fn is_local(path: &str) -> bool {
    path.starts_with("/_threadtap/")
}

/// Reads a request and waits for its response, each with a time limit.
pub(super) async fn respond(
    to: &LocalEndpoints,
    head: &RequestHead,
    body: RequestBody,
    metrics: &Metrics,
) -> LocalResponse {
    let Some(head) = parts(head) else {
        return refusal(StatusCode::BAD_REQUEST, "the request cannot be read");
    };
    if let Err(refused) = to.admit(&head, metrics).await {
        return refused;
    }
    let Ok(body) = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY_BYTES).collect()).await
    else {
        return refusal(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time");
    };
    let Ok(body) = body else {
        return refusal(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 64 KiB, or incomplete");
    };
    let (response, answered) = oneshot::channel();
    let request = LocalRequest { head, body: body.to_bytes(), response };
    if to.queue.try_send(request).is_ok()
        && let Ok(Ok(response)) = tokio::time::timeout(ANSWER_TIMEOUT, answered).await
    {
        return response;
    }
    refusal(StatusCode::SERVICE_UNAVAILABLE, "threadtap is too busy; try again")
}

/// Converts the head to the type that handlers of other listeners also use.
fn parts(head: &RequestHead) -> Option<request::Parts> {
    let request = http::Request::builder().method(head.method.clone()).uri(head.path());
    let request = head.fields.iter().fold(request, |request, (name, value)| request.header(name, value));
    // On HTTP/2 the host is in the target.
    let request = match head.authority() {
        Some(host) => request.header("host", host),
        None => request,
    };
    Some(request.body(()).ok()?.into_parts().0)
}

fn refusal(status: StatusCode, message: &str) -> LocalResponse {
    let body = format!(
        r#"{{"error":{{"message":"threadtap: {message}","type":"threadtap_intake_error","param":null}}}}"#
    );
    LocalResponse { status, body }
}

const MAX_BODY_BYTES: usize = 64 << 10;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
const WRONG_KEY_WAIT: Duration = Duration::from_secs(1);
const MAX_WAITING: usize = 64;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
