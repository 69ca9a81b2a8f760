//! What a request asks that no request before it asked.
//!
//! The API has no memory: every request says all that was said so far. New is what follows the assistant's last word. What tools
//! returned stands there too: such a request goes on with a turn that was asked before.

use std::borrow::Cow;

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

use crate::dialect::clean::{self, Files};
use crate::dialect::field::{self, id};
use crate::dialect::inline;
use crate::dialect::object::{Object, for_each_item};
use crate::dialect::request::Request;
use crate::event::KeyHash;
use crate::message::{Message, MessageStatus, Role, content_text};
use crate::observation::scoped_call;

/// What a request asks.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// What stands before the conversation, for the assistant alone.
    pub(super) instructions: Option<String>,
    /// The new messages, of whichever role.
    pub(super) inputs: Vec<Message>,
    /// The calls whose outputs are among them, each told apart by the question it was made for.
    pub(super) answers: Vec<String>,
    /// The functions whose outputs are among them in the form before tools, which names no call.
    pub(super) functions_answered: Vec<NamedCall>,
    /// A hash over all that was said, if functions are offered in that form.
    pub(super) said: Option<String>,
    /// A hash over what the user asked last: it tells calls apart, whose ids some servers repeat.
    pub(super) question: Option<String>,
    /// A hash over the conversation up to the assistant's first word: the same in all requests of a conversation.
    pub(super) beginning: Option<String>,
    /// The model that is asked for.
    pub(super) model: Option<String>,
    /// Whether token counts were asked for, where a stream has none unless they are.
    pub(super) includes_usage: bool,
    /// The metadata, unless empty.
    pub(super) metadata: Option<Box<RawValue>>,
    /// The whole request, with descriptions in the place of files.
    pub(super) parameters: Option<Box<RawValue>>,
    /// Whether messages were left out, because they are too many or have too many parts.
    pub(super) is_cut: bool,
}

impl Asked {
    /// Reads a request's body.
    pub(super) fn read(request: &Request) -> Self {
        let body = &request.body;
        if !body.is_object() {
            return Self::default();
        }
        let messages = request.items("messages");
        let turns = Turns::of(messages, body["continue_final_message"] == true);
        let offers_functions = body["functions"].is_array();
        let mut reading = Reading::new(&turns, offers_functions || turns.calls_function);
        if let Some(messages) = messages {
            for_each_item(messages, |message| reading.take(message));
        }
        let Reading { instructions, inputs, answers, functions_answered, is_cut, hashes, .. } = reading;
        let answered = hashes.answered.unwrap_or_default();
        let instructions = Some(instructions.join("\n")).filter(|text| field::instructions(text).is_some());
        Self {
            instructions,
            inputs,
            answers: answers.iter().map(|call| scoped_call(&answered, call)).collect(),
            functions_answered,
            said: offers_functions.then(|| hashes.history.finish()),
            question: hashes.question,
            beginning: turns
                .first_user
                .filter(|first| *first < turns.first_word)
                .map(|_| hashes.beginning.finish()),
            model: id(&body["model"]).map(str::to_owned),
            includes_usage: body["stream_options"]["include_usage"] == true,
            metadata: field::raw(&body["metadata"]),
            parameters: parameters(request, &turns),
            is_cut,
        }
    }

    /// How many bytes are held, about.
    pub(super) fn held_bytes(&self) -> usize {
        let raw = |raw: &Option<Box<RawValue>>| raw.as_ref().map_or(0, |raw| raw.get().len());
        let inputs = self.inputs.iter().map(|input| size_of::<Message>() + input.object.get().len());
        let instructions = self.instructions.as_ref().map_or(0, String::len);
        inputs.sum::<usize>() + instructions + raw(&self.parameters) + raw(&self.metadata)
    }
}

/// Who speaks when in the messages of a request: places in the list.
#[derive(Debug)]
struct Turns {
    /// How many messages stand before the conversation, for the assistant alone.
    leading: usize,
    /// The first message of the assistant's, or of a tool; the number of messages without one.
    first_word: usize,
    first_user: Option<usize>,
    last_user: Option<usize>,
    /// The last message of the user's before the new ones.
    last_user_before: Option<usize>,
    /// The first new message: what follows the assistant's last word.
    new: usize,
    /// Whether that word calls a function in the form before tools.
    calls_function: bool,
}

