//! HTTP/1 (RFC 9112): reading and writing messages, the same towards clients and upstreams.
//!
//! Heads keep their header lines in the order and form they were received. `httparse` parses
//! request heads. This module parses response heads, which it reads more tolerantly, and also
//! handles body framing, chunks and buffers. The owner of a connection decides what to do with a
//! message: `net` for clients, `proxy` for upstreams. Only [`Input`] and [`Output`] do socket I/O.

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

/// The peer sent something that is not a valid HTTP/1 message, or that two readers could interpret
/// differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// The head cannot be parsed.
    #[error("a malformed head")]
    Head,
    /// The head has more lines or bytes than the limit allows.
    #[error("a head that is too large")]
    TooLarge,
    /// The framing gives no length, or several.
    #[error("a body whose end is ambiguous")]
    Framing,
    /// The chunks of the body cannot be parsed.
    #[error("malformed chunks")]
    Chunk,
}

/// Why a body cannot be read completely.
#[derive(Debug, Error)]
pub enum BodyError {
    /// The connection failed.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// The received bytes are not a valid body.
    #[error("the received bytes cannot be read")]
    Malformed(#[from] Malformed),
    /// The connection was closed before the end of the body.
    #[error("the connection was closed in the middle of a body")]
    Truncated,
}
