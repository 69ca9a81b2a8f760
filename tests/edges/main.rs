//! The edge cases of `docs/edge-cases.md`, as exchanges in text files with the expected records beside them.
//!
//! A case is a directory of `tests/fixtures/assistants`, or another dialect's, named like its test: `script.http` says what passes through the proxy
//! and when (see [`script`]), `expected.json` what is recorded. The dialect and the correlator are driven by a clock of their
//! own; every response is read whole and cut in two at each of its bytes, and every script is run again with a restart after
//! each of its steps.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic, its helpers too")]

/// The cases.
mod cases;
/// Cases that one script cannot tell.
mod facts;
/// Runs a script.
mod harness;
/// What conversations take in memory, on Linux.
#[cfg(target_os = "linux")]
mod memory;
/// Random conversations, held against the fake server's truth.
mod model;
/// Holds the list of cases to the tests.
mod register;
/// How many random cases a test plays, and which.
mod sample;
/// Reads a script.
mod script;
/// Clients that repeat their conversation with every request.
mod talks;
/// Random talks with a server of Responses.
mod turns;
