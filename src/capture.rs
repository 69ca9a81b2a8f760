//! Copies what passes and hands the copy to the pipeline.
//!
//! # Design
//!
//! A [`Recorder`] puts a tap on an exchange. The tap goes through the states an exchange goes through, each made by
//! consuming the one before: [`RequestTap`] copies the request body while it passes, [`RequestTap::tap_response`] hands over
//! [`Start`] and becomes a [`ResponseTap`], which hands over
//! [`Segment`]s and one [`End`]. The bodies that do the copying,
//! [`RequestTee`] and [`ResponseTee`], change nothing: frames, `size_hint`, `is_end_stream` and trailers are those of the
//! body inside.
//!
//! - *Segments.* The first frame goes at once; then [`Config::segment_bytes`] or [`Config::segment_age`] are gathered,
//!   looked at only as a frame passes. One `try_send` per hand-over.
//! - *Causality.* After each frame the tee asks `is_end_stream()` and hands over `End` before it returns the last frame, so
//!   whatever a client can react to is already in the queue.
//! - *Bounds.* The queue holds [`Config::queue`] items and all copies together [`Config::budget_bytes`], counted from
//!   copying until the pipeline is done with them, by what was allocated and not by what was used of it. What the pipeline holds of
//!   exchanges that go on is charged to the same budget. Beyond either, the copy is lost and counted; the stream never waits. A lost segment leaves a gap in `seq`. When `Start` is lost the tap
//!   goes quiet. An `End` can be lost like a segment: who keeps state per exchange needs a bound of its own.
//! - Bytes are copied, never kept as `Bytes`: those are slices of a read buffer, and one kept event would pin all of it.

mod buffer;
mod request;
mod response;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvError, RecvTimeoutError, SyncSender, TryRecvError, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use threadtap_core::budget::{Budget, Charge};
use threadtap_core::exchange::{Capture, End, ExchangeId, Segment, Start};
use threadtap_http::head::RequestHead;

use crate::clock::Clock;
use crate::metrics::{DropLabel, DropReason, Metrics};

pub use self::request::{RequestTap, RequestTee};
pub use self::response::{ResponseTap, ResponseTee};

/// The bounds of capture.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many hand-overs may wait for the pipeline.
    pub queue: usize,
    /// How many bytes capture may hold: all copies, and what the pipeline keeps and makes of them while it reads.
    pub budget_bytes: usize,
    /// How much of one body is copied. Event streams have no limit.
    pub max_body_bytes: usize,
    /// How much is copied of the body of a response that is not a 2xx, and of one whose length is known to exceed
    /// `max_body_bytes`.
    pub max_prefix_bytes: usize,
    /// A segment is handed over when it has this many bytes.
    pub segment_bytes: usize,
    /// A segment is handed over when a frame passes this long after the last hand-over.
    pub segment_age: Duration,
    /// Request headers that are copied beside [`CAPTURED_HEADERS`](threadtap_core::exchange::CAPTURED_HEADERS). None may carry a
    /// credential.
    pub extra_headers: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            queue: 8192,
            budget_bytes: 144 << 20,
            max_body_bytes: 16 << 20,
            max_prefix_bytes: 64 << 10,
            segment_bytes: 16 << 10,
            segment_age: Duration::from_millis(250),
            extra_headers: Vec::new(),
        }
    }
}

/// Makes both ends of capture. The queue closes when the recorder and all its taps are gone.
#[must_use]
pub fn new(config: Config, metrics: Metrics, clock: Clock) -> (Recorder, Receiver) {
    let (queue, items) = mpsc::sync_channel(config.queue);
    let budget = buffer::budget(config.budget_bytes, metrics.capture_bytes.clone());
    let late_ends = Arc::new(LateEnds::default());
    let receiver = Receiver {
        items,
        late_ends: Arc::clone(&late_ends),
        budget: budget.clone(),
        depth: metrics.pipeline_queue.clone(),
    };
    let shared = Shared { config, queue, late_ends, budget, metrics, clock, exchanges: AtomicU64::new(0) };
    (Recorder { shared: Arc::new(shared) }, receiver)
}

/// Puts taps on exchanges. Clones share the queue and the budget.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
}

