//! HTTP/1 heads and messages, byte for byte as they are on the wire.
//!
//! [`head`] holds what a request or response says before its body. [`http1`] reads and writes whole messages on streams that
//! others open.

pub mod head;
pub mod http1;
