//! Says which LLM APIs are used and not recorded: counted each time, logged once.

use std::collections::HashSet;

use threadtap_core::dialect::Uncaptured;

use crate::metrics::{ApiLabel, Metrics, result_of};

/// The APIs that were logged already.
#[derive(Debug, Default)]
pub(super) struct UncapturedApis(HashSet<&'static str>);

impl UncapturedApis {
    /// Counts an exchange, and logs the first of its API that succeeded.
    pub(super) fn note(&mut self, uncaptured: Uncaptured, metrics: &Metrics) {
        let Uncaptured { api, status } = uncaptured;
        metrics.uncaptured.get_or_create(&ApiLabel { api, result: result_of(status) }).inc();
        if !(status.is_success() || status.is_informational()) || !self.0.insert(api) {
            return;
        }
        tracing::warn!(
            api,
            "an app uses an LLM API that threadtap does not record: its requests are forwarded and counted in \
             threadtap_uncaptured_exchanges_total"
        );
    }
}
