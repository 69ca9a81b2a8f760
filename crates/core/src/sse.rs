//! Server-sent events: bytes in, events out, no matter how the bytes were split.
//!
//! Follows the HTML standard (section "Server-sent events", parsing and interpreting an event
//! stream). Differences: an event beyond a limit is skipped. Reading can resume after a gap.
//! `retry` is ignored because nothing here reconnects. The end of the stream may complete an event
//! (see [`Decoder::finish`]).

use std::borrow::Cow;

use memchr::{memchr, memchr2};
use serde::de::IgnoredAny;

/// Limits of a decoder.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The maximum size of one event in bytes: its name, its data and the line being read. A larger
    /// event is skipped.
    pub max_event_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_event_bytes: 16 * 1024 * 1024 }
    }
}

/// Decodes one stream. Memory is bounded by one event, and time is linear in the number of bytes.
///
/// ```
/// # use threadtap_core::sse::{Config, Decoder};
/// let mut decoder = Decoder::new(Config::default());
/// let mut seen = Vec::new();
/// for segment in [&b"event: thread.run.que"[..], b"ued\ndata: {}\n\nda", b"ta: [DONE]\n\n"] {
///     let mut rest = segment;
///     while let Some(event) = decoder.next_event(&mut rest) {
///         seen.push(format!("{} {}", event.name, event.data));
///     }
/// }
/// assert_eq!(seen, ["thread.run.queued {}", "message [DONE]"]);
/// ```
#[derive(Debug)]
pub struct Decoder {
    max_event_bytes: usize,
    mode: Mode,
    /// How many bytes of the byte order mark at the beginning of the stream were seen. The full
    /// length once this is decided.
    bom_seen: usize,
    /// The last line ended in CR, so a following LF belongs to it.
    after_cr: bool,
    /// The part of the current line from earlier calls.
    line: Vec<u8>,
    /// The current line has begun, although `line` may not contain it.
    line_begun: bool,
    name: String,
    /// The data lines, each followed by a LF.
    data: Vec<u8>,
    id: String,
    /// The event in `name` and `data` was already returned.
    handed_out: bool,
    skipped: u64,
}

/// One event. All text is UTF-8. Invalid bytes are replaced with U+FFFD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The `event` field, or `message` if there is none.
    pub name: &'a str,
    /// The `data` fields, joined by LF. May be empty.
    pub data: Cow<'a, str>,
    /// The last `id` field of the stream so far. Empty if there was none.
    pub id: &'a str,
}

