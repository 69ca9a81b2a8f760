//! What was said in a conversation so far, as hashes that a later request can be matched with.
//!
//! With a stateless API, every request contains the whole conversation. Two requests belong to one
//! conversation if the second repeats what the first asked and what the model replied. The
//! comparison covers who said what: role and text, and for tool calls id, name and arguments. It
//! ignores what clients change: whitespace around a text, one text or several parts, one assistant
//! message or two in a row, the spacing of JSON arguments, and the model's reasoning
//! (`<think>…</think>` before a text). System messages are not part of it, because a handoff
//! between agents replaces them.
//!
//! Memory is a few hashes, however long the conversation is. Time is linear in its text.

use std::collections::VecDeque;
use std::num::NonZeroU64;

use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::attribution::{Attribution, User};
use crate::dialect::object::{self, Object, for_each_item};
use crate::observation::{Api, Said};

/// The messages of a request, read in order.
#[derive(Clone, Debug)]
pub(super) struct History {
    /// Tells the conversations of different apps, users and sessions apart.
    scope: u64,
    /// What was asked since the assistant's last message, and the last message of it.
    asked: u64,
    asked_last: u64,
    /// The assistant's last message, as long as nothing follows it.
    word: Option<Speech>,
    /// All exchanges so far, and the last one.
    whole: u64,
    last: Option<u64>,
    /// The last exchanges, oldest first.
    said: VecDeque<Said>,
}

impl History {
    /// An empty conversation with this attribution.
    pub(super) fn of(whose: &Attribution, api: Api, upstream: &str) -> Self {
        let Attribution { session, user, app, .. } = whose;
        let user = user.as_ref().and_then(User::id);
        let parts = [Some(upstream), Some(api.as_str()), app.as_deref(), user, session.as_deref()];
        let mut hash = Sha256::new();
        parts.iter().for_each(|part| update(&mut hash, part.unwrap_or_default()));
        Self {
            scope: finish(hash),
            asked: 0,
            asked_last: 0,
            word: None,
            whole: 0,
            last: None,
            said: VecDeque::new(),
        }
    }

    /// Adds a message by the app: from a user, or from a tool. `call` names the tool call.
    pub(super) fn ask(&mut self, role: &str, call: &str, speech: Speech) {
        self.close();
        let mut hash = Sha256::new();
        update(&mut hash, role);
        update(&mut hash, call);
        self.asked_last = fold(&[finish(hash), speech.finish()]);
        self.asked = fold(&[self.asked, self.asked_last]);
    }

    /// Adds a message by the assistant. Consecutive messages are joined.
    pub(super) fn answer(&mut self, say: impl FnOnce(&mut Speech)) {
        let word = self.word.get_or_insert_default();
        say(word);
        word.end_message();
    }

    /// Removes the assistant's last message, if nothing follows it.
    pub(super) fn take_back(&mut self) {
        self.word = None;
    }

    /// What was said up to each of the assistant's recent messages, the last one first.
    pub(super) fn before(&self) -> Vec<Said> {
        let mut all = self.clone();
        all.close();
        all.said.into_iter().rev().collect()
    }

    /// A hash over everything that was said, up to the assistant's last message or to what was
    /// asked since.
    pub(super) fn fingerprint(&self) -> String {
        let word = self.word.clone().map_or(0, Speech::finish);
        format!("{:016x}", fold(&[self.scope, self.whole, self.asked, word]))
    }

    /// The state after adding the model's response. None if the response is empty.
    pub(super) fn with(&self, answer: impl FnOnce(&mut Speech)) -> Option<Said> {
        let mut all = Self { said: VecDeque::new(), ..self.clone() };
        all.answer(answer);
        all.close();
        all.said.pop_back()
    }

    /// Ends an exchange, if the assistant said anything.
    fn close(&mut self) {
        let Some(word) = self.word.take().filter(|word| !word.is_empty) else { return };
        let word = word.finish();
        // A summary may precede the first question that is kept.
        let exchange = fold(&[self.scope, self.asked_last, word]);
        let pair = self.last.and_then(|last| NonZeroU64::new(fold(&[last, exchange])));
        self.whole = fold(&[self.scope, self.whole, self.asked, word]);
        (self.asked, self.asked_last, self.last) = (0, 0, Some(exchange));
        if self.said.len() >= MAX_SAID {
            self.said.pop_front();
        }
        self.said.push_back(Said { exchange, pair, whole: self.whole });
    }
}

