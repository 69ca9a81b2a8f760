//! threadtap: a transparent HTTP reverse proxy that logs LLM assistant traffic.
//!
//! `threadtap_core` knows the LLM APIs, and `threadtap_http` knows HTTP/1. This crate is the shell
//! around them: sockets, files and threads. The modules are listed in reading order.
//! `tests/layering.rs` checks the directions in which they may import each other.
//!
//! *On the wire*: [`clock`], [`metrics`], [`descriptors`], [`net`], [`capture`], [`proxy`].
//!
//! *From copies to records*: [`pipeline`], [`names`], [`console`], [`store`], [`delivery`].
//!
//! *For operators and apps*: [`admission`], [`intake`], [`users`], [`operations`], [`admin`].
//!
//! *Top*: [`config`], [`app`], [`cli`].

pub mod admin;
pub mod admission;
pub mod app;
pub mod capture;
pub mod cli;
pub mod clock;
pub mod config;
pub mod console;
pub mod delivery;
pub mod descriptors;
pub mod intake;
pub mod metrics;
pub mod names;
pub mod net;
pub mod operations;
pub mod pipeline;
pub mod proxy;
pub mod store;
pub mod users;
