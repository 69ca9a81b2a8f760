//! What a request asks that no earlier request asked.
//!
//! The API has no memory: every request repeats everything that was said so far. The messages after
//! the assistant's last message are new (see [`Messages`]). Tool outputs are among them too. A
//! request with tool outputs continues an earlier turn.

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

use super::messages::{Messages, NamedCall, role};
use crate::dialect::clean::{self, Files};
use crate::dialect::field::{self, id};
use crate::dialect::history::History;
use crate::dialect::inline;
use crate::dialect::object::{Object, for_each_item};
use crate::dialect::request::Request;
use crate::message::{Message, MessageStatus, Role, content_text};
use crate::observation::scoped_call;

/// What a request asks.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// The text before the conversation, which is for the assistant.
    pub(super) instructions: Option<String>,
    /// The new messages, of any role.
    pub(super) inputs: Vec<Message>,
    /// The calls whose outputs are among the new messages. A call is identified together with the
    /// question it was made for. The legacy form before tools has no call ids, so a call is
    /// identified by the function and what was said before.
    pub(super) answers: Vec<String>,
    /// Whether functions are offered in the legacy form before tools.
    pub(super) offers_functions: bool,
    /// A hash over the user's last question. It tells calls apart, because some servers repeat call
    /// ids.
    pub(super) question: Option<String>,
    /// The requested model.
    pub(super) model: Option<String>,
    /// Whether token counts were requested. A stream has none unless they are requested.
    pub(super) includes_usage: bool,
    /// The metadata, unless empty.
    pub(super) metadata: Option<Box<RawValue>>,
    /// The whole request, with descriptions in place of files.
    pub(super) parameters: Option<Box<RawValue>>,
    /// Whether messages were left out because there are too many or they have too many parts.
    pub(super) is_cut: bool,
}

impl Asked {
    /// Reads a request's body, and adds everything that was said in it to a history.
    pub(super) fn read(request: &Request, history: &mut History) -> Self {
        let body = &request.body;
        let mut messages = Messages::new(history, body["continue_final_message"] == true);
        if body.is_object()
            && let Some(list) = request.items("messages")
        {
            for_each_item(list, |message| messages.take(message));
        }
        messages.end();
        let (question, answered) = messages.questions();
        let mut asked = Self {
            instructions: None,
            inputs: Vec::new(),
            answers: Vec::new(),
            offers_functions: body["functions"].is_array(),
            question,
            model: id(&body["model"]).map(str::to_owned),
            includes_usage: body["stream_options"]["include_usage"] == true,
            metadata: field::raw(&body["metadata"]),
            parameters: parameters(request, &messages),
            is_cut: messages.is_cut(),
        };
        let instructions: Vec<String> = messages
            .leading
            .iter()
            .filter_map(|message| asked.tree(message))
            .map(|message| content_text(&message["content"]))
            .collect();
        asked.instructions = Some(instructions.join("\n")).filter(|text| field::instructions(text).is_some());
        let mut called = messages.called;
        for message in messages.new {
            let Some(message) = asked.tree(message) else { continue };
            if message["role"] == "function"
                && let Some(NamedCall { said, name }) =
                    called.take_if(|called| Some(&*called.name) == id(&message["name"]))
            {
                asked.answers.push(scoped_call(&said, &name));
            }
            asked.answers.extend(answered_call(&message).map(|call| scoped_call(&answered, call)));
            asked.inputs.extend(input(&message));
        }
        asked
    }

    /// About how many bytes are held.
    pub(super) fn held_bytes(&self) -> usize {
        let raw = |raw: &Option<Box<RawValue>>| raw.as_ref().map_or(0, |raw| raw.get().len());
        let inputs = self.inputs.iter().map(|input| size_of::<Message>() + input.object.get().len());
        let instructions = self.instructions.as_ref().map_or(0, String::len);
        inputs.sum::<usize>() + instructions + raw(&self.parameters) + raw(&self.metadata)
    }

