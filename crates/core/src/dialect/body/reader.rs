//! How the texts of a response body are read, whole or as events.
//!
//! What is short and right is read as it is. What is long, cannot be read, or may hold a credential is [cleaned](clean) before.

use std::borrow::Cow;

use crate::dialect::clean::{self, Broken, Clean, Files, Found, HalfRun, Halves, Rules};
use crate::dialect::credentials::Credentials;
use crate::dialect::kind::{Kind, Telling};
use crate::dialect::{Observed, Problem};
use crate::exchange::{End, Ending};
use crate::sse;
use crate::time::UnixMillis;

/// What reads its texts.
#[derive(Debug)]
pub(super) struct Reader {
    credentials: Credentials,
    /// Whether part of the body was not seen, or could not be read.
    missed: bool,
    /// Halves of characters that events brought.
    halves: HalfRun,
    /// Whether there were any: they are marked in what was told.
    marked: bool,
}

impl Reader {
    pub(super) fn new(credentials: &Credentials) -> Self {
        Self { credentials: credentials.clone(), missed: false, halves: HalfRun::default(), marked: false }
    }

    /// Whether part of the body was not seen, or could not be read.
    pub(super) fn has_missed(&self) -> bool {
        self.missed
    }

    /// Whether there were halves of characters.
    pub(super) fn has_marks(&self) -> bool {
        self.marked
    }

    /// Notes that part of the body was not seen, or could not be read.
    pub(super) fn miss(&mut self, kind: &mut Kind) {
        self.missed = true;
        kind.miss();
    }

    /// How a text of the body is cleaned.
    pub(super) fn rules(&self, kind: &Kind, halves: Halves) -> Rules<'_> {
        Rules {
            credentials: Some(&self.credentials),
            files: Files::Kept,
            halves,
            omitted: kind.omitted(),
            read_by_item: None,
        }
    }

    /// Hands on a whole body.
    pub(super) fn document(&mut self, body: Vec<u8>, kind: &mut Kind, end: &End, out: &mut Observed) {
        if let Ok(text) = str::from_utf8(&body)
            && clean::is_plain(text, &self.credentials)
            && kind.document(text, end.at, out).is_ok()
        {
            return;
        }
        match clean::clean(&body, self.rules(kind, Halves::Replaced)) {
            Ok(Clean { text, found, read_bytes }) if body[read_bytes..].trim_ascii().is_empty() => {
                drop(body);
                self.note(&found, kind, out);
                if kind.document(&text, end.at, out).is_err() {
                    out.problem(Problem::InvalidJson);
                    kind.cannot_read(end, out);
                }
            }
            Ok(_) => {
                kind.set_telling(Telling::LateEvents);
                self.events("message", &body, kind, end.at, out);
                self.end_events(kind);
            }
            Err(Broken { members, found })
                if end.ending != Ending::Complete && kind.hears_broken_answers() =>
            {
                self.note(&found, kind, out);
                let members = serde_json::from_str(&members).unwrap_or_default();
                kind.prefix(members, end.ending, end.at, out);
            }
            Err(_) => {
                out.problem(Problem::InvalidJson);
                kind.cannot_read(end, out);
            }
        }
    }

    /// Hands on an event. What cannot be read of it is a gap, if it was meant to be JSON.
    pub(super) fn event(
        &mut self,
        event: &sse::Event<'_>,
        kind: &mut Kind,
        at: UnixMillis,
        out: &mut Observed,
    ) {
        let is_text = matches!(event.data, Cow::Borrowed(_));
        if is_text
            && clean::is_plain(&event.data, &self.credentials)
            && kind.event(event.name, &event.data, at, out).is_ok()
        {
            return self.note_halves(None, kind);
        }
        if !is_text {
            out.problem(Problem::HalfCharacter);
            self.miss(kind);
        }
        self.events(event.name, event.data.as_bytes(), kind, at, out);
    }

    /// There are no more events: a half of a character that waits for the other one is alone.
    pub(super) fn end_events(&mut self, kind: &mut Kind) {
        if self.halves.is_open() {
            self.miss(kind);
        }
    }

    /// Hands on each JSON value of a text that may hold several, each as an event: servers glue events together, or write them in
    /// lines.
    fn events(&mut self, name: &str, text: &[u8], kind: &mut Kind, at: UnixMillis, out: &mut Observed) {
        let mut rest = text;
        let mut unreadable = 0;
        loop {
            rest = rest.trim_ascii_start();
            rest = rest.strip_prefix(b"data:").unwrap_or(rest).trim_ascii_start();
            if rest.is_empty() {
                return;
            }
            if rest.starts_with(DONE.as_bytes()) && kind.event(name, DONE, at, out).is_ok() {
                rest = &rest[DONE.len()..];
                continue;
            }
            let clean = clean::clean(rest, self.rules(kind, Halves::Marked));
            if let Ok(Clean { text, found, read_bytes }) = clean
                && kind.event(name, &text, at, out).is_ok()
            {
                self.note(&found, kind, out);
                rest = &rest[read_bytes..];
                continue;
            }
            out.problem(Problem::InvalidJson);
            if matches!(rest.first(), Some(b'{' | b'[')) || unreadable + 1 == MAX_UNREADABLE_LINES {
                self.miss(kind);
            }
            unreadable += 1;
            // Each try may read all that is left.
            let next = memchr::memchr(b'\n', rest).filter(|_| unreadable < MAX_UNREADABLE_LINES);
            rest = next.map_or(&[], |end| &rest[end + 1..]);
        }
    }

    /// Tells what was odd in a text.
    fn note(&mut self, found: &Found, kind: &mut Kind, out: &mut Observed) {
        out.problems.extend(found.problems());
        if found.left_out {
            self.miss(kind);
        }
        self.note_halves(found.halves, kind);
    }

    fn note_halves(&mut self, halves: Option<HalfRun>, kind: &mut Kind) {
        self.marked |= halves.is_some();
        if self.halves.is_torn_by(halves) {
            self.miss(kind);
        }
    }
}

/// Of an event with so many lines that cannot be read, nothing more is read.
const MAX_UNREADABLE_LINES: usize = 8;
/// What ends the streams of these APIs.
const DONE: &str = "[DONE]";
