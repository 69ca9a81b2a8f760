//! Compresses responses, complete ones and streams.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

/// A compressor whose output can be decoded up to the end of each write, so that a stream keeps
/// flowing.
pub(super) enum Encoder {
    Deflate(ZlibEncoder<Vec<u8>>),
    Gzip(GzEncoder<Vec<u8>>),
    Identity(Vec<u8>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    /// The first supported coding in `Accept-Encoding`, or identity if there is none.
    pub(super) fn accepted(accept_encoding: &str) -> io::Result<Self> {
        for coding in accept_encoding.split(',') {
            let mut parts = coding.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            if parts.any(|parameter| matches!(parameter, "q=0" | "q=0.0")) {
                continue;
            }
            match name {
                "deflate" => return Ok(Self::Deflate(ZlibEncoder::new(Vec::new(), Compression::default()))),
                "gzip" => return Ok(Self::Gzip(GzEncoder::new(Vec::new(), Compression::default()))),
                "zstd" => return zstd::stream::write::Encoder::new(Vec::new(), 0).map(Self::Zstd),
                _ => {}
            }
        }
        Ok(Self::identity())
    }

    /// No compression.
    pub(super) fn identity() -> Self {
        Self::Identity(Vec::new())
    }

    /// Its name in `Content-Encoding`.
    pub(super) fn name(&self) -> Option<&'static str> {
        match self {
            Self::Deflate(_) => Some("deflate"),
            Self::Gzip(_) => Some("gzip"),
            Self::Identity(_) => None,
            Self::Zstd(_) => Some("zstd"),
        }
    }

    /// Compresses more data. The result can be decoded immediately.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let out = match self {
            Self::Deflate(encoder) => {
                encoder.write_all(bytes)?;
                encoder.flush()?;
                encoder.get_mut()
            }
            Self::Gzip(encoder) => {
                encoder.write_all(bytes)?;
                encoder.flush()?;
                encoder.get_mut()
            }
            Self::Identity(out) => {
                out.extend_from_slice(bytes);
                out
            }
            Self::Zstd(encoder) => {
                encoder.write_all(bytes)?;
                encoder.flush()?;
                encoder.get_mut()
            }
        };
        Ok(std::mem::take(out))
    }

    /// Ends the compressed data, and returns its last bytes.
    pub(super) fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Deflate(encoder) => encoder.finish(),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Identity(out) => Ok(out),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}
