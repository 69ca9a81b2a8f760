//! Reading heads.

use std::mem::MaybeUninit;

use http::{Method, StatusCode, Version};
use httparse::{Header, ParserConfig, Status};

use super::{Input, Malformed, keeps_alive};
use crate::head::{Fields, RequestHead, ResponseHead};

/// Reads heads of at most so many lines and bytes.
#[derive(Clone, Debug)]
pub struct Parser {
    max_lines: usize,
    max_bytes: usize,
    config: ParserConfig,
}

/// The head of an answer, and the version it came in.
#[derive(Debug)]
pub struct Answer {
    /// The head.
    pub head: ResponseHead,
    /// The version of whoever answered.
    pub version: Version,
}

impl Answer {
    /// Whether its connection may carry another exchange.
    #[must_use]
    pub fn keeps_alive(&self) -> bool {
        keeps_alive(self.version, &self.head.fields)
    }
}

impl Parser {
    /// Reads requests strictly. Answers are read as browsers do: folded lines are unfolded, spaces before a colon ignored, lines
    /// that are none left out. A success that is oddly written must not become an error.
    #[must_use]
    pub fn new(max_lines: usize, max_bytes: usize) -> Self {
        let mut config = ParserConfig::default();
        config
            .allow_obsolete_multiline_headers_in_responses(true)
            .allow_spaces_after_header_name_in_responses(true)
            .ignore_invalid_headers_in_responses(true);
        Self { max_lines, max_bytes, config }
    }

    /// Takes the head of a request from what was read, once it is whole.
    ///
    /// # Errors
    /// When it is no head, or too large a one.
    pub fn request(&self, input: &mut Input) -> Result<Option<RequestHead>, Malformed> {
        self.with_room(input, |read, room| {
            let mut request = httparse::Request::new(&mut []);
            let status = self.config.parse_request_with_uninit_headers(&mut request, read, room)?;
            let Status::Complete(length) = status else { return Ok(None) };
            let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version)
            else {
                return Ok(None);
            };
            let head = RequestHead {
                method: Method::from_bytes(method.as_bytes()).map_err(|_| httparse::Error::Token)?,
                target: target.to_owned(),
                version: version_of(version),
                fields: fields(request.headers, length),
            };
            Ok(Some((head, length)))
        })
    }

    /// Takes the head of an answer from what was read, once it is whole.
    ///
    /// # Errors
    /// When it is no head, or too large a one.
    pub fn answer(&self, input: &mut Input) -> Result<Option<Answer>, Malformed> {
        self.with_room(input, |read, room| {
            let mut answer = httparse::Response::new(&mut []);
            let status = self.config.parse_response_with_uninit_headers(&mut answer, read, room)?;
            let Status::Complete(length) = status else { return Ok(None) };
            let (Some(code), Some(version)) = (answer.code, answer.version) else { return Ok(None) };
            let head = ResponseHead {
                status: StatusCode::from_u16(code).map_err(|_| httparse::Error::Status)?,
                reason: answer.reason.map(|reason| reason.as_bytes().to_vec()),
                fields: fields(answer.headers, length),
            };
            Ok(Some((Answer { head, version: version_of(version) }, length)))
        })
    }

    /// Parses with room for as many lines as most heads have, and again with all that is allowed for the others. A head that comes
    /// in many parts is looked at only when a line of it has become whole.
    fn with_room<T>(
        &self,
        input: &mut Input,
        parse: impl for<'h, 'b> Fn(
            &'b [u8],
            &'h mut [MaybeUninit<Header<'b>>],
        ) -> Result<Option<(T, usize)>, httparse::Error>,
    ) -> Result<Option<T>, Malformed> {
        input.skip_empty_lines();
        let read = input.bytes();
        let too_large = read.len() >= self.max_bytes;
        if read.is_empty() || !(input.is_promising() || too_large) {
            return Ok(None);
        }
        let usual = self.max_lines.min(USUAL_LINES);
        let mut parsed = parse(read, &mut [const { MaybeUninit::uninit() }; USUAL_LINES][..usual]);
        if matches!(parsed, Err(httparse::Error::TooManyHeaders)) && usual < self.max_lines {
            parsed = parse(read, &mut vec![MaybeUninit::uninit(); self.max_lines]);
        }
        match parsed {
            Ok(Some((_, length))) if length > self.max_bytes => Err(Malformed::TooLarge),
            Ok(None) if too_large => Err(Malformed::TooLarge),
            Ok(Some((head, length))) => {
                input.consume(length);
                Ok(Some(head))
            }
            Ok(None) => {
                input.was_partial();
                Ok(None)
            }
            Err(httparse::Error::TooManyHeaders) => Err(Malformed::TooLarge),
            Err(_) => Err(Malformed::Head),
        }
    }
}

fn version_of(minor: u8) -> Version {
    if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 }
}

fn fields(lines: &[Header<'_>], bytes: usize) -> Fields {
    // Some room for what the next hop is told in addition.
    let mut fields = Fields::with_capacity(lines.len() + 1, bytes);
    for line in lines {
        if line.value.contains(&b'\n') {
            fields.push(line.name, unfolded(line.value));
        } else {
            fields.push(line.name, line.value);
        }
    }
    fields
}

/// A folded value in one line: each fold becomes a space (RFC 9112 §5.2).
fn unfolded(value: &[u8]) -> Vec<u8> {
    let lines = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.collect::<Vec<_>>().join(&b' ')
}

/// More are rare, and read in a second attempt.
const USUAL_LINES: usize = 64;
