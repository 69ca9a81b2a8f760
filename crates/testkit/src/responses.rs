//! A complete, stateful fake Responses and Conversations API. Responses can be immediate, streamed
//! or in the background, and are linked by their predecessors or by conversations.
//!
//! [`Assistants`](super::assistants::Assistants) serves it at the same address. The [`Behaviour`]
//! determines what a response does, and the [`ExpectedResponse`] describes what really happened. As
//! on OpenAI, a streamed response ends with its stream, unless it runs in the background.

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
