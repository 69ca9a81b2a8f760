//! Every metric: its name, unit, labels and help, in one place.
//!
//! Names end in their unit or in `_total`. Whatever is dropped is counted under a `reason`. Metrics hold no content: labels
//! are from closed sets, or are names out of the configuration.

mod labels;

use std::fmt;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

pub use self::labels::{
    AccessLabel, ApiLabel, DeadLetterLabel, DeliveryLabel, DropLabel, DropReason, FileLabel, IntakeLabel,
    KindLabel, LossLabel, ResultLabel, SdkLabel, SideLabel, SinkLabel, StateLabel, StatusLabel,
};

/// The handles; cloning shares them.
#[derive(Clone)]
pub struct Metrics {
    /// Client connections that are open.
    pub connections: Gauge,
    /// How many may be.
    pub connections_limit: Gauge,
    /// Client connections that were closed to make room for others.
    pub connections_closed: Counter,
    /// Connections to upstream that are open, those that are unused included.
    pub upstream_connections: Gauge,
    /// How many may be.
    pub upstream_connections_limit: Gauge,
    /// Requests that wait for a connection to upstream because all there may be are in use.
    pub upstream_waiting: Gauge,
    /// Connections to the admin listener that were closed to make room for others.
    pub admin_connections_closed: Counter,
    /// Requests for threadtap itself that were refused for who sent them, by listener and reason.
    pub access_refused: Family<AccessLabel, Counter>,
    /// Requests over HTTP/2 that were refused, because those in progress take all the memory they may.
    pub h2_refused: Counter,
    /// Exchanges by result.
    pub exchanges: Family<ResultLabel, Counter>,
    /// Exchanges that are in progress.
    pub exchanges_in_progress: Gauge,
    /// Answers of our own, for want of one from upstream, by kind.
    pub upstream_errors: Family<KindLabel, Counter>,
    /// Header lines of upstream's answers that did not go on, by kind: `malformed`, or `http2` for what that cannot carry.
    pub lines_left_out: Family<KindLabel, Counter>,
    /// Exchanges a tap was put on.
    pub captured: Counter,
    /// Exchanges of the APIs that are recorded, by the API and how they came out.
    pub api_exchanges: Family<ApiLabel, Counter>,
    /// Exchanges of LLM APIs that are not recorded, by the API and how they came out.
    pub uncaptured: Family<ApiLabel, Counter>,
    /// Frames of WebSockets, by the side that sent them.
    pub frames: Family<SideLabel, Counter>,
    /// Captures lost, whole or in part, by reason.
    pub dropped: Family<DropLabel, Counter>,
    /// Bytes of copies that wait for the pipeline.
    pub capture_bytes: Gauge,
    /// Hand-overs that wait for the pipeline.
    pub pipeline_queue: Gauge,
    /// Odd input the pipeline met, by kind.
    pub problems: Family<KindLabel, Counter>,
    /// Observations made.
    pub observations: Counter,
    /// Seconds that record times are ahead of the machine's clock, because that was set back.
    pub clock_ahead_seconds: Gauge,
    /// Conversations in memory.
    pub conversations: Gauge,
    /// Sessions that are open.
    pub sessions: Gauge,
    /// Runs that are not settled.
    pub open_runs: Gauge,
    /// Bytes of messages and tool calls in memory.
    pub correlation_bytes: Gauge,
    /// Runs that are remembered by what their conversation added up to.
    pub remembered_turns: Gauge,
    /// What the limits of correlation cost, and outputs that came too late, by kind.
    pub correlation_notes: Family<KindLabel, Counter>,
    /// Calls of an API that was shut down, by who makes them.
    pub sunset_calls: Family<SdkLabel, Counter>,
    /// Interactions by status.
    pub interactions: Family<StatusLabel, Counter>,
    /// What the app said itself, by endpoint and what became of it.
    pub intake: Family<IntakeLabel, Counter>,
    /// Seconds from an exchange's last byte until what it told was written.
    pub written_seconds: Histogram,
    /// Seconds a commit takes.
    pub commit_seconds: Histogram,
    /// Writes the store failed, by kind.
    pub store_errors: Family<KindLabel, Counter>,
    /// 1 for the state the store is in, `ok` or `failing`; 0 for the other.
    pub store_state: Family<StateLabel, Gauge>,
    /// 1 if records are kept in memory because the data directory cannot be used.
    pub store_in_memory: Gauge,
    /// Bytes of the store's files, by file.
    pub store_file_bytes: Family<FileLabel, Gauge>,
    /// Bytes of the database that hold something.
    pub store_used_bytes: Gauge,
    /// Databases that were begun anew, by what became of the one before.
    pub store_recreated: Family<KindLabel, Counter>,
    /// Delivered events the store let go of, by reason.
    pub store_evicted: Family<KindLabel, Counter>,
    /// Deliveries lost, by sink and reason.
    pub deliveries_lost: Family<LossLabel, Counter>,
    /// Delivery attempts by sink and verdict.
    pub deliveries: Family<DeliveryLabel, Counter>,
    /// Deliveries that are due or waiting, by sink.
    pub delivery_queue: Family<SinkLabel, Gauge>,
    /// Age of the oldest of them in seconds, by sink.
    pub delivery_queue_age_seconds: Family<SinkLabel, Gauge>,
    /// Records a sink has taken.
    pub delivered: Family<SinkLabel, Counter>,
    /// Values cut or replaced to fit a sink's limits, in records that it accepted.
    pub cuts: Family<SinkLabel, Counter>,
    /// Dead letters kept, by sink.
    pub dead_letters: Family<SinkLabel, Gauge>,
    /// Deliveries that became dead letters, by sink and reason.
    pub dead_lettered: Family<DeadLetterLabel, Counter>,
}

