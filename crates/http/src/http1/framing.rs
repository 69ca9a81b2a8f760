//! Finds where a body ends (RFC 9112 §6.3), and whether a connection stays open.

use http::{Method, StatusCode, Version};

use super::Malformed;
use crate::head::{Fields, ResponseHead, Verdict, is, is_token};

/// How the end of a body is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    Empty,
    /// The body has this length.
    Length(u64),
    /// The body is chunked.
    Chunked,
    /// The body ends with the connection.
    UntilClose,
}

/// Finds where the body of a request ends.
///
/// # Errors
/// If two readers could find different ends: a length that is not a number, two different lengths,
/// a last coding other than `chunked`, an invalid coding name, or chunks in HTTP/1.0. If both a
/// length and chunks are given, the chunks count. Then the length must not be forwarded, and the
/// connection must not be reused.
pub fn of_request(version: Version, fields: &Fields) -> Result<Framing, Malformed> {
    if fields.contains("transfer-encoding") {
        let codings = fields.tokens("transfer-encoding");
        let chunks = codings.clone().filter(|coding| is(coding, "chunked")).count();
        let are_names = codings.clone().all(is_token);
        let is_last = codings.last().is_some_and(|coding| is(coding, "chunked"));
        return if version == Version::HTTP_11 && are_names && is_last && chunks == 1 {
            Ok(Framing::Chunked)
        } else {
            Err(Malformed::Framing)
        };
    }
    Ok(length(fields)?.map_or(Framing::Empty, Framing::Length))
}

/// Where the body of a response ends, and whether that is certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// How the end of the body is marked.
    pub framing: Framing,
    /// Whether every reader finds the same end, so that another response may follow on the
    /// connection.
    pub is_certain: bool,
}

/// Finds where the body of a response to `method` ends. Rewrites the head so that it states this
/// only once, without contradictions.
///
/// There is always an end, because a success must not become an error (RFC 9112 §6.3). Chunks take
/// precedence over a length. A length counts if all its values are the same number. Any other body
/// ends with its connection: a body without a length, with an unreadable length, or with a last
/// coding other than `chunked`. `identity` does not count as a coding.
pub fn settle_response(method: &Method, version: Version, head: &mut ResponseHead) -> Settled {
    let ResponseHead { status, fields, .. } = head;
    let is_coded = fields.contains("transfer-encoding");
    let has_length = fields.contains("content-length");
    let ends_here = has_no_body(*status);
    let coding = Coding::of(fields);
    let length = if coding == Coding::None { length_of_response(fields) } else { None };
    // Some clients wait for chunks whatever the status is, and 204 must not have a transfer coding
    // (RFC 9112 §6.1).
    let said = if ends_here && *method != Method::HEAD { Coding::None } else { coding };
    say_once(fields, said, length);
    if *method == Method::HEAD || ends_here {
        // A server that announces a body where none is allowed may actually send it.
        let announced = is_coded || (has_length && length != Some(0));
        return Settled {
            framing: Framing::Empty,
            is_certain: !(announced && *status == StatusCode::NO_CONTENT),
        };
    }
    let framing = match (coding, length) {
        (Coding::Chunked { .. }, _) => Framing::Chunked,
        (Coding::None, Some(length)) => Framing::Length(length),
        (Coding::None, None) | (Coding::Other, _) => Framing::UntilClose,
    };
    // HTTP/1.0 does not support chunks (RFC 9112 §6.1).
    let is_doubtful = is_coded && (has_length || coding == Coding::None || version == Version::HTTP_10);
    Settled { framing, is_certain: framing != Framing::UntilClose && !is_doubtful }
}

/// The transfer coding of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    None,
    /// `chunked` is the last coding, so the body marks its own end. `alone` if it is the only
    /// coding.
    Chunked {
        alone: bool,
    },
    Other,
}

