//! Chunked bodies (RFC 9112 §7.1), parsed byte by byte.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::encoder::may_trail;
use super::{Malformed, response};
use crate::head::Fields;

/// The parser state of a chunked body.
#[derive(Debug)]
pub(super) struct Chunks {
    state: ChunkedState,
    rigour: Rigour,
    /// Whether parsing stopped before the end of the trailers.
    is_cut: bool,
}

/// How strictly chunks are parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rigour {
    /// Follows RFC 9112 strictly, and rejects everything that another parser could read
    /// differently. For requests.
    Strict,
    /// Lines may end without CR, sizes may have blanks around them, and trailers that cannot be
    /// stored are dropped, because a response must not fail for these reasons. The boundaries of
    /// the chunks are still unambiguous.
    Tolerant,
}

/// The position of the next byte. Extensions and the spelling of the size are not kept.
#[derive(Debug)]
enum ChunkedState {
    /// Before the first digit of a size.
    Start,
    /// Inside a size.
    Size(u64),
    /// Spaces after the digits of a size. They are invalid, but must be accepted (RFC 9112 §7.1.1).
    Spaces(u64),
    /// Inside an extension. It may have this many more bytes, and is discarded.
    Extension(u64, u16),
    /// After the CR of a size line.
    SizeEnd(u64),
    /// This many bytes of the chunk's data are left.
    Data(u64),
    /// After data.
    DataCr,
    /// After data and CR.
    DataLf,
    /// After the last chunk.
    Trailers(Trailers),
    /// The input was not a valid chunk. Nothing after it can be parsed.
    Broken,
    /// The end of the body, with these trailers.
    Over(Option<HeaderMap>),
}

/// The lines received after the last chunk.
#[derive(Debug, Default)]
struct Trailers {
    lines: Vec<u8>,
    /// Whether the current line has content before its line end.
    in_line: bool,
}

/// What the next bytes contain.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// This many bytes are data.
    Data(usize),
    /// This many bytes are framing.
    Framing(usize),
}

impl Chunks {
    pub(super) fn new(rigour: Rigour) -> Self {
        Self { state: ChunkedState::Start, rigour, is_cut: false }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, ChunkedState::Over(_))
    }

    /// Whether there are trailers that were not taken yet.
    pub(super) fn has_trailers(&self) -> bool {
        matches!(self.state, ChunkedState::Over(Some(_)))
    }

    /// Whether part of the body was left unread, so that the connection cannot be used again.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Takes the trailers after the end of the body.
    pub(super) fn take_trailers(&mut self) -> Option<HeaderMap> {
        match &mut self.state {
            ChunkedState::Over(trailers) => trailers.take(),
            _ => None,
        }
    }

    /// Classifies the first of `bytes`. There must be at least one byte, and the body must not have
    /// ended.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Result<Next, Malformed> {
        if let ChunkedState::Data(left) = &mut self.state {
            let length = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
            *left -= length as u64;
            if *left == 0 {
                self.state = ChunkedState::DataCr;
            }
            return Ok(Next::Data(length));
        }
        let mut taken = 0;
        for byte in bytes {
            if matches!(self.state, ChunkedState::Data(_) | ChunkedState::Over(_)) {
                break;
            }
            let state = std::mem::replace(&mut self.state, ChunkedState::Broken);
            self.state = match state.after(*byte, self.rigour) {
                // The body was complete before the trailers.
                Err(Malformed::TooLarge) if self.rigour == Rigour::Tolerant => {
                    self.is_cut = true;
                    ChunkedState::Over(None)
                }
                state => state?,
            };
            taken += 1;
        }
        Ok(Next::Framing(taken))
    }
}