impl Metrics {
    /// Makes all metrics and registers them.
    #[must_use]
    pub fn new() -> (Self, Registry) {
        let metrics = Self {
            connections: Gauge::default(),
            connections_limit: Gauge::default(),
            connections_closed: Counter::default(),
            upstream_connections: Gauge::default(),
            upstream_connections_limit: Gauge::default(),
            upstream_waiting: Gauge::default(),
            admin_connections_closed: Counter::default(),
            access_refused: Family::default(),
            h2_refused: Counter::default(),
            exchanges: Family::default(),
            exchanges_in_progress: Gauge::default(),
            upstream_errors: Family::default(),
            lines_left_out: Family::default(),
            captured: Counter::default(),
            api_exchanges: Family::default(),
            uncaptured: Family::default(),
            frames: Family::default(),
            dropped: Family::default(),
            capture_bytes: Gauge::default(),
            pipeline_queue: Gauge::default(),
            problems: Family::default(),
            observations: Counter::default(),
            clock_ahead_seconds: Gauge::default(),
            sessions: Gauge::default(),
            conversations: Gauge::default(),
            open_runs: Gauge::default(),
            correlation_bytes: Gauge::default(),
            remembered_turns: Gauge::default(),
            correlation_notes: Family::default(),
            sunset_calls: Family::default(),
            intake: Family::default(),
            interactions: Family::default(),
            written_seconds: Histogram::new(WRITTEN_BUCKETS),
            commit_seconds: Histogram::new(COMMIT_BUCKETS),
            store_errors: Family::default(),
            store_state: Family::default(),
            store_in_memory: Gauge::default(),
            store_file_bytes: Family::default(),
            store_used_bytes: Gauge::default(),
            store_recreated: Family::default(),
            store_evicted: Family::default(),
            deliveries_lost: Family::default(),
            deliveries: Family::default(),
            delivery_queue: Family::default(),
            delivery_queue_age_seconds: Family::default(),
            delivered: Family::default(),
            cuts: Family::default(),
            dead_letters: Family::default(),
            dead_lettered: Family::default(),
        };
        for reason in DropReason::ALL {
            // A rate needs a 0 to start from, and whoever writes an alert wants to see the name.
            drop(metrics.dropped.get_or_create(&DropLabel { reason }));
        }
        let registry = metrics.registry();
        (metrics, registry)
    }

