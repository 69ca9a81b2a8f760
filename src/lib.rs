//! threadtap: a transparent HTTP reverse proxy that logs LLM assistant traffic.
//!
//! The modules in reading order; `tests/layering.rs` holds them to the direction in which they may import each other.
//!
//! *Vocabulary*, plain data: [`time`], [`exchange`], [`attribution`], [`message`], [`observation`], [`interaction`],
//! [`event`], [`payload`].
//!
//! *Pure*, values in and values out: [`sse`], [`content`], [`dialect`], [`correlator`].
//! *Shell*: [`metrics`], [`clock`], [`net`], [`proxy`], [`capture`].

pub mod attribution;
pub mod capture;
pub mod clock;
pub mod content;
pub mod correlator;
pub mod demo;
pub mod dialect;
pub mod event;
pub mod exchange;
pub mod interaction;
pub mod message;
pub mod metrics;
pub mod net;
pub mod observation;
pub mod payload;
pub mod proxy;
pub mod sink;
pub mod sse;
pub mod store;
pub mod time;
