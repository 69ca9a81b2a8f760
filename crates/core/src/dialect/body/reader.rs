//! How the text of a response body is read, either whole or as events.
//!
//! Short and valid text is read as it is. Text that is long, cannot be read, or may hold a
//! credential is [cleaned](clean) first.

use std::borrow::Cow;

use crate::dialect::clean::{self, Broken, Clean, Files, Found, HalfRun, Halves, Rules};
use crate::dialect::credentials::Credentials;
use crate::dialect::registry::{self, Observe, Telling};
use crate::dialect::{Observed, Problem};
use crate::exchange::{End, Ending};
use crate::sse;
use crate::time::UnixMillis;

/// Reads the text of a body.
#[derive(Debug)]
pub(super) struct Reader {
    credentials: Credentials,
    /// Whether part of the body was not seen, or could not be read.
    missed: bool,
    /// Half characters in the events.
    halves: HalfRun,
    /// Whether there were any half characters. They are marked in the text that was passed on.
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

    /// Whether there were half characters.
    pub(super) fn has_marks(&self) -> bool {
        self.marked
    }

    /// Notes that part of the body was not seen, or could not be read.
    pub(super) fn miss(&mut self, observer: &mut dyn Observe) {
        self.missed = true;
        observer.miss();
    }

    /// How a text of the body is cleaned.
    pub(super) fn rules(&self, observer: &dyn Observe, halves: Halves) -> Rules<'_> {
        Rules {
            credentials: Some(&self.credentials),
            files: Files::Kept,
            halves,
            omitted: observer.omitted(),
            read_by_item: None,
        }
    }

    /// Passes on a whole body.
    pub(super) fn document(
        &mut self,
        body: Vec<u8>,
        observer: &mut dyn Observe,
        end: &End,
        out: &mut Observed,
    ) {
        if let Ok(text) = str::from_utf8(&body)
            && clean::is_plain(text, &self.credentials)
            && observer.document(text, end.at, out).is_ok()
        {
            return;
        }
        match clean::clean(&body, self.rules(observer, Halves::Replaced)) {
            Ok(Clean { text, found, read_bytes }) if body[read_bytes..].trim_ascii().is_empty() => {
                drop(body);
                self.note(&found, observer, out);
                if observer.document(&text, end.at, out).is_err() {
                    out.problem(Problem::InvalidJson);
                    registry::cannot_read(observer, end, out);
                }
            }
            Ok(_) => {
                observer.set_telling(Telling::LateEvents);
                self.events("message", &body, observer, end.at, out);
                self.end_events(observer);
            }
            Err(Broken { members, found })
                if end.ending != Ending::Complete && observer.hears_broken_responses() =>
            {
                self.note(&found, observer, out);
                let members = serde_json::from_str(&members).unwrap_or_default();
                observer.prefix(members, end.ending, end.at, out);
            }
            Err(_) => {
                out.problem(Problem::InvalidJson);
                registry::cannot_read(observer, end, out);
            }
        }
    }

    /// Passes on an event. If it was meant to be JSON, the part that cannot be read counts as a
    /// gap.
    pub(super) fn event(
        &mut self,
        event: &sse::Event<'_>,
        observer: &mut dyn Observe,
        at: UnixMillis,
        out: &mut Observed,
    ) {
        let is_text = matches!(event.data, Cow::Borrowed(_));
        if is_text
            && clean::is_plain(&event.data, &self.credentials)
            && observer.event(event.name, &event.data, at, out).is_ok()
        {
            return self.note_halves(None, observer);
        }
        if !is_text {
            out.problem(Problem::HalfCharacter);
            self.miss(observer);
        }
        self.events(event.name, event.data.as_bytes(), observer, at, out);
    }

    /// Ends the events. A half character that is still waiting for its other half stays alone.
    pub(super) fn end_events(&mut self, observer: &mut dyn Observe) {
        if self.halves.is_open() {
            self.miss(observer);
        }
    }

    /// Passes on each JSON value of a text that may hold several, each as an event. Servers join
    /// events together, or write them as lines.
    fn events(
        &mut self,
        name: &str,
        text: &[u8],
        observer: &mut dyn Observe,
        at: UnixMillis,
        out: &mut Observed,
    ) {
        let mut rest = text;
        let mut unreadable = 0;
        loop {
            rest = rest.trim_ascii_start();
            rest = rest.strip_prefix(b"data:").unwrap_or(rest).trim_ascii_start();
            if rest.is_empty() {
                return;
            }
            if rest.starts_with(DONE.as_bytes()) && observer.event(name, DONE, at, out).is_ok() {
                rest = &rest[DONE.len()..];
                continue;
            }
            let clean = clean::clean(rest, self.rules(observer, Halves::Marked));
            if let Ok(Clean { text, found, read_bytes }) = clean
                && observer.event(name, &text, at, out).is_ok()
            {
                self.note(&found, observer, out);
                rest = &rest[read_bytes..];
                continue;
            }
            out.problem(Problem::InvalidJson);
            if matches!(rest.first(), Some(b'{' | b'[')) || unreadable + 1 == MAX_UNREADABLE_LINES {
                self.miss(observer);
            }
            unreadable += 1;
            // Each attempt may read the whole rest.
            let next = memchr::memchr(b'\n', rest).filter(|_| unreadable < MAX_UNREADABLE_LINES);
            rest = next.map_or(&[], |end| &rest[end + 1..]);
        }
    }

    /// Reports what was odd in a text.
    fn note(&mut self, found: &Found, observer: &mut dyn Observe, out: &mut Observed) {
        out.problems.extend(found.problems());
        if found.left_out {
            self.miss(observer);
        }
        self.note_halves(found.halves, observer);
    }

    fn note_halves(&mut self, halves: Option<HalfRun>, observer: &mut dyn Observe) {
        self.marked |= halves.is_some();
        if self.halves.is_torn_by(halves) {
            self.miss(observer);
        }
    }
}

/// After this many unreadable lines in an event, the rest of the event is skipped.
const MAX_UNREADABLE_LINES: usize = 8;
/// The marker that ends the streams of these APIs.
const DONE: &str = "[DONE]";
