//! HTTP/1 (RFC 9112): reading and writing messages, the same towards clients and upstreams.
//!
//! Heads are kept line by line as they came. Those of requests are read by `httparse`, those of responses here, more tolerantly; where a body ends, its chunks and the buffers are ours. What
//! a connection does with a message is decided by who has it: `net` for clients, `proxy` for
//! upstreams. Nothing here knows a socket but [`Input`] and [`Output`], which read and write one.

mod chunked;
mod decoder;
mod encoder;
mod framing;
mod input;
#[cfg(any(test, fuzzing))]
mod invariants;
mod output;
mod parse;
mod response;
mod sending;
#[cfg(test)]
mod tests;

use std::io;

use thiserror::Error;

pub use self::decoder::Decoder;
pub use self::encoder::{Encoder, WrongLength, write_request, write_response};
pub use self::framing::{Framing, Settled, keeps_alive, of_request, settle_response};
pub use self::input::Input;
#[cfg(any(test, fuzzing))]
pub use self::invariants::assert_messages_are_sound;
pub use self::output::Output;
pub use self::parse::Parser;
pub use self::response::Response;
pub use self::sending::{SendError, Sending};

/// What a peer sent is no message of HTTP/1, or one that two readers could read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// A head that cannot be read.
    #[error("a malformed head")]
    Head,
    /// A head of more lines or bytes than are allowed.
    #[error("a head that is too large")]
    TooLarge,
    /// Framing that names no length, or several.
    #[error("a body whose end is ambiguous")]
    Framing,
    /// A body whose chunks cannot be read.
    #[error("malformed chunks")]
    Chunk,
}

/// Why a body cannot be read to its end.
#[derive(Debug, Error)]
pub enum BodyError {
    /// The connection failed.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// What came is no body.
    #[error("the received bytes cannot be read")]
    Malformed(#[from] Malformed),
    /// The connection was closed before the body was over.
    #[error("the connection was closed in the middle of a body")]
    Truncated,
}
