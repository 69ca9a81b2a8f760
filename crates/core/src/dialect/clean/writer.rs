//! Reads a JSON text and writes it, value by value, without a tree.

use std::borrow::Cow;

use serde_json::Value;

use super::scan::{Input, is_number};
use super::{Clean, Files, Found, Rules, strings};
use crate::dialect::credentials::{MASK, Sense, is_credential_header};
use crate::dialect::inline;

/// Where a value stands.
#[derive(Clone, Copy)]
struct Context {
    depth: usize,
    files: Place,
    secrets: Secrets,
    /// Whether values take room.
    counted: bool,
}

/// Where files are looked for: only in members meant for them, so that no text is taken for one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Content,
    Elsewhere,
    File,
    Outermost,
}

/// What is a credential there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Secrets {
    /// The value, if it is a text or a number, or a list of them.
    Credential,
    /// Every text and number, except under `type`.
    Every,
    /// Headers that carry one: members of an object, or objects with a `value` each.
    Headers,
    /// What has the name of one.
    Named,
    /// Texts that have the name of one: a schema has it too.
    Schema,
    /// What signs a text that is a URL.
    Url,
}

/// The text is no JSON.
pub(super) struct NotJson {
    /// An object of the members that were whole before; empty if it is no object.
    pub(super) members: String,
}

/// The text is no JSON here.
struct Here;

/// Writes what it reads.
pub(super) struct Writer<'a> {
    input: Input<'a>,
    out: String,
    found: Found,
    rules: Rules<'a>,
    /// What a tree of further values may take.
    room: usize,
    /// The same, for values of the outermost object and its members: what is long stands deeper.
    reserve: usize,
    /// How much of the output is whole members of the outermost object.
    whole_members: usize,
}

impl<'a> Writer<'a> {
    pub(super) fn new(json: &'a [u8], rules: Rules<'a>) -> Self {
        Self {
            input: Input::new(json),
            // What comes out is rarely longer, and often much shorter.
            out: String::with_capacity(json.len().min(FIRST_CAPACITY)),
            found: Found::default(),
            rules,
            room: MAX_TREE_BYTES,
            reserve: RESERVED_TREE_BYTES,
            whole_members: 0,
        }
    }

    /// Writes the first value.
    pub(super) fn write(mut self) -> (Result<(), NotJson>, Clean) {
        let files = match self.rules.files {
            Files::Described => Place::Content,
            Files::DescribedInContent => Place::Outermost,
            Files::Kept => Place::Elsewhere,
        };
        let written = self.value(Context { depth: 0, files, secrets: Secrets::Named, counted: true });
        let Self { input, out: mut text, found, whole_members, .. } = self;
        let written = written.map_err(|Here| {
            let mut members = std::mem::take(&mut text);
            members.truncate(whole_members);
            if whole_members > 0 {
                members.push('}');
            }
            NotJson { members }
        });
        (written, Clean { text, found, read_bytes: input.at() })
    }

    fn value(&mut self, context: Context) -> Result<(), Here> {
        match self.input.next_token().ok_or(Here)? {
            b'{' => self.object(context),
            b'[' => self.list(context),
            b'"' => {
                let raw = self.input.string().ok_or(Here)?;
                self.string(raw, context);
                Ok(())
            }
            _ => self.word(context.secrets),
        }
    }

    fn object(&mut self, context: Context) -> Result<(), Here> {
        self.input.skip(1);
        self.out.push('{');
        let mut first = true;
        while self.input.goes_on(b'}', first).ok_or(Here)? {
            first = false;
            if self.input.next_token() != Some(b'"') {
                return Err(Here);
            }
            let raw_name = self.input.string().ok_or(Here)?;
            self.input.expect(b':').ok_or(Here)?;
            let before = self.out.len();
            if !self.out.ends_with('{') {
                self.out.push(',');
            }
            let name = self.name(raw_name);
            self.out.push(':');
            let (context, omitted) = self.member(&name, context);
            let is_outer = context.depth <= RESERVED_DEPTH;
            if omitted || !self.has_room(context, MEMBER_BYTES + name.len(), is_outer) {
                self.out.truncate(before);
                self.input.skip_value().ok_or(Here)?;
                self.found.left_out |= !omitted;
            } else {
                self.value(context)?;
            }
            // At the end of what came, a number may go on.
            let is_whole = self.input.next_token().is_some();
            if context.depth == 1 && is_whole {
                self.whole_members = self.out.len();
            }
        }
        self.out.push('}');
        Ok(())
    }

    fn list(&mut self, context: Context) -> Result<(), Here> {
        self.input.skip(1);
        self.out.push('[');
        let files = match context.files {
            Place::Content | Place::File => Place::Content,
            Place::Elsewhere | Place::Outermost => Place::Elsewhere,
        };
        let secrets = match context.secrets {
            Secrets::Credential => Secrets::Every,
            secrets => secrets,
        };
        let context = Context { depth: context.depth + 1, files, secrets, ..context };
        let mut first = true;
        while self.input.goes_on(b']', first).ok_or(Here)? {
            first = false;
            if !self.has_room(context, VALUE_BYTES, false) {
                self.input.skip_value().ok_or(Here)?;
                self.found.left_out = true;
                continue;
            }
            if !self.out.ends_with('[') {
                self.out.push(',');
            }
            self.value(context)?;
        }
        self.out.push(']');
        Ok(())
    }

