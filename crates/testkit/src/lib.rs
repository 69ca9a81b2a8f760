//! A small world to run threadtap in: a fake server of OpenAI's APIs, a fake analytics backend, and an app that uses the one.
//!
//! `threadtap demo`, the integration tests and the benches share it. Nothing here prints, and nothing here knows the proxy:
//! whoever composes them puts threadtap's address between [`driver`] and [`assistants`]. Everything random comes from a
//! seed, everything binds a free port of the loopback interface, and everything ends when its handle is dropped.

mod answers;
pub mod assistants;
mod call;
pub mod chat;
pub mod client;
pub mod collector;
pub mod driver;
mod encoding;
mod fault;
mod listener;
mod page;
mod random;
pub mod responses;
mod script;
mod server;
mod stream;
mod vendor;