impl Recorder {
    /// Begins to record an exchange: copies of the request head what capture may know.
    ///
    /// `upstream` is the name conversations are scoped by. Nothing is handed over until there is a response.
    pub fn tap_request(&self, upstream: Arc<str>, head: &RequestHead) -> RequestTap {
        let exchange = ExchangeId(self.shared.exchanges.fetch_add(1, Ordering::Relaxed) + 1);
        RequestTap::new(Arc::clone(&self.shared), exchange, upstream, head)
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

/// Where the pipeline's thread takes what taps hand over.
#[derive(Debug)]
pub struct Receiver {
    items: mpsc::Receiver<Capture>,
    late_ends: Arc<LateEnds>,
    budget: Budget,
    depth: Gauge,
}

impl Receiver {
    /// Waits for the next item.
    ///
    /// # Errors
    ///
    /// When nothing is left and nothing can come.
    pub fn recv(&self) -> Result<Capture, RecvError> {
        match self.items.recv() {
            Ok(item) => Ok(self.took(item)),
            Err(closed) => self.late_end().ok_or(closed),
        }
    }

    /// Waits for the next item for at most `timeout`.
    ///
    /// # Errors
    ///
    /// When the time is over, or nothing is left and nothing can come.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Capture, RecvTimeoutError> {
        match self.items.recv_timeout(timeout) {
            Ok(item) => Ok(self.took(item)),
            Err(error) => self.late_end().ok_or(error),
        }
    }

    /// Takes the next item if there is one.
    ///
    /// # Errors
    ///
    /// When there is none now, or nothing is left and nothing can come.
    pub fn try_recv(&self) -> Result<Capture, TryRecvError> {
        match self.items.try_recv() {
            Ok(item) => Ok(self.took(item)),
            Err(error) => self.late_end().ok_or(error),
        }
    }

    /// What the pipeline's memory is charged to.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    fn took(&self, item: Capture) -> Capture {
        self.depth.dec();
        item
    }

    /// An end that found the queue full; whatever the queue held of its exchange has been taken when the queue is empty.
    fn late_end(&self) -> Option<Capture> {
        let (exchange, end) = self.late_ends.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        Some(Capture { exchange, start: None, segment: None, end: Some(end), charge: Charge::default() })
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        while self.try_recv().is_ok() {}
    }
}

/// What all taps of a recorder share.
struct Shared {
    config: Config,
    queue: SyncSender<Capture>,
    late_ends: Arc<LateEnds>,
    budget: Budget,
    metrics: Metrics,
    clock: Clock,
    exchanges: AtomicU64,
}

impl Shared {
    /// Puts `capture` into the queue, or counts it as lost.
    fn hand_over(&self, capture: Capture) -> Result<(), Lost> {
        let offered = self.offer(capture);
        if offered.is_err() {
            self.count_drop(DropReason::queue_full);
        }
        offered
    }

    /// Puts `capture` into the queue if there is room.
    fn offer(&self, capture: Capture) -> Result<(), Lost> {
        // Counted first, so that the receiver never takes the depth below zero.
        self.metrics.pipeline_queue.inc();
        let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.queue.try_send(capture) else {
            return Ok(());
        };
        self.metrics.pipeline_queue.dec();
        Err(Lost)
    }

    /// Hands over the last of an exchange. If the queue is full, the end of one the pipeline knows comes late: it must not wait
    /// for it for ever.
    fn hand_over_end(
        &self,
        exchange: ExchangeId,
        start: Option<Box<Start>>,
        segment: Option<Segment>,
        end: End,
        charge: Charge,
    ) -> Result<(), Lost> {
        let begins = start.is_some();
        let lost = self.hand_over(Capture { exchange, start, segment, end: Some(end), charge });
        if lost.is_err() && !begins {
            let mut late = self.late_ends.lock().unwrap_or_else(PoisonError::into_inner);
            if late.len() < self.config.queue {
                late.push((exchange, end));
            }
        }
        lost
    }

    fn count_drop(&self, reason: DropReason) {
        self.metrics.dropped.get_or_create(&DropLabel { reason }).inc();
    }

    /// How much of a body to copy, given its length if that is known and how much of it may be of use.
    fn copy_limit(&self, length: Option<u64>) -> usize {
        let too_large = length.is_some_and(|length| length > self.config.max_body_bytes as u64);
        if too_large { self.config.max_prefix_bytes } else { self.config.max_body_bytes }
    }
}

/// Ends that found the queue full; never more than the queue has places.
type LateEnds = Mutex<Vec<(ExchangeId, End)>>;

/// A hand-over found the queue full.
struct Lost;

#[cfg(test)]
mod tests;
