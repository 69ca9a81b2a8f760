//! One attempt at some deliveries of a lane, from the store to the verdict.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use threadtap_core::event::{Event, Record};
use threadtap_core::payload::Payload;
use threadtap_core::sink::Sink;
use threadtap_core::sink::verdict::Verdict;

use crate::clock::Clock;
use crate::delivery::backoff::retry_after;
use crate::delivery::batch::Load;
use crate::delivery::budget::{Desk, Share};
use crate::delivery::client::{Client, Outcome};
use crate::store::{DueRecord, DueRecords, ReadError, Store};

/// How an attempt went, and what took part in it. What is named nowhere was left for the next one.
pub(super) struct Attempt {
    /// Deliveries that are no longer in the store.
    pub(super) gone: Vec<u64>,
    /// Deliveries whose stored event cannot be read.
    pub(super) unreadable: Vec<u64>,
    /// Those that went together, in their order.
    pub(super) sent: Vec<u64>,
    pub(super) ending: Ending,
}

/// What became of those that went together.
pub(super) enum Ending {
    Answered {
        verdict: Verdict,
        retry_after: Option<Duration>,
        status: u16,
        answer: String,
        /// How many values had been made to fit.
        cuts: u64,
    },
    NoAnswer(&'static str),
    /// They cannot be encoded together.
    NotEncoded,
    /// There were none.
    Nothing,
    StoreFailed(ReadError),
}

/// What an attempt needs beside deliveries.
#[derive(Clone)]
pub(super) struct Means {
    pub(super) store: Store,
    pub(super) client: Client,
    pub(super) share: Share,
    pub(super) sink: Arc<Sink>,
    pub(super) clock: Clock,
    pub(super) max_retry_after: Duration,
}

/// Fetches the events of deliveries, encodes and sends as many as may go together, from the first, and has the answer judged.
pub(super) async fn attempt(means: Means, deliveries: Vec<u64>) -> Attempt {
    let Means { store, client, share, sink, clock, max_retry_after } = means;
    let mut limit_bytes = share.batch_bytes();
    let mut hold = share.take(limit_bytes).await;
    let mut desk = Desk::unused();
    let found = loop {
        match store.records(deliveries.clone(), limit_bytes).await {
            Ok(DueRecords::Read(found)) => break found,
            Ok(DueRecords::TooLong { bytes }) => {
                limit_bytes = bytes;
                // What is held while more is waited for could be what another one waits for.
                drop((hold, desk));
                hold = share.take(bytes).await;
                desk = share.desk().await;
            }
            Err(error) => return Attempt::of_none(Ending::StoreFailed(error)),
        }
    };
    let (mut attempt, payload) = if found.iter().map(|record| record.body.len()).sum::<usize>() <= QUICK_BYTES
    {
        let gathered = gather(&sink, &deliveries, found);
        drop(desk);
        gathered
    } else {
        let encoder = Arc::clone(&sink);
        // A large record takes a while, in which other sinks are to go on.
        // It takes along what it holds: it goes on when this future is dropped.
        let gathering = tokio::task::spawn_blocking(move || {
            let gathered = gather(&encoder, &deliveries, found);
            drop(desk);
            (gathered, hold)
        });
        // It does not panic; that it is cancelled means that the process ends.
        let Ok((gathered, held)) = gathering.await else { return Attempt::of_none(Ending::Nothing) };
        hold = held;
        gathered
    };
    hold.shrink_to(payload.as_ref().map_or(0, |payload| payload.body.len()));
    if attempt.sent.is_empty() {
        return attempt;
    }
    attempt.ending = match payload {
        None => Ending::NotEncoded,
        Some(payload) => match (payload.cuts, client.send(payload).await) {
            (cuts, Outcome::Answer { status, retry_after: wait, body }) => {
                match unwound(|| Some(sink.judge(status, &body))) {
                    Some(verdict) => Ending::Answered {
                        verdict,
                        retry_after: wait
                            .as_ref()
                            .and_then(|value| retry_after(value.to_str().ok()?, clock.now()))
                            .map(|wait| wait.min(max_retry_after)),
                        status: status.as_u16(),
                        answer: format!("{status}: {}", String::from_utf8_lossy(&body)),
                        cuts,
                    },
                    None => Ending::NoAnswer("not_judged"),
                }
            }
            (_, Outcome::None(failure)) => Ending::NoAnswer(failure),
        },
    };
    attempt
}

/// Records of so many bytes are encoded in less time than it takes to have another thread do it, or little more.
const QUICK_BYTES: usize = 32 << 10;

/// Sorts what was asked for by what was found, and encodes what goes together.
fn gather(sink: &Sink, asked: &[u64], found: Vec<DueRecord>) -> (Attempt, Option<Payload>) {
    let mut attempt = Attempt::of_none(Ending::Nothing);
    // The store stops early at its limit of bytes, so of what comes behind the last it gave nothing is known. That it
    // gave none at all means that there is none.
    let known = match found.last() {
        Some(last) => asked.iter().position(|id| *id == last.delivery).map_or(0, |at| at + 1),
        None => asked.len(),
    };
    let is_gone = |id: &&u64| found.iter().all(|record| record.delivery != **id);
    attempt.gone.extend(asked[..known].iter().filter(is_gone));
    let mut load = Load::new(sink.batch());
    let mut records = Vec::new();
    for DueRecord { delivery, body, first_message } in found {
        let read = unwound(|| {
            let record = Record { event: serde_json::from_str::<Event>(&body).ok()?, first_message };
            Some((sink.weight(&record), record))
        });
        let Some((weight, record)) = read else {
            attempt.unreadable.push(delivery);
            continue;
        };
        if !load.take(weight, body.len()) {
            break;
        }
        records.push(record);
        attempt.sent.push(delivery);
    }
    if records.is_empty() {
        return (attempt, None);
    }
    let payload = unwound(|| sink.encode(&records));
    (attempt, payload)
}

/// What a sink says, or none if it stumbles: a payload that makes it panic must not stop its lane.
fn unwound<T>(say: impl FnOnce() -> Option<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(say)).ok().flatten()
}

impl Attempt {
    fn of_none(ending: Ending) -> Self {
        Self { gone: Vec::new(), unreadable: Vec::new(), sent: Vec::new(), ending }
    }
}