/// The content of one message, or of several in a row.
#[derive(Clone, Debug)]
pub(super) struct Speech {
    text: Sha256,
    /// Whitespace at the end of the text so far. It only counts if more text follows.
    blanks: String,
    /// Whether the message has any text yet.
    is_begun: bool,
    /// Calls, and parts that are not text.
    others: u64,
    is_empty: bool,
}

impl Default for Speech {
    fn default() -> Self {
        Self { text: Sha256::new(), blanks: String::new(), is_begun: false, others: 0, is_empty: true }
    }
}

impl Speech {
    /// Adds a text, or a piece of one.
    pub(super) fn say(&mut self, text: &str) {
        let text = if self.is_begun { text } else { text.trim_start() };
        let said = text.trim_end();
        if !said.is_empty() {
            self.text.update(&self.blanks);
            self.blanks.clear();
            self.text.update(said);
            (self.is_begun, self.is_empty) = (true, false);
        }
        if self.is_begun {
            self.blanks.push_str(&text[said.len()..]);
        }
    }

    /// Adds a text by the assistant, without the reasoning before it. Some servers write the
    /// reasoning into the text, and clients leave it out or send it back.
    pub(super) fn answer(&mut self, text: &str) {
        self.say(without_thoughts(text));
    }

    /// Adds the content of a message: a text, or parts in the form of either API. Its texts are
    /// added with `say`.
    pub(super) fn say_content(&mut self, content: &RawValue, say: fn(&mut Self, &str)) {
        if let Some(text) = object::text(content) {
            return say(self, &text);
        }
        if !content.get().starts_with('[') {
            return self.show(content.get());
        }
        for_each_item(content, |raw| {
            if let Some(text) = object::text(raw) {
                return self.say(&text);
            }
            let part = Object::parse(raw.get()).unwrap_or_default();
            match part.text("type").as_deref() {
                Some("input_text" | "output_text" | "text") => {
                    say(self, &part.text("text").unwrap_or_default());
                }
                Some("refusal") => self.say(&part.text("refusal").unwrap_or_default()),
                Some("reasoning" | "thinking") => {}
                _ => self.show(raw.get()),
            }
        });
    }

    /// Adds a tool call.
    pub(super) fn call(&mut self, id: &str, name: &str, arguments: &str) {
        let mut hash = Sha256::new();
        [id, name].iter().for_each(|part| update(&mut hash, part));
        let arguments = arguments.trim();
        // A tree takes many times the memory of its text.
        let tree = Some(arguments).filter(|text| text.len() <= MAX_TREE_BYTES);
        match tree.and_then(|text| serde_json::from_str::<Value>(text).ok()) {
            Some(tree) => update(&mut hash, &tree.to_string()),
            None if arguments.is_empty() => update(&mut hash, "{}"),
            None => update(&mut hash, arguments),
        }
        self.note(hash);
    }

    /// Adds a part that is not text, as it was written, for example an image.
    pub(super) fn show(&mut self, part: &str) {
        let mut hash = Sha256::new();
        update(&mut hash, part);
        self.note(hash);
    }

    fn note(&mut self, hash: Sha256) {
        self.others = fold(&[self.others, finish(hash)]);
        self.is_empty = false;
    }

    /// Ends the message. Anything that follows is another message.
    pub(super) fn end_message(&mut self) {
        // Also frees the memory, however long they were.
        self.blanks = String::new();
        self.is_begun = false;
    }

    fn finish(self) -> u64 {
        fold(&[finish(self.text), self.others])
    }
}

/// A text without the reasoning before it, in the form that open models write.
fn without_thoughts(text: &str) -> &str {
    let thoughts = text.trim_start().strip_prefix("<think>");
    let said = thoughts.and_then(|thoughts| thoughts.split_once("</think>"));
    said.map_or(text, |(_, said)| said)
}

/// Lengths keep ("ab", "c") and ("a", "bc") apart.
fn update(hash: &mut Sha256, part: &str) {
    hash.update((part.len() as u64).to_le_bytes());
    hash.update(part);
}

