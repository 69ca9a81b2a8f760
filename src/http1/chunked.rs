//! Chunks (RFC 9112 §7.1), told apart byte by byte.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::Malformed;
use super::encoder::may_trail;

/// Where in a chunked body the next byte is. Extensions and the size's spelling are not kept.
#[derive(Debug)]
pub(super) enum Chunks {
    /// Before the first digit of a size.
    Start,
    /// Within a size.
    Size(u64),
    /// Spaces after the digits of a size: bad, but to be taken (RFC 9112 §7.1.1).
    Spaces(u64),
    /// Within an extension, which may have so many bytes more and is thrown away.
    Extension(u64, u16),
    /// After the CR of a size.
    SizeEnd(u64),
    /// So much of a chunk's data is to come.
    Data(u64),
    /// After data.
    DataCr,
    /// After data and CR.
    DataLf,
    /// After the last chunk.
    Trailers(Vec<u8>),
    /// What came was no chunk; nothing after it can be one.
    Broken,
    /// The body is over, with these trailers.
    Over(Option<HeaderMap>),
}

/// What the next bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// So many are data.
    Data(usize),
    /// So many say where data is.
    Framing(usize),
}

impl Chunks {
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Over(_))
    }

    /// Tells what the first of `bytes` are; there is at least one, and the body is not over.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Result<Next, Malformed> {
        if let Self::Data(left) = self {
            let length = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
            *left -= length as u64;
            if *left == 0 {
                *self = Self::DataCr;
            }
            return Ok(Next::Data(length));
        }
        let mut taken = 0;
        for byte in bytes {
            if matches!(self, Self::Data(_) | Self::Over(_)) {
                break;
            }
            self.step(*byte)?;
            taken += 1;
        }
        Ok(Next::Framing(taken))
    }

    fn step(&mut self, byte: u8) -> Result<(), Malformed> {
        let digit = char::from(byte).to_digit(16).map(u64::from);
        *self = match (std::mem::replace(self, Self::Broken), byte) {
            (Self::Start, _) => Self::Size(digit.ok_or(Malformed::Chunk)?),
            (Self::Size(size) | Self::Spaces(size) | Self::Extension(size, _), b'\r') => Self::SizeEnd(size),
            (Self::Size(size) | Self::Spaces(size), b' ' | b'\t') => Self::Spaces(size),
            (Self::Size(size) | Self::Spaces(size), b';') => Self::Extension(size, MAX_EXTENSION_BYTES),
            (Self::Size(size), _) => {
                let digit = digit.ok_or(Malformed::Chunk)?;
                let size = size.checked_mul(16).and_then(|size| size.checked_add(digit));
                Self::Size(size.ok_or(Malformed::Chunk)?)
            }
            (Self::Extension(size, left @ 1..), _) if byte != b'\n' => Self::Extension(size, left - 1),
            (Self::SizeEnd(0), b'\n') => Self::Trailers(Vec::new()),
            (Self::SizeEnd(size), b'\n') => Self::Data(size),
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Start,
            // Others end such a line elsewhere, or not at all.
            (Self::Trailers(lines), b'\n') if lines.last() != Some(&b'\r') => return Err(Malformed::Chunk),
            (Self::Trailers(mut lines), _) => {
                lines.push(byte);
                trailers_with(lines)?
            }
            _ => return Err(Malformed::Chunk),
        };
        Ok(())
    }
}

/// What follows when the trailers have come so far.
fn trailers_with(lines: Vec<u8>) -> Result<Chunks, Malformed> {
    match &*lines {
        b"\r\n" => Ok(Chunks::Over(None)),
        [.., b'\r', b'\n', b'\r', b'\n'] => Ok(Chunks::Over(Some(parsed(&lines)?))),
        lines if lines.len() >= MAX_TRAILER_BYTES => Err(Malformed::TooLarge),
        _ => Ok(Chunks::Trailers(lines)),
    }
}

