//! Kinds of unexpected input.

/// Unexpected input. It affects capture, never forwarding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A body has an unknown content coding, or its compressed data is corrupt.
    ContentEncoding,
    /// An event was longer than the limit.
    EventTooLarge,
    /// Half a character: an escape of half a UTF-16 pair, or bytes that are not UTF-8. It is read
    /// as U+FFFD, unless the other half arrives in the next event. Also a control character that
    /// should have been escaped.
    HalfCharacter,
    /// Part of the copy was lost.
    Incomplete,
    /// A body or an event is not JSON.
    InvalidJson,
    /// `NaN` or `Infinity` in place of a number. It is read as null.
    NoNumber,
    /// The request's body was not copied completely, so its messages are not known.
    RequestIncomplete,
    /// A body or an event has too many values, or is too deep. Some values were left out.
    TooManyValues,
    /// Valid JSON, but not the expected response of the endpoint.
    UnexpectedShape,
    /// Neither JSON nor an event stream.
    UnexpectedType,
}

impl Problem {
    /// The name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ContentEncoding => "content_encoding",
            Self::EventTooLarge => "event_too_large",
            Self::HalfCharacter => "half_character",
            Self::Incomplete => "incomplete",
            Self::InvalidJson => "invalid_json",
            Self::NoNumber => "no_number",
            Self::RequestIncomplete => "request_incomplete",
            Self::TooManyValues => "too_many_values",
            Self::UnexpectedShape => "unexpected_shape",
            Self::UnexpectedType => "unexpected_type",
        }
    }
}
