//! Writing messages.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Version};

use super::framing::{has_no_body, length};
use super::{Malformed, Output};
use crate::head::{Fields, RequestHead, ResponseHead, Verdict, is};

/// Writes one body, in the framing its head has told.
#[derive(Debug)]
pub struct Encoder(EncoderState);

#[derive(Debug)]
enum EncoderState {
    /// So much is to come.
    Length(u64),
    Chunked,
    UntilClose,
}

/// More or less of a body came than its head said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongLength;

impl Encoder {
    /// For no body.
    #[must_use]
    pub fn empty() -> Self {
        Self(EncoderState::Length(0))
    }

    /// For the body of a request. Where the head does not tell its end it is made to tell of chunks.
    ///
    /// # Errors
    /// When the head's length is none.
    pub fn of_request(fields: &mut Fields, is_empty: bool) -> Result<Self, Malformed> {
        if fields.contains("transfer-encoding") {
            return Ok(Self(EncoderState::Chunked));
        }
        let state = match length(fields)? {
            Some(length) => EncoderState::Length(length),
            None if is_empty => EncoderState::Length(0),
            None => {
                fields.push("transfer-encoding", "chunked");
                EncoderState::Chunked
            }
        };
        Ok(Self(state))
    }

    /// For the body of a response to a client that asked with `method` and speaks `version`. Where the head does not tell its end,
    /// it is made to tell of chunks; HTTP/1.0 does not know them, and has the end of the connection instead. So has a body in
    /// another coding than chunks: whoever does not undo the one would not undo the others.
    ///
    /// # Errors
    /// When the head's length is none.
    pub fn of_response(
        method: &Method,
        version: Version,
        head: &mut ResponseHead,
    ) -> Result<Self, Malformed> {
        if *method == Method::HEAD || has_no_body(head.status) {
            return Ok(Self(EncoderState::Length(0)));
        }
        let fields = &mut head.fields;
        let is_coded = fields.contains("transfer-encoding");
        let state = match length(fields)? {
            Some(length) if !is_coded => EncoderState::Length(length),
            _ if version == Version::HTTP_10 => {
                let of_chunks = |name: &[u8]| is(name, "transfer-encoding") || is(name, "trailer");
                fields.rewrite(|name, _| Verdict::drop_if(of_chunks(name)));
                EncoderState::UntilClose
            }
            _ if !is_coded => {
                fields.push("transfer-encoding", "chunked");
                EncoderState::Chunked
            }
            _ if fields.tokens("transfer-encoding").last().is_some_and(|last| is(last, "chunked")) => {
                EncoderState::Chunked
            }
            _ => EncoderState::UntilClose,
        };
        Ok(Self(state))
    }

    /// Whether only the end of the connection tells the end of the body.
    #[must_use]
    pub fn is_until_close(&self) -> bool {
        matches!(self.0, EncoderState::UntilClose)
    }

    /// Writes a part of the body.
    ///
    /// # Errors
    /// When it is more than was announced.
    pub fn data(&mut self, data: Bytes, output: &mut Output) -> Result<(), WrongLength> {
        if data.is_empty() {
            // An empty chunk would be the last.
            return Ok(());
        }
        match &mut self.0 {
            EncoderState::UntilClose => output.push(data),
            EncoderState::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(WrongLength)?;
                output.push(data);
            }
            EncoderState::Chunked => {
                write_size(output.buffer(), data.len());
                output.push(data);
                output.buffer().extend_from_slice(b"\r\n");
            }
        }
        Ok(())
    }

    /// Writes the end of the body, with trailers if it is in chunks.
    ///
    /// # Errors
    /// When it is less than was announced.
    pub fn end(self, trailers: Option<&HeaderMap>, output: &mut Output) -> Result<(), WrongLength> {
        match self.0 {
            EncoderState::UntilClose | EncoderState::Length(0) => Ok(()),
            EncoderState::Length(_) => Err(WrongLength),
            EncoderState::Chunked => {
                let buffer = output.buffer();
                buffer.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.into_iter().flatten() {
                    if may_trail(name) {
                        write_line(buffer, name.as_ref(), value.as_bytes());
                    }
                }
                buffer.extend_from_slice(b"\r\n");
                Ok(())
            }
        }
    }
}

/// Whether a field may come after the body: none of those that decide where a message ends or what becomes of it
/// (RFC 9110 §6.5.1).
pub(super) fn may_trail(name: &HeaderName) -> bool {
    !matches!(
        name.as_str(),
        "authorization"
            | "cache-control"
            | "connection"
            | "content-encoding"
            | "content-length"
            | "content-range"
            | "content-type"
            | "host"
            | "http2-settings"
            | "keep-alive"
            | "max-forwards"
            | "proxy-connection"
            | "set-cookie"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Writes the head of a request.
pub fn write_request(head: &RequestHead, buffer: &mut Vec<u8>) {
    buffer.extend_from_slice(head.method.as_str().as_bytes());
    buffer.push(b' ');
    buffer.extend_from_slice(head.target.as_bytes());
    buffer.extend_from_slice(b" HTTP/1.1\r\n");
    write_lines(&head.fields, buffer);
}

/// Writes the head of a response to a client that speaks `version`.
pub fn write_response(head: &ResponseHead, version: Version, buffer: &mut Vec<u8>) {
    let version: &[u8] = if version == Version::HTTP_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " };
    buffer.extend_from_slice(version);
    buffer.extend_from_slice(head.status.as_str().as_bytes());
    buffer.push(b' ');
    match &head.reason {
        Some(reason) => buffer.extend_from_slice(reason),
        None => buffer.extend_from_slice(head.status.canonical_reason().unwrap_or_default().as_bytes()),
    }
    buffer.extend_from_slice(b"\r\n");
    write_lines(&head.fields, buffer);
}

fn write_lines(fields: &Fields, buffer: &mut Vec<u8>) {
    // At once: a head that grows line by line is copied four times.
    buffer.reserve(
        fields.iter().map(|(name, value)| name.len() + value.len() + ": \r\n".len()).sum::<usize>() + 2,
    );
    for (name, value) in fields.iter() {
        write_line(buffer, name, value);
    }
    buffer.extend_from_slice(b"\r\n");
}

fn write_line(buffer: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    buffer.extend_from_slice(name);
    buffer.push(b':');
    if !value.is_empty() {
        buffer.push(b' ');
        buffer.extend_from_slice(value);
    }
    buffer.extend_from_slice(b"\r\n");
}

/// The size of a chunk, in hexadecimal digits.
fn write_size(buffer: &mut Vec<u8>, size: usize) {
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4);
    buffer.extend((0..digits).rev().map(|digit| b"0123456789ABCDEF"[size >> (4 * digit) & 0xf]));
    buffer.extend_from_slice(b"\r\n");
}
