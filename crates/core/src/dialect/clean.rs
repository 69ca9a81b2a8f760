//! JSON as it is read and kept: one pass over a text that nobody vouches for, and a text comes out that any reader can take.
//!
//! What comes out is valid JSON without blanks between its tokens, of bounded depth and with a bounded number of values. Numbers stay
//! as they were written. Credentials are masked ([`Credentials`]), files that are inlined become descriptions where [`Files`] says so. What
//! JSON writers get wrong is mended: escapes of half a character (JavaScript cuts strings between UTF-16 code units, RFC 8259 §8.2),
//! bytes that are not UTF-8, raw control characters, escapes that there are not, `NaN` and `Infinity` (Python writes and reads them).
//! Of a key that is given twice both stay; readers take the last.
//!
//! Memory is that of the text that comes out; no tree is built. Time is linear in the text.

mod scan;
mod strings;
mod writer;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::Problem;
use super::credentials::Credentials;
pub(super) use strings::{HalfRun, join_halves};
use writer::{MAX_TREE_BYTES, MEMBER_BYTES, NotJson, VALUE_BYTES, Writer};

/// What is done to a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    /// What is masked.
    pub(super) credentials: Option<&'a Credentials>,
    /// Where inlined files are looked for.
    pub(super) files: Files,
    /// What becomes of an escape of half a character.
    pub(super) halves: Halves,
    /// Members that are left out wherever they stand, because nobody reads them and they are long.
    pub(super) omitted: &'a [&'a str],
    /// A list of the outermost object that is read item by item: its length has no bound here.
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

/// Where descriptions take the place of inlined files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Files {
    /// Wherever a name says that there may be one.
    Described,
    /// So within the member `content` of the outermost object.
    DescribedInContent,
    /// Nowhere.
    Kept,
}

/// What becomes of an escape of half a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Halves {
    /// It is written as a mark of its own, because the other half may come: see [`join_halves`].
    Marked,
    /// U+FFFD takes its place.
    Replaced,
}

/// A text that was cleaned.
#[derive(Debug)]
pub(super) struct Clean {
    pub(super) text: String,
    pub(super) found: Found,
    /// How much of the input the value took, blanks before it included.
    pub(super) read_bytes: usize,
}

/// A text that is no JSON, or was cut.
#[derive(Debug)]
pub(super) struct Broken {
    /// An object of the members that are whole; empty if it is no object.
    pub(super) members: String,
    pub(super) found: Found,
}

/// What was odd.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// A character that is none, or should have been escaped.
    pub(super) character: bool,
    /// How much longer the text became by what was written for these.
    grown_bytes: usize,
    /// Escapes of halves of characters that are [marked](Halves::Marked).
    pub(super) halves: Option<HalfRun>,
    /// A word or something else in the place of a number.
    pub(super) no_number: bool,
    /// Values that were left out, because there are too many or they are too deep.
    pub(super) left_out: bool,
}

impl Found {
    /// Notes that something takes the place of an odd character. Tells whether there is room for what is longer: binary data must not
    /// become several times as long.
    fn grow(&mut self, bytes: usize) -> bool {
        self.character = true;
        self.grown_bytes += bytes;
        self.grown_bytes <= MAX_GROWN_BYTES
    }

    /// What of it is told to the operator.
    pub(super) fn problems(&self) -> impl Iterator<Item = Problem> + use<> {
        let found = [
            (self.character || self.halves.is_some(), Problem::HalfCharacter),
            (self.no_number, Problem::NoNumber),
            (self.left_out, Problem::TooManyValues),
        ];
        found.into_iter().filter(|(is_found, _)| *is_found).map(|(_, problem)| problem)
    }
}

/// Whether a text need not be cleaned if it is JSON: it is short, and has neither what may be a credential nor odd escapes.
pub(super) fn is_plain(json: &str, credentials: &Credentials) -> bool {
    json.len() <= SHORT_BYTES && !credentials.may_stand_in(json) && !strings::has_odd_escapes(json)
}

