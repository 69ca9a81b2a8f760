//! Reading heads.

use std::mem::MaybeUninit;

use http::{Method, Version};
use httparse::{Header, Status};

use super::response::{self, Response};
use super::{Input, Malformed, keeps_alive};
use crate::head::{Fields, RequestHead};

/// Reads heads of at most so many lines and bytes: those of requests strictly, by `httparse`, and those of responses tolerantly.
#[derive(Clone, Debug)]
pub struct Parser {
    max_lines: usize,
    max_bytes: usize,
}

impl Response {
    /// Whether its connection may carry another exchange, as far as its sender says so.
    #[must_use]
    pub fn keeps_alive(&self) -> bool {
        keeps_alive(self.version, &self.head.fields)
    }
}

impl Parser {
    /// Reads heads of at most so many lines and bytes.
    #[must_use]
    pub fn new(max_lines: usize, max_bytes: usize) -> Self {
        Self { max_lines, max_bytes }
    }

    /// Takes the head of a request from what was read, once it is whole.
    ///
    /// # Errors
    /// When it is no head, or too large a one.
    pub fn request(&self, input: &mut Input) -> Result<Option<RequestHead>, Malformed> {
        self.head(input, |read| {
            // With room for as many lines as most heads have, and again with all that is allowed for the others.
            let usual = self.max_lines.min(USUAL_LINES);
            let parsed = request(read, &mut [const { MaybeUninit::uninit() }; USUAL_LINES][..usual]);
            if matches!(parsed, Err(Malformed::TooLarge)) && usual < self.max_lines {
                return request(read, &mut vec![MaybeUninit::uninit(); self.max_lines]);
            }
            parsed
        })
    }

    /// Takes the head of a response from what was read, once it is whole.
    ///
    /// # Errors
    /// When it is no head, or too large a one.
    pub fn response(&self, input: &mut Input) -> Result<Option<Response>, Malformed> {
        self.head(input, |read| response::parse(read, self.max_lines))
    }

    /// Takes a head. One that comes in many parts is looked at only when a line of it has become whole.
    fn head<T>(
        &self,
        input: &mut Input,
        parse: impl Fn(&[u8]) -> Result<Option<(T, usize)>, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        input.skip_empty_lines();
        let read = input.bytes();
        let too_large = read.len() >= self.max_bytes;
        // What follows a CR says whether it is half of an empty line.
        if matches!(read, [] | [b'\r']) || !(input.is_promising() || too_large) {
            return Ok(None);
        }
        match parse(read)? {
            Some((_, length)) if length > self.max_bytes => Err(Malformed::TooLarge),
            None if too_large => Err(Malformed::TooLarge),
            Some((head, length)) => {
                input.consume(length);
                Ok(Some(head))
            }
            None => {
                input.was_partial();
                Ok(None)
            }
        }
    }
}

fn request<'b>(
    read: &'b [u8],
    room: &mut [MaybeUninit<Header<'b>>],
) -> Result<Option<(RequestHead, usize)>, Malformed> {
    let mut request = httparse::Request::new(&mut []);
    let status = request.parse_with_uninit_headers(read, room).map_err(|error| match error {
        httparse::Error::TooManyHeaders => Malformed::TooLarge,
        _ => Malformed::Head,
    })?;
    let Status::Complete(length) = status else { return Ok(None) };
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Ok(None);
    };
    // Some room for what the next hop is told in addition.
    let mut fields = Fields::with_capacity(request.headers.len() + 1, length);
    request.headers.iter().for_each(|line| fields.push(line.name, line.value));
    let head = RequestHead {
        method: Method::from_bytes(method.as_bytes()).map_err(|_| Malformed::Head)?,
        target: target.to_owned(),
        version: if version == 0 { Version::HTTP_10 } else { Version::HTTP_11 },
        fields,
    };
    Ok(Some((head, length)))
}

/// More are rare, and read in a second attempt.
const USUAL_LINES: usize = 64;
