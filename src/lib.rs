//! threadtap: a transparent HTTP reverse proxy that logs LLM assistant traffic.
//!
//! The modules in reading order; `tests/layering.rs` holds them to the direction in which they may import each other.
//!
//! *Vocabulary*, plain data: [`time`], [`exchange`], [`attribution`], [`message`], [`observation`], [`interaction`],
//! [`event`], [`payload`].

pub mod attribution;
pub mod clock;
pub mod delivery;
pub mod event;
pub mod exchange;
pub mod interaction;
pub mod message;
pub mod metrics;
pub mod observation;
pub mod payload;
pub mod sink;
pub mod store;
pub mod time;
