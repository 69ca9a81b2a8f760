//! One HTTP request a sink wants sent.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, Uri};

/// A `POST` ready to be sent: encoding it again from the same event gives the same bytes.
///
/// Headers and body may hold credentials, so `Debug` shows neither.
#[derive(Clone)]
pub struct Payload {
    /// The absolute address.
    pub uri: Uri,
    /// Headers beside framing; holds credentials, so it is never logged.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// How many values had to be cut or replaced to fit what the backend takes.
    pub cuts: u64,
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payload")
            .field("uri", &self.uri)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}
