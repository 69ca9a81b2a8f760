//! Reads a JSON text and writes it value by value, without a tree.

use std::borrow::Cow;

use serde_json::Value;

use super::scan::{Input, is_number};
use super::{Clean, Files, Found, Rules, strings};
use crate::dialect::credentials::{MASK, Sense, is_credential_header};
use crate::dialect::inline;

/// The position of a value.
#[derive(Clone, Copy)]
struct Context {
    depth: usize,
    files: Place,
    secrets: Secrets,
    /// Whether values count against the room.
    counted: bool,
}

/// Where files are looked for: only in members meant for them, so that ordinary text is not
/// mistaken for a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Content,
    Elsewhere,
    File,
    Outermost,
}

/// Which values at this position are credentials.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Secrets {
    /// The value, if it is a text or a number, or a list of them.
    Credential,
    /// Every text and number, except under `type`.
    Every,
    /// Headers that carry one: either members of an object, or objects with a `value` each.
    Headers,
    /// Values whose name is that of a credential.
    Named,
    /// Only texts whose name is that of a credential, because a schema has members with such names
    /// too.
    Schema,
    /// The signature in a text that is a URL.
    Url,
}

/// The text is not JSON.
pub(super) struct NotJson {
    /// An object of the members that were complete before. Empty if it is not an object.
    pub(super) members: String,
}

/// The text is not JSON at this position.
struct Here;

/// Writes the values it reads.
pub(super) struct Writer<'a> {
    input: Input<'a>,
    out: String,
    found: Found,
    rules: Rules<'a>,
    /// The memory that is left for a tree of further values.
    room: usize,
    /// The same, for values of the outermost object and its members. Long content is deeper.
    reserve: usize,
    /// The length of the output that consists of complete members of the outermost object.
    whole_members: usize,
}

impl<'a> Writer<'a> {
    pub(super) fn new(json: &'a [u8], rules: Rules<'a>) -> Self {
        Self {
            input: Input::new(json),
            // The output is rarely longer than the input, and often much shorter.
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
            // At the end of the input, a number may be incomplete.
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

    /// The context of a member's value according to its name, and whether the member is left out.
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

    /// Writes the name of a member, and returns it.
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

    /// Writes a text that is between quotes in the input. Returns the text if it was written
    /// unchanged and has no escapes.
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

/// Whether an invalid number was meant to be a number: `NaN`, `-Infinity`, `01`, `.5`.
fn looks_like_a_number(word: &str) -> bool {
    let unsigned = word.trim_start_matches(['-', '+']);
    matches!(unsigned, "NaN" | "Infinity")
        || unsigned.starts_with(|first: char| first == '.' || first.is_ascii_digit())
}

const FIRST_CAPACITY: usize = 4 << 10;
/// Deeper than any real data, and less deep than the JSON parser's limit (128).
pub(super) const MAX_DEPTH: usize = 100;
/// About how much memory the values of a text may take as a tree. A list of ten thousand messages
/// takes a third of it.
pub(super) const MAX_TREE_BYTES: usize = 16 << 20;
const RESERVED_TREE_BYTES: usize = 1 << 20;
/// Members of the outermost object, and members of those. `usage` comes after the long members.
const RESERVED_DEPTH: usize = 2;
/// The memory that a value takes in a tree, and the memory that a member takes. The smallest map
/// has room for four.
pub(super) const VALUE_BYTES: usize = size_of::<Value>();
pub(super) const MEMBER_BYTES: usize = 2 * size_of::<(u64, String, Value)>();