impl ChunkedState {
    fn after(self, byte: u8, rigour: Rigour) -> Result<Self, Malformed> {
        let digit = char::from(byte).to_digit(16).map(u64::from);
        Ok(match (self, byte) {
            (Self::Start, b' ' | b'\t') if rigour == Rigour::Tolerant => Self::Start,
            (Self::Start, _) => Self::Size(digit.ok_or(Malformed::Chunk)?),
            (Self::Size(size) | Self::Spaces(size) | Self::Extension(size, _), b'\r') => Self::SizeEnd(size),
            (Self::Size(size) | Self::Spaces(size) | Self::Extension(size, _), b'\n')
                if rigour == Rigour::Tolerant =>
            {
                Self::chunk(size)
            }
            (Self::Size(size) | Self::Spaces(size), b' ' | b'\t') => Self::Spaces(size),
            (Self::Size(size) | Self::Spaces(size), b';') => Self::Extension(size, MAX_EXTENSION_BYTES),
            (Self::Size(size), _) => {
                let digit = digit.ok_or(Malformed::Chunk)?;
                let size = size.checked_mul(16).and_then(|size| size.checked_add(digit));
                Self::Size(size.ok_or(Malformed::Chunk)?)
            }
            (Self::Extension(size, left @ 1..), _) if byte != b'\n' => Self::Extension(size, left - 1),
            (Self::SizeEnd(size), b'\n') => Self::chunk(size),
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataCr, b'\n') if rigour == Rigour::Tolerant => Self::Start,
            (Self::DataLf, b'\n') => Self::Start,
            (Self::Trailers(trailers), _) => trailers.after(byte, rigour)?,
            _ => return Err(Malformed::Chunk),
        })
    }

    /// The state after a size line.
    fn chunk(size: u64) -> Self {
        if size > 0 { Self::Data(size) } else { Self::Trailers(Trailers::default()) }
    }
}

impl Trailers {
    fn after(mut self, byte: u8, rigour: Rigour) -> Result<ChunkedState, Malformed> {
        let most = match rigour {
            Rigour::Strict => STRICT_TRAILER_BYTES,
            Rigour::Tolerant => TRAILER_BYTES,
        };
        if self.lines.len() >= most {
            return Err(Malformed::TooLarge);
        }
        // Other parsers may end such a line at a different byte, or not at all.
        if byte == b'\n' && rigour == Rigour::Strict && self.lines.last() != Some(&b'\r') {
            return Err(Malformed::Chunk);
        }
        self.lines.push(byte);
        match byte {
            b'\n' if !self.in_line => {
                let trailers = match rigour {
                    Rigour::Strict => strict(&self.lines)?,
                    Rigour::Tolerant => tolerant(&self.lines),
                };
                return Ok(ChunkedState::Over(Some(trailers).filter(|trailers| !trailers.is_empty())));
            }
            b'\n' => self.in_line = false,
            b'\r' => {}
            _ => self.in_line = true,
        }
        Ok(ChunkedState::Trailers(self))
    }
}