    fn tree(&mut self, message: &RawValue) -> Option<Value> {
        let tree = clean::tree(message.get());
        self.is_cut |= tree.as_ref().is_none_or(|(_, is_cut)| *is_cut);
        let (mut message, _) = tree?;
        inline::shorten(&mut message);
        Some(message)
    }
}

/// A message in the form of records.
fn input(message: &Value) -> Option<Message> {
    let fields = message.as_object()?;
    let mut object = Map::new();
    object.insert("object".to_owned(), json!("thread.message"));
    object.insert("role".to_owned(), fields.get("role").cloned().unwrap_or_else(|| json!("user")));
    object.insert("content".to_owned(), parts(&message["content"]));
    for name in ["name", "tool_call_id"] {
        if let Some(value) = id(&message[name]) {
            object.insert(name.to_owned(), json!(value));
        }
    }
    Some(Message {
        id: None,
        role: role(message["role"].as_str()),
        status: MessageStatus::Completed,
        created_at: None,
        run: None,
        object: to_raw_value(&object).ok()?,
    })
}

/// Content in the form of records.
fn parts(content: &Value) -> Value {
    let text_part = |text: &str| json!({"type": "text", "text": {"value": text, "annotations": []}});
    match content {
        Value::String(text) => json!([text_part(text)]),
        Value::Array(parts) => {
            let part = |part: &Value| match part["text"].as_str() {
                Some(text) if part["type"] == "text" => text_part(text),
                _ => part.clone(),
            };
            parts.iter().map(part).collect()
        }
        _ => json!([]),
    }
}

/// The call whose output this message is.
fn answered_call(message: &Value) -> Option<&str> {
    id(&message["tool_call_id"]).filter(|_| role(message["role"].as_str()) == Role::Tool)
}

/// The request as it was. If it is too long, the messages between the instructions and the new
/// messages are left out.
fn parameters(request: &Request, messages: &Messages<'_>) -> Option<Box<RawValue>> {
    let whole = clean::kept(request.text(), Files::Described)?;
    if whole.get().len() <= MAX_PARAMETERS_BYTES {
        return Some(whole);
    }
    let whole: Object<'_> = Object::parse(whole.get())?;
    let mut shorter = String::from("{");
    for (name, value) in whole.members() {
        let mut list = String::new();
        let value = if name == "messages" && value.get().starts_with('[') {
            let mut place = 0;
            for_each_item(value, |message| {
                let is_kept = messages.is_kept(place);
                place += 1;
                if is_kept && list.len() <= MAX_PARAMETERS_BYTES {
                    list.push(if list.is_empty() { '[' } else { ',' });
                    list.push_str(message.get());
                }
            });
            list.push_str(if list.is_empty() { "[]" } else { "]" });
            &list
        } else {
            value.get()
        };
        if shorter.len() + value.len() > MAX_PARAMETERS_BYTES {
            return None;
        }
        let comma = if shorter.len() == 1 { "" } else { "," };
        shorter.push_str(&format!("{comma}{}:{value}", json!(name)));
    }
    shorter.push('}');
    RawValue::from_string(shorter).ok()
}

