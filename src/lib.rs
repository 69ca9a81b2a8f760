//! threadtap: a transparent HTTP reverse proxy that logs LLM assistant traffic.
//!
//! The modules in reading order; `tests/layering.rs` holds them to the direction in which they may import each other.
//!
//! *Vocabulary*, plain data: [`time`], [`budget`], [`head`], [`exchange`], [`attribution`], [`message`], [`observation`], [`interaction`],
//! [`event`], [`payload`], [`printable`].
//!
//! *Pure*, values in and values out: [`sse`], [`content`], [`dialect`], [`correlator`], [`session`], [`user`],
//! [`sink`].
//!
//! *Shell*, sockets, files and threads: [`clock`], [`metrics`], [`http1`], [`net`], [`capture`], [`proxy`], [`store`], [`delivery`],
//! [`users`], [`intake`], [`console`], [`pipeline`], [`operations`],
//! [`admin`], [`demo`].
//!
//! *Top*: [`config`], [`app`], [`cli`].

pub mod admin;
pub mod admission;
pub mod app;
pub mod attribution;
pub mod budget;
pub mod capture;
pub mod cli;
pub mod clock;
pub mod config;
pub mod console;
pub mod content;
pub mod correlator;
pub mod delivery;
pub mod demo;
pub mod descriptors;
pub mod dialect;
pub mod event;
pub mod exchange;
pub mod head;
pub mod http1;
pub mod intake;
pub mod interaction;
pub mod message;
pub mod metrics;
pub mod names;
pub mod net;
pub mod observation;
pub mod operations;
pub mod payload;
pub mod pipeline;
pub mod printable;
pub mod proxy;
pub mod session;
pub mod sink;
pub mod sse;
pub mod store;
pub mod time;
pub mod user;
pub mod users;
