//! One HTTP request a sink wants sent.

use bytes::Bytes;
use http::{HeaderMap, Uri};

/// A `POST` ready to be sent: encoding it again from the same event gives the same bytes.
#[derive(Clone, Debug)]
pub struct Payload {
    /// The absolute address.
    pub uri: Uri,
    /// Headers beside framing; holds credentials, so it is never logged.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}
