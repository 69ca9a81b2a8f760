//! One HTTP request a sink wants sent.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, Uri};

/// A `POST` request that is ready to send. Encoding the same event again gives the same bytes.
///
/// Headers and body may hold credentials, so `Debug` shows neither.
#[derive(Clone)]
pub struct Payload {
    /// The absolute URL.
    pub uri: Uri,
    /// Headers other than framing. They may hold credentials, so they are never logged.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// How many values were cut or replaced to fit the backend's limits.
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
