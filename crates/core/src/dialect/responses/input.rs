//! The new part of a request. Clients that keep the history themselves send all of it again with
//! every turn.

use std::borrow::Cow;

use serde_json::Value;
use serde_json::value::RawValue;

use super::{item, speech};
use crate::dialect::clean;
use crate::dialect::history::History;
use crate::dialect::object::{Object, for_each_item};
use crate::message::{Message, Role};
use crate::observation::is_random;

/// The part of a request's `input` that the model has not responded to yet.
#[derive(Debug, Default)]
pub(super) struct NewInput {
    /// The text before the conversation, which is for the assistant: texts of `system` and
    /// `developer` items. Every request repeats them.
    pub(super) instructions: Vec<String>,
    /// Messages and tool outputs, in order. They have no ids unless the request gives some.
    pub(super) messages: Vec<Message>,
    /// The calls whose outputs are in the request.
    pub(super) answers: Vec<String>,
    /// The last items of the history that have ids of their own, the last one first.
    pub(super) history: Vec<String>,
    /// Whether some of it cannot be read: it is referenced only by its id, or was left out.
    pub(super) lost: bool,
    /// Whether messages were left out because there are too many or they have too many parts.
    pub(super) is_cut: bool,
}

impl NewInput {
    /// Reads `input`, a text or items, and adds everything that was said in it to a history.
    pub(super) fn of(input: Option<&RawValue>, said: &mut History) -> Self {
        let Some(input) = input else { return Self::default() };
        if input.get().starts_with('"') {
            let text: Value = serde_json::from_str(input.get()).unwrap_or_default();
            speech::hear_text(said, text.as_str().unwrap_or_default());
            let asked = Value::Object(
                [("role".to_owned(), "user".into()), ("content".to_owned(), text)].into_iter().collect(),
            );
            let message = item::message(asked, Role::User);
            return Self { messages: message.into_iter().collect(), ..Self::default() };
        }
        let mut kinds = Vec::new();
        for_each_item(input, |item| {
            let item = Object::parse(item.get()).unwrap_or_default();
            kinds.push(Kind::of(&item));
            speech::hear_item(said, &item);
        });
        if kinds.last().is_some_and(|last| matches!(last, Kind::Said | Kind::Named)) {
            said.take_back();
        }
        let history = history(&kinds);
        let leading = kinds.iter().take_while(|kind| **kind == Kind::Instructed).count();
        let (mut new, mut place) = (Self::default(), 0);
        for_each_item(input, |item| {
            if place < leading {
                new.lead(item);
            } else if place >= history {
                new.push_raw(item);
            } else if place + LAST_ITEMS >= history {
                let id = Object::parse(item.get()).and_then(|item| item.text("id").map(Cow::into_owned));
                new.history.extend(id.filter(|id| is_random(id)));
            }
            place += 1;
        });
        new.history.reverse();
        new.answers.retain(|call| !call.is_empty());
        new
    }

    /// Reads items that are all new.
    pub(super) fn all(items: &Value) -> Self {
        let mut new = Self::default();
        items.as_array().into_iter().flatten().for_each(|item| new.push(item.clone()));
        new.answers.retain(|call| !call.is_empty());
        new
    }

    fn lead(&mut self, item: &RawValue) {
        let item = self.tree(item, self.instructions.len());
        let message = item.and_then(|item| item::message(item, Role::System));
        self.instructions.extend(message.map(|message| message.text()));
    }

    fn push_raw(&mut self, item: &RawValue) {
        let item = self.tree(item, self.messages.len());
        self.lost |= self.is_cut;
        if let Some(item) = item {
            self.push(item);
        }
    }

    /// An item as a tree. None if there are too many.
    fn tree(&mut self, item: &RawValue, kept: usize) -> Option<Value> {
        let tree = Some(item).filter(|_| kept < MAX_MESSAGES).and_then(|item| clean::tree(item.get()));
        self.is_cut |= tree.as_ref().is_none_or(|(_, is_cut)| *is_cut);
        tree.map(|(item, _)| item)
    }

    fn push(&mut self, item: Value) {
        if let Some((call, message)) = item::tool_output(&item) {
            self.messages.push(message);
            self.answers.push(call);
        } else if item::kind(&item) == "item_reference" {
            self.messages.extend(item::reference(&item));
            self.lost = true;
        } else if item::kind(&item) == "message" {
            self.messages.extend(item::message(item, Role::User));
        }
    }
}

/// The role of an item in finding where the history ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// User input or tool output from the app.
    Asked,
    /// Instructions from the app to the assistant.
    Instructed,
    /// Something the model did other than saying text.
    Done,
    /// A reference to an item that the server has.
    Named,
    /// Text by the assistant.
    Said,
}

impl Kind {
    fn of(item: &Object<'_>) -> Self {
        let role = item.text("role");
        match &*item::kind_of(item) {
            "message" if role.as_deref() == Some("assistant") => Self::Said,
            "message" if matches!(role.as_deref(), Some("developer" | "system")) => Self::Instructed,
            "message" => Self::Asked,
            "item_reference" => Self::Named,
            kind if item::is_tool_output(kind) => Self::Asked,
            _ => Self::Done,
        }
    }
}

/// The number of leading items that are history: all up to the last one that the model produced or
/// the server has.
///
/// An item at the very end is new even so: a started response in the assistant's name, or a
/// reference to an item.
fn history(items: &[Kind]) -> usize {
    let open = items.iter().rposition(|item| !matches!(item, Kind::Said | Kind::Named));
    let end = open.map_or(0, |last| last + 1);
    let is_asked = |item: &Kind| matches!(item, Kind::Asked | Kind::Instructed);
    items[..end].iter().rposition(|item| !is_asked(item)).map_or(0, |last| last + 1)
}

