//! A fake Responses and Conversations API, whole and stateful: responses at once, streamed and in the background, chained by
//! their predecessors or by conversations.
//!
//! It is served by [`Assistants`](super::assistants::Assistants), at the same address. What a response does is its
//! [`Behaviour`]; what really happened is its [`ExpectedResponse`]. A response that is streamed and not in the background ends
//! with its stream, as on OpenAI; one in the background goes on.

mod behaviour;
mod conversations;
mod expected;
mod follow;
mod items;
mod objects;
mod play;
mod routes;
mod state;

pub use self::behaviour::Behaviour;
pub use self::expected::{ExpectedItem, ExpectedResponse, ResponseUsage};
pub(super) use self::follow::follow;
pub(super) use self::play::Advanced;
pub(super) use self::routes::route;
pub(super) use self::state::State;

#[cfg(test)]
mod tests;