impl Coding {
    fn of(fields: &Fields) -> Self {
        let codings = fields.tokens("transfer-encoding");
        let mut codings = codings.filter(|coding| !coding.is_empty() && !is(coding, "identity")).peekable();
        if codings.peek().is_none() {
            return Self::None;
        }
        let (mut alone, mut last) = (true, false);
        for coding in codings {
            last = is(coding, "chunked");
            alone &= last;
        }
        if last { Self::Chunked { alone } } else { Self::Other }
    }
}

/// Makes the head state the end of the body only once, with a length only if there is one.
fn say_once(fields: &mut Fields, coding: Coding, length: Option<u64>) {
    let (mut length_is_said, mut coding_is_said) = (false, false);
    let is_plain = |value: &[u8]| value.iter().all(u8::is_ascii_digit);
    let is_listed = length.is_some() && !fields.get("content-length").is_some_and(is_plain);
    let text = if is_listed { length.unwrap_or_default().to_string() } else { String::new() };
    fields.rewrite(|name, value| {
        if is(name, "content-length") {
            let first = !std::mem::replace(&mut length_is_said, true);
            return match length {
                Some(_) if first && is_listed => Verdict::Replace(text.as_bytes()),
                length => Verdict::drop_if(length.is_none() || !first),
            };
        }
        if is(name, "transfer-encoding") {
            let first = !std::mem::replace(&mut coding_is_said, true);
            return match coding {
                Coding::None => Verdict::Drop,
                Coding::Chunked { alone: true } if first && !is(value, "chunked") => {
                    Verdict::Replace(b"chunked")
                }
                Coding::Chunked { alone: true } => Verdict::drop_if(!first),
                Coding::Chunked { alone: false } | Coding::Other => Verdict::Keep,
            };
        }
        Verdict::Keep
    });
}

