//! HTTP/1 heads and messages, preserved byte for byte as they are on the wire.
//!
//! [`head`] holds the request or status line and the header lines. [`http1`] reads and writes whole
//! messages on streams that the caller opens.

pub mod head;
pub mod http1;
