//! Odd input that was met, by kind.

/// Odd input. It costs capture, never forwarding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A body is compressed in a way that is not known, or its compression is broken.
    ContentEncoding,
    /// An event was longer than what is kept.
    EventTooLarge,
    /// Half a character: an escape of half a UTF-16 pair, or bytes that are not UTF-8. It is read as U+FFFD, unless the other half comes
    /// in the next event. Or a control character that should have been escaped.
    HalfCharacter,
    /// Part of the copy was lost on the way.
    Incomplete,
    /// A body or an event is not JSON.
    InvalidJson,
    /// `NaN` or `Infinity` where a number should stand; it is read as null.
    NoNumber,
    /// The request's body was not copied as a whole, so its messages are not known.
    RequestIncomplete,
    /// A body or an event has more values than are read, or is too deep: some were left out.
    TooManyValues,
    /// JSON, but not what the endpoint answers.
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