/// Whether a response with this status ends with its head, whatever the head says (RFC 9112 §6.3).
pub(super) fn has_no_body(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// The length of a message. Several lines must give the same length.
pub(super) fn length(fields: &Fields) -> Result<Option<u64>, Malformed> {
    same(fields.get_all("content-length"))
}

/// The length of a response, if it can be parsed. A line may contain a list (RFC 9110 §8.6).
fn length_of_response(fields: &Fields) -> Option<u64> {
    same(fields.tokens("content-length")).ok().flatten()
}

/// The number that all values are equal to.
fn same<'a>(values: impl Iterator<Item = &'a [u8]>) -> Result<Option<u64>, Malformed> {
    let mut length = None;
    for value in values {
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

/// Whether the sender of a message wants to keep the connection open (RFC 9112 §9.3).
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
        for refused in [
            "",
            "identity",
            "gzip",
            "chunked, gzip",
            "chunked, chunked",
            "xchunked",
            "chunked,",
            ", chunked",
            "gzip,, chunked",
            "chunked;q=1",
            "\"a, chunked",
            "\u{b}chunked",
        ] {
            assert_eq!(coded(refused), Err(Malformed::Framing), "{refused}");
        }
        let two = [("transfer-encoding", "chunked"), ("transfer-encoding", "identity")];
        assert_eq!(of(&two), Err(Malformed::Framing));
        assert_eq!(of_request(Version::HTTP_10, &fields(&two[..1])), Err(Malformed::Framing));
    }

    /// Where a response ends, whether that is certain, and the framing lines of its head.
    fn settled(
        method: Method,
        version: Version,
        status: u16,
        lines: &[(&str, &str)],
    ) -> (Framing, bool, String) {
        let mut head = ResponseHead::new(StatusCode::from_u16(status).unwrap());
        head.fields = fields(lines);
        let Settled { framing, is_certain } = settle_response(&method, version, &mut head);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said = head.fields.iter().map(|(name, value)| format!("{}={}", text(name), text(value)));
        (framing, is_certain, said.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_response_ends_somewhere_and_says_so_once() {
        let length = |value| ("length", value);
        let coding = |value| ("coding", value);
        for (lines, framing, is_certain, said) in [
            (&[][..], UntilClose, false, ""),
            (&[length("3")], Length(3), true, "length=3"),
            (&[length("3"), length("3")], Length(3), true, "length=3"),
            (&[length("03"), length("3")], Length(3), true, "length=03"),
            (&[length("3, 3")], Length(3), true, "length=3"),
            (&[length("3"), length("3 ,03")], Length(3), true, "length=3"),
            (&[length("3"), length("4")], UntilClose, false, ""),
            (&[length("3, 4")], UntilClose, false, ""),
            (&[length("3,")], UntilClose, false, ""),
            (&[length("")], UntilClose, false, ""),
            (&[length("+3")], UntilClose, false, ""),
            (&[length("3 3")], UntilClose, false, ""),
            (&[length("18446744073709551616")], UntilClose, false, ""),
            (&[length("18446744073709551615")], Length(u64::MAX), true, "length=18446744073709551615"),
            (&[coding("chunked")], Chunked, true, "coding=chunked"),
            (&[coding("CHUNKED")], Chunked, true, "coding=CHUNKED"),
            (&[coding("chunked"), length("3")], Chunked, false, "coding=chunked"),
            (&[length("+3"), coding("chunked")], Chunked, false, "coding=chunked"),
            (&[coding("chunked"), coding("chunked")], Chunked, true, "coding=chunked"),
            (&[coding(", chunked ,chunked,")], Chunked, true, "coding=chunked"),
            (&[coding("identity, chunked")], Chunked, true, "coding=chunked"),
            (&[coding("gzip, chunked")], Chunked, true, "coding=gzip, chunked"),
            (&[coding("gzip"), coding("chunked")], Chunked, true, "coding=gzip coding=chunked"),
            (&[coding("gzip")], UntilClose, false, "coding=gzip"),
            (&[coding("gzip"), length("3")], UntilClose, false, "coding=gzip"),
            (&[coding("chunked, gzip")], UntilClose, false, "coding=chunked, gzip"),
            (&[coding("\u{b}chunked")], UntilClose, false, "coding=\u{b}chunked"),
            (&[coding("identity")], UntilClose, false, ""),
            (&[coding("identity"), length("3")], Length(3), false, "length=3"),
            (&[coding(""), length("3, 3")], Length(3), false, "length=3"),
        ] {
            let named = |name: &str| match name {
                "length" => "Content-Length",
                _ => "Transfer-Encoding",
            };
            let lines: Vec<_> = lines.iter().map(|(name, value)| (named(name), *value)).collect();
            let said = said.replace("length=", "Content-Length=").replace("coding=", "Transfer-Encoding=");
            let got = settled(Method::GET, Version::HTTP_11, 200, &lines);
            assert_eq!(got, (framing, is_certain, said), "{lines:?}");
        }
        let chunks = [("transfer-encoding", "chunked")];
        assert!(!settled(Method::GET, Version::HTTP_10, 200, &chunks).1, "HTTP/1.0 knows no chunks");
    }

    #[test]
    fn responses_without_a_body_keep_what_they_say_of_one() {
        let empty = |is_certain, said: &str| (Empty, is_certain, said.to_owned());
        let long = [("length", "3"), ("content-length", "3")];
        for status in [100, 101, 103, 304] {
            let got = settled(Method::GET, Version::HTTP_11, status, &long);
            assert_eq!(got, empty(true, "length=3 content-length=3"), "{status}");
        }
        let of = |method, status, line| settled(method, Version::HTTP_11, status, &[line]);
        assert_eq!(of(Method::HEAD, 200, ("content-length", "3, 3")), empty(true, "content-length=3"));
        assert_eq!(of(Method::HEAD, 200, ("content-length", "+3")), empty(true, ""));
        // A body that is not allowed may be sent anyway.
        assert_eq!(of(Method::GET, 204, ("content-length", "3")), empty(false, "content-length=3"));
        assert_eq!(of(Method::GET, 204, ("content-length", "three")), empty(false, ""));
        assert_eq!(of(Method::GET, 204, ("content-length", "0")), empty(true, "content-length=0"));
        assert_eq!(of(Method::GET, 204, ("transfer-encoding", "chunked")), empty(false, ""));
        assert_eq!(
            of(Method::HEAD, 200, ("transfer-encoding", "chunked")),
            empty(true, "transfer-encoding=chunked")
        );
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
