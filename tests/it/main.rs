//! Integration tests: the real listener and proxy between sockets that speak raw bytes.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic, its helpers too")]

/// What the pipeline gets: everything that passed, in order, within bounds, never at the client's cost.
mod capture;
/// The real binary between the fakes, as an operator and an app see it.
mod end_to_end;
/// Starting, draining and cutting; limits of connections.
mod lifecycle;
mod support;
/// What must not change on the way: bodies, heads, ends, errors, upgrades.
mod wire;
