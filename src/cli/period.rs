//! Periods on the command line, and the progress of a command in one.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use threadtap_core::settings::Span;
use threadtap_core::time::UnixMillis;

use super::Failure;
use crate::store::{Cursor, Period};

/// The end of a period.
#[derive(Debug, clap::Args)]
pub(super) struct Until {
    /// End of the period, exclusive [default: now]
    #[arg(long, value_name = "TIME")]
    pub(super) until: Option<String>,
}

/// The period from `since` (else the beginning) to `until` (else now).
pub(super) fn period(since: Option<&str>, until: Option<&str>) -> Result<Period, Failure> {
    let now = Timestamp::now();
    let at = |name: &str, text: Option<&str>, default: UnixMillis| {
        text.map_or(Ok(default), |text| {
            parse(text, now).ok_or_else(|| {
                Failure::unusable(anyhow::anyhow!(
                    "--{name} is `{text}`: use a time such as 2026-01-31T08:00:00Z, or an age: 90s, 30m, 2h, 7d"
                ))
            })
        })
    };
    // Records of this millisecond are included.
    let end = UnixMillis(millis(now).unwrap_or(u64::MAX).saturating_add(1));
    Ok(Period { since: at("since", since, UnixMillis(0))?, until: at("until", until, end)? })
}

fn parse(text: &str, now: Timestamp) -> Option<UnixMillis> {
    if let Some(Span(ago)) = Span::parse(text) {
        let ago = u64::try_from(ago.as_millis()).ok()?;
        return Some(UnixMillis(millis(now)?.saturating_sub(ago)));
    }
    Some(UnixMillis(millis(text.parse().ok()?)?))
}

fn millis(time: Timestamp) -> Option<u64> {
    u64::try_from(time.as_millisecond()).ok()
}

/// Formats a time for people.
pub(super) fn shown(at: UnixMillis) -> String {
    let time = i64::try_from(at.0).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
    time.map_or_else(|| at.0.to_string(), |time| format!("{time:.0}"))
}

/// A progress bar on standard error; hidden if that is not a terminal.
pub(super) struct Progress {
    bar: ProgressBar,
    from: Option<u64>,
    until: u64,
}

impl Progress {
    pub(super) fn new(period: Period) -> Self {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let style = ProgressStyle::with_template("{bar:40} {percent:>3}% {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(0), target).with_style(style);
        Self { bar, from: None, until: period.until.0 }
    }

    /// Shows that a page is done, up to `next`, and how many records are done in total.
    pub(super) fn at(&mut self, next: Option<Cursor>, records: u64) {
        let Some(Cursor { at, .. }) = next else { return };
        // The first page shows where the records begin.
        let from = *self.from.get_or_insert(at.0);
        self.bar.set_length(self.until.saturating_sub(from));
        self.bar.set_position(at.0 - from.min(at.0));
        self.bar.set_message(format!("{records} records, {}", shown(at)));
    }

    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_moment_or_how_long_ago() {
        let now: Timestamp = "2026-01-31T08:00:00Z".parse().unwrap();
        let check = |text: &str, expected: Option<&str>| {
            let expected = expected.map(|time| UnixMillis(millis(time.parse().unwrap()).unwrap()));
            assert_eq!(parse(text, now), expected, "{text}");
        };
        check("2h", Some("2026-01-31T06:00:00Z"));
        check("7d", Some("2026-01-24T08:00:00Z"));
        check("250ms", Some("2026-01-31T07:59:59.75Z"));
        check("2026-01-30T10:00:00+02:00", Some("2026-01-30T08:00:00Z"));
        check("99999999d", Some("1970-01-01T00:00:00Z"));
        for odd in ["", "yesterday", "2", "2026-01-30", "2h ago"] {
            check(odd, None);
        }
    }
}
