//! Where a body ends (RFC 9112 §6.3), and whether a connection goes on.

use http::{Method, StatusCode, Version};

use super::Malformed;
use crate::head::{Fields, is};

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    Empty,
    /// It has this length.
    Length(u64),
    /// It comes in chunks.
    Chunked,
    /// It ends with the connection.
    UntilClose,
}

/// Where the body of a request ends.
///
/// # Errors
/// When two readers could find two ends: a length that is no number, two lengths, a coding that is not `chunked` in the last
/// place, chunks in HTTP/1.0. Where a length and chunks are given, the chunks count; the length must not go on, and neither the
/// connection.
pub fn of_request(version: Version, fields: &Fields) -> Result<Framing, Malformed> {
    if fields.contains("transfer-encoding") {
        let codings = fields.tokens("transfer-encoding");
        let chunks = codings.clone().filter(|coding| is(coding, "chunked")).count();
        let is_last = codings.last().is_some_and(|coding| is(coding, "chunked"));
        return if version == Version::HTTP_11 && is_last && chunks == 1 {
            Ok(Framing::Chunked)
        } else {
            Err(Malformed::Framing)
        };
    }
    Ok(length(fields)?.map_or(Framing::Empty, Framing::Length))
}

/// Where the body of an answer to `method` ends.
///
/// # Errors
/// When there are two lengths, or one that is no number. Anything else has an answer: without a length, and with a coding that
/// does not end itself, a body ends with the connection.
pub fn of_response(method: &Method, status: StatusCode, fields: &Fields) -> Result<Framing, Malformed> {
    if *method == Method::HEAD || has_no_body(status) {
        return Ok(Framing::Empty);
    }
    if fields.contains("transfer-encoding") {
        let last = fields.tokens("transfer-encoding").last();
        let chunked = last.is_some_and(|coding| is(coding, "chunked"));
        return Ok(if chunked { Framing::Chunked } else { Framing::UntilClose });
    }
    Ok(length(fields)?.map_or(Framing::UntilClose, Framing::Length))
}

/// Answers that end with their head, whatever it says (RFC 9112 §6.3).
pub(super) fn has_no_body(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// The length a message gives; several lines must give the same.
pub(super) fn length(fields: &Fields) -> Result<Option<u64>, Malformed> {
    let mut length = None;
    for value in fields.get_all("content-length") {
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let text = std::str::from_utf8(value).map_err(|_| Malformed::Framing)?;
        let number = text.parse().ok().filter(|_| digits).ok_or(Malformed::Framing)?;
        if length.is_some_and(|length| length != number) {
            return Err(Malformed::Framing);
        }
        length = Some(number);
    }
    Ok(length)
}

/// Whether whoever sent a message means to go on with its connection (RFC 9112 §9.3).
#[must_use]
pub fn keeps_alive(version: Version, fields: &Fields) -> bool {
    let mut tokens = fields.tokens("connection");
    if version == Version::HTTP_10 {
        let closes = tokens.clone().any(|token| is(token, "close"));
        return !closes && tokens.any(|token| is(token, "keep-alive"));
    }
    !tokens.any(|token| is(token, "close"))
}

#[cfg(test)]
mod tests {
    use super::Framing::{Chunked, Empty, Length, UntilClose};
    use super::*;

    fn fields(lines: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        lines.iter().for_each(|(name, value)| fields.push(name, value));
        fields
    }

    #[test]
    fn a_request_has_one_end_or_is_refused() {
        let of = |lines: &[(&str, &str)]| of_request(Version::HTTP_11, &fields(lines));
        assert_eq!(of(&[]), Ok(Empty));
        assert_eq!(of(&[("Content-Length", "0")]), Ok(Length(0)));
        assert_eq!(of(&[("content-length", "18446744073709551615")]), Ok(Length(u64::MAX)));
        assert_eq!(of(&[("content-length", "3"), ("Content-Length", "03")]), Ok(Length(3)));
        for refused in ["", "+3", "-3", "3,3", "3 3", "0x3", "18446744073709551616", "3.0", "\u{b2}"] {
            assert_eq!(of(&[("content-length", refused)]), Err(Malformed::Framing), "{refused}");
        }
        assert_eq!(of(&[("content-length", "3"), ("content-length", "4")]), Err(Malformed::Framing));
        let coded = |coding: &str| of(&[("content-length", "x"), ("transfer-encoding", coding)]);
        for chunked in ["chunked", "CHUNKED", "gzip, chunked", "gzip,\tchunked"] {
            assert_eq!(coded(chunked), Ok(Chunked), "{chunked}");
        }
        for refused in ["", "identity", "gzip", "chunked, gzip", "chunked, chunked", "xchunked", "chunked,"] {
            assert_eq!(coded(refused), Err(Malformed::Framing), "{refused}");
        }
        let two = [("transfer-encoding", "chunked"), ("transfer-encoding", "identity")];
        assert_eq!(of(&two), Err(Malformed::Framing));
        assert_eq!(of_request(Version::HTTP_10, &fields(&two[..1])), Err(Malformed::Framing));
    }

    #[test]
    fn an_answer_ends_somewhere() {
        let of = |method: Method, status: u16, lines: &[(&str, &str)]| {
            of_response(&method, StatusCode::from_u16(status).unwrap(), &fields(lines))
        };
        let long = [("content-length", "3")];
        for status in [100, 101, 103, 204, 304] {
            assert_eq!(of(Method::GET, status, &long), Ok(Empty), "{status}");
        }
        assert_eq!(of(Method::HEAD, 200, &long), Ok(Empty));
        assert_eq!(of(Method::GET, 200, &long), Ok(Length(3)));
        assert_eq!(of(Method::GET, 200, &[]), Ok(UntilClose));
        assert_eq!(of(Method::GET, 200, &[("transfer-encoding", "gzip")]), Ok(UntilClose));
        assert_eq!(of(Method::GET, 200, &[("transfer-encoding", "gzip, chunked"), long[0]]), Ok(Chunked));
        assert_eq!(of(Method::GET, 200, &[("content-length", "one")]), Err(Malformed::Framing));
    }

    #[test]
    fn a_connection_goes_on_unless_somebody_says_otherwise() {
        let keeps = |version, lines: &[(&str, &str)]| keeps_alive(version, &fields(lines));
        assert!(keeps(Version::HTTP_11, &[]));
        assert!(!keeps(Version::HTTP_11, &[("connection", "keep-alive, Close")]));
        assert!(!keeps(Version::HTTP_10, &[]));
        assert!(keeps(Version::HTTP_10, &[("connection", "Keep-Alive")]));
        assert!(!keeps(Version::HTTP_10, &[("connection", "close, keep-alive")]));
    }
}