/// The hashed text may be hostile, and the hashes are stored. So this is a cryptographic hash that
/// stays the same across releases.
fn finish(hash: Sha256) -> u64 {
    let digest = hash.finalize();
    u64::from_le_bytes(std::array::from_fn(|at| digest[at]))
}

fn fold(parts: &[u64]) -> u64 {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part.to_le_bytes()));
    finish(hash)
}

/// Longer call arguments are compared as they are written.
const MAX_TREE_BYTES: usize = 64 << 10;
/// How many recent assistant messages are used to find a conversation. If the history was edited,
/// the part before the edit is still known.
const MAX_SAID: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn new() -> History {
        History::of(&Attribution::default(), Api::Chat, "u")
    }

    fn user(history: &mut History, text: &str) {
        let mut speech = Speech::default();
        speech.say(text);
        history.ask("user", "", speech);
    }

    fn assistant(history: &mut History, text: &str) {
        history.answer(|word| word.say(text));
    }

    fn history(texts: &[&str]) -> History {
        let mut history = new();
        for (place, text) in texts.iter().enumerate() {
            if place % 2 == 0 { user(&mut history, text) } else { assistant(&mut history, text) }
        }
        history
    }

    #[test]
    fn a_request_repeats_what_the_one_before_it_added_up_to() {
        let first = history(&["hello"]);
        let said = first.with(|word| word.say("hi")).unwrap();
        let second = history(&["hello", "hi", "how are you?"]);
        assert_eq!(second.before(), [said]);
        let said_then = second.with(|word| word.say("fine")).unwrap();
        let third = history(&["hello", "hi", "how are you?", "fine", "good"]);
        assert_eq!(third.before(), [said_then, said]);
        assert!(first.before().is_empty() && first.with(|_| {}).is_none());
        // The app may have started the requested response.
        assert_eq!(history(&["hello", "hi"]).before(), [said]);
    }

    #[test]
    fn an_exchange_is_known_without_what_came_before_it_and_a_pair_too() {
        let whole = history(&["a", "b", "c", "d", "e", "f", "g"]).before();
        let trimmed = history(&["c", "d", "e", "f", "g"]).before();
        let last = history(&["e", "f", "g"]).before();
        assert_eq!((trimmed[0].exchange, trimmed[0].pair), (whole[0].exchange, whole[0].pair));
        assert_ne!(trimmed[0].whole, whole[0].whole);
        assert_eq!((last[0].exchange, last[0].pair), (whole[0].exchange, None));
        let edited = history(&["a", "b", "c", "other", "e"]).before();
        assert_ne!(edited[0], whole[1]);
        assert_eq!(edited[1], whole[2]);
    }

    #[test]
    fn what_clients_change_on_the_way_makes_no_difference() {
        let plain = history(&["hello you", "hi there", "next"]).before();
        let mut changed = new();
        let mut speech = Speech::default();
        [" hello ", "you\n"].iter().for_each(|piece| speech.say(piece));
        changed.ask("user", "", speech);
        assistant(&mut changed, "hi");
        assistant(&mut changed, "");
        assistant(&mut changed, " there\n");
        user(&mut changed, "next");
        // Whitespace between two messages belongs to neither.
        assert_ne!(changed.before(), plain);
        let mut changed = new();
        user(&mut changed, "\thello you ");
        changed.answer(|word| ["hi ", " ", "there "].iter().for_each(|piece| word.say(piece)));
        user(&mut changed, "next");
        assert_ne!(changed.before(), plain, "blanks within a text count");
        let mut changed = new();
        user(&mut changed, "\thello you ");
        changed.answer(|word| ["hi ", "", "there "].iter().for_each(|piece| word.say(piece)));
        user(&mut changed, "next");
        assert_eq!(changed.before(), plain);
    }

    #[test]
    fn what_the_model_thought_is_no_part_of_what_it_said() {
        let said = history(&["a"]).with(|word| word.answer("<think>\nhm\n</think>\n\nb")).unwrap();
        for answer in [&["b"][..], &["<think>\nhm\n</think>", "b"], &["<think>else</think> b "]] {
            let mut again = history(&["a"]);
            answer.iter().for_each(|text| again.answer(|word| word.answer(text)));
            assert_eq!(again.before(), [said], "{answer:?}");
        }
        for other in ["b <think>hm</think>", "<think> b", "think b"] {
            assert_ne!(history(&["a"]).with(|word| word.answer(other)), Some(said), "{other}");
        }
    }

    #[test]
    fn a_summary_before_the_first_question_that_is_kept_hides_no_exchange() {
        let whole = history(&["a", "b", "c", "d", "e"]).before();
        let mut summarised = new();
        ["in short: a and b", "c"].iter().for_each(|text| user(&mut summarised, text));
        assistant(&mut summarised, "d");
        let summarised = summarised.before();
        assert_eq!(summarised[0].exchange, whole[0].exchange);
        assert_ne!(summarised[0].whole, whole[0].whole);
    }

    #[test]
    fn calls_are_told_apart_by_id_name_and_arguments_however_these_are_spaced() {
        let said = |calls: &[(&str, &str, &str)]| {
            let answer = |word: &mut Speech| calls.iter().for_each(|call| word.call(call.0, call.1, call.2));
            history(&["a"]).with(answer).unwrap()
        };
        let plain = said(&[("c", "f", r#"{"x":1,"y":"é"}"#)]);
        assert_eq!(said(&[("c", "f", "{ \"x\": 1, \"y\": \"\\u00e9\" }")]), plain);
        let long = |blank: &str| format!("[{}1]", format!("1,{blank}").repeat(MAX_TREE_BYTES / 2));
        assert_eq!(said(&[("c", "f", &long(""))]), said(&[("c", "f", &long(""))]));
        assert_ne!(
            said(&[("c", "f", &long(""))]),
            said(&[("c", "f", &long(" "))]),
            "it is not read as a tree"
        );
        assert_eq!(said(&[("c", "f", "")]), said(&[("c", "f", "{}")]));
        for other in [
            said(&[("d", "f", r#"{"x":1,"y":"é"}"#)]),
            said(&[("c", "g", r#"{"x":1,"y":"é"}"#)]),
            said(&[("c", "f", r#"{"x":2,"y":"é"}"#)]),
            said(&[("c", "f", r#"{"x":1,"y":"é"#)]),
            said(&[("c", "f", "{}"), ("c", "f", "{}")]),
        ] {
            assert_ne!(other, plain);
        }
    }

    #[test]
    fn roles_calls_pictures_and_whose_it_is_tell_conversations_apart() {
        let asked = |history: History, role: &str, call: &str, picture: Option<&str>| {
            let (mut history, mut speech) = (history, Speech::default());
            speech.say("a");
            picture.into_iter().for_each(|picture| speech.show(picture));
            history.ask(role, call, speech);
            history.with(|word| word.say("b")).unwrap()
        };
        let of = |session: &str, user: &str, app: &str| {
            let some = |text: &str| Some(text).filter(|text| !text.is_empty()).map(str::to_owned);
            let user = some(user).map(|user| User::from_id(&user));
            let whose =
                Attribution { session: some(session), user, app: some(app), ..Attribution::default() };
            History::of(&whose, Api::Chat, "u")
        };
        let all = [
            asked(new(), "user", "", None),
            asked(History::of(&Attribution::default(), Api::Chat, "v"), "user", "", None),
            asked(History::of(&Attribution::default(), Api::Responses, "u"), "user", "", None),
            asked(of("x", "", ""), "user", "", None),
            asked(of("", "x", ""), "user", "", None),
            asked(of("", "", "x"), "user", "", None),
            asked(new(), "tool", "", None),
            asked(new(), "tool", "c", None),
            asked(new(), "user", "", Some("{}")),
        ];
        for (place, said) in all.iter().enumerate() {
            assert!(!all[..place].contains(said), "{place}");
        }
    }

    #[test]
    fn of_a_long_conversation_the_last_words_are_told() {
        let texts: Vec<String> = (0..101).map(|number| number.to_string()).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let said = history(&texts).before();
        assert_eq!(said.len(), MAX_SAID);
        assert_eq!(said[1], history(&texts[..98]).with(|_| {}).unwrap());
    }
}
