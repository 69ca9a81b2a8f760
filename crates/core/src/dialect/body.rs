//! How a response body is read: as events, or as one JSON document.
//!
//! The first bytes decide, because servers send event streams with any `Content-Type` or none, and
//! the SDKs read them anyway. The `Content-Type` decides if the first bytes are not conclusive.
//! What the request asked for never decides: servers respond to `stream: true` with a document. A
//! document that turns out to be several, such as JSON lines, is read as events too.

mod reader;

use super::clean::{self, Halves};
use super::credentials::Credentials;
use super::registry::{self, Observe, Telling};
use super::{Observed, Problem};
use crate::exchange::End;
use crate::sse::{self, Beginning};
use crate::time::UnixMillis;
use reader::Reader;

/// A response body, as far as it was seen.
#[derive(Debug)]
pub(super) struct Body {
    form: Form,
    reader: Reader,
    most_bytes: usize,
    /// How many values the event that is being read may have.
    values: usize,
}

#[derive(Debug)]
enum Form {
    /// A JSON document, gathered until its end.
    Document(Vec<u8>),
    Events(sse::Decoder),
    /// Neither of the two, or reading was given up.
    Ignored,
    /// The beginning of a document. The rest is lost.
    Prefix(Vec<u8>),
    /// Too little was seen. Holds the bytes so far, and what the header says.
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
    /// More bytes are needed.
    Unsure,
}

impl FirstBytes {
    /// Looks at the first bytes after whitespace and a byte order mark.
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

    /// Looks at bytes that are declared as encoded but may not be. Only bytes that no encoding
    /// produces count: a brotli body may well begin with `[` or `:` (RFC 7932 §9.1), but never with
    /// `{`.
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
    /// Starts a body with this `Content-Type`. It may hold at most `most_bytes` bytes.
    pub(super) fn new(content_type: Option<&[u8]>, most_bytes: usize, credentials: &Credentials) -> Self {
        let mime = content_type.and_then(|kind| kind.split(|byte| *byte == b';').next()).unwrap_or_default();
        let declared = match mime.trim_ascii().to_ascii_lowercase().as_slice() {
            b"text/event-stream" => Declared::Events,
            mime if mime.ends_with(b"json") => Declared::Json,
            _ => Declared::Other,
        };
        let reader = Reader::new(credentials);
        Self { form: Form::Undecided(Vec::new(), declared), reader, most_bytes, values: 0 }
    }

    /// Whether its `Content-Type` says that it is JSON.
    pub(super) fn is_declared_json(&self) -> bool {
        matches!(self.form, Form::Undecided(_, Declared::Json))
    }

    /// Whether there were half characters. They are [marked](Halves::Marked) in the text that was
    /// passed on.
    pub(super) fn has_marks(&self) -> bool {
        self.reader.has_marks()
    }

    /// Whether the rest of the body is of no use.
    pub(super) fn is_ignored(&self) -> bool {
        matches!(self.form, Form::Ignored | Form::Prefix(_))
    }

