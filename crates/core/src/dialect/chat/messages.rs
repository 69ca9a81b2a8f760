//! The messages of a request, read once and in order. Finds which of them are new, and what was
//! said before.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::dialect::history::{History, Speech};
use crate::dialect::object::Object;
use crate::event::KeyHash;
use crate::message::Role;

/// The messages read so far. It keeps those before the conversation, and those after the
/// assistant's last message.
#[derive(Debug)]
pub(super) struct Messages<'a> {
    /// What was said.
    history: &'a mut History,
    /// The messages before the conversation, which are instructions for the assistant.
    pub(super) leading: Vec<&'a RawValue>,
    /// The messages after the assistant's last message.
    pub(super) new: Vec<&'a RawValue>,
    /// The function that the assistant's last message calls, in the legacy form before tools.
    pub(super) called: Option<NamedCall>,
    /// Whether some of the leading or new messages were left out because there are too many.
    is_leading_cut: bool,
    is_new_cut: bool,
    /// Whether a last message by the assistant is the start of the requested response.
    goes_on: bool,
    /// A message by the assistant that would be such a start if it is the last one.
    held: Option<(Object<'a>, &'a RawValue)>,
    /// The number of messages, the number of leading messages, and the index of the first new one.
    count: usize,
    leading_end: usize,
    new_start: usize,
    /// The user's last question, and the last one before the new messages.
    question: Option<&'a RawValue>,
    question_before: Option<&'a RawValue>,
}

/// A call that has no id. It is identified by the function's name and a hash over everything that
/// was said before.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NamedCall {
    pub(super) said: String,
    pub(super) name: String,
}

impl<'a> Messages<'a> {
    /// Starts before the first message. `goes_on` says that the request asks the model to continue
    /// the last message.
    pub(super) fn new(history: &'a mut History, goes_on: bool) -> Self {
        Self {
            history,
            leading: Vec::new(),
            new: Vec::new(),
            called: None,
            is_leading_cut: false,
            is_new_cut: false,
            goes_on,
            held: None,
            count: 0,
            leading_end: 0,
            new_start: 0,
            question: None,
            question_before: None,
        }
    }

    /// Takes the next message.
    pub(super) fn take(&mut self, raw: &'a RawValue) {
        if let Some((held, _)) = self.held.take() {
            self.said(&held);
        }
        let message = Object::parse(raw.get()).unwrap_or_default();
        match role(message.text("role").as_deref()) {
            Role::Assistant if begins_answer(&message, self.goes_on) => self.held = Some((message, raw)),
            Role::Assistant => self.said(&message),
            role => self.asked(role, &message, raw),
        }
    }

    /// Ends the messages.
    pub(super) fn end(&mut self) {
        if let Some((_, raw)) = self.held.take() {
            self.keep(raw);
        }
    }

    /// Whether messages were left out because there are too many.
    pub(super) fn is_cut(&self) -> bool {
        self.is_leading_cut || self.is_new_cut
    }

    /// Whether the message at an index is leading or new.
    pub(super) fn is_kept(&self, place: usize) -> bool {
        place < self.leading_end || place >= self.new_start
    }

    /// Hashes over the user's last question, and over the last one before the new messages. The
    /// latter is empty if there is none.
    pub(super) fn questions(&self) -> (Option<String>, String) {
        let hash = |content: &RawValue| {
            let mut hash = KeyHash::default();
            hash.push(content.get());
            hash.finish()
        };
        (self.question.map(hash), self.question_before.map(hash).unwrap_or_default())
    }

    /// Takes a message by the assistant.
    fn said(&mut self, message: &Object<'a>) {
        let function = message.object("function_call");
        let name = function.as_ref().and_then(|call| call.text("name").map(Cow::into_owned));
        self.called = name.map(|name| NamedCall { said: self.history.fingerprint(), name });
        self.history.answer(|word| say(word, message));
        self.count += 1;
        self.new.clear();
        (self.new_start, self.is_new_cut) = (self.count, false);
        self.question_before = self.question;
    }

    /// Takes a message by the app.
    fn asked(&mut self, role: Role, message: &Object<'a>, raw: &'a RawValue) {
        if role == Role::System {
            if self.count == self.leading_end {
                return self.lead(raw);
            }
        } else {
            let mut speech = Speech::default();
            say(&mut speech, message);
            let named = message.text("role");
            let call = message.text("tool_call_id").or_else(|| message.text("name")).unwrap_or_default();
            self.history.ask(named.as_deref().unwrap_or_default(), &call, speech);
        }
        if role == Role::User {
            self.question = Some(message.raw("content").unwrap_or(RawValue::NULL));
        }
        self.keep(raw);
    }

    fn lead(&mut self, raw: &'a RawValue) {
        self.count += 1;
        (self.leading_end, self.new_start) = (self.count, self.count);
        if self.leading.len() < MAX_MESSAGES {
            self.leading.push(raw);
        } else {
            self.is_leading_cut = true;
        }
    }

    fn keep(&mut self, raw: &'a RawValue) {
        self.count += 1;
        if self.new.len() < MAX_MESSAGES {
            self.new.push(raw);
        } else {
            self.is_new_cut = true;
        }
    }
}

/// Reads what a message says.
fn say(speech: &mut Speech, message: &Object<'_>) {
    if let Some(content) = message.raw("content") {
        let is_answer = role(message.text("role").as_deref()) == Role::Assistant;
        speech.say_content(content, if is_answer { Speech::answer } else { Speech::say });
    }
    if let Some(refusal) = message.text("refusal") {
        speech.say(&refusal);
    }
    for call in message.list("tool_calls") {
        let call = Object::parse(call.get()).unwrap_or_default();
        let called = call.object("function").or_else(|| call.object("custom")).unwrap_or_default();
        say_call(speech, &call.text("id").unwrap_or_default(), &called);
    }
    if let Some(called) = message.object("function_call") {
        say_call(speech, "", &called);
    }
}

fn say_call(speech: &mut Speech, id: &str, called: &Object<'_>) {
    let arguments = called.text("arguments").or_else(|| called.text("input"));
    // Some clients send them back as an object.
    let arguments = arguments.or_else(|| called.raw("arguments").map(|object| object.get().into()));
    speech.call(id, &called.text("name").unwrap_or_default(), &arguments.unwrap_or_default());
}

pub(super) fn role(role: Option<&str>) -> Role {
    match role {
        Some("assistant") => Role::Assistant,
        Some("developer" | "system") => Role::System,
        Some("function" | "tool") => Role::Tool,
        Some("user") => Role::User,
        _ => Role::Other,
    }
}

/// Whether a message, if it is the last one, is the start of the requested response. It must say so
/// itself. If the request does not say so, a last message by the assistant is an ordinary response.
fn begins_answer(message: &Object<'_>, goes_on: bool) -> bool {
    goes_on
        || ["prefix", "partial"].iter().any(|name| message.raw(name).is_some_and(|said| said.get() == "true"))
}

/// New messages and instructions. The limit is slightly below that of a conversation, to leave room
/// for the response.
const MAX_MESSAGES: usize = 900;
