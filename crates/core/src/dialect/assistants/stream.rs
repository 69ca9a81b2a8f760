//! What one event stream of a run has shown so far.
//!
//! It uses memory for the text of messages that are still being written. Memory does not grow with
//! the length of the stream.

use std::borrow::Cow;

use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::partial::{PartialMessage, PartialStep};
use crate::dialect::clean;
use crate::dialect::registry::Telling;
use crate::exchange::Ending;
use crate::message::{Message, MessageStatus};
use crate::observation::{Fact, Run, RunStatus, Step, StreamEnding};
use crate::time::UnixMillis;

/// The state of a stream.
#[derive(Debug, Default)]
pub(super) struct Stream {
    run: Option<String>,
    /// How often it switched to another run.
    runs: usize,
    status: Option<RunStatus>,
    first_token_at: Option<UnixMillis>,
    error: Option<Box<RawValue>>,
    /// Whether part of it was not seen, or could not be read.
    missed: bool,
    /// Whether the stream is read only after it is over.
    late: bool,
    /// Messages of which pieces arrived but not the whole, in the order they started.
    messages: Vec<PartialMessage>,
    /// Steps in the same state.
    steps: Vec<PartialStep>,
}

impl Stream {
    /// Starts a stream that is delivered in this way.
    pub(super) fn new(telling: Telling) -> Self {
        Self { late: telling == Telling::LateEvents, ..Self::default() }
    }

    /// Notes that part of the stream was not seen, or could not be read.
    pub(super) fn miss(&mut self) {
        self.missed = true;
    }

    /// How many bytes are held for messages and steps that are being written.
    pub(super) fn held_bytes(&self) -> usize {
        let messages = self.messages.iter().map(PartialMessage::held_bytes).sum::<usize>();
        messages + self.steps.iter().map(PartialStep::held_bytes).sum::<usize>()
    }

    /// Drops the messages and steps that are being written.
    pub(super) fn let_go(&mut self) {
        (self.messages, self.steps, self.missed) = (Vec::new(), Vec::new(), true);
    }

    /// Whether all of it so far was read.
    pub(super) fn is_whole(&self) -> bool {
        !self.missed
    }

    /// The run this stream is about.
    pub(super) fn run(&self) -> Option<&str> {
        self.run.as_deref()
    }

    /// When the first piece of text arrived.
    pub(super) fn first_token_at(&self) -> Option<UnixMillis> {
        self.first_token_at
    }

    /// Reads an event if it is a delta of a message or a step. Nearly all events are deltas. So
    /// they are recognised without parsing the whole event, and only their pieces are read.
    pub(super) fn take_delta(&mut self, name: &str, data: &str, at: UnixMillis) -> bool {
        let named = name.ends_with(".delta");
        if !named && (name.starts_with("thread.") || !begins_with_delta(data)) {
            return false;
        }
        let Ok(delta) = serde_json::from_str::<Delta<'_>>(data) else {
            let odd = named && serde_json::from_str::<IgnoredAny>(data).is_ok();
            self.missed |= odd;
            return odd;
        };
        let kind = match (&*delta.object, name) {
            ("", name) if named => name,
            ("", _) if !delta.delta.content.is_empty() => MESSAGE_DELTA,
            ("", _) if delta.delta.step_details.is_some() => STEP_DELTA,
            (object, _) => object,
        };
        match kind {
            MESSAGE_DELTA => self.take_message_delta(&delta, at),
            STEP_DELTA => self.take_step_delta(&delta),
            _ => {
                // A piece with a different type name cannot be read.
                self.missed |= named;
                return false;
            }
        }
        true
    }

    fn take_message_delta(&mut self, delta: &Delta<'_>, at: UnixMillis) {
        self.missed |= self.held_bytes() > MAX_BYTES;
        if self.held_bytes() > MAX_BYTES {
            return;
        }
        let Some(partial) =
            find_or_add(&mut self.messages, &delta.id, |known| &known.id, PartialMessage::new)
        else {
            return;
        };
        for part in &delta.delta.content {
            let (text, refusal) = (part.text.value.as_str(), part.refusal.as_str());
            if !self.late && (!text.is_empty() || !refusal.is_empty()) {
                self.first_token_at.get_or_insert(at);
            }
            partial.push_text(text);
            partial.push_refusal(refusal);
            for annotation in part.text.annotations.iter().flatten() {
                partial.push_annotation(annotation);
            }
            if part.kind.as_str().starts_with("image") {
                partial.push_image(part.whole);
            }
        }
    }

    fn take_step_delta(&mut self, delta: &Delta<'_>) {
        let Some(details) = delta.delta.step_details else { return };
        let Some((value, _)) = clean::tree(details.get()).filter(|_| self.held_bytes() <= MAX_BYTES) else {
            return;
        };
        if let Some(step) = find_or_add(&mut self.steps, &delta.id, |known| &known.id, PartialStep::new) {
            step.push(&value["tool_calls"]);
        }
    }

    /// Notes a message object. A message that does not name its run belongs to this stream's run.
    pub(super) fn note_message(&mut self, message: &mut Message) {
        if message.run.is_none() {
            message.run.clone_from(&self.run);
        }
        if message.status != MessageStatus::InProgress {
            self.messages.retain(|partial| Some(&partial.id) != message.id.as_ref());
        }
    }

    /// Notes a run object. Returns false if the stream has named so many runs that this one cannot
    /// be its own.
    #[must_use]
    pub(super) fn note_run(&mut self, run: &Run) -> bool {
        if self.run.as_deref() != Some(&run.id) {
            if self.runs >= MAX_RUNS {
                self.missed = true;
                return false;
            }
            self.runs += 1;
        }
        self.run = Some(run.id.clone());
        self.status = Some(run.status.clone());
        true
    }

    /// Notes an `error` event: `{message, …}`, or the same under `error`.
    pub(super) fn note_error(&mut self, event: &Value) {
        let error = event.get("error").filter(|error| !error.is_null()).unwrap_or(event);
        self.error = to_raw_value(error).ok();
    }

    /// Notes a step object. Once it names its calls, their pieces are not needed.
    pub(super) fn note_step(&mut self, step: &Step) {
        if !step.tool_calls.is_empty() {
            self.steps.retain(|partial| partial.id != step.id);
        }
    }

    /// Takes the messages of which only pieces were seen. They count as whole if the run completed
    /// and no piece can be missing.
    pub(super) fn take_messages(&mut self, thread: &str) -> Vec<Message> {
        let Some(run) = &self.run else { return Vec::new() };
        let status = match self.status {
            Some(RunStatus::Completed) if !self.missed => MessageStatus::Completed,
            _ => MessageStatus::InProgress,
        };
        let partials = std::mem::take(&mut self.messages).into_iter();
        partials.filter_map(|partial| partial.into_message(thread, run, status)).collect()
    }

    /// Takes the steps of which only pieces were seen.
    pub(super) fn take_steps(&mut self) -> Vec<Step> {
        let Some(run) = &self.run else { return Vec::new() };
        std::mem::take(&mut self.steps).into_iter().filter_map(|partial| partial.into_step(run)).collect()
    }

    /// The fact that the end of the stream reports, if the stream named a run at all.
    pub(super) fn end(self, ending: Ending) -> Option<Fact> {
        let missed = self.missed;
        // A client that has received the run's final event may leave before the stream is closed.
        let told_all = self.status.is_some_and(|status| !matches!(status, RunStatus::Active(_)));
        Some(Fact::StreamEnded {
            run: self.run?,
            ending: match ending {
                _ if told_all && !missed => StreamEnding::Complete,
                Ending::ClientGone => StreamEnding::ClientGone,
                Ending::Complete if !missed => StreamEnding::Complete,
                Ending::Complete | Ending::UpstreamFailed => StreamEnding::Truncated,
            },
            first_token_at: self.first_token_at,
            error: self.error,
        })
    }
}

