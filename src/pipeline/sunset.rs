//! Says who still calls an API that was shut down: clearly, and not more often than is of use.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use threadtap_core::dialect::SunsetCall;
use threadtap_core::time::UnixMillis;

use crate::metrics::{Metrics, SdkLabel};

/// What was said already.
#[derive(Debug, Default)]
pub(super) struct Sunset {
    warned: HashMap<SunsetCall, UnixMillis>,
    labels: HashSet<(&'static str, String)>,
}

impl Sunset {
    /// Counts a call, and warns of its caller once an hour.
    pub(super) fn note(&mut self, call: SunsetCall, now: UnixMillis, metrics: &Metrics) {
        metrics.sunset_calls.get_or_create(&self.label(&call)).inc();
        if !self.is_due(&call, now) {
            return;
        }
        let SunsetCall { upstream, app, sdk, version } = &call;
        tracing::warn!(
            upstream = %upstream,
            app = app.as_deref().unwrap_or("unknown"),
            sdk,
            version,
            "an app calls the Assistants API and gets 404: OpenAI shut it down on 2026-08-26; use the Responses API"
        );
        self.warned.insert(call, now);
    }

    fn is_due(&mut self, call: &SunsetCall, now: UnixMillis) -> bool {
        if let Some(last) = self.warned.get(call) {
            return now.since(*last) >= WARN_EVERY;
        }
        if self.warned.len() >= MAX_CALLERS {
            self.warned.retain(|_, last| now.since(*last) < WARN_EVERY);
        }
        self.warned.len() < MAX_CALLERS
    }

    /// Versions come from outside: beyond the limit, further ones are `other`.
    fn label(&mut self, call: &SunsetCall) -> SdkLabel {
        let label = (call.sdk, call.version.clone());
        if self.labels.contains(&label) || (self.labels.len() < MAX_LABELS && self.labels.insert(label)) {
            return SdkLabel { sdk: call.sdk, version: call.version.clone() };
        }
        SdkLabel { sdk: call.sdk, version: "other".to_owned() }
    }
}

const WARN_EVERY: Duration = Duration::from_secs(3600);
const MAX_CALLERS: usize = 256;
const MAX_LABELS: usize = 64;

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    fn call(version: &str) -> SunsetCall {
        let (upstream, version) = ("api.openai.com:443".to_owned(), version.to_owned());
        SunsetCall { upstream, app: None, sdk: "python", version }
    }

    #[test]
    fn a_caller_is_warned_of_once_an_hour() {
        let (metrics, _) = Metrics::new();
        let mut sunset = Sunset::default();
        let at = |seconds: u64| UnixMillis(1_000_000 + seconds * 1000);
        assert!(sunset.is_due(&call("1"), at(0)));
        sunset.note(call("1"), at(0), &metrics);
        assert!(!sunset.is_due(&call("1"), at(3599)) && sunset.is_due(&call("2"), at(1)));
        assert!(sunset.is_due(&call("1"), at(3600)));
    }

    #[test]
    fn versions_from_outside_do_not_fill_the_metrics() {
        let (metrics, registry) = Metrics::new();
        let mut sunset = Sunset::default();
        for version in 0..1000 {
            sunset.note(call(&version.to_string()), UnixMillis(1), &metrics);
        }
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let lines = text.lines().filter(|line| line.starts_with("threadtap_sunset_calls_total{"));
        assert_eq!(lines.count(), MAX_LABELS + 1);
        assert!(
            text.contains("threadtap_sunset_calls_total{sdk=\"python\",version=\"other\"} 936"),
            "{text}"
        );
        assert!(sunset.warned.len() <= MAX_CALLERS);
    }
}