impl Decoder {
    /// Makes a decoder for a stream from its first byte.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            max_event_bytes: config.max_event_bytes,
            mode: Mode::Reading,
            bom_seen: 0,
            after_cr: false,
            line: Vec::new(),
            line_begun: false,
            name: String::new(),
            data: Vec::new(),
            id: String::new(),
            handed_out: false,
            skipped: 0,
        }
    }

    /// Reads `input` up to the end of the next event, and advances it past the bytes that were
    /// read. None means that all of it was read, and more is needed.
    pub fn next_event(&mut self, input: &mut &[u8]) -> Option<Event<'_>> {
        self.forget_handed_out();
        self.strip_bom(input);
        while !input.is_empty() {
            if std::mem::take(&mut self.after_cr) && input[0] == b'\n' {
                *input = &input[1..];
                continue;
            }
            let Some(end) = memchr2(b'\n', b'\r', input) else {
                self.hold(input);
                *input = &[];
                break;
            };
            self.after_cr = input[end] == b'\r';
            let part = &input[..end];
            *input = &input[end + 1..];
            if self.end_line(part) {
                return Some(self.hand_out());
            }
        }
        None
    }

    /// Ends the stream. An event without its final blank line is returned if its data is a complete
    /// JSON object or array, or the marker that ends such streams. The standard drops it, but some
    /// servers close without the last blank line, and such data cannot be truncated.
    pub fn finish(&mut self) -> Option<Event<'_>> {
        self.forget_handed_out();
        if self.line_begun {
            self.end_line(&[]);
        }
        let data = self.data.trim_ascii();
        let complete = self.mode == Mode::Reading
            && data.first().is_some_and(|byte| b"{[".contains(byte))
            && (data == b"[DONE]"
                || serde_json::from_str::<IgnoredAny>(&String::from_utf8_lossy(data)).is_ok());
        if !complete {
            self.clear_event();
            return None;
        }
        Some(self.hand_out())
    }

    /// Reports to the decoder that bytes of the stream were lost here. The affected event is
    /// dropped, and reading resumes after the next blank line.
    pub fn resync(&mut self) {
        self.forget_handed_out();
        self.clear_event();
        self.mode = Mode::AfterHole;
        self.bom_seen = BOM.len();
        self.after_cr = false;
        // The next bytes may be the rest of a line, so a line end alone is not a blank line.
        recycle(&mut self.line);
        self.line_begun = true;
    }

    /// How many bytes of an incomplete event are held.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.name.capacity() + self.line.capacity() + self.data.capacity()
    }

    /// How many bytes of an event are held. The next byte may complete it.
    #[must_use]
    pub fn event_bytes(&self) -> usize {
        self.line.len() + if self.handed_out { 0 } else { self.data.len() }
    }

    /// How many events were skipped because they were too large. Events lost to a gap are not
    /// counted.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    fn strip_bom(&mut self, input: &mut &[u8]) {
        while self.bom_seen < BOM.len() {
            let Some(&byte) = input.first() else { return };
            if byte != BOM[self.bom_seen] {
                self.hold(&BOM[..self.bom_seen]);
                self.bom_seen = BOM.len();
                return;
            }
            self.bom_seen += 1;
            *input = &input[1..];
        }
    }

    /// Keeps a part of a line until the rest arrives.
    fn hold(&mut self, part: &[u8]) {
        self.line_begun |= !part.is_empty();
        if self.mode != Mode::Reading || self.line.first() == Some(&b':') {
            return;
        }
        if self.line.is_empty() && part.first() == Some(&b':') {
            // A comment is recognised by its colon alone, so its length does not matter.
            self.line.push(b':');
        } else if self.fits(self.line.len() + part.len()) {
            self.line.extend_from_slice(part);
        } else {
            self.skip_event();
        }
    }

    /// Handles the end of a line. Returns true if that completes an event.
    fn end_line(&mut self, part: &[u8]) -> bool {
        let blank = !self.line_begun && part.is_empty();
        self.line_begun = false;
        if blank {
            return self.end_event();
        }
        if self.line.is_empty() {
            self.read_line(part);
        } else {
            self.hold(part);
            self.line_begun = false;
            let line = std::mem::take(&mut self.line);
            self.read_line(&line);
            self.line = line;
            recycle(&mut self.line);
        }
        false
    }

    /// Handles a blank line. Returns true if an event is complete.
    fn end_event(&mut self) -> bool {
        let complete = self.mode == Mode::Reading && !self.data.is_empty();
        self.mode = Mode::Reading;
        if !complete {
            self.clear_event();
        }
        complete
    }

    /// Handles a whole line that is not blank.
    fn read_line(&mut self, line: &[u8]) {
        if self.mode != Mode::Reading || line.first() == Some(&b':') {
            return;
        }
        if !self.fits(line.len()) {
            self.skip_event();
            return;
        }
        let (field, value) = match memchr(b':', line) {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                self.data.extend_from_slice(value);
                self.data.push(b'\n');
            }
            b"event" => replace(&mut self.name, value),
            b"id" if value.len() <= MAX_ID_BYTES && !value.contains(&0) => replace(&mut self.id, value),
            _ => {}
        }
    }

    fn fits(&self, line_bytes: usize) -> bool {
        self.name.len() + self.data.len() + line_bytes <= self.max_event_bytes
    }

    fn skip_event(&mut self) {
        self.clear_event();
        self.line = Vec::new();
        self.mode = Mode::Oversized;
        self.skipped += 1;
    }

    fn hand_out(&mut self) -> Event<'_> {
        self.handed_out = true;
        let data = self.data.strip_suffix(b"\n").unwrap_or(&self.data);
        Event {
            name: if self.name.is_empty() { "message" } else { &self.name },
            data: String::from_utf8_lossy(data),
            id: &self.id,
        }
    }

    fn forget_handed_out(&mut self) {
        if std::mem::take(&mut self.handed_out) {
            self.clear_event();
        }
    }

    fn clear_event(&mut self) {
        self.name.clear();
        self.name.shrink_to(KEPT_BYTES);
        recycle(&mut self.data);
    }
}