impl Turns {
    fn of(messages: Option<&RawValue>, goes_on: bool) -> Self {
        let (mut roles, mut calls) = (Vec::new(), Vec::new());
        let mut is_begun = false;
        if let Some(messages) = messages {
            for_each_item(messages, |message| {
                let message = Object::parse(message.get()).unwrap_or_default();
                roles.push(role(message.text("role").as_deref()));
                calls.push(message.raw("function_call").is_some());
                is_begun = begins_answer(&message, goes_on);
            });
        }
        let leading = roles.iter().take_while(|role| **role == Role::System).count();
        // The beginning of the answer that is asked for was not said.
        let said = &roles[..roles.len() - usize::from(is_begun && roles.last() == Some(&Role::Assistant))];
        let new = said.iter().rposition(|role| *role == Role::Assistant).map_or(leading, |last| last + 1);
        let is_word = |role: &Role| matches!(role, Role::Assistant | Role::Tool);
        let is_user = |role: &Role| *role == Role::User;
        Self {
            leading,
            first_word: roles.iter().position(is_word).unwrap_or(roles.len()),
            first_user: roles.iter().position(is_user),
            last_user: roles.iter().rposition(is_user),
            last_user_before: roles[..new].iter().rposition(is_user),
            calls_function: new.checked_sub(1).is_some_and(|last| calls[last]),
            new,
        }
    }
}

/// The messages as they are read one after the other: none of those that were said before is kept.
struct Reading<'a> {
    turns: &'a Turns,
    /// Whether what was said is hashed: a function's name alone tells no call from others.
    hashes_history: bool,
    place: usize,
    instructions: Vec<String>,
    inputs: Vec<Message>,
    answers: Vec<String>,
    /// The function that the message before the new ones calls, in the form before tools.
    called: Option<NamedCall>,
    functions_answered: Vec<NamedCall>,
    is_cut: bool,
    hashes: Hashes,
}

#[derive(Default)]
struct Hashes {
    history: KeyHash,
    beginning: KeyHash,
    question: Option<String>,
    answered: Option<String>,
}

impl<'a> Reading<'a> {
    fn new(turns: &'a Turns, hashes_history: bool) -> Self {
        Self {
            turns,
            hashes_history,
            place: 0,
            instructions: Vec::new(),
            inputs: Vec::new(),
            answers: Vec::new(),
            called: None,
            functions_answered: Vec::new(),
            is_cut: false,
            hashes: Hashes::default(),
        }
    }

    fn take(&mut self, raw: &RawValue) {
        let place = self.place;
        self.place += 1;
        let message = Object::parse(raw.get()).unwrap_or_default();
        let written = |name: &str| message.raw(name).map_or("null", RawValue::get);
        if self.hashes_history && place + 1 == self.turns.new {
            let name =
                message.object("function_call").and_then(|call| call.text("name").map(Cow::into_owned));
            self.called = name.map(|name| NamedCall { said: self.hashes.history.clone().finish(), name });
        }
        if self.hashes_history {
            ["role", "content", "name", "function_call"]
                .iter()
                .for_each(|name| self.hashes.history.push(written(name)));
        }
        if place < self.turns.first_word {
            ["role", "content"].iter().for_each(|name| self.hashes.beginning.push(written(name)));
        }
        let question = |at: Option<usize>| (at == Some(place)).then(|| question(written("content")));
        self.hashes.question = question(self.turns.last_user).or_else(|| self.hashes.question.take());
        self.hashes.answered = question(self.turns.last_user_before).or_else(|| self.hashes.answered.take());
        if place < self.turns.leading {
            self.lead(raw);
        } else if place >= self.turns.new {
            self.ask(raw);
        }
    }

    fn lead(&mut self, raw: &RawValue) {
        let Some(message) = self.tree(raw, self.instructions.len()) else { return };
        self.instructions.push(content_text(&message["content"]));
    }

    fn ask(&mut self, raw: &RawValue) {
        let Some(message) = self.tree(raw, self.inputs.len()) else { return };
        if message["role"] == "function"
            && self.called.as_ref().is_some_and(|called| Some(&*called.name) == id(&message["name"]))
        {
            self.functions_answered.extend(self.called.take());
        }
        self.answers.extend(answered_call(&message).map(str::to_owned));
        self.inputs.extend(input(&message));
    }

