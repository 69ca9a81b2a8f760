//! One attempt at one delivery, from the store to the verdict.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::delivery::backoff::retry_after;
use crate::delivery::client::{Client, Outcome};
use crate::event::{Event, Record};
use crate::sink::Sink;
use crate::sink::verdict::Verdict;
use crate::store::{ReadError, Store};

/// How an attempt went.
pub(super) enum Attempt {
    Answered {
        verdict: Verdict,
        retry_after: Option<Duration>,
        status: u16,
        answer: String,
    },
    /// The delivery is no longer in the store.
    Gone,
    NoAnswer(&'static str),
    StoreFailed(ReadError),
    /// The stored event cannot be read, or not be encoded.
    Unreadable,
}

/// Fetches a delivery's event, encodes and sends it, and has the answer judged.
pub(super) async fn attempt(
    store: Store,
    client: Client,
    sink: Arc<Sink>,
    delivery: u64,
    clock: Clock,
    max_retry_after: Duration,
) -> Attempt {
    let record = match store.records(vec![delivery]).await {
        Ok(records) => match records.into_iter().next() {
            Some(record) => record,
            None => return Attempt::Gone,
        },
        Err(error) => return Attempt::StoreFailed(error),
    };
    let Ok(event) = serde_json::from_str::<Event>(&record.body) else { return Attempt::Unreadable };
    let record = Record { event, first_message: record.first_message };
    // A payload an encoder stumbles over must not stop its lane.
    let Ok(Some(payload)) = catch_unwind(AssertUnwindSafe(|| sink.encode(std::slice::from_ref(&record))))
    else {
        return Attempt::Unreadable;
    };
    drop(record);
    match client.send(payload).await {
        Outcome::Answer { status, retry_after: wait, body } => Attempt::Answered {
            verdict: sink.judge(status, &body),
            retry_after: wait
                .as_ref()
                .and_then(|value| retry_after(value.to_str().ok()?, clock.now()))
                .map(|wait| wait.min(max_retry_after)),
            status: status.as_u16(),
            answer: format!("{status}: {}", String::from_utf8_lossy(&body)),
        },
        Outcome::None(failure) => Attempt::NoAnswer(failure),
    }
}
