//! How a response body is read: as events, or as one JSON document.
//!
//! Its first bytes decide, for servers send event streams under any type and under none, and the SDKs read them all the same. The
//! `Content-Type` decides where the first bytes say nothing. What the request asked for never decides: servers answer
//! `stream: true` with a document. A document that turns out to be several, as JSON lines are, is read as events too.

use serde_json::value::RawValue;

use super::kind::{Kind, NotJson, Telling};
use super::repair::{self, Repaired};
use super::{Observed, Problem, prefix};
use crate::exchange::{End, Ending};
use crate::sse::{self, Beginning};
use crate::time::UnixMillis;

/// A response body, as far as it was seen.
#[derive(Debug)]
pub(super) struct Body {
    form: Form,
    /// Whether part of it was not seen, or could not be read.
    missed: bool,
}

#[derive(Debug)]
enum Form {
    /// A JSON document, gathered until its end.
    Document(Vec<u8>),
    Events(sse::Decoder),
    /// Neither, or given up.
    Ignored,
    /// The beginning of a document of which the rest is lost.
    Prefix(Vec<u8>),
    /// Too little was seen: the bytes that may say what it is, and what the header says.
    Undecided(Vec<u8>, Declared),
}

/// What a `Content-Type` says of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Declared {
    Events,
    Json,
    Other,
}

/// What the first bytes of a body say it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FirstBytes {
    Events,
    Json,
    Other,
    /// More of them are needed.
    Unsure,
}

impl FirstBytes {
    /// Looks at the bytes behind blank ones and a byte order mark.
    pub(super) fn of(bytes: &[u8]) -> Self {
        match sse::behind_blanks(bytes) {
            [b'{' | b'[', ..] => Self::Json,
            bytes => match sse::begins(bytes) {
                Beginning::Events => Self::Events,
                Beginning::Other => Self::Other,
                Beginning::Unsure => Self::Unsure,
            },
        }
    }

    /// Looks at bytes that should be coded and may not be. Only what no coding makes of any text counts: `[` and `:` may well begin
    /// a body in brotli (RFC 7932 §9.1), `{` never does.
    pub(super) fn despite_coding(bytes: &[u8]) -> Self {
        match bytes {
            [] | [b'{'] => Self::Unsure,
            [b'{', b'"' | b'}' | b'\t' | b'\n' | b'\r' | b' ', ..] => Self::Json,
            [b':' | b'[' | b'{' | b'\t' | b'\n' | b'\r' | b' ' | 0xEF, ..] => Self::Other,
            _ => Self::of(bytes),
        }
    }
}

impl Body {
    /// Begins a body with this `Content-Type`.
    pub(super) fn new(content_type: Option<&[u8]>) -> Self {
        let mime = content_type.and_then(|kind| kind.split(|byte| *byte == b';').next()).unwrap_or_default();
        let declared = match mime.trim_ascii().to_ascii_lowercase().as_slice() {
            b"text/event-stream" => Declared::Events,
            mime if mime.ends_with(b"json") => Declared::Json,
            _ => Declared::Other,
        };
        Self { form: Form::Undecided(Vec::new(), declared), missed: false }
    }

    /// Whether its type says that it is JSON.
    pub(super) fn is_declared_json(&self) -> bool {
        matches!(self.form, Form::Undecided(_, Declared::Json))
    }

    /// Takes the next bytes, decoded.
    pub(super) fn feed(&mut self, bytes: &[u8], kind: &mut Kind, at: UnixMillis, out: &mut Observed) {
        if let Form::Undecided(held, declared) = &mut self.form {
            held.extend_from_slice(bytes);
            held.drain(..held.len() - sse::behind_blanks(held).len());
            let decided = match FirstBytes::of(held) {
                FirstBytes::Unsure => return,
                FirstBytes::Events => Declared::Events,
                FirstBytes::Json => Declared::Json,
                FirstBytes::Other => *declared,
            };
            let held = std::mem::take(held);
            self.decide(decided, kind);
            match &mut self.form {
                Form::Document(body) => *body = held,
                _ => self.take(&held, kind, at, out),
            }
        } else {
            self.take(bytes, kind, at, out);
        }
    }

