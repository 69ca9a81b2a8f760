//! Requests for threadtap itself, below `/_threadtap/`: read, handed to whoever answers them, and never forwarded.

use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, request};
use http_body_util::{BodyExt, Limited};
use tokio::sync::{mpsc, oneshot};

use crate::head::RequestHead;
use crate::net::RequestBody;

/// A request for threadtap itself.
#[derive(Debug)]
pub struct OwnRequest {
    /// Its head.
    pub head: request::Parts,
    /// Its body, whole.
    pub body: Bytes,
    /// Where the answer goes.
    pub answer: oneshot::Sender<OwnAnswer>,
}

/// What is answered: a status and a JSON object.
#[derive(Debug)]
pub struct OwnAnswer {
    /// The status.
    pub status: StatusCode,
    /// The body.
    pub body: String,
}

/// Where requests for threadtap itself go. A full queue answers that nobody has time.
pub type OwnRequests = mpsc::Sender<OwnRequest>;

/// Paths of threadtap itself.
pub(super) fn is_own(path: &str) -> bool {
    path.starts_with("/_threadtap/")
}

/// Reads a request and waits for its answer, each for a bounded time.
pub(super) async fn answer(to: &OwnRequests, head: &RequestHead, body: RequestBody) -> OwnAnswer {
    let Some(head) = parts(head) else {
        return refusal(StatusCode::BAD_REQUEST, "the request cannot be understood");
    };
    let Ok(body) = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY_BYTES).collect()).await
    else {
        return refusal(StatusCode::REQUEST_TIMEOUT, "the body did not come in time");
    };
    let Ok(body) = body else {
        return refusal(StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than 64 KiB, or broke off");
    };
    let (answer, answered) = oneshot::channel();
    let request = OwnRequest { head, body: body.to_bytes(), answer };
    if to.try_send(request).is_ok()
        && let Ok(Ok(answer)) = tokio::time::timeout(ANSWER_TIMEOUT, answered).await
    {
        return answer;
    }
    refusal(StatusCode::SERVICE_UNAVAILABLE, "nobody has time to answer; try again")
}

/// The head as those read it who speak to other listeners as well.
fn parts(head: &RequestHead) -> Option<request::Parts> {
    let request = http::Request::builder().method(head.method.clone()).uri(head.path());
    let request = head.fields.iter().fold(request, |request, (name, value)| request.header(name, value));
    Some(request.body(()).ok()?.into_parts().0)
}

fn refusal(status: StatusCode, message: &str) -> OwnAnswer {
    let body = format!(
        r#"{{"error":{{"message":"threadtap: {message}","type":"threadtap_intake_error","param":null}}}}"#
    );
    OwnAnswer { status, body }
}

const MAX_BODY_BYTES: usize = 64 << 10;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
