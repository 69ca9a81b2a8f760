//! How long to wait before the next attempt. Pure: randomness and time are arguments.

use std::time::Duration;

use thiserror::Error;
use threadtap_core::time::UnixMillis;

/// Exponential pauses with full jitter: after the n-th failure anything between nothing and `min` · 2ⁿ⁻¹, at most `max`. Full,
/// because many proxies that lost the same backend must not come back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    min: Duration,
    max: Duration,
}

impl Backoff {
    /// Checks the bounds.
    ///
    /// # Errors
    /// When `min` is zero or above `max`.
    pub fn new(min: Duration, max: Duration) -> Result<Self, InvalidBackoff> {
        if min.is_zero() {
            return Err(InvalidBackoff::ZeroMin);
        }
        if min > max {
            return Err(InvalidBackoff::MinAboveMax { min, max });
        }
        Ok(Self { min, max })
    }

    /// The ceiling of the first pause.
    #[must_use]
    pub fn min(self) -> Duration {
        self.min
    }

    /// The ceiling of the last ones.
    #[must_use]
    pub fn max(self) -> Duration {
        self.max
    }

    /// The longest pause after this many failures.
    #[must_use]
    pub fn ceiling(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.min.saturating_mul(1 << doublings).min(self.max)
    }

    /// The pause after this many failures; `random` is evenly spread over all its values.
    #[must_use]
    pub fn delay(self, failures: u32, random: u32) -> Duration {
        let nanos = (self.ceiling(failures).as_nanos() * u128::from(random)) >> u32::BITS;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl Default for Backoff {
    /// Half a second to 30 seconds: soon back when the backend is.
    fn default() -> Self {
        Self { min: Duration::from_millis(500), max: Duration::from_secs(30) }
    }
}

/// Why bounds are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidBackoff {
    /// The pauses would shrink.
    #[error("the shortest pause {min:?} is longer than the longest {max:?}")]
    MinAboveMax {
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
    },
    /// The pauses would never grow.
    #[error("the shortest pause is zero")]
    ZeroMin,
}

/// The wait a `Retry-After` header asks for (RFC 9110 §10.2.3): seconds, or a date. None when it says neither.
pub(super) fn retry_after(value: &str, now: UnixMillis) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    Some(UnixMillis(u64::try_from(date.as_millisecond()).ok()?).since(now))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_delay_is_below_its_ceiling_and_ceilings_grow_to_the_maximum(
            min in 1..10_000u64, span in 0..10_000_000u64, failures: u32, random: u32,
        ) {
            let (min, max) = (Duration::from_millis(min), Duration::from_millis(min + span));
            let backoff = Backoff::new(min, max).unwrap();
            let ceiling = backoff.ceiling(failures);
            prop_assert!(ceiling >= min && ceiling <= max);
            prop_assert!(backoff.ceiling(failures.saturating_add(1)) >= ceiling);
            prop_assert!(backoff.delay(failures, random) < ceiling);
            prop_assert!(backoff.delay(failures, random) <= backoff.delay(failures, random.saturating_add(1)));
            prop_assert_eq!(backoff.ceiling(u32::MAX), max.min(min.saturating_mul(1 << 31)));
        }
    }

    #[test]
    fn the_jitter_is_full() {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60)).unwrap();
        assert_eq!(backoff.delay(1, 0), Duration::ZERO);
        assert_eq!(backoff.delay(3, 1 << 31), Duration::from_secs(2));
        assert_eq!(backoff.ceiling(0), Duration::from_secs(1));
        assert!(backoff.delay(99, u32::MAX) > Duration::from_millis(59_999));
    }

    #[test]
    fn bounds_that_make_no_sense_are_refused() {
        let second = Duration::from_secs(1);
        assert_eq!(Backoff::new(Duration::ZERO, second), Err(InvalidBackoff::ZeroMin));
        assert!(matches!(Backoff::new(second * 2, second), Err(InvalidBackoff::MinAboveMax { .. })));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = UnixMillis(1_445_412_480_000);
        for (value, expected) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Wed, 21 Oct 2015 07:28:30 GMT", Some(30)),
            ("Wed, 21 Oct 2015 07:27:00 GMT", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(retry_after(value, now), expected.map(Duration::from_secs), "{value}");
        }
    }
}