    /// Tells that part of the body was lost here. `resumable` says whether what follows can be read all the same.
    pub(super) fn lose(&mut self, resumable: bool, kind: &mut Kind, out: &mut Observed) {
        if !self.missed {
            out.problem(Problem::Incomplete);
        }
        if let Form::Undecided(_, declared) = self.form {
            self.decide(declared, kind);
        }
        self.miss(kind);
        match &mut self.form {
            // Events begin anew at any blank line.
            Form::Events(events) if resumable => events.resync(),
            // What came before the hole may say what it was.
            Form::Document(body) => self.form = Form::Prefix(std::mem::take(body)),
            Form::Prefix(_) => {}
            Form::Events(_) | Form::Ignored | Form::Undecided(..) => self.form = Form::Ignored,
        }
    }

    /// Stops reading.
    pub(super) fn give_up(&mut self, kind: &mut Kind) {
        if let Form::Undecided(_, declared) = self.form {
            self.decide(declared, kind);
        }
        self.miss(kind);
        self.form = Form::Ignored;
    }

    /// How many bytes are held until the end.
    pub(super) fn held_bytes(&self) -> usize {
        match &self.form {
            Form::Document(body) | Form::Prefix(body) | Form::Undecided(body, _) => body.capacity(),
            Form::Events(_) | Form::Ignored => 0,
        }
    }

    /// The body is over. Tells whether part of it was not seen.
    pub(super) fn finish(mut self, kind: &mut Kind, end: &End, out: &mut Observed) -> bool {
        if let Form::Undecided(held, declared) = &mut self.form {
            let (held, declared) = (std::mem::take(held), *declared);
            if !held.is_empty() || declared != Declared::Other {
                self.decide(declared, kind);
                self.take(&held, kind, end.at, out);
            }
        }
        match std::mem::replace(&mut self.form, Form::Ignored) {
            Form::Events(mut decoder) => {
                if let Some(event) = decoder.finish() {
                    tell(&event, kind, end.at, &mut self.missed, out);
                }
                for _ in 0..decoder.skipped() {
                    self.miss(kind);
                    out.problem(Problem::EventTooLarge);
                }
            }
            Form::Document(body) if !body.is_empty() => self.document(&body, kind, end, out),
            Form::Prefix(body) if body.len() <= MAX_PREFIX_BYTES => {
                kind.prefix(prefix::members(&body), end.ending, end.at, out);
            }
            Form::Ignored if !self.missed => out.problem(Problem::UnexpectedType),
            Form::Document(_) | Form::Ignored | Form::Prefix(_) | Form::Undecided(..) => {}
        }
        self.missed
    }

    fn miss(&mut self, kind: &mut Kind) {
        self.missed = true;
        kind.miss();
    }

    fn decide(&mut self, decided: Declared, kind: &mut Kind) {
        kind.set_telling(if decided == Declared::Events { Telling::Events } else { Telling::Document });
        self.form = match decided {
            Declared::Events => Form::Events(sse::Decoder::new(sse::Config::default())),
            Declared::Json => Form::Document(Vec::new()),
            Declared::Other => Form::Ignored,
        };
    }

    fn take(&mut self, bytes: &[u8], kind: &mut Kind, at: UnixMillis, out: &mut Observed) {
        match &mut self.form {
            Form::Events(decoder) => {
                let mut rest = bytes;
                while let Some(event) = decoder.next_event(&mut rest) {
                    tell(&event, kind, at, &mut self.missed, out);
                }
            }
            Form::Document(body) if body.len() + bytes.len() <= MAX_DOCUMENT_BYTES => {
                body.extend_from_slice(bytes);
            }
            Form::Document(_) => self.lose(false, kind, out),
            Form::Ignored | Form::Prefix(_) | Form::Undecided(..) => {}
        }
    }

