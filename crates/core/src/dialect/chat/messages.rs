//! The messages of a request, read once and in their order: which of them are new, and what was said before.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::dialect::history::{History, Speech};
use crate::dialect::object::Object;
use crate::event::KeyHash;
use crate::message::Role;

/// The messages read so far. Kept are those that stand before the conversation, and those that follow the assistant's last word.
#[derive(Debug)]
pub(super) struct Messages<'a> {
    /// What was said.
    history: &'a mut History,
    /// What stands before the conversation, for the assistant alone.
    pub(super) leading: Vec<&'a RawValue>,
    /// What follows the assistant's last word.
    pub(super) new: Vec<&'a RawValue>,
    /// The function that the assistant's last word calls, in the form before tools.
    pub(super) called: Option<NamedCall>,
    /// Whether some of those that lead, and of the new ones, were left out, because they are too many.
    is_leading_cut: bool,
    is_new_cut: bool,
    /// Whether the last message is the beginning of the answer that is asked for, if it is the assistant's.
    goes_on: bool,
    /// A message of the assistant's that is such a beginning, if it is the last one.
    held: Option<(Object<'a>, &'a RawValue)>,
    /// How many messages there were, how many of them lead, and where the new ones begin.
    count: usize,
    leading_end: usize,
    new_start: usize,
    /// What the user asked last, and last before the new messages.
    question: Option<&'a RawValue>,
    question_before: Option<&'a RawValue>,
}

/// A call that has no id: it is told apart by the function's name, and a hash over all that was said before.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NamedCall {
    pub(super) said: String,
    pub(super) name: String,
}

impl<'a> Messages<'a> {
    /// Before the first one. `goes_on` is the request's word that the model is to go on with the last one.
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

    /// Takes the next one.
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

    /// There are no more.
    pub(super) fn end(&mut self) {
        if let Some((_, raw)) = self.held.take() {
            self.keep(raw);
        }
    }

    /// Whether some that would be kept are too many.
    pub(super) fn is_cut(&self) -> bool {
        self.is_leading_cut || self.is_new_cut
    }

    /// Whether the message in a place leads, or is new.
    pub(super) fn is_kept(&self, place: usize) -> bool {
        place < self.leading_end || place >= self.new_start
    }

    /// Hashes over what the user asked last, and over what the user asked last before the new messages; the latter is empty if that
    /// was nothing.
    pub(super) fn questions(&self) -> (Option<String>, String) {
        let hash = |content: &RawValue| {
            let mut hash = KeyHash::default();
            hash.push(content.get());
            hash.finish()
        };
        (self.question.map(hash), self.question_before.map(hash).unwrap_or_default())
    }

    /// Takes a message of the assistant's.
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

    /// Takes a message of the app's.
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
    // Some clients hand them back as an object.
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

/// Whether a message, if it is the last one, is the beginning of the answer that is asked for. Only what says so itself is one: without a
/// word of the request, a last message of the assistant's is an answer like any other.
fn begins_answer(message: &Object<'_>, goes_on: bool) -> bool {
    goes_on
        || ["prefix", "partial"].iter().any(|name| message.raw(name).is_some_and(|said| said.get() == "true"))
}

/// New messages, and instructions: nearly as many messages as a conversation may have, so that there is room for the answer.
const MAX_MESSAGES: usize = 900;
