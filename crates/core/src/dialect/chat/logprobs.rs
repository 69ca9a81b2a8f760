//! Log probabilities, put together from the entries that each chunk has for its own tokens.
//!
//! They take many times the memory of the text, so they have their own limit. Beyond it they are
//! all left out, and the text is kept.

use serde_json::json;
use serde_json::value::RawValue;

use crate::dialect::object::Object;

/// The lists so far, by name, with their entries as they were written. None for a list that was
/// only ever null.
#[derive(Debug, Default)]
pub(super) struct Logprobs {
    lists: Vec<(String, Option<String>)>,
    overflowed: bool,
}

impl Logprobs {
    /// Adds the entries of a chunk.
    pub(super) fn push(&mut self, logprobs: &RawValue) {
        let Some(lists) = Object::parse(logprobs.get()) else { return };
        self.overflowed |= self.held_bytes() + logprobs.get().len() > MAX_BYTES;
        if self.overflowed {
            self.lists = Vec::new();
            return;
        }
        for (name, list) in lists.members() {
            let at = match self.lists.iter().position(|(known, _)| known == name) {
                Some(at) => at,
                None if self.lists.len() >= MAX_LISTS => continue,
                None => {
                    self.lists.push((name.to_owned(), None));
                    self.lists.len() - 1
                }
            };
            let entries = list.get().strip_prefix('[').and_then(|list| list.strip_suffix(']'));
            let Some(entries) = entries.map(str::trim) else { continue };
            let known = self.lists[at].1.get_or_insert_default();
            if !known.is_empty() && !entries.is_empty() {
                known.push(',');
            }
            known.push_str(entries);
        }
    }

    /// How many bytes of them are held.
    pub(super) fn held_bytes(&self) -> usize {
        self.lists.iter().map(|(name, entries)| name.len() + entries.as_ref().map_or(0, String::len)).sum()
    }

    /// In the form of a response that is not streamed, with entries as they were written. None if
    /// there are none.
    pub(super) fn to_json(&self) -> Option<Box<RawValue>> {
        let list = |(name, entries): &(String, Option<String>)| {
            let entries =
                entries.as_ref().map_or_else(|| "null".to_owned(), |entries| format!("[{entries}]"));
            format!("{}:{entries}", json!(name))
        };
        let lists: Vec<_> = self.lists.iter().map(list).collect();
        RawValue::from_string(format!("{{{}}}", lists.join(","))).ok().filter(|_| !self.lists.is_empty())
    }
}

/// `content` and `refusal`.
const MAX_LISTS: usize = 4;
/// About 1,500 tokens with 20 alternatives each.
const MAX_BYTES: usize = 4 << 20;
