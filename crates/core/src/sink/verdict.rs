//! What happens to a payload after an attempt to deliver it.

use http::StatusCode;

/// What happens to a payload. For a retry, delivery decides *when*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The backend accepted it.
    Ack,
    /// The backend will never accept it. It is kept as a dead letter, with the reason, for a person
    /// to examine.
    DeadLetter(&'static str),
    /// The backend rejects all our requests because of our settings. Nothing is dropped: requests
    /// become rare, and the problem is reported prominently.
    Misconfigured,
    /// The backend could not accept it now.
    Retry,
    /// Too large: each part is sent alone. A single event becomes a dead letter.
    Split,
}

impl Verdict {
    /// The rules shared by all sinks, by status code alone.
    ///
    /// Redirects count as a wrong address: following them would give the app's data, and our key,
    /// to another party.
    #[must_use]
    pub fn of_status(status: StatusCode) -> Self {
        match status.as_u16() {
            200..=299 => Self::Ack,
            300..=399 | 401 | 403 | 404 | 405 | 407 => Self::Misconfigured,
            408 | 409 | 425 | 429 => Self::Retry,
            413 => Self::Split,
            400..=499 => Self::DeadLetter("refused"),
            // 1xx never ends an exchange, and codes above 599 are not HTTP. Both mean that the peer
            // is broken.
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
