//! Parses the heads of responses, as tolerantly as possible without guessing.
//!
//! The parser accepts everything that has only one meaning, because an SDK that gets an error
//! instead of a success sends its request again. The result is stored in a form that has one
//! meaning when it is written: values contain no line ends, NUL or folds.

use std::borrow::Cow;

use http::{StatusCode, Version};
use memchr::{memchr, memchr_iter, memchr3};

use super::Malformed;
use crate::head::{Fields, ResponseHead, is_blank, is_token, trim_blanks};

/// The head of a response, and facts about its sender.
#[derive(Debug)]
pub struct Response {
    /// The head.
    pub head: ResponseHead,
    /// The HTTP version of the sender. HTTP/1.1 stands for all later versions of HTTP/1 (RFC 9110
    /// §2.5). Nothing is known about other major versions, so they are treated as HTTP/1.0, which
    /// closes its connections.
    pub version: Version,
    /// How many lines of the head were dropped because they are not header lines.
    pub left_out: usize,
}

/// Parses the response head at the start of `bytes`, and returns its length in bytes too. Returns
/// `None` if the head is incomplete.
///
/// # Errors
/// If it does not begin with a status line, or has more than `max_lines` header lines.
pub(super) fn parse(bytes: &[u8], max_lines: usize) -> Result<Option<(Response, usize)>, Malformed> {
    let start = &bytes[..bytes.len().min(PROTOCOL.len())];
    if !PROTOCOL.starts_with(start) {
        return Err(Malformed::Head);
    }
    let Some(first) = memchr(b'\n', bytes) else { return Ok(None) };
    let (version, status, reason) = status_line(without_end(&bytes[..first])).ok_or(Malformed::Head)?;
    let Some(end) = end(&bytes[first..]) else { return Ok(None) };
    let mut head = ResponseHead { status, reason, fields: Fields::default() };
    let left_out = read_lines(&bytes[first + 1..first + end], &mut head.fields);
    if head.fields.len() > max_lines {
        return Err(Malformed::TooLarge);
    }
    Ok(Some((Response { head, version, left_out }, first + end)))
}

/// The distance to the end of the first empty line. `bytes` begin with the end of a line.
fn end(bytes: &[u8]) -> Option<usize> {
    memchr_iter(b'\n', bytes).find_map(|at| match bytes[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

/// The version, status and reason of a status line (RFC 9112 §4). There may be several blanks
/// between them, and the reason and the blank before it may be missing. The reason is kept as
/// received, unless it is the standard phrase.
fn status_line(line: &[u8]) -> Option<(Version, StatusCode, Option<Vec<u8>>)> {
    let line = line.strip_prefix(PROTOCOL)?;
    let (version, rest) = line.split_at(line.iter().position(|byte| is_blank(*byte))?);
    let version = match version {
        [b'1', b'.', minor @ ..] if is_number(minor) => {
            if minor == b"0" {
                Version::HTTP_10
            } else {
                Version::HTTP_11
            }
        }
        [major, b'.', minor @ ..] if major.is_ascii_digit() && is_number(minor) => Version::HTTP_10,
        [major] if major.is_ascii_digit() => Version::HTTP_10,
        _ => return None,
    };
    let rest = &rest[rest.iter().position(|byte| !is_blank(*byte))?..];
    let (code, rest) = rest.split_at_checked(3)?;
    let status = StatusCode::from_bytes(code).ok()?;
    let reason = match rest {
        [] => rest,
        [blank, reason @ ..] if is_blank(*blank) => reason,
        // A substatus code, as sent by IIS: `403.1`.
        [b'.', ..] => rest,
        _ => return None,
    };
    let reason = harmless(reason);
    let is_usual = status.canonical_reason().is_some_and(|usual| usual.as_bytes() == &*reason);
    Some((version, status, (!is_usual).then(|| reason.into_owned())))
}

/// Parses header lines, each with its line end. Returns how many lines were dropped because they
/// are not header lines. A folded line is joined with the lines that continue it (RFC 9112 §5.2).
/// Blanks before a colon are not part of the name (§5.1).
pub(super) fn read_lines(mut lines: &[u8], fields: &mut Fields) -> usize {
    // Leaves some room for lines that the proxy adds for the next hop.
    *fields = Fields::with_capacity(memchr_iter(b'\n', lines).count() + 1, lines.len());
    let mut left_out = 0;
    while !lines.is_empty() {
        let (line, rest) = lines.split_at(line_end(lines));
        lines = rest;
        let line = without_end(line);
        match memchr(b':', line).map(|colon| (trim_blanks(&line[..colon]), &line[colon + 1..])) {
            Some((name, value)) if is_token(name) && !line.first().is_some_and(|byte| is_blank(*byte)) => {
                fields.push(name, harmless(trim_blanks(value)));
            }
            _ => left_out += usize::from(!line.is_empty()),
        }
    }
    left_out
}

/// The end of the first line that is not continued by the next line.
fn line_end(lines: &[u8]) -> usize {
    let ends = memchr_iter(b'\n', lines).map(|at| at + 1);
    let mut ends = ends.filter(|end| !lines.get(*end).is_some_and(|byte| is_blank(*byte)));
    ends.next().unwrap_or(lines.len())
}

/// Makes a value fit in one line. Everything that another parser could take for its end becomes a
/// space: folds, CR and NUL (RFC 9110 §5.5).
fn harmless(value: &[u8]) -> Cow<'_, [u8]> {
    if memchr3(b'\n', b'\r', 0, value).is_none() {
        return Cow::Borrowed(value);
    }
    let lines = value.split(|byte| *byte == b'\n').map(|line| trim_blanks(without_end(line)));
    let mut value = lines.collect::<Vec<_>>().join(&b' ');
    value.iter_mut().filter(|byte| matches!(byte, b'\r' | 0)).for_each(|byte| *byte = b' ');
    Cow::Owned(trim_blanks(&value).to_vec())
}

fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    &line[..line.iter().rposition(|byte| *byte != b'\r').map_or(0, |last| last + 1)]
}

fn is_number(digits: &[u8]) -> bool {
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

const PROTOCOL: &[u8] = b"HTTP/";
