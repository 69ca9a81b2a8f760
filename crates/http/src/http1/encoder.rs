//! Message encoding.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Version};

use super::framing::{has_no_body, length};
use super::{Malformed, Output};
use crate::head::{Fields, RequestHead, ResponseHead, Verdict, is};

/// Writes one body with the framing that its head announces.
#[derive(Debug)]
pub struct Encoder(EncoderState);

#[derive(Debug)]
enum EncoderState {
    /// This many bytes are left to write.
    Length(u64),
    Chunked,
    UntilClose,
}

/// The body is longer or shorter than its head announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongLength;

impl Encoder {
    /// Creates an encoder for a message without a body.
    #[must_use]
    pub fn empty() -> Self {
        Self(EncoderState::Length(0))
    }

    /// Creates an encoder for a request body. If the head does not announce the end of the body,
    /// this adds `transfer-encoding: chunked`.
    ///
    /// # Errors
    /// If the length in the head is invalid.
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

    /// Creates an encoder for a response to a client that used `method` and speaks `version`. If
    /// the head does not announce the end of the body, this adds chunked framing. HTTP/1.0 does not
    /// support chunks, so there the end of the connection ends the body. The same holds for a body
    /// with a transfer coding other than `chunked`, because a client that cannot decode that coding
    /// would not decode the chunks either.
    ///
    /// # Errors
    /// If the length in the head is invalid.
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

    /// Whether the body ends only with the connection.
    #[must_use]
    pub fn is_until_close(&self) -> bool {
        matches!(self.0, EncoderState::UntilClose)
    }

    /// Writes a part of the body.
    ///
    /// # Errors
    /// If the body is longer than announced.
    pub fn data(&mut self, data: Bytes, output: &mut Output) -> Result<(), WrongLength> {
        if data.is_empty() {
            // An empty chunk would end the body.
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

    /// Writes the end of the body. Trailers are written only if the body is chunked.
    ///
    /// # Errors
    /// If the body is shorter than announced.
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

/// Whether a field may be sent after the body. Fields that control framing or how the message is
/// processed may not (RFC 9110 §6.5.1).
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
    // Reserves the space at once. A buffer that grows line by line is copied four times.
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