    fn registry(&self) -> Registry {
        let mut r = Registry::with_prefix("threadtap");
        r.register("connections", "Client connections that are open", self.connections.clone());
        let help = "Client connections that may be open at one time";
        r.register("connections_limit", help, self.connections_limit.clone());
        let help = "Client connections that waited for a request and were closed to make room for others";
        r.register("connections_closed", help, self.connections_closed.clone());
        let help = "Connections to upstream that are open, in use or not";
        r.register("upstream_connections", help, self.upstream_connections.clone());
        let help = "Connections to upstream that may be open at one time";
        r.register("upstream_connections_limit", help, self.upstream_connections_limit.clone());
        let help = "Requests that wait for a connection to upstream because all are in use";
        r.register("upstream_waiting", help, self.upstream_waiting.clone());
        let help = "Connections to the admin listener that were closed to make room for others";
        r.register("admin_connections_closed", help, self.admin_connections_closed.clone());
        let help = "Requests to threadtap's own endpoints that were refused because of who sent them, by listener and reason";
        r.register("access_refused", help, self.access_refused.clone());
        let help = "Requests over HTTP/2 refused because those in progress took server.h2_memory";
        r.register("http2_streams_refused", help, self.h2_refused.clone());
        r.register("exchanges", "Exchanges, by result", self.exchanges.clone());
        let help = "Exchanges in progress";
        r.register("exchanges_in_progress", help, self.exchanges_in_progress.clone());
        let help = "Error responses of threadtap because upstream sent none, by kind";
        r.register("upstream_errors", help, self.upstream_errors.clone());
        let help = "Header lines of upstream responses that were dropped, by kind";
        r.register("response_header_lines_dropped", help, self.lines_left_out.clone());
        r.register("captured_exchanges", "Exchanges that were tapped", self.captured.clone());
        let help = "Exchanges of recorded APIs, by API and result";
        r.register("api_exchanges", help, self.api_exchanges.clone());
        let help = "Exchanges of LLM APIs that are forwarded and not recorded, by API and result";
        r.register("uncaptured_exchanges", help, self.uncaptured.clone());
        let help = "Frames of WebSockets that passed, by the side that sent them";
        r.register("websocket_frames", help, self.frames.clone());
        let help = "Captures lost, whole or in part, by reason";
        r.register("capture_dropped", help, self.dropped.clone());
        let help = "Copied bytes that wait for the pipeline";
        r.register_with_unit("capture_buffered", help, Unit::Bytes, self.capture_bytes.clone());
        let help = "Segments that wait for the pipeline";
        r.register("pipeline_queue_depth", help, self.pipeline_queue.clone());
        r.register(
            "capture_problems",
            "Bodies in captures that could not be read as expected, by kind",
            self.problems.clone(),
        );
        r.register("observations", "Observations", self.observations.clone());
        let help = "How far record times are ahead of the machine's clock, because it was set back";
        r.register_with_unit("clock_ahead", help, Unit::Seconds, self.clock_ahead_seconds.clone());
        r.register("sessions", "Sessions that are open", self.sessions.clone());
        r.register("conversations", "Conversations held in memory", self.conversations.clone());
        r.register("open_runs", "Runs that are not settled", self.open_runs.clone());
        let help = "Approximate memory of all conversations";
        r.register_with_unit("correlation_held", help, Unit::Bytes, self.correlation_bytes.clone());
        let help = "Runs that are remembered by their history";
        r.register("remembered_turns", help, self.remembered_turns.clone());
        let help = "What was dropped or closed early because of the limits of correlation, and late outputs, by kind";
        r.register("correlation_notes", help, self.correlation_notes.clone());
        let help = "Calls that got 404 because OpenAI shut down the Assistants API, by the caller's SDK";
        r.register("sunset_calls", help, self.sunset_calls.clone());
        r.register("intake", "Feedback and users sent by the app, by result", self.intake.clone());
        r.register("interactions", "Interactions recorded, by status", self.interactions.clone());
        let help = "Time from the last byte of an exchange until its observations are written";
        r.register_with_unit("store_written", help, Unit::Seconds, self.written_seconds.clone());
        let help = "Duration of a commit";
        r.register_with_unit("store_commit", help, Unit::Seconds, self.commit_seconds.clone());
        r.register("store_errors", "Operations the store failed, by kind", self.store_errors.clone());
        let help = "1 for the state the store is in: ok, or failing while it cannot write";
        r.register("store_state", help, self.store_state.clone());
        let help = "1 if records are kept in memory because the data directory cannot be used";
        r.register("store_in_memory", help, self.store_in_memory.clone());
        let help = "Size of the store's files, by file";
        r.register_with_unit("store_file", help, Unit::Bytes, self.store_file_bytes.clone());
        let help = "Used bytes of the database, without free pages";
        r.register_with_unit("store_used", help, Unit::Bytes, self.store_used_bytes.clone());
        let help = "Databases recreated because the previous one was corrupt or had vanished";
        r.register("store_recreated", help, self.store_recreated.clone());
        let help = "Delivered events deleted because of their age, retain_size or a full store";
        r.register("store_evicted", help, self.store_evicted.clone());
        let help = "Deliveries lost, by sink and reason";
        r.register("deliveries_lost", help, self.deliveries_lost.clone());
        r.register("deliveries", "Delivery attempts, by sink and verdict", self.deliveries.clone());
        let help = "Deliveries that wait, by sink";
        r.register("delivery_queue_depth", help, self.delivery_queue.clone());
        let help = "Age of the oldest delivery that waits, by sink";
        r.register_with_unit(
            "delivery_queue_age",
            help,
            Unit::Seconds,
            self.delivery_queue_age_seconds.clone(),
        );
        r.register("delivered", "Records that a sink accepted", self.delivered.clone());
        let help = "Values cut or replaced to fit a sink's limits, in records that it accepted";
        r.register("delivered_cuts", help, self.cuts.clone());
        r.register("dead_letters", "Dead letters that are kept, by sink", self.dead_letters.clone());
        let help = "Records that became dead letters, by sink and reason";
        r.register("dead_lettered", help, self.dead_lettered.clone());
        r
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// The results of exchanges: by the first digit of the status, and at 0 those we answered ourselves.
pub const RESULTS: [&str; 6] = ["error", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// The place of an answer's status in [`RESULTS`].
#[must_use]
pub fn result_index(status: http::StatusCode) -> usize {
    usize::from(status.as_u16() / 100).min(5)
}

/// The class of a status code, as results are labelled.
#[must_use]
pub fn result_of(status: http::StatusCode) -> &'static str {
    RESULTS[result_index(status)]
}

/// The design bound is 50 ms at p99.9, so the buckets are fine around it.
const WRITTEN_BUCKETS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0];
const COMMIT_BUCKETS: [f64; 10] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0];

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn every_metric_has_the_prefix_and_help() {
        let (metrics, registry) = Metrics::new();
        metrics.dropped.get_or_create(&DropLabel { reason: DropReason::queue_full }).inc();
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        assert!(text.contains("threadtap_capture_dropped_total{reason=\"queue_full\"} 1"), "{text}");
        assert!(text.contains("threadtap_capture_dropped_total{reason=\"disk\"} 0"), "{text}");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.starts_with("threadtap_"), "{line}");
        }
        assert_eq!(text.matches("# HELP").count(), text.matches("# TYPE").count());
    }
}