/// New messages. The limit is slightly below that of a conversation, to leave room for the
/// response.
const MAX_MESSAGES: usize = 900;
/// Items at the end of the history. One of them is the last output of a run.
const LAST_ITEMS: usize = 8;

#[cfg(test)]
mod tests {
    use serde_json::json;
    use serde_json::value::to_raw_value;

    use super::*;
    use crate::attribution::Attribution;
    use crate::observation::Api;

    fn history() -> History {
        History::of(&Attribution::default(), Api::Chat, "u")
    }

    fn check(input: Value, messages: &[&str], answers: &[&str]) {
        let new = NewInput::of(Some(&to_raw_value(&input).unwrap()), &mut history());
        let said = |message: &Message| format!("{:?}: {}", message.role, message.text());
        assert_eq!(new.messages.iter().map(said).collect::<Vec<_>>(), messages, "{input}");
        assert_eq!(new.answers, answers, "{input}");
    }

    fn said(role: &str, text: &str) -> Value {
        json!({"role": role, "content": text})
    }

    #[test]
    fn a_text_is_one_message_of_the_user() {
        check(json!("hello"), &["User: hello"], &[]);
        check(json!([]), &[], &[]);
        check(json!(null), &[], &[]);
        check(json!(7), &[], &[]);
    }

    #[test]
    fn what_was_answered_before_is_not_new() {
        let first = said("user", "one");
        check(json!([said("developer", "be nice"), first]), &["User: one"], &[]);
        check(
            json!([
                said("developer", "be nice"),
                first,
                said("assistant", "1"),
                said("user", "two"),
                said("user", "three")
            ]),
            &["User: two", "User: three"],
            &[],
        );
        let output = json!({"type": "message", "id": "msg_1", "role": "assistant", "content": [{"type": "output_text", "text": "1"}]});
        check(
            json!([first, {"type": "reasoning", "summary": []}, output, said("user", "two")]),
            &["User: two"],
            &[],
        );
    }

    #[test]
    fn what_stands_before_the_conversation_is_for_the_assistant() {
        let (system, developer) = (said("system", "be brief"), said("developer", "be kind"));
        for input in [
            json!([system, developer, said("user", "one")]),
            json!([system, developer, said("user", "one"), said("assistant", "1"), said("user", "two")]),
            json!([system, developer]),
        ] {
            let new = NewInput::of(Some(&to_raw_value(&input).unwrap()), &mut history());
            assert_eq!(new.instructions, ["be brief", "be kind"], "{input}");
        }
        check(
            json!([said("user", "one"), said("assistant", "1"), developer, said("user", "two")]),
            &["System: be kind", "User: two"],
            &[],
        );
    }

    #[test]
    fn what_tools_returned_is_new_and_their_calls_are_not() {
        let call = |id| json!({"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"});
        let output = |id| json!({"type": "function_call_output", "call_id": id, "output": "5"});
        check(
            json!([said("user", "one"), call("a"), call("b"), output("a"), output("b")]),
            &["Tool: 5", "Tool: 5"],
            &["a", "b"],
        );
        check(json!([call("a"), output("a"), call("b"), output("b")]), &["Tool: 5"], &["b"]);
        check(json!([output("a"), said("user", "and?")]), &["Tool: 5", "User: and?"], &["a"]);
    }

    #[test]
    fn an_item_that_the_server_has_is_history_but_at_the_end() {
        let reference = |id| json!({"type": "item_reference", "id": id});
        check(json!([said("user", "one"), reference("msg_1"), said("user", "two")]), &["User: two"], &[]);
        check(
            json!([said("user", "this:"), reference("msg_9")]),
            &["User: this:", "Other: [item_reference msg_9]"],
            &[],
        );
        let mention = to_raw_value(&json!([reference("msg_9")])).unwrap();
        assert!(NewInput::of(Some(&mention), &mut history()).lost);
    }

    #[test]
    fn the_last_items_of_the_history_are_what_it_goes_on_from() {
        let id = |kind: &str, number: u64| format!("{kind}_{number:015}a");
        let reference = |id: String| json!({"type": "item_reference", "id": id});
        let output = |id: String| json!({"type": "message", "id": id, "role": "assistant", "content": []});
        let check = |input: Value, expected: &[String]| {
            let new = NewInput::of(Some(&to_raw_value(&input).unwrap()), &mut history());
            assert_eq!(new.history, expected, "{input}");
        };
        check(
            json!([
                said("user", "one"),
                reference(id("rs", 1)),
                reference(id("msg", 2)),
                said("user", "two")
            ]),
            &[id("msg", 2), id("rs", 1)],
        );
        check(json!([said("user", "one"), output(id("msg", 1)), said("user", "two")]), &[id("msg", 1)]);
        // A reference at the end is what the user asks about.
        check(json!([said("user", "this:"), reference(id("msg", 9))]), &[]);
        check(json!([said("user", "one"), output("msg_1".into()), said("user", "two")]), &[]);
    }

    #[test]
    fn words_put_into_the_models_mouth_are_context_of_what_was_asked() {
        check(
            json!([
                said("user", "one"),
                said("assistant", "1"),
                said("user", "two"),
                said("assistant", "It is")
            ]),
            &["User: two", "Assistant: It is"],
            &[],
        );
    }
}
