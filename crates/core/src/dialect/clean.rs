//! Cleans JSON that is read and kept: one pass over untrusted text produces text that any reader
//! accepts.
//!
//! The output is valid JSON without whitespace between its tokens, of bounded depth and with a
//! bounded number of values. Numbers stay as they were written. Credentials are masked
//! ([`Credentials`]). Inlined files become descriptions where [`Files`] says so. Common mistakes of
//! JSON writers are repaired: escapes of half a character (JavaScript cuts strings between UTF-16
//! code units, RFC 8259 §8.2), bytes that are not UTF-8, raw control characters, escapes that do
//! not exist, `NaN` and `Infinity` (Python writes and reads them). If a key occurs twice, both
//! stay. Readers take the last.
//!
//! Memory is that of the output text; no tree is built. Time is linear in the text.

mod scan;
mod strings;
mod writer;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::Problem;
use super::credentials::Credentials;
pub(super) use strings::{HalfRun, join_halves};
use writer::{MAX_TREE_BYTES, MEMBER_BYTES, NotJson, VALUE_BYTES, Writer};

/// How a text is cleaned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    /// The credentials to mask.
    pub(super) credentials: Option<&'a Credentials>,
    /// Where inlined files are looked for.
    pub(super) files: Files,
    /// What to do with an escape of half a character.
    pub(super) halves: Halves,
    /// Members that are left out wherever they are, because they are long and never read.
    pub(super) omitted: &'a [&'a str],
    /// A list in the outermost object that is read item by item. Its length has no bound here.
    pub(super) read_by_item: Option<&'a str>,
}

impl Rules<'_> {
    /// Nothing is masked or left out.
    pub(super) const PLAIN: Self = Self {
        credentials: None,
        files: Files::Kept,
        halves: Halves::Replaced,
        omitted: &[],
        read_by_item: None,
    };
}

/// Where descriptions replace inlined files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Files {
    /// Wherever the member's name says that there may be one.
    Described,
    /// The same, but only within the member `content` of the outermost object.
    DescribedInContent,
    /// Nowhere.
    Kept,
}

/// What to do with an escape of half a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Halves {
    /// It is written as a special mark, because the other half may follow: see [`join_halves`].
    Marked,
    /// It is replaced by U+FFFD.
    Replaced,
}

/// A cleaned text.
#[derive(Debug)]
pub(super) struct Clean {
    pub(super) text: String,
    pub(super) found: Found,
    /// How much of the input the value took, including whitespace before it.
    pub(super) read_bytes: usize,
}

/// A text that is not JSON, or was cut.
#[derive(Debug)]
pub(super) struct Broken {
    /// An object of the complete members. Empty if the text is not an object.
    pub(super) members: String,
    pub(super) found: Found,
}

/// What was odd in a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// A character that is invalid, or should have been escaped.
    pub(super) character: bool,
    /// How much longer the text became because of the replacements.
    grown_bytes: usize,
    /// Escapes of halves of characters that are [marked](Halves::Marked).
    pub(super) halves: Option<HalfRun>,
    /// A word or something else in place of a number.
    pub(super) no_number: bool,
    /// Values that were left out because there are too many or they are too deep.
    pub(super) left_out: bool,
}

impl Found {
    /// Notes that an odd character is replaced. Returns whether there is room for a longer
    /// replacement: binary data must not become several times as long.
    fn grow(&mut self, bytes: usize) -> bool {
        self.character = true;
        self.grown_bytes += bytes;
        self.grown_bytes <= MAX_GROWN_BYTES
    }

    /// The problems to report to the operator.
    pub(super) fn problems(&self) -> impl Iterator<Item = Problem> + use<> {
        let found = [
            (self.character || self.halves.is_some(), Problem::HalfCharacter),
            (self.no_number, Problem::NoNumber),
            (self.left_out, Problem::TooManyValues),
        ];
        found.into_iter().filter(|(is_found, _)| *is_found).map(|(_, problem)| problem)
    }
}

/// Whether a text needs no cleaning if it is JSON: it is short, and has neither possible
/// credentials nor odd escapes.
pub(super) fn is_plain(json: &str, credentials: &Credentials) -> bool {
    json.len() <= SHORT_BYTES && !credentials.may_stand_in(json) && !strings::has_odd_escapes(json)
}

/// Whether a text, if it is JSON, is certainly not deeper than readers accept.
pub(super) fn is_shallow(json: &str) -> bool {
    memchr::memchr2_iter(b'{', b'[', json.as_bytes()).nth(writer::MAX_DEPTH).is_none()
}