    /// What a member's name says of its value, and whether it is left out.
    fn member(&self, name: &str, context: Context) -> (Context, bool) {
        let files = match context.files {
            Place::Content | Place::File if inline::may_be_encoded(name) => Place::File,
            Place::Content | Place::File => Place::Content,
            Place::Outermost if name == "content" => Place::Content,
            Place::Outermost | Place::Elsewhere => Place::Elsewhere,
        };
        let secrets = match (self.rules.credentials, context.secrets) {
            (None, _) => Secrets::Named,
            (Some(_), Secrets::Every) => {
                if name == "type" {
                    Secrets::Named
                } else {
                    Secrets::Every
                }
            }
            (Some(_), Secrets::Headers) if name == "value" || is_credential_header(name) => Secrets::Every,
            (Some(credentials), place) => match credentials.sense(name) {
                Sense::Credential => Secrets::Credential,
                Sense::CredentialObject if place != Secrets::Schema => Secrets::Every,
                Sense::Headers if place != Secrets::Schema => Secrets::Headers,
                Sense::Properties => Secrets::Schema,
                Sense::Url => Secrets::Url,
                Sense::CredentialObject | Sense::Headers | Sense::Plain => Secrets::Named,
            },
        };
        let omitted = self.rules.omitted.contains(&name);
        let counted = context.counted && !(context.depth == 0 && self.rules.read_by_item == Some(name));
        (Context { depth: context.depth + 1, files, secrets, counted }, omitted)
    }

    /// Takes room for a value, if there is any.
    fn has_room(&mut self, context: Context, bytes: usize, is_outer: bool) -> bool {
        if context.depth > MAX_DEPTH {
            return false;
        }
        let room = if self.room < bytes && is_outer { &mut self.reserve } else { &mut self.room };
        let left = if context.counted { room.checked_sub(bytes) } else { Some(*room) };
        *room = left.unwrap_or(*room);
        left.is_some()
    }

    /// Writes the name of a member, and says what it is.
    fn name<'n>(&mut self, raw: &'n [u8]) -> Cow<'n, str> {
        let at = self.out.len();
        let plain = self.text(raw).map(Cow::Borrowed);
        plain.unwrap_or_else(|| Cow::Owned(serde_json::from_str(&self.out[at..]).unwrap_or_default()))
    }

    fn string(&mut self, raw: &[u8], context: Context) {
        match context.secrets {
            Secrets::Credential | Secrets::Every if !raw.is_empty() => return self.mask(),
            _ => {}
        }
        let at = self.out.len();
        let plain = self.text(raw);
        let url = self.rules.credentials.filter(|_| context.secrets == Secrets::Url);
        if url.is_none() && context.files != Place::File {
            return;
        }
        let text = plain.map(Cow::Borrowed);
        let text =
            text.unwrap_or_else(|| Cow::Owned(serde_json::from_str(&self.out[at..]).unwrap_or_default()));
        let shorter = if context.files == Place::File { inline::shorter(&text) } else { None };
        if let Some(other) = shorter.or_else(|| url?.masked_url(&text)) {
            self.out.truncate(at);
            self.out.push_str(&Value::String(other).to_string());
        }
    }

    /// Writes a text that stands between quotes in the input. Returns it if it was written as it stood and has no escapes.
    fn text<'n>(&mut self, raw: &'n [u8]) -> Option<&'n str> {
        self.out.push('"');
        let plain = strings::write(raw, self.rules.halves, &mut self.out, &mut self.found);
        self.out.push('"');
        plain
    }

    fn word(&mut self, secrets: Secrets) -> Result<(), Here> {
        match self.input.word() {
            word @ ("true" | "false" | "null") => self.out.push_str(word),
            word if is_number(word) && matches!(secrets, Secrets::Credential | Secrets::Every) => self.mask(),
            word if is_number(word) => self.out.push_str(word),
            word if looks_like_a_number(word) => {
                self.found.no_number = true;
                self.out.push_str("null");
            }
            _ => return Err(Here),
        }
        Ok(())
    }

    fn mask(&mut self) {
        self.out.push('"');
        self.out.push_str(MASK);
        self.out.push('"');
    }
}

/// Whether something that is no number was meant to be one: `NaN`, `-Infinity`, `01`, `.5`.
fn looks_like_a_number(word: &str) -> bool {
    let unsigned = word.trim_start_matches(['-', '+']);
    matches!(unsigned, "NaN" | "Infinity")
        || unsigned.starts_with(|first: char| first == '.' || first.is_ascii_digit())
}

const FIRST_CAPACITY: usize = 4 << 10;
/// Deeper than anything that is meant, and less deep than what the JSON parser takes (128).
pub(super) const MAX_DEPTH: usize = 100;
/// What the values of a text may take as a tree, about. A list of ten thousand messages takes a third of it.
pub(super) const MAX_TREE_BYTES: usize = 16 << 20;
const RESERVED_TREE_BYTES: usize = 1 << 20;
/// Members of the outermost object, and of those: `usage` comes behind what is long.
const RESERVED_DEPTH: usize = 2;
/// What a value takes in a tree, and what a member takes: the least that a map has room for is four.
pub(super) const VALUE_BYTES: usize = size_of::<Value>();
pub(super) const MEMBER_BYTES: usize = 2 * size_of::<(u64, String, Value)>();