fn parsed(lines: &[u8]) -> Result<HeaderMap, Malformed> {
    let mut room = [httparse::EMPTY_HEADER; MAX_TRAILERS];
    let all = lines.len();
    let lines = match httparse::parse_headers(lines, &mut room) {
        Ok(httparse::Status::Complete((read, lines))) if read == all => lines,
        _ => return Err(Malformed::Chunk),
    };
    let mut trailers = HeaderMap::with_capacity(lines.len());
    for line in lines {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| Malformed::Chunk)?;
        let value = HeaderValue::from_bytes(line.value).map_err(|_| Malformed::Chunk)?;
        if may_trail(&name) {
            trailers.append(name, value);
        }
    }
    Ok(trailers)
}

const MAX_EXTENSION_BYTES: u16 = 16 << 10;
const MAX_TRAILER_BYTES: usize = 16 << 10;
const MAX_TRAILERS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    /// The data of a body, and what it ends as.
    fn read(body: &str) -> Result<(String, Chunks), Malformed> {
        let (mut chunks, mut bytes, mut data) = (Chunks::Start, body.as_bytes(), Vec::new());
        while !bytes.is_empty() && !chunks.is_over() {
            let (Next::Data(length) | Next::Framing(length)) = match chunks.next(bytes)? {
                Next::Data(length) => {
                    data.extend_from_slice(&bytes[..length]);
                    Next::Data(length)
                }
                framing => framing,
            };
            bytes = &bytes[length..];
        }
        assert_eq!(bytes, b"", "nothing after the end is taken, and nothing before is left");
        Ok((String::from_utf8(data).unwrap(), chunks))
    }

    #[test]
    fn chunks_are_read_however_they_are_spelt() {
        for (body, data) in [
            ("0\r\n\r\n", ""),
            ("3\r\nabc\r\n0\r\n\r\n", "abc"),
            ("03\r\nabc\r\nA\r\n0123456789\r\n000\r\n\r\n", "abc0123456789"),
            ("1;x=\"y\"\r\na\r\n1 \t;z\r\nb\r\n1 \r\nc\r\n0;end\r\n\r\n", "abc"),
        ] {
            let (read, end) = read(body).unwrap();
            assert_eq!(read, data, "{body:?}");
            assert!(matches!(end, Chunks::Over(None)), "{body:?}");
        }
        let (_, end) = read("0\r\nX: 1\r\nx:2\r\nConnection: x\r\nContent-Length: 4\r\n\r\n").unwrap();
        let Chunks::Over(Some(trailers)) = end else { panic!("{end:?}") };
        assert_eq!(trailers.values().collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn what_is_no_chunk_is_refused_and_so_is_all_after_it() {
        let long = format!("1;{}\r\n", "x".repeat(20_000));
        let many = format!("0\r\n{}\r\n", "x: y\r\n".repeat(101));
        let large = format!("0\r\nx: {}", "y".repeat(20_000));
        for body in [
            "\r\n",
            " 1\r\n",
            "g",
            "-1",
            "+1",
            "0x1",
            "1 2\r\n",
            "1\n",
            "1;x\n",
            "1\rx",
            "1\r\nab",
            "1\r\na\n",
            "1\r\na\rx",
            "10000000000000000\r\n",
            "0\r\nno colon\r\n\r\n",
            "0\r\nx y: 1\r\n\r\n",
            "0\r\n\nGET / HTTP/1.1\r\n\r\n",
            "0\r\nX: 1\n\nGET / HTTP/1.1\r\n\r\n",
            "0\r\nX: 1\nY: 2\r\n\r\n",
            &long,
            &many,
            &large,
        ] {
            assert!(read(body).is_err(), "{body:?}");
        }
        let mut chunks = Chunks::Start;
        assert_eq!(chunks.next(b"x"), Err(Malformed::Chunk));
        assert_eq!(chunks.next(b"1\r\na"), Err(Malformed::Chunk));
    }
}