/// Cleans the first value of a text.
///
/// # Errors
/// [`Broken`] when it is not JSON.
pub(super) fn clean(json: &[u8], rules: Rules<'_>) -> Result<Clean, Broken> {
    let value = json.strip_prefix(BYTE_ORDER_MARK).unwrap_or(json);
    let (written, mut clean) = Writer::new(value, rules).write();
    clean.read_bytes += json.len() - value.len();
    match written {
        Ok(()) => Ok(clean),
        Err(NotJson { members }) => Err(Broken { members, found: clean.found }),
    }
}

/// Cleans a text that is one value. None if it is not JSON, or more than one value.
pub(super) fn clean_all(json: &[u8], rules: Rules<'_>) -> Option<Clean> {
    clean(json, rules).ok().filter(|clean| json[clean.read_bytes..].trim_ascii().is_empty())
}

/// The complete members of an object whose end may be missing. Empty if it is not an object.
pub(super) fn members(json: &[u8], rules: Rules<'_>) -> Map<String, Value> {
    let text = clean(json, rules).map_or_else(|broken| broken.members, |clean| clean.text);
    serde_json::from_str(&text).unwrap_or_default()
}

/// A text to keep, with descriptions in place of inlined files. None if it is not JSON.
pub(super) fn kept(json: &str, files: Files) -> Option<Box<RawValue>> {
    let clean = clean_all(json.as_bytes(), Rules { files, ..Rules::PLAIN })?;
    RawValue::from_string(clean.text).ok()
}

/// Reads a text of any length as a tree. Also returns whether values were left out. None if it is
/// not JSON.
pub(super) fn tree(json: &str) -> Option<(Value, bool)> {
    if json.len() <= SHORT_BYTES
        && let Ok(value) = serde_json::from_str(json)
    {
        return Some((value, false));
    }
    let clean = clean_all(json.as_bytes(), Rules::PLAIN)?;
    Some((serde_json::from_str(&clean.text).ok()?, clean.found.left_out))
}

/// About how many bytes a tree takes.
pub(super) fn tree_bytes(tree: &Value) -> usize {
    VALUE_BYTES
        + match tree {
            Value::Array(items) => items.iter().map(tree_bytes).sum(),
            Value::Bool(_) | Value::Null => 0,
            Value::Number(number) => number.as_str().len(),
            Value::Object(members) => {
                members.iter().map(|(name, value)| MEMBER_BYTES + name.len() + tree_bytes(value)).sum()
            }
            Value::String(text) => text.len(),
        }
}

/// How much memory it may take to read a text of this length with this many values: another text,
/// texts in a tree, and the tree.
pub(super) fn workspace_bytes(json_bytes: usize, values: usize) -> usize {
    2 * json_bytes + (values * TREE_BYTES_PER_VALUE).min(2 * MAX_TREE_BYTES)
}

/// The most values of [`TREE_BYTES_PER_VALUE`] that a piece of a text can have, after this many
/// bytes before it. There are no more values than commas and brackets. Short texts are not counted:
/// a text that is denser than this has no members, which take the most memory.
pub(super) fn values_in(piece: &[u8], bytes_before: usize) -> usize {
    match bytes_before + piece.len() {
        ..=SHORT_BYTES => piece.len() / BYTES_PER_VALUE,
        _ => memchr::memchr3_iter(b',', b'{', b'[', piece).count(),
    }
}

/// Asserts that the output for any bytes is JSON that a parser accepts, of bounded size, and that
/// cleaning it again changes nothing.
#[cfg(any(test, fuzzing))]
pub(super) fn assert_that_parsers_take_it(json: &[u8]) {
    let credentials = Credentials::default();
    let rules = Rules { credentials: Some(&credentials), files: Files::Described, ..Rules::PLAIN };
    match clean(json, rules) {
        Ok(Clean { text, .. }) => {
            let tree: Value = serde_json::from_str(&text).expect("it is JSON");
            assert!(tree_bytes(&tree) <= 4 * MAX_TREE_BYTES + text.len());
            let again = clean_all(text.as_bytes(), rules).expect("it is JSON");
            assert_eq!((again.text, again.found), (text, Found::default()));
        }
        Err(Broken { members, .. }) => {
            let whole = members.is_empty() || serde_json::from_str::<Map<String, Value>>(&members).is_ok();
            assert!(whole, "{members}");
        }
    }
}

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
/// The most bytes that replacements may add. Beyond it, each odd character is replaced by one byte.
const MAX_GROWN_BYTES: usize = 1 << 20;
/// A text of this length makes a tree of a few megabytes at most.
pub(super) const SHORT_BYTES: usize = 64 << 10;
/// The most memory a value takes, if its object has few members: a map has room for four.
const TREE_BYTES_PER_VALUE: usize = 300;
/// `{"a":0},` has a comma and a bracket.
pub(super) const BYTES_PER_VALUE: usize = 4;

#[cfg(test)]
mod tests;