/// The entry with an id. Adds a new one if there is room.
fn find_or_add<'a, T>(
    known: &'a mut Vec<T>,
    id: &str,
    id_of: impl Fn(&T) -> &String,
    new: impl FnOnce(&str) -> T,
) -> Option<&'a mut T> {
    match known.iter().position(|entry| id_of(entry) == id) {
        Some(place) => known.get_mut(place),
        None if known.len() >= MAX_PARTIALS || id.is_empty() => None,
        None => {
            known.push(new(id));
            known.last_mut()
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Delta<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    object: Cow<'a, str>,
    #[serde(borrow)]
    delta: DeltaBody<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DeltaBody<'a> {
    #[serde(borrow)]
    content: Vec<DeltaPart<'a>>,
    #[serde(borrow)]
    step_details: Option<&'a RawValue>,
}

/// A piece of content, and the same piece as it was written.
struct DeltaPart<'a> {
    kind: Text<'a>,
    text: DeltaText<'a>,
    refusal: Text<'a>,
    whole: &'a RawValue,
}

impl<'de: 'a, 'a> Deserialize<'de> for DeltaPart<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let whole = <&RawValue>::deserialize(deserializer)?;
        let DeltaFields { kind, text, refusal } =
            serde_json::from_str(whole.get()).map_err(D::Error::custom)?;
        Ok(Self { kind, text, refusal, whole })
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DeltaFields<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow)]
    text: DeltaText<'a>,
    #[serde(borrow)]
    refusal: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DeltaText<'a> {
    #[serde(borrow)]
    value: Text<'a>,
    #[serde(borrow)]
    annotations: Option<Vec<&'a RawValue>>,
}

/// A string that may be null.
#[derive(Default, Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Option<Cow<'a, str>>);

impl Text<'_> {
    fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}

/// Whether an event without a name looks like a delta. In all observed streams, `object` and
/// `delta` come early.
fn begins_with_delta(data: &str) -> bool {
    let beginning = &data.as_bytes()[..data.len().min(DELTA_SEARCH_BYTES)];
    [&b".delta\""[..], b"\"delta\""].iter().any(|sign| memchr::memmem::find(beginning, sign).is_some())
}

const MESSAGE_DELTA: &str = "thread.message.delta";
const STEP_DELTA: &str = "thread.run.step.delta";
const DELTA_SEARCH_BYTES: usize = 512;
/// A stream is about one run. A few more are read, in case a server combines several in one stream.
const MAX_RUNS: usize = 16;
/// How much text in progress is kept per stream.
const MAX_BYTES: usize = 8 << 20;
/// Messages, and steps, in progress at one time. The API writes one after the other.
const MAX_PARTIALS: usize = 64;
