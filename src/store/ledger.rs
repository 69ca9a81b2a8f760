//! Counts pending deliveries and dead letters per sink. Updates the counts as they change, exports
//! them as metrics, and reports losses.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::Connection;
use threadtap_core::time::UnixMillis;

use crate::metrics::{LossLabel, Metrics, SinkLabel};
use crate::store::apply::Change;
use crate::store::reads::{self, Backlog, Waiting};
use crate::store::{Op, gauge};

pub(super) struct Ledger {
    sinks: BTreeMap<Arc<str>, Waiting>,
    metrics: Metrics,
}

impl Ledger {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { sinks: BTreeMap::new(), metrics }
    }

    /// Resets the counts to what a database holds.
    pub(super) fn recount(&mut self, connection: &Connection, now: UnixMillis) -> rusqlite::Result<()> {
        for waiting in self.sinks.values_mut() {
            *waiting = Waiting::default();
        }
        self.sinks.extend(reads::backlog(connection)?.sinks);
        self.show_counts();
        self.show_ages(connection, now);
        Ok(())
    }

    pub(super) fn enter(&mut self, changes: BTreeMap<Arc<str>, Change>) {
        if changes.is_empty() {
            return;
        }
        for (sink, change) in changes {
            let waiting = self.sinks.entry(sink).or_default();
            waiting.deliveries = waiting.deliveries.saturating_add_signed(change.waiting);
            waiting.dead_letters = waiting.dead_letters.saturating_add_signed(change.dead);
        }
        self.show_counts();
    }

    pub(super) fn anything_waits(&self) -> bool {
        self.sinks.values().any(|waiting| waiting.deliveries > 0)
    }

    /// Resets the counts after the database was lost with everything in it.
    pub(super) fn lose(&mut self, reason: &'static str) {
        let sinks = std::mem::take(&mut self.sinks);
        count_lost(&self.metrics, &Backlog { sinks: sinks.clone() }, reason);
        // The names stay, so that their gauges drop to zero.
        self.sinks = sinks.into_keys().map(|sink| (sink, Waiting::default())).collect();
        self.show_counts();
    }

    pub(super) fn show_ages(&self, connection: &Connection, now: UnixMillis) {
        for (sink, waiting) in &self.sinks {
            let oldest =
                if waiting.deliveries > 0 { reads::oldest(connection, sink).ok().flatten() } else { None };
            let age_secs = oldest.map_or(0, |oldest| now.since(oldest).as_secs());
            let label = SinkLabel { sink: sink.to_string() };
            self.metrics.delivery_queue_age_seconds.get_or_create(&label).set(gauge(age_secs));
        }
    }

    fn show_counts(&self) {
        for (sink, waiting) in &self.sinks {
            let label = SinkLabel { sink: sink.to_string() };
            self.metrics.delivery_queue.get_or_create(&label).set(gauge(waiting.deliveries));
            self.metrics.dead_letters.get_or_create(&label).set(gauge(waiting.dead_letters));
        }
    }
}

/// Counts and logs what was lost with a database.
pub(super) fn count_lost(metrics: &Metrics, lost: &Backlog, reason: &'static str) {
    for (sink, waiting) in &lost.sinks {
        let Waiting { deliveries, dead_letters, .. } = *waiting;
        if deliveries + dead_letters == 0 {
            continue;
        }
        let label = LossLabel { sink: sink.to_string(), reason };
        metrics.deliveries_lost.get_or_create(&label).inc_by(deliveries + dead_letters);
        tracing::error!(%sink, reason, deliveries, dead_letters, "deliveries are lost");
    }
}

/// Counts the deliveries that these operations would have queued and that are now lost.
pub(super) fn count_lost_ops(metrics: &Metrics, ops: &[Op], reason: &'static str) {
    let mut lost: BTreeMap<&str, u64> = BTreeMap::new();
    for op in ops {
        for sink in op.sinks() {
            *lost.entry(sink).or_default() += 1;
        }
    }
    for (sink, deliveries) in lost {
        let label = LossLabel { sink: sink.to_owned(), reason };
        metrics.deliveries_lost.get_or_create(&label).inc_by(deliveries);
        tracing::error!(%sink, reason, deliveries, "deliveries are lost");
    }
}
