//! What becomes of a payload after an attempt to deliver it.

use http::StatusCode;

/// What becomes of a payload. When it says retry, the *when* is delivery's matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The backend has it.
    Ack,
    /// The backend will never take it: kept aside, with the reason, for a person to look at.
    DeadLetter(&'static str),
    /// The backend refuses whatever we send, because of our settings: nothing is given up, it is asked rarely and said loudly.
    Misconfigured,
    /// The backend could not take it now.
    Retry,
    /// Too large as it is: each part by itself; a single event is a dead letter.
    Split,
}

impl Verdict {
    /// The rules shared by all sinks, by status code alone.
    ///
    /// Redirects count as a wrong address: following them would hand the app's data, and our key, to another party.
    #[must_use]
    pub fn of_status(status: StatusCode) -> Self {
        match status.as_u16() {
            200..=299 => Self::Ack,
            300..=399 | 401 | 403 | 404 | 405 | 407 => Self::Misconfigured,
            408 | 409 | 425 | 429 => Self::Retry,
            413 => Self::Split,
            400..=499 => Self::DeadLetter("refused"),
            // 1xx never ends an exchange, and codes beyond 599 are no HTTP: both are a peer in trouble.
            _ => Self::Retry,
        }
    }

    /// The label in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::DeadLetter(_) => "dead_letter",
            Self::Misconfigured => "misconfigured",
            Self::Retry => "retry",
            Self::Split => "split",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_code_has_the_verdict_of_the_table() {
        for code in 100..=999 {
            let expected = match code {
                200..=299 => Verdict::Ack,
                300..=399 | 401 | 403 | 404 | 405 | 407 => Verdict::Misconfigured,
                408 | 409 | 425 | 429 => Verdict::Retry,
                413 => Verdict::Split,
                400 | 402 | 406 | 410..=499 => Verdict::DeadLetter("refused"),
                _ => Verdict::Retry,
            };
            assert_eq!(Verdict::of_status(StatusCode::from_u16(code).unwrap()), expected, "{code}");
        }
    }
}