/// How much is kept of a request in its original form.
const MAX_PARAMETERS_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribution::Attribution;
    use crate::observation::Api;

    fn history() -> History {
        History::of(&Attribution::default(), Api::Chat, "u")
    }

    fn ask(messages: Value) -> Asked {
        read(json!({"model": "m", "messages": messages}))
    }

    fn read(body: Value) -> Asked {
        Asked::read(&Request::of_json(&body), &mut history())
    }

    fn said(asked: &Asked) -> Vec<String> {
        asked.inputs.iter().map(|message| format!("{:?}: {}", message.role, message.text())).collect()
    }

    fn check(messages: Value, expected: &[&str], answers: &[&str]) {
        let asked = ask(messages.clone());
        assert_eq!(said(&asked), expected, "{messages}");
        let calls: Vec<&str> = asked.answers.iter().map(|call| call.split_once('/').unwrap().1).collect();
        assert_eq!(calls, answers, "{messages}");
    }

    #[test]
    fn new_is_what_follows_the_assistants_last_word() {
        let user = |text: &str| json!({"role": "user", "content": text});
        let assistant = |text: &str| json!({"role": "assistant", "content": text});
        let system = json!({"role": "system", "content": "be brief"});
        let developer = json!({"role": "developer", "content": [{"type": "text", "text": "be kind"}]});
        let call = json!({"role": "assistant", "content": null, "tool_calls": [{"id": "c1"}, {"id": "c2"}]});
        let output =
            |call: &str| json!({"role": "tool", "tool_call_id": call, "content": format!("of {call}")});
        check(json!([user("a")]), &["User: a"], &[]);
        check(json!([system, user("a"), user("b")]), &["User: a", "User: b"], &[]);
        check(json!([system, user("a"), assistant("b"), user("c")]), &["User: c"], &[]);
        check(json!([user("a"), assistant("b"), system, user("c")]), &["System: be brief", "User: c"], &[]);
        check(
            json!([user("a"), call, output("c1"), output("c2")]),
            &["Tool: of c1", "Tool: of c2"],
            &["c1", "c2"],
        );
        check(
            json!([user("a"), call, output("c1"), output("c2"), user("b")]),
            &["Tool: of c1", "Tool: of c2", "User: b"],
            &["c1", "c2"],
        );
        check(json!([user("a"), call, output("c1"), call, output("c2")]), &["Tool: of c2"], &["c2"]);
        check(json!([system, developer]), &[], &[]);
        check(json!([user("a"), assistant("b")]), &[], &[]);
        check(json!([]), &[], &[]);
        check(json!("hi"), &[], &[]);
        let asked = ask(json!([system, developer, user("a"), assistant("b"), user("c")]));
        assert_eq!(asked.instructions.as_deref(), Some("be brief\nbe kind"));
    }

    #[test]
    fn calls_are_told_apart_by_the_question_they_were_made_for() {
        let user = |text: &str| json!({"role": "user", "content": text});
        let call = json!({"role": "assistant", "tool_calls": [{"id": "c1"}]});
        let output = json!({"role": "tool", "tool_call_id": "c1", "content": ""});
        let first = ask(json!([user("a")])).question.unwrap();
        for messages in [json!([user("a"), call, output]), json!([user("a"), call, output, user("b")])] {
            assert_eq!(ask(messages).answers, [scoped_call(&first, "c1")]);
        }
        assert_ne!(ask(json!([user("b"), call, output])).answers, [scoped_call(&first, "c1")]);
    }

    #[test]
    fn the_beginning_of_an_answer_is_no_last_word() {
        for (body, expected) in [
            (
                json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "prefix": true}]}),
                2,
            ),
            (
                json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "partial": true}]}),
                2,
            ),
            (
                json!({"continue_final_message": true,
                    "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}),
                2,
            ),
            (
                json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}),
                0,
            ),
        ] {
            assert_eq!(read(body.clone()).inputs.len(), expected, "{body}");
        }
    }

    #[test]
    fn a_function_of_old_answers_the_call_before_it_by_name_and_by_what_was_said_before() {
        let user = |text: &str| json!({"role": "user", "content": text});
        let call = json!({"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}});
        let output = |name: &str| json!({"role": "function", "name": name, "content": "1"});
        check(json!([user("a"), call, output("f")]), &["Tool: 1"], &["f"]);
        let read = |messages: Value| {
            let mut history = history();
            let body = json!({"functions": [], "messages": messages});
            let asked = Asked::read(&Request::of_json(&body), &mut history);
            assert!(asked.offers_functions);
            (asked.answers, scoped_call(&history.fingerprint(), "f"))
        };
        let answered = |messages: Value| read(messages).0;
        let named = |messages: Value| [read(messages).1];
        let first = json!([user("a"), call, output("f")]);
        assert_eq!(answered(first.clone()), named(json!([user("a")])));
        assert_ne!(answered(first.clone()), named(json!([user("b")])));
        assert_eq!(answered(json!([user("a"), call, output("f"), call, output("f")])), named(first));
        for other in
            [json!([user("a"), call, output("g")]), json!([user("a"), output("f")]), json!([output("f")])]
        {
            assert!(answered(other.clone()).is_empty(), "{other}");
        }
        assert!(!ask(json!([user("a")])).offers_functions);
    }

    #[test]
    fn what_was_said_is_read_whatever_shape_it_has() {
        let said = |messages: Value| {
            let mut history = history();
            Asked::read(&Request::of_json(&json!({"messages": messages})), &mut history);
            history.before()
        };
        let call =
            json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}});
        let output = json!({"role": "tool", "tool_call_id": "c", "content": "5"});
        let plain = said(json!([
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b", "tool_calls": [call]},
            output
        ]));
        assert_eq!(plain.len(), 1);
        let object = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}});
        for same in [
            json!([
                {"role": "system", "content": "s"},
                {"role": "user", "content": [{"type": "text", "text": "a"}]},
                {"role": "developer", "content": "d"},
                {"role": "assistant", "content": "b\n", "refusal": null, "tool_calls": [object], "reasoning_content": "r"},
                {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "5"}]}
            ]),
            json!([
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": [{"type": "thinking", "thinking": "r"}, {"type": "text", "text": "b"}]},
                {"role": "assistant", "content": null, "tool_calls": [call]},
                output
            ]),
        ] {
            assert_eq!(said(same.clone()), plain, "{same}");
        }
        for other in [
            json!([{"role": "user", "content": "a", "name": "n"}, {"role": "assistant", "content": "b", "tool_calls": [call]}, output]),
            json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, output]),
            json!([{"role": "user", "content": ["a", {"type": "image_url", "image_url": {"url": "u"}}]},
                   {"role": "assistant", "content": "b", "tool_calls": [call]}, output]),
        ] {
            assert_ne!(said(other.clone()), plain, "{other}");
        }
        // The text that the assistant is to continue was not said.
        assert!(said(json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "prefix": true}])).is_empty());
    }

    #[test]
    fn files_are_described_wherever_they_stand() {
        let url = format!("data:image/png;base64,{}", "A".repeat(100_000));
        let asked = ask(json!([{"role": "user", "content": [
            {"type": "text", "text": "what is it?"},
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "input_audio", "input_audio": {"data": "B".repeat(5000), "format": "wav"}}
        ]}]));
        let (object, parameters) = (asked.inputs[0].object.get(), asked.parameters.as_ref().unwrap().get());
        for text in [object, parameters] {
            assert!(text.len() < 600 && text.contains("[100000 characters, sha256 "), "{text}");
            assert!(text.contains("[5000 characters, sha256 "), "{text}");
        }
        assert!(object.contains(r#"{"type":"text","text":{"value":"what is it?","annotations":[]}}"#));
        assert!(parameters.contains(r#"{"type":"text","text":"what is it?"}"#));
    }

    #[test]
    fn of_a_long_request_the_history_goes_first() {
        let long = "x".repeat(MAX_PARAMETERS_BYTES);
        let asked = ask(json!([{"role": "system", "content": "s"}, {"role": "user", "content": long},
                               {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]));
        assert_eq!(
            asked.parameters.unwrap().get(),
            r#"{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":"c"}]}"#
        );
        assert!(ask(json!([{"role": "user", "content": long}])).parameters.is_none());
    }

    #[test]
    fn odd_requests_are_read_as_far_as_they_go() {
        for body in [json!(null), json!([1]), json!("x"), json!({"messages": {"role": "user"}})] {
            assert!(read(body.clone()).inputs.is_empty(), "{body}");
        }
        check(json!([7, null, {"content": "a"}, {"role": "user"}]), &["Other: a", "User: "], &[]);
    }
}