/// Whether a text that is JSON cannot be deeper than readers take.
pub(super) fn is_shallow(json: &str) -> bool {
    memchr::memchr2_iter(b'{', b'[', json.as_bytes()).nth(writer::MAX_DEPTH).is_none()
}

/// Cleans the first value of a text.
///
/// # Errors
/// [`Broken`] when it is no JSON.
pub(super) fn clean(json: &[u8], rules: Rules<'_>) -> Result<Clean, Broken> {
    let value = json.strip_prefix(BYTE_ORDER_MARK).unwrap_or(json);
    let (written, mut clean) = Writer::new(value, rules).write();
    clean.read_bytes += json.len() - value.len();
    match written {
        Ok(()) => Ok(clean),
        Err(NotJson { members }) => Err(Broken { members, found: clean.found }),
    }
}

/// Cleans a text that is one value. None when it is no JSON, or more than one.
pub(super) fn clean_all(json: &[u8], rules: Rules<'_>) -> Option<Clean> {
    clean(json, rules).ok().filter(|clean| json[clean.read_bytes..].trim_ascii().is_empty())
}

/// The members of an object that are whole, where its end may be missing. Empty when it is no object.
pub(super) fn members(json: &[u8], rules: Rules<'_>) -> Map<String, Value> {
    let text = clean(json, rules).map_or_else(|broken| broken.members, |clean| clean.text);
    serde_json::from_str(&text).unwrap_or_default()
}

/// A text that is kept, with descriptions in the place of inlined files. None when it is no JSON.
pub(super) fn kept(json: &str, files: Files) -> Option<Box<RawValue>> {
    let clean = clean_all(json.as_bytes(), Rules { files, ..Rules::PLAIN })?;
    RawValue::from_string(clean.text).ok()
}

/// A text as a tree, however long it is. Tells whether values were left out. None when it is no JSON.
pub(super) fn tree(json: &str) -> Option<(Value, bool)> {
    if json.len() <= SHORT_BYTES
        && let Ok(value) = serde_json::from_str(json)
    {
        return Some((value, false));
    }
    let clean = clean_all(json.as_bytes(), Rules::PLAIN)?;
    Some((serde_json::from_str(&clean.text).ok()?, clean.found.left_out))
}

/// How many bytes a tree takes, about.
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

/// How much memory it may take to read a text of this length with so many values: another text, texts in a tree, and the tree.
pub(super) fn workspace_bytes(json_bytes: usize, values: usize) -> usize {
    2 * json_bytes + (values * TREE_BYTES_PER_VALUE).min(2 * MAX_TREE_BYTES)
}

/// How many values of [`TREE_BYTES_PER_VALUE`] a piece of a text has at most, of which so much came before: no more than commas and
/// brackets. Short texts are not looked at: what is denser than this has no members, which take the most.
pub(super) fn values_in(piece: &[u8], bytes_before: usize) -> usize {
    match bytes_before + piece.len() {
        ..=SHORT_BYTES => piece.len() / BYTES_PER_VALUE,
        _ => memchr::memchr3_iter(b',', b'{', b'[', piece).count(),
    }
}

/// Asserts that whatever comes out of any bytes is JSON that a parser takes, of bounded size, and that cleaning it once more changes
/// nothing.
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
/// What may be written for odd characters; beyond it one byte stands for each.
const MAX_GROWN_BYTES: usize = 1 << 20;
/// What makes a tree of a few megabytes at most.
pub(super) const SHORT_BYTES: usize = 64 << 10;
/// What a value takes at most, if its member is one of few: a map has room for four.
const TREE_BYTES_PER_VALUE: usize = 300;
/// `{"a":0},` has a comma and a bracket.
pub(super) const BYTES_PER_VALUE: usize = 4;

#[cfg(test)]
mod tests;
