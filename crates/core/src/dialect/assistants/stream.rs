//! What one event stream of a run has shown so far.
//!
//! Its memory is the text of messages that are still being written, never the stream's length.

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
    /// How often it told of another run than before.
    runs: usize,
    status: Option<RunStatus>,
    first_token_at: Option<UnixMillis>,
    error: Option<Box<RawValue>>,
    /// Whether part of it was not seen, or could not be read.
    missed: bool,
    /// Whether it is told when it is over.
    late: bool,
    /// Messages of which pieces passed and the whole has not, in the order they began.
    messages: Vec<PartialMessage>,
    /// Steps of the same kind.
    steps: Vec<PartialStep>,
}

impl Stream {
    /// Begins a stream that is told like this.
    pub(super) fn new(telling: Telling) -> Self {
        Self { late: telling == Telling::LateEvents, ..Self::default() }
    }

    /// Notes that part of it was not seen, or could not be read.
    pub(super) fn miss(&mut self) {
        self.missed = true;
    }

    /// How many bytes are held of messages and steps that are being written.
    pub(super) fn held_bytes(&self) -> usize {
        let messages = self.messages.iter().map(PartialMessage::held_bytes).sum::<usize>();
        messages + self.steps.iter().map(PartialStep::held_bytes).sum::<usize>()
    }

    /// Lets go of them.
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

    /// When the first piece of text passed.
    pub(super) fn first_token_at(&self) -> Option<UnixMillis> {
        self.first_token_at
    }

    /// Takes an event if it is a delta of a message or a step. These are nearly all events there are, so they are recognised
    /// without being parsed as a whole, and only their pieces are read.
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
                // A piece that is called something else is none that can be read.
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

    /// Notes a message object. One that does not name its run is this stream's.
    pub(super) fn note_message(&mut self, message: &mut Message) {
        if message.run.is_none() {
            message.run.clone_from(&self.run);
        }
        if message.status != MessageStatus::InProgress {
            self.messages.retain(|partial| Some(&partial.id) != message.id.as_ref());
        }
    }

    /// Notes a run object. False when the stream has told of so many runs that this is none of its own.
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

    /// Notes a step object. Once it names its calls they are not needed in pieces.
    pub(super) fn note_step(&mut self, step: &Step) {
        if !step.tool_calls.is_empty() {
            self.steps.retain(|partial| partial.id != step.id);
        }
    }

    /// Takes the messages of which only pieces were seen. They count as whole if the run completed, and no piece can be missing.
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

    /// What the end of the stream tells, if it told of a run at all.
    pub(super) fn end(self, ending: Ending) -> Option<Fact> {
        let missed = self.missed;
        // Whoever has heard the run's last word of this stream may leave before the stream is closed.
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

/// The entry with an id; a new one if there is room.
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

/// A piece of content, and the same as it was written.
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

/// Whether an event without a name looks like a delta: `object` and `delta` come early wherever they were seen.
fn begins_with_delta(data: &str) -> bool {
    let beginning = &data.as_bytes()[..data.len().min(DELTA_SEARCH_BYTES)];
    [&b".delta\""[..], b"\"delta\""].iter().any(|sign| memchr::memmem::find(beginning, sign).is_some())
}

const MESSAGE_DELTA: &str = "thread.message.delta";
const STEP_DELTA: &str = "thread.run.step.delta";
const DELTA_SEARCH_BYTES: usize = 512;
/// A stream is about one run; a few more are read, in case a server puts several into one.
const MAX_RUNS: usize = 16;
/// Kept of what is being written in one stream.
const MAX_BYTES: usize = 8 << 20;
/// Messages, and steps, in progress at one time; the API writes one after the other.
const MAX_PARTIALS: usize = 64;
