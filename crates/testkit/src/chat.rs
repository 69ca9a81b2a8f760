//! A fake Chat Completions API: streamed and not streamed, with several choices, tools, usage and
//! stored completions.
//!
//! [`Assistants`](super::assistants::Assistants) serves it at the same address. The [`Behaviour`]
//! determines what a completion does, and the [`ExpectedCompletion`] describes what really
//! happened. The legacy endpoints `/completions` and `/embeddings` are served too, but nothing is
//! recorded for them.

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