    /// A message as a tree; none if there are too many.
    fn tree(&mut self, raw: &RawValue, kept: usize) -> Option<Value> {
        let tree = Some(raw).filter(|_| kept < MAX_MESSAGES).and_then(|raw| clean::tree(raw.get()));
        self.is_cut |= tree.as_ref().is_none_or(|(_, is_cut)| *is_cut);
        let (mut message, _) = tree?;
        inline::shorten(&mut message);
        Some(message)
    }
}

fn role(role: Option<&str>) -> Role {
    match role {
        Some("assistant") => Role::Assistant,
        Some("developer" | "system") => Role::System,
        Some("function" | "tool") => Role::Tool,
        Some("user") => Role::User,
        _ => Role::Other,
    }
}

/// Whether a message, if it is the last one, is the beginning of the answer that is asked for. Only what says so itself is one: without a
/// word of the request, a last message of the assistant's is an answer like any other.
fn begins_answer(message: &Object<'_>, goes_on: bool) -> bool {
    goes_on
        || ["prefix", "partial"].iter().any(|name| message.raw(name).is_some_and(|said| said.get() == "true"))
}

/// A message in the shape records have.
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

/// A content in the shape records have.
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

/// A call that has no id: it is told apart by the function's name, and a hash over all that was said before.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NamedCall {
    pub(super) said: String,
    pub(super) name: String,
}

/// The call whose output a message is.
fn answered_call(message: &Value) -> Option<&str> {
    id(&message["tool_call_id"]).filter(|_| role(message["role"].as_str()) == Role::Tool)
}

/// A hash over the user's words, as they were written.
fn question(content: &str) -> String {
    let mut hash = KeyHash::default();
    hash.push(content);
    hash.finish()
}

/// The request as it was, unless it is too long: then without what was said between the instructions and the new messages.
fn parameters(request: &Request, turns: &Turns) -> Option<Box<RawValue>> {
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
                let is_kept = place < turns.leading || place >= turns.new;
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

/// Kept of a request that is sent on as it was.
const MAX_PARAMETERS_BYTES: usize = 1 << 20;
/// New messages, and instructions: nearly as many messages as a conversation may have, so that there is room for the answer.
const MAX_MESSAGES: usize = 900;

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(messages: Value) -> Asked {
        read(json!({"model": "m", "messages": messages}))
    }

    fn read(body: Value) -> Asked {
        Asked::read(&Request::of_json(&body))
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
        check(json!([user("a"), call, output("f")]), &["Tool: 1"], &[]);
        let read = |messages: Value| read(json!({"functions": [], "messages": messages}));
        let answered = |messages: Value| read(messages).functions_answered;
        let named =
            |messages: Value| Some(NamedCall { said: read(messages).said.unwrap(), name: "f".to_owned() });
        let first = json!([user("a"), call, output("f")]);
        assert_eq!(answered(first.clone()).pop(), named(json!([user("a")])));
        assert_ne!(answered(first.clone()).pop(), named(json!([user("b")])));
        assert_eq!(answered(json!([user("a"), call, output("f"), call, output("f")])).pop(), named(first));
        for other in
            [json!([user("a"), call, output("g")]), json!([user("a"), output("f")]), json!([output("f")])]
        {
            assert!(answered(other.clone()).is_empty(), "{other}");
        }
        assert!(ask(json!([user("a")])).said.is_none());
    }

    #[test]
    fn all_requests_of_a_conversation_begin_alike() {
        let first = ask(json!([{"role": "system", "content": "s"}, {"role": "user", "content": "a"}]));
        let later = ask(json!([{"role": "system", "content": "s"}, {"role": "user", "content": "a"},
                               {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]));
        let other = ask(json!([{"role": "system", "content": "s"}, {"role": "user", "content": "b"}]));
        assert!(first.beginning.is_some() && first.beginning == later.beginning);
        assert_ne!(first.beginning, other.beginning);
        assert!(ask(json!([{"role": "system", "content": "s"}])).beginning.is_none());
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
