//! Copies traffic as it passes and hands the copy to the pipeline.
//!
//! # Design
//!
//! A [`Recorder`] puts a tap on an exchange. The tap goes through the same states as the exchange,
//! and each state consumes the previous one. [`RequestTap`] copies the request body while it
//! passes. [`RequestTap::tap_response`] hands over [`Start`] and becomes a [`ResponseTap`], which
//! hands over [`Segment`]s and one [`End`]. The bodies that do the copying, [`RequestTee`] and
//! [`ResponseTee`], change nothing: frames, `size_hint`, `is_end_stream` and trailers are those of
//! the inner body.
//!
//! - *Segments.* The first frame is handed over at once. After that, frames are gathered up to
//!   [`Config::segment_bytes`] or [`Config::segment_age`]; both are checked only when a frame
//!   passes. Each hand-over is one `try_send`.
//! - *Causality.* After each frame the tee asks `is_end_stream()` and hands over `End` before it
//!   returns the last frame. So whatever a client can react to is already in the queue.
//! - *Bounds.* The queue holds [`Config::queue`] items, and all copies together hold
//!   [`Config::budget_bytes`]. A copy counts from when it is made until the pipeline is done with
//!   it, by its allocated size and not by its used size. What the pipeline holds for exchanges in
//!   progress is charged to the same budget. Beyond either bound the copy is lost and counted; the
//!   stream never waits. A lost segment leaves a gap in `seq`. When `Start` is lost, the tap goes
//!   quiet. An `End` can be lost like a segment, so code that keeps state per exchange needs its
//!   own bound.
//! - Bytes are copied, never kept as `Bytes`. Those are slices of a read buffer, and one kept event
//!   would pin the whole buffer.

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
    /// How many bytes capture may hold: all copies, and what the pipeline keeps and produces from
    /// them while it reads.
    pub budget_bytes: usize,
    /// How much of one body is copied. Event streams have no limit.
    pub max_body_bytes: usize,
    /// How much of a response body is copied if the status is not 2xx, or if the length is known to
    /// exceed `max_body_bytes`.
    pub max_prefix_bytes: usize,
    /// A segment is handed over when it reaches this many bytes.
    pub segment_bytes: usize,
    /// A segment is handed over when a frame passes at least this long after the last hand-over.
    pub segment_age: Duration,
    /// Request headers to copy in addition to
    /// [`CAPTURED_HEADERS`](threadtap_core::exchange::CAPTURED_HEADERS). None of them may carry a
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

/// Creates both ends of capture. The queue closes when the recorder and all its taps are dropped.
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
    /// Begins to record an exchange. Copies those parts of the request head that capture may store.
    ///
    /// `upstream` is the name that scopes conversations. Nothing is handed over until there is a
    /// response.
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

/// The pipeline thread's end of the queue.
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
    /// If the queue is empty and nothing more can arrive.
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
    /// If the time is over, or if the queue is empty and nothing more can arrive.
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
    /// If the queue is empty now, whether or not more can arrive.
    pub fn try_recv(&self) -> Result<Capture, TryRecvError> {
        match self.items.try_recv() {
            Ok(item) => Ok(self.took(item)),
            Err(error) => self.late_end().ok_or(error),
        }
    }

    /// The budget that the pipeline's memory is charged to.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    fn took(&self, item: Capture) -> Capture {
        self.depth.dec();
        item
    }

    /// Returns an `End` that did not fit into the queue. When the queue is empty, everything it
    /// held of that exchange has been taken.
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
        // Counted first, so that the receiver never makes the depth negative.
        self.metrics.pipeline_queue.inc();
        let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.queue.try_send(capture) else {
            return Ok(());
        };
        self.metrics.pipeline_queue.dec();
        Err(Lost)
    }

    /// Hands over the end of an exchange. If the queue is full and the pipeline knows the exchange,
    /// the end is delivered late. Otherwise the pipeline would wait for it forever.
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

    /// How much of a body to copy, given its length (if known) and how much of it may be useful.
    fn copy_limit(&self, length: Option<u64>) -> usize {
        let too_large = length.is_some_and(|length| length > self.config.max_body_bytes as u64);
        if too_large { self.config.max_prefix_bytes } else { self.config.max_body_bytes }
    }
}

/// Ends that did not fit into the queue; never more than the queue has places.
type LateEnds = Mutex<Vec<(ExchangeId, End)>>;

/// The queue was full at a hand-over.
struct Lost;

#[cfg(test)]
mod tests;
