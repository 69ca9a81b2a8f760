//! A small test environment for threadtap: a fake server of OpenAI's APIs, a fake analytics
//! backend, and an app that uses the server.
//!
//! `threadtap demo`, the integration tests and the benches share it. Nothing here prints, and
//! nothing here depends on the proxy: the caller puts threadtap's address between [`driver`] and
//! [`assistants`]. All randomness comes from a seed, every server binds a free loopback port, and
//! everything ends when its handle is dropped.

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
