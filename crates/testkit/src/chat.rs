//! A fake Chat Completions API: whole and streamed, with several choices, tools, usage and stored completions.
//!
//! It is served by [`Assistants`](super::assistants::Assistants), at the same address. What a completion does is its
//! [`Behaviour`]; what really happened is its [`ExpectedCompletion`]. The legacy endpoints `/completions` and `/embeddings` answer too,
//! and leave no truth.

mod behaviour;
mod chunks;
mod expected;
mod legacy;
mod messages;
mod objects;
mod routes;
mod state;
mod tell;

pub use self::behaviour::Behaviour;
pub use self::expected::{ChatCall, ChatChoice, ChatUsage, ExpectedCompletion};
pub(super) use self::routes::route;
pub(super) use self::state::State;
pub(super) use self::tell::tell;

#[cfg(test)]
mod tests;
