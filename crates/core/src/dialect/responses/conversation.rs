//! Conversations: created, retrieved, deleted, and items added to them.

use std::sync::Arc;

use serde_json::Value;

use super::input::NewInput;
use super::route::Route;
use super::{Asked, Observer};
use crate::dialect::attribution::Owner;
use crate::dialect::{Observed, Problem, field};
use crate::observation::{Fact, MessageOrigin};
use crate::time::UnixMillis;

impl Observer {
    /// A response about a conversation as a whole.
    pub(super) fn conversation(&mut self, body: &Value, at: UnixMillis, out: &mut Observed) {
        let (object, created) = (body["object"].as_str(), self.route == Route::Conversations);
        let id = field::id(&body["id"]);
        if body["deleted"] == true && !created {
            return self.emit(Fact::ConversationDeleted, at, out);
        }
        let (Some(id), None | Some("conversation")) = (id, object) else {
            return out.problem(Problem::UnexpectedShape);
        };
        self.order.note_metadata(&mut self.attribution, &body["metadata"], Owner::Thread);
        if !created {
            return self.emit(Fact::ConversationSeen, at, out);
        }
        self.conversation = Some(Arc::from(id));
        let Asked { input, lost: messages_lost, .. } = self.asked.take().unwrap_or_default();
        self.emit(Fact::ConversationCreated { messages: input.messages, messages_lost }, at, out);
    }

    /// The response to adding items to a conversation. They are part of the next response's input.
    pub(super) fn items(&mut self, items: &Value, at: UnixMillis, out: &mut Observed) {
        if !items.is_array() {
            return out.problem(Problem::UnexpectedShape);
        }
        for message in NewInput::all(items).messages {
            let (origin, requested_at) = (MessageOrigin::Created, Some(self.request_at));
            self.emit(Fact::MessageSeen { message, origin, requested_at }, at, out);
        }
    }
}
