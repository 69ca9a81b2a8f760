//! Conversations and their items.

use serde_json::{Value, json};

use super::items;
use super::objects::Conversation;
use super::state::State;
use crate::call::metadata;
use crate::fault::Fault;
use crate::page::PageQuery;

impl State {
    pub(super) fn create_conversation(&mut self, body: &Value, now: u64) -> Result<Value, Fault> {
        let items = self.new_items(&body["items"])?;
        let id = self.random.id("conv");
        let conversation = Conversation { id: id.clone(), created_at: now, metadata: metadata(body), items };
        let object = conversation.object();
        self.conversations.insert(id, conversation);
        Ok(object)
    }

    pub(super) fn conversation(&mut self, id: &str) -> Result<&mut Conversation, Fault> {
        self.conversations.get_mut(id).ok_or_else(|| unknown("Conversation", id))
    }

    pub(super) fn modify_conversation(&mut self, id: &str, body: &Value) -> Result<Value, Fault> {
        let conversation = self.conversation(id)?;
        conversation.metadata.extend(metadata(body));
        Ok(conversation.object())
    }

    pub(super) fn delete_conversation(&mut self, id: &str) -> Result<Value, Fault> {
        self.conversation(id)?;
        self.conversations.remove(id);
        Ok(json!({"id": id, "object": "conversation.deleted", "deleted": true}))
    }

    /// Adds items to a conversation. The conversation's next response takes them as its inputs.
    pub(super) fn add_items(&mut self, id: &str, body: &Value) -> Result<Value, Fault> {
        self.conversation(id)?;
        let items = self.new_items(&body["items"])?;
        let data: Vec<Value> = items.iter().map(|(item, _)| item.clone()).collect();
        self.conversation(id)?.items.extend(items);
        let id = |item: Option<&Value>| item.map_or(Value::Null, |item| item["id"].clone());
        Ok(json!({
            "object": "list", "first_id": id(data.first()), "last_id": id(data.last()), "has_more": false,
            "data": data,
        }))
    }

    pub(super) fn list_items(&mut self, id: &str, query: &PageQuery) -> Result<Value, Fault> {
        let items = &self.conversation(id)?.items;
        query.cut(items.iter().map(|(item, _)| item.clone()).collect())
    }

    pub(super) fn item(&mut self, id: &str, item: &str) -> Result<Value, Fault> {
        let items = &self.conversation(id)?.items;
        let found = items.iter().find(|(known, _)| known["id"] == item);
        found.map(|(item, _)| item.clone()).ok_or_else(|| unknown("Item", item))
    }

    /// Deletes an item. The result is the conversation, as on OpenAI.
    pub(super) fn delete_item(&mut self, id: &str, item: &str) -> Result<Value, Fault> {
        self.item(id, item)?;
        let conversation = self.conversation(id)?;
        conversation.items.retain(|(known, _)| known["id"] != item);
        Ok(conversation.object())
    }

    /// The conversation a request names, either by its id or as an object.
    pub(super) fn conversation_of(&mut self, body: &Value) -> Result<Option<String>, Fault> {
        let named = &body["conversation"];
        let Some(id) = named.as_str().or_else(|| named["id"].as_str()) else { return Ok(None) };
        self.conversation(id)?;
        let mut here =
            self.responses.values().filter(|response| response.conversation.as_deref() == Some(id));
        if self.lock_active && here.any(|response| !response.state.is_terminal()) {
            let message =
                "Another process is currently operating on this conversation. Please retry in a few seconds.";
            return Err(Fault {
                status: 400,
                message: message.to_owned(),
                param: None,
                code: Some("conversation_locked"),
            });
        }
        Ok(Some(id.to_owned()))
    }

    fn new_items(&mut self, given: &Value) -> Result<Vec<(Value, bool)>, Fault> {
        Ok(items::given(given, &mut self.random)?.into_iter().map(|item| (item, false)).collect())
    }
}

fn unknown(kind: &str, id: &str) -> Fault {
    Fault { status: 404, message: format!("{kind} with id '{id}' not found."), param: None, code: None }
}
