//! What a request asks that no request before it asked.
//!
//! The API has no memory: every request says all that was said so far. New is what follows the assistant's last word. What tools
//! returned stands there too: such a request goes on with a turn that was asked before.

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

use crate::dialect::field::{self, id};
use crate::dialect::inline;
use crate::event::key_of;
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
}

impl Asked {
    /// Reads a request's body.
    pub(super) fn read(mut body: Value) -> Self {
        if !body.is_object() {
            return Self::default();
        }
        inline::shorten(&mut body["messages"]);
        let messages: Vec<&Value> = body["messages"].as_array().into_iter().flatten().collect();
        let leading = messages.iter().take_while(|message| role(message) == Role::System).count();
        let said = &messages[..messages.len() - begun(&body, &messages)];
        let last_word = said.iter().rposition(|message| role(message) == Role::Assistant);
        let new = last_word.map_or(leading, |place| place + 1);
        let first_word =
            messages.iter().position(|message| matches!(role(message), Role::Assistant | Role::Tool));
        let inputs = messages[new..].iter();
        let answered = question(&messages[..new]).unwrap_or_default();
        Self {
            instructions: instructions(&messages[..leading]),
            inputs: inputs.clone().filter_map(|message| input(message)).collect(),
            answers: inputs
                .filter_map(|message| answered_call(message))
                .map(|call| scoped_call(&answered, call))
                .collect(),
            functions_answered: functions_answered(&messages, new),
            said: body["functions"].is_array().then(|| history(&messages)),
            question: question(&messages),
            beginning: beginning(&messages[..first_word.unwrap_or(messages.len())]),
            model: id(&body["model"]).map(str::to_owned),
            includes_usage: body["stream_options"]["include_usage"] == true,
            metadata: field::raw(&body["metadata"]),
            parameters: parameters(&body, leading, new),
        }
    }
}

fn role(message: &Value) -> Role {
    match message["role"].as_str() {
        Some("assistant") => Role::Assistant,
        Some("developer" | "system") => Role::System,
        Some("function" | "tool") => Role::Tool,
        Some("user") => Role::User,
        _ => Role::Other,
    }
}

/// How many messages at the end are the beginning of the answer that is asked for. Only what says so itself is one: without a word
/// of the request, a last message of the assistant's is an answer like any other.
fn begun(body: &Value, messages: &[&Value]) -> usize {
    let begins = |message: &Value| {
        let said = message["prefix"] == true || message["partial"] == true;
        role(message) == Role::Assistant && (said || body["continue_final_message"] == true)
    };
    usize::from(messages.last().is_some_and(|message| begins(message)))
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
        role: role(message),
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

/// The function whose output stands right behind its call, in the form before tools.
fn functions_answered(messages: &[&Value], new: usize) -> Vec<NamedCall> {
    let Some((calling, answers)) = new.checked_sub(1).and_then(|at| messages[at..].split_first()) else {
        return Vec::new();
    };
    let called = id(&calling["function_call"]["name"]);
    let is_answer = |message: &&&Value| message["role"] == "function" && id(&message["name"]) == called;
    let answer = answers.iter().find(is_answer).filter(|_| called.is_some());
    let named = |name: &str| NamedCall { said: history(&messages[..new - 1]), name: name.to_owned() };
    answer.and(called).map(named).into_iter().collect()
}

/// A hash over all that was said.
fn history(messages: &[&Value]) -> String {
    let said = messages.iter().flat_map(|message| {
        ["role", "content", "name", "function_call"].map(|field| message[field].to_string())
    });
    key_of(&said.collect::<Vec<_>>().iter().map(String::as_str).collect::<Vec<_>>())
}

/// The call whose output a message is.
fn answered_call(message: &Value) -> Option<&str> {
    id(&message["tool_call_id"]).filter(|_| role(message) == Role::Tool)
}

/// A hash over the user's last words.
fn question(messages: &[&Value]) -> Option<String> {
    let last = messages.iter().rfind(|message| role(message) == Role::User)?;
    Some(key_of(&[&last["content"].to_string()]))
}

fn instructions(messages: &[&Value]) -> Option<String> {
    let texts: Vec<String> = messages.iter().map(|message| content_text(&message["content"])).collect();
    Some(texts.join("\n")).filter(|text| field::instructions(text).is_some())
}

/// A hash of what was said before the assistant's first word; none when that is nothing of a user's.
fn beginning(messages: &[&Value]) -> Option<String> {
    if messages.iter().all(|message| role(message) != Role::User) {
        return None;
    }
    let said: Vec<String> =
        messages.iter().flat_map(|m| [m["role"].to_string(), m["content"].to_string()]).collect();
    Some(key_of(&said.iter().map(String::as_str).collect::<Vec<_>>()))
}

/// The request as it was, unless it is too long: then without what was said between the instructions and the new messages.
fn parameters(body: &Value, leading: usize, new: usize) -> Option<Box<RawValue>> {
    let whole = to_raw_value(body).ok().filter(|_| body.is_object())?;
    if whole.get().len() <= MAX_PARAMETERS_BYTES {
        return Some(whole);
    }
    let mut shorter = body.as_object()?.clone();
    if let Some(messages) = shorter.get_mut("messages").and_then(Value::as_array_mut) {
        messages.drain(leading..new);
    }
    to_raw_value(&shorter).ok().filter(|shorter| shorter.get().len() <= MAX_PARAMETERS_BYTES)
}

/// Kept of a request that is sent on as it was.
const MAX_PARAMETERS_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(messages: Value) -> Asked {
        Asked::read(json!({"model": "m", "messages": messages}))
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
            assert_eq!(Asked::read(body.clone()).inputs.len(), expected, "{body}");
        }
    }

    #[test]
    fn a_function_of_old_answers_the_call_before_it_by_name_and_by_what_was_said_before() {
        let user = |text: &str| json!({"role": "user", "content": text});
        let call = json!({"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}});
        let output = |name: &str| json!({"role": "function", "name": name, "content": "1"});
        check(json!([user("a"), call, output("f")]), &["Tool: 1"], &[]);
        let read = |messages: Value| Asked::read(json!({"functions": [], "messages": messages}));
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
            assert!(Asked::read(body.clone()).inputs.is_empty(), "{body}");
        }
        check(json!([7, null, {"content": "a"}, {"role": "user"}]), &["Other: a", "User: "], &[]);
    }
}
