//! Head parsing.

use std::mem::MaybeUninit;

use http::{Method, Version};
use httparse::{Header, Status};

use super::response::{self, Response};
use super::{Input, Malformed, keeps_alive};
use crate::head::{Fields, RequestHead};

/// Parses heads up to a maximum number of lines and bytes. Request heads are parsed strictly, by
/// `httparse`, and response heads tolerantly.
#[derive(Clone, Debug)]
pub struct Parser {
    max_lines: usize,
    max_bytes: usize,
}

impl Response {
    /// Whether the sender allows another exchange on the connection.
    #[must_use]
    pub fn keeps_alive(&self) -> bool {
        keeps_alive(self.version, &self.head.fields)
    }
}

impl Parser {
    /// Creates a parser for heads with at most this many lines and bytes.
    #[must_use]
    pub fn new(max_lines: usize, max_bytes: usize) -> Self {
        Self { max_lines, max_bytes }
    }

    /// Takes the head of a request from the input, once it is complete.
    ///
    /// # Errors
    /// If the head is invalid or too large.
    pub fn request(&self, input: &mut Input) -> Result<Option<RequestHead>, Malformed> {
        self.head(input, |read| {
            // Tries with room for as many lines as most heads have. If that is not enough, tries
            // again with room for the maximum.
            let usual = self.max_lines.min(USUAL_LINES);
            let parsed = request(read, &mut [const { MaybeUninit::uninit() }; USUAL_LINES][..usual]);
            if matches!(parsed, Err(Malformed::TooLarge)) && usual < self.max_lines {
                return request(read, &mut vec![MaybeUninit::uninit(); self.max_lines]);
            }
            parsed
        })
    }

    /// Takes the head of a response from the input, once it is complete.
    ///
    /// # Errors
    /// If the head is invalid or too large.
    pub fn response(&self, input: &mut Input) -> Result<Option<Response>, Malformed> {
        self.head(input, |read| response::parse(read, self.max_lines))
    }

    /// Takes a head. If the head arrives in many parts, it is parsed again only after another line
    /// is complete.
    fn head<T>(
        &self,
        input: &mut Input,
        parse: impl Fn(&[u8]) -> Result<Option<(T, usize)>, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        input.skip_empty_lines();
        let read = input.bytes();
        let too_large = read.len() >= self.max_bytes;
        // The byte after a CR shows whether the CR is half of an empty line.
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
    // Leaves some room for lines that the proxy adds for the next hop.
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

/// Heads with more lines are rare, and need a second attempt.
const USUAL_LINES: usize = 64;