    /// Takes the next decoded bytes.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        observer: &mut dyn Observe,
        at: UnixMillis,
        out: &mut Observed,
    ) {
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
            self.decide(decided, observer);
            match &mut self.form {
                Form::Document(body) => *body = held,
                _ => self.take(&held, observer, at, out),
            }
        } else {
            self.take(bytes, observer, at, out);
        }
    }

    /// Notes that part of the body was lost here. `resumable` says whether the bytes that follow
    /// can still be read.
    pub(super) fn lose(&mut self, resumable: bool, observer: &mut dyn Observe, out: &mut Observed) {
        if !self.reader.has_missed() {
            out.problem(Problem::Incomplete);
        }
        if let Form::Undecided(_, declared) = self.form {
            self.decide(declared, observer);
        }
        self.reader.miss(observer);
        match &mut self.form {
            // A new event can start after any blank line.
            Form::Events(events) if resumable => events.resync(),
            // The part before the gap may show what it was.
            Form::Document(body) => self.form = Form::Prefix(std::mem::take(body)),
            Form::Prefix(_) => {}
            Form::Events(_) | Form::Ignored | Form::Undecided(..) => self.form = Form::Ignored,
        }
    }

    /// Stops reading.
    pub(super) fn give_up(&mut self, observer: &mut dyn Observe) {
        if let Form::Undecided(_, declared) = self.form {
            self.decide(declared, observer);
        }
        self.reader.miss(observer);
        self.form = Form::Ignored;
    }

    /// How many bytes are held.
    pub(super) fn held_bytes(&self) -> usize {
        match &self.form {
            Form::Document(body) | Form::Prefix(body) | Form::Undecided(body, _) => body.capacity(),
            Form::Events(decoder) => decoder.held_bytes(),
            Form::Ignored => 0,
        }
    }

    /// How many more bytes it may need to take in this piece, and to read everything that may be
    /// complete by then.
    pub(super) fn wanted_bytes(&self, piece: &[u8]) -> usize {
        let more = piece.len();
        match &self.form {
            Form::Document(body) | Form::Prefix(body) | Form::Undecided(body, _) => {
                let is_room = body.capacity() - body.len() >= more;
                if is_room {
                    0
                } else {
                    grown(body.capacity(), body.len() + more, self.most_bytes) - body.capacity()
                }
            }
            // Each of its buffers may have to grow.
            Form::Events(decoder) => {
                let values = self.values + clean::values_in(piece, decoder.event_bytes());
                let workspace = clean::workspace_bytes(decoder.event_bytes() + more, values);
                2 * more + decoder.held_bytes() + workspace
            }
            Form::Ignored => 0,
        }
    }

    /// How many more bytes it needs to read what is held.
    pub(super) fn workspace_bytes(&self) -> usize {
        match &self.form {
            Form::Document(body) | Form::Prefix(body) | Form::Undecided(body, _) => {
                clean::workspace_bytes(body.len(), clean::values_in(body, 0))
            }
            Form::Events(decoder) => clean::workspace_bytes(decoder.event_bytes(), self.values),
            Form::Ignored => 0,
        }
    }

    /// Ends the body. Says whether part of it was not seen.
    pub(super) fn finish(&mut self, observer: &mut dyn Observe, end: &End, out: &mut Observed) -> bool {
        if let Form::Undecided(held, declared) = &mut self.form {
            let (held, declared) = (std::mem::take(held), *declared);
            if !held.is_empty() || declared != Declared::Other {
                self.decide(declared, observer);
                self.take(&held, observer, end.at, out);
            }
        }
        let reader = &mut self.reader;
        match std::mem::replace(&mut self.form, Form::Ignored) {
            Form::Events(mut decoder) => {
                if let Some(event) = decoder.finish() {
                    reader.event(&event, observer, end.at, out);
                }
                for _ in 0..decoder.skipped() {
                    reader.miss(observer);
                    out.problem(Problem::EventTooLarge);
                }
                reader.end_events(observer);
            }
            Form::Document(body) if !body.is_empty() => reader.document(body, observer, end, out),
            Form::Prefix(body) => {
                let rules = reader.rules(observer, Halves::Replaced);
                observer.prefix(clean::members(&body, rules), end.ending, end.at, out);
            }
            Form::Ignored if !reader.has_missed() => {
                out.problem(Problem::UnexpectedType);
                registry::cannot_read(observer, end, out);
            }
            // The body was empty.
            Form::Document(_) | Form::Undecided(..) if !reader.has_missed() => {
                registry::cannot_read(observer, end, out)
            }
            Form::Document(_) | Form::Ignored | Form::Undecided(..) => {}
        }
        reader.has_missed()
    }

    fn decide(&mut self, decided: Declared, observer: &mut dyn Observe) {
        observer.set_telling(if decided == Declared::Events { Telling::Events } else { Telling::Document });
        let config = sse::Config { max_event_bytes: self.most_bytes };
        self.form = match decided {
            Declared::Events => Form::Events(sse::Decoder::new(config)),
            Declared::Json => Form::Document(Vec::new()),
            Declared::Other => Form::Ignored,
        };
    }

    fn take(&mut self, bytes: &[u8], observer: &mut dyn Observe, at: UnixMillis, out: &mut Observed) {
        match &mut self.form {
            Form::Events(decoder) => {
                let before = decoder.event_bytes();
                self.values += clean::values_in(bytes, before);
                let mut rest = bytes;
                while let Some(event) = decoder.next_event(&mut rest) {
                    self.reader.event(&event, observer, at, out);
                }
                // The remaining bytes belong to the next event, if there was one.
                let left = decoder.event_bytes();
                if left < before + bytes.len() {
                    self.values = self.values.min(left / clean::BYTES_PER_VALUE);
                }
            }
            Form::Document(body) if body.len() + bytes.len() <= self.most_bytes => {
                let length = body.len();
                if body.capacity() < length + bytes.len() {
                    body.reserve_exact(
                        grown(body.capacity(), length + bytes.len(), self.most_bytes) - length,
                    );
                }
                body.extend_from_slice(bytes);
            }
            Form::Document(_) => self.lose(false, observer, out),
            Form::Ignored | Form::Prefix(_) | Form::Undecided(..) => {}
        }
    }
}

/// The capacity of a buffer that has to grow. With smaller steps the allocator would keep more
/// unused memory.
fn grown(capacity: usize, needed: usize, most: usize) -> usize {
    needed.max((2 * capacity).min(most))
}
