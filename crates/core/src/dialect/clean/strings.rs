//! Strings within JSON, and invalid characters.

use std::fmt::Write as _;

use memchr::{memchr, memchr_iter};

use super::{Found, Halves};

/// Escapes of half characters, in the order they occur in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::dialect) struct HalfRun {
    /// The first one is a second half. Its first half must come before this text.
    goes_on: bool,
    /// The last one is a first half. Its second half must follow.
    open: bool,
    /// A half in between has no other half.
    torn: bool,
}

impl HalfRun {
    /// Adds the halves of the next text of the same stream. `next` is none if it has no halves.
    /// Returns whether an earlier half stays alone.
    pub(in crate::dialect) fn is_torn_by(&mut self, next: Option<Self>) -> bool {
        let open = std::mem::take(&mut self.open);
        let Some(next) = next else { return open };
        self.open = next.open;
        next.torn || next.goes_on != open
    }

    /// Whether the other half of the last one has not arrived.
    pub(in crate::dialect) fn is_open(self) -> bool {
        self.open
    }

    fn push(run: &mut Option<Self>, is_first_half: bool) {
        match run {
            None => *run = Some(Self { goes_on: !is_first_half, open: is_first_half, torn: false }),
            Some(run) => {
                run.torn |= run.open == is_first_half;
                run.open = is_first_half;
            }
        }
    }
}

/// Whether a JSON text may have an escape of half a character, or of an ASCII character that needs
/// none. The second matters because names of members are compared as they are written. False is
/// certain.
pub(super) fn has_odd_escapes(json: &str) -> bool {
    memchr_iter(b'\\', json.as_bytes()).any(|at| {
        let escape = json.as_bytes().get(at + 1..at + 5);
        matches!(
            escape,
            Some(
                [b'u', b'd' | b'D', b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F', _]
                | [b'u', b'0', b'0', b'2'..=b'7'],
            )
        )
    })
}

/// Writes the text between the quotes of a JSON string so that any reader accepts it. Returns the
/// text if it was written unchanged and has no escapes.
pub(super) fn write<'r>(
    raw: &'r [u8],
    halves: Halves,
    out: &mut String,
    found: &mut Found,
) -> Option<&'r str> {
    let is_odd = raw.iter().fold(false, |any, &byte| any | (byte < b' ') | (byte == b'\\'));
    if !is_odd && let Ok(text) = str::from_utf8(raw) {
        out.push_str(text);
        return Some(text);
    }
    let mut rest = raw;
    while let Some(at) = memchr(b'\\', rest) {
        plain(&rest[..at], out, found);
        rest = &rest[at..];
        rest = &rest[escape(rest, halves, out, found)..];
    }
    plain(rest, out, found);
    None
}

/// Writes text without escapes.
fn plain(bytes: &[u8], out: &mut String, found: &mut Found) {
    for chunk in bytes.utf8_chunks() {
        characters(chunk.valid(), out, found);
        if !chunk.invalid().is_empty() {
            out.push(if found.grow(char::REPLACEMENT_CHARACTER.len_utf8()) {
                char::REPLACEMENT_CHARACTER
            } else {
                SHORT_REPLACEMENT
            });
        }
    }
}

/// Writes characters and escapes control characters.
fn characters(text: &str, out: &mut String, found: &mut Found) {
    if text.bytes().fold(true, |none, byte| none & (byte >= b' ')) {
        return out.push_str(text);
    }
    for letter in text.chars() {
        match letter {
            '\0'..' ' if found.grow(ESCAPE_BYTES) => {
                write!(out, "\\u{:04x}", u32::from(letter)).expect("a string takes anything");
            }
            '\0'..' ' => out.push(SHORT_REPLACEMENT),
            _ => out.push(letter),
        }
    }
}

/// Writes an escape. Returns how long it was.
fn escape(raw: &[u8], halves: Halves, out: &mut String, found: &mut Found) -> usize {
    match raw.get(1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
            out.push('\\');
            out.push(char::from(raw[1]));
            return 2;
        }
        Some(b'u') => {}
        _ => return backslash(out, found),
    }
    let Some(unit) = unit(raw) else { return backslash(out, found) };
    let is_first_half = match unit {
        HIGH_FIRST..LOW_FIRST => true,
        LOW_FIRST..=LOW_LAST => false,
        _ => {
            out.push_str(str::from_utf8(&raw[..ESCAPE_BYTES]).expect("it is ASCII"));
            return ESCAPE_BYTES;
        }
    };
    if is_first_half && matches!(self::unit(&raw[ESCAPE_BYTES..]), Some(LOW_FIRST..=LOW_LAST)) {
        out.push_str(str::from_utf8(&raw[..2 * ESCAPE_BYTES]).expect("it is ASCII"));
        return 2 * ESCAPE_BYTES;
    }
    match halves {
        Halves::Marked => {
            HalfRun::push(&mut found.halves, is_first_half);
            out.push(mark(unit));
        }
        Halves::Replaced => {
            found.character = true;
            out.push_str("\\ufffd");
        }
    }
    ESCAPE_BYTES
}

/// Writes a backslash that does not start a valid escape. Returns how long it was.
fn backslash(out: &mut String, found: &mut Found) -> usize {
    if found.grow(2) {
        out.push_str("\\\\");
    } else {
        out.push(SHORT_REPLACEMENT);
    }
    1
}

/// The UTF-16 code unit of this escape.
fn unit(raw: &[u8]) -> Option<u16> {
    let digits = raw.get(..ESCAPE_BYTES)?.strip_prefix(b"\\u")?;
    let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
    u16::from_str_radix(str::from_utf8(digits).ok().filter(|_| is_hex)?, 16).ok()
}

/// A private-use character that represents half a character until the other half arrives.
fn mark(unit: u16) -> char {
    char::from_u32(FIRST_MARK + u32::from(unit - HIGH_FIRST)).expect("the last plane has room for all halves")
}

/// Joins the halves of characters that were [marked](Halves::Marked). A half without its other half
/// becomes U+FFFD. None if there is no mark.
pub(in crate::dialect) fn join_halves(text: &str) -> Option<String> {
    let half = |letter: char| {
        let unit = u32::from(letter).checked_sub(FIRST_MARK)?;
        Some(HIGH_FIRST + u16::try_from(unit).ok()?).filter(|unit| *unit <= LOW_LAST)
    };
    let mut joined = String::new();
    let mut copied = 0;
    let mut letters = text.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        let Some(unit) = half(letter) else { continue };
        joined.push_str(&text[copied..at]);
        copied = at + letter.len_utf8();
        let units = match letters.peek().and_then(|(_, next)| half(*next)) {
            Some(next) if unit < LOW_FIRST && next >= LOW_FIRST => {
                letters.next();
                copied += letter.len_utf8();
                vec![unit, next]
            }
            _ => vec![unit],
        };
        joined.push_str(&String::from_utf16_lossy(&units));
    }
    joined.push_str(&text[copied..]);
    (copied > 0).then_some(joined)
}

/// Replaces an odd character if there is no room for a longer replacement.
const SHORT_REPLACEMENT: char = '?';
const ESCAPE_BYTES: usize = "\\u0000".len();
const HIGH_FIRST: u16 = 0xD800;
const LOW_FIRST: u16 = 0xDC00;
const LOW_LAST: u16 = 0xDFFF;
/// The last code points of Unicode. Nobody else uses them.
const FIRST_MARK: u32 = 0x10_F800;