fn strict(lines: &[u8]) -> Result<HeaderMap, Malformed> {
    let mut room = [httparse::EMPTY_HEADER; STRICT_TRAILERS];
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

/// Drops invalid lines and lines with control bytes. Drops all trailers if there are too many.
fn tolerant(lines: &[u8]) -> HeaderMap {
    let mut fields = Fields::default();
    response::read_lines(lines, &mut fields);
    if fields.len() > TRAILERS {
        return HeaderMap::new();
    }
    let named = |(name, value)| HeaderName::from_bytes(name).ok().zip(HeaderValue::from_bytes(value).ok());
    let lines = fields.iter().filter_map(named);
    let mut trailers = HeaderMap::with_capacity(fields.len());
    lines.filter(|(name, _)| may_trail(name)).for_each(|(name, value)| _ = trailers.append(name, value));
    trailers
}

const MAX_EXTENSION_BYTES: u16 = 16 << 10;
const STRICT_TRAILER_BYTES: usize = 16 << 10;
const STRICT_TRAILERS: usize = 100;
/// The same limits as the default limits for a head.
const TRAILER_BYTES: usize = 512 << 10;
const TRAILERS: usize = 1000;

#[cfg(test)]
mod tests {
    use super::Rigour::{Strict, Tolerant};
    use super::*;

    /// The data of a body, and its trailers.
    fn read(body: &str, rigour: Rigour) -> Result<(String, Option<HeaderMap>), Malformed> {
        let (mut chunks, mut bytes, mut data) = (Chunks::new(rigour), body.as_bytes(), Vec::new());
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
        assert!(chunks.is_over(), "{body:?} {chunks:?}");
        Ok((String::from_utf8(data).unwrap(), chunks.take_trailers()))
    }

    #[test]
    fn chunks_are_read_however_they_are_spelt() {
        for (body, data) in [
            ("0\r\n\r\n", ""),
            ("3\r\nabc\r\n0\r\n\r\n", "abc"),
            ("03\r\nabc\r\nA\r\n0123456789\r\n000\r\n\r\n", "abc0123456789"),
            ("1;x=\"y\"\r\na\r\n1 \t;z\r\nb\r\n1 \r\nc\r\n0;end\r\n\r\n", "abc"),
        ] {
            for rigour in [Strict, Tolerant] {
                let (read, trailers) = read(body, rigour).unwrap();
                assert_eq!((read.as_str(), trailers), (data, None), "{body:?}");
            }
        }
        for rigour in [Strict, Tolerant] {
            let body = "0\r\nX: 1\r\nx:2\r\nConnection: x\r\nContent-Length: 4\r\n\r\n";
            let trailers = read(body, rigour).unwrap().1.unwrap();
            assert_eq!(trailers.values().collect::<Vec<_>>(), ["1", "2"]);
        }
    }

    #[test]
    fn of_a_response_they_are_read_where_there_is_but_one_reading() {
        let many = format!("0\r\n{}\r\n", "x: y\r\n".repeat(101));
        assert_eq!(read(&many, Tolerant).unwrap().1.unwrap().len(), 101);
        let large = format!("0\r\nx: {}\r\n\r\n", "y".repeat(20_000));
        assert_eq!(read(&large, Tolerant).unwrap().1.unwrap()["x"].len(), 20_000);
        let too_many = format!("1\r\na\r\n0\r\n{}\r\n", "x: y\r\n".repeat(1001));
        for body in [
            "1\na\n0\n\n",
            "1;x\na\r\n0\r\n\n",
            " 1\r\na\n\t0 \n\r\n",
            "1\r\na\r\n0\r\nno colon\r\nx y: 1\r\nz: \x01\r\n\r\n",
            &too_many,
        ] {
            assert_eq!(read(body, Tolerant).unwrap(), ("a".to_owned(), None), "{body:.60?}");
            assert!(read(body, Strict).is_err(), "{body:.60?}");
        }
        // The body was complete before the oversized trailers. The rest of the trailers is not
        // read.
        let (mut chunks, endless) = (Chunks::new(Tolerant), "x: y\r\n".repeat(200_000));
        assert_eq!(chunks.next(b"0\r\n"), Ok(Next::Framing(3)));
        assert!(matches!(chunks.next(endless.as_bytes()), Ok(Next::Framing(taken)) if taken < endless.len()));
        assert!(chunks.is_over() && chunks.is_cut() && !chunks.has_trailers());
        let trailers = read("0\nX: 1\n  2\n\n", Tolerant).unwrap().1.unwrap();
        assert_eq!(trailers["x"], "1 2");
        for body in ["\r\n", "g", "-1", "+1", "0x1", "1 2\r\n", "1\rx", "1\r\nab", "1\r\na\rx"] {
            assert!(read(body, Tolerant).is_err(), "{body:?}");
        }
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
            assert!(read(body, Strict).is_err(), "{body:?}");
        }
        let mut chunks = Chunks::new(Strict);
        assert_eq!(chunks.next(b"x"), Err(Malformed::Chunk));
        assert_eq!(chunks.next(b"1\r\na"), Err(Malformed::Chunk));
    }
}