    fn document(&mut self, body: &[u8], kind: &mut Kind, end: &End, out: &mut Observed) {
        if kind.document(body, end.at, out).is_ok() {
            return;
        }
        let repaired = Repaired::of(body);
        if repaired.problem.is_some() && kind.document(repaired.text.as_bytes(), end.at, out).is_ok() {
            return out.problems.extend(repaired.problem);
        }
        let Repaired { text, problem } = repaired;
        if next_value(&text).is_some_and(|first| first.get().len() < text.trim_end().len()) {
            kind.set_telling(Telling::LateEvents);
            // Halves in two lines were a character together.
            if problem == Some(Problem::HalfCharacter) {
                self.miss(kind);
            }
            out.problems.extend(problem);
            return tell_each("message", &text, kind, end.at, &mut self.missed, out);
        }
        if end.ending == Ending::Complete || !kind.hears_broken_answers() {
            out.problem(Problem::InvalidJson);
        } else {
            kind.prefix(prefix::members(text.as_bytes()), end.ending, end.at, out);
        }
    }
}

/// Hands on an event. What cannot be read of it is a gap, if it was meant to be JSON.
fn tell(event: &sse::Event<'_>, kind: &mut Kind, at: UnixMillis, missed: &mut bool, out: &mut Observed) {
    let repaired = repair::halves(&event.data);
    if repaired.is_some() {
        // The other half may stand in another event: together they were a character.
        out.problem(Problem::HalfCharacter);
        *missed = true;
        kind.miss();
    }
    let data = repaired.as_deref().unwrap_or(&event.data);
    if let Err(NotJson) = kind.event(event.name, data, at, out) {
        tell_each(event.name, data, kind, at, missed, out);
    }
}

/// Hands on each JSON value of a text that holds several, each as an event: servers glue events together, or write them in lines.
fn tell_each(name: &str, text: &str, kind: &mut Kind, at: UnixMillis, missed: &mut bool, out: &mut Observed) {
    if let Some(repaired) = repair::numbers(text)
        && kind.event(name, &repaired, at, out).is_ok()
    {
        return out.problem(Problem::NoNumber);
    }
    let mut rest = text;
    let mut unreadable = 0;
    loop {
        rest = rest.trim_start();
        rest = rest.strip_prefix("data:").unwrap_or(rest).trim_start();
        if rest.is_empty() {
            return;
        }
        let readable = if rest.starts_with(DONE) { Some(DONE) } else { next_value(rest).map(RawValue::get) };
        let value = readable.filter(|value| kind.event(name, value, at, out).is_ok());
        if let Some(value) = value {
            rest = &rest[value.len()..];
            continue;
        }
        out.problem(Problem::InvalidJson);
        if rest.starts_with(['{', '[']) || unreadable + 1 == MAX_UNREADABLE_LINES {
            *missed = true;
            kind.miss();
        }
        unreadable += 1;
        // Each try may read all that is left.
        let next = rest.split_once('\n').filter(|_| unreadable < MAX_UNREADABLE_LINES);
        rest = next.map_or("", |(_, rest)| rest);
    }
}

/// The JSON value that a text begins with, if it is whole.
fn next_value(text: &str) -> Option<&RawValue> {
    serde_json::Deserializer::from_str(text).into_iter().next()?.ok()
}

/// Of an event with so many lines that cannot be read, nothing more is read.
const MAX_UNREADABLE_LINES: usize = 8;
/// What ends the streams of these APIs.
const DONE: &str = "[DONE]";
/// Ids come early; of a longer beginning little more would be learned than what it costs to read.
const MAX_PREFIX_BYTES: usize = 16 << 20;
/// What a document may have decoded: four times the most that is copied of one.
const MAX_DOCUMENT_BYTES: usize = super::MAX_DECODED_BYTES;