/// What the first bytes of a body indicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// It begins with a comment or a field of an event.
    Events,
    /// It is not an event stream, or it begins with a line that has no meaning.
    Other,
    /// More bytes are needed.
    Unsure,
}

/// Checks whether a body begins like an event stream, whatever its content type. Blank lines and
/// byte order marks may come first.
#[must_use]
pub fn begins(bytes: &[u8]) -> Beginning {
    let bytes = behind_blanks(bytes);
    if BOM.starts_with(bytes) {
        return Beginning::Unsure;
    }
    if bytes.first() == Some(&b':') {
        return Beginning::Events;
    }
    let name = bytes.iter().position(|byte| b":\r\n".contains(byte)).map(|end| &bytes[..end]);
    match name {
        Some(name) if FIELDS.contains(&name) => Beginning::Events,
        None if FIELDS.iter().any(|field| field.starts_with(bytes)) => Beginning::Unsure,
        _ => Beginning::Other,
    }
}

/// What follows the blanks and byte order marks at the beginning of a body. An incomplete mark is
/// kept.
#[must_use]
pub fn behind_blanks(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes.trim_ascii_start();
    while let Some(behind) = rest.strip_prefix(&BOM) {
        rest = behind.trim_ascii_start();
    }
    rest
}

const FIELDS: [&[u8]; 4] = [b"data", b"event", b"id", b"retry"];

/// How lines are handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Lines are skipped up to a blank one, because the beginning of the event was lost.
    AfterHole,
    /// Lines are skipped up to a blank one, because the event is too large.
    Oversized,
    /// Lines are added to an event.
    Reading,
}

fn replace(text: &mut String, value: &[u8]) {
    text.clear();
    text.push_str(&String::from_utf8_lossy(value));
}

/// Empties a buffer, and frees the extra memory of a large event.
fn recycle(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(KEPT_BYTES);
}

/// The byte order mark that may begin a stream.
const BOM: [u8; 3] = [0xEF, 0xBB, 0xBF];
/// The capacity that a buffer keeps between events. Nearly all events are short pieces of text, and
/// need less.
const KEPT_BYTES: usize = 1024;
/// An id is kept for the whole stream, so it has its own limit. A longer id is ignored.
const MAX_ID_BYTES: usize = 4096;

/// Asserts that the events do not depend on how a stream is split. The first byte of `data` selects
/// the limit and the length of the parts. The rest is the stream.
#[cfg(any(test, fuzzing))]
pub fn assert_cuts_do_not_matter(data: &[u8]) {
    let Some((&seed, stream)) = data.split_first() else { return };
    let config = Config { max_event_bytes: if seed & 1 == 0 { 24 } else { 1 << 20 } };
    let decode = |part_bytes: usize| {
        let (mut decoder, mut events) = (Decoder::new(config), Vec::new());
        for mut part in stream.chunks(part_bytes) {
            while let Some(event) = decoder.next_event(&mut part) {
                events.push((event.name.to_owned(), event.data.into_owned(), event.id.to_owned()));
            }
        }
        events.extend(
            decoder.finish().map(|last| (last.name.to_owned(), last.data.into_owned(), last.id.to_owned())),
        );
        (events, decoder.skipped())
    };
    let whole = decode(stream.len().max(1));
    assert_eq!(decode(1), whole);
    assert_eq!(decode(usize::from(seed >> 1) + 2), whole);
}

#[cfg(test)]
mod tests;
