//! What one event stream of a run has shown so far.
//!
//! Its memory is the text of messages that are still being written, never the stream's length.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::object;
use crate::exchange::Ending;
use crate::message::{Message, MessageStatus};
use crate::observation::{Fact, Run, RunStatus, StreamEnding};
use crate::time::UnixMillis;

/// The state of a stream.
#[derive(Debug, Default)]
pub(super) struct Stream {
    run: Option<String>,
    status: Option<RunStatus>,
    first_token_at: Option<UnixMillis>,
    error: Option<Box<RawValue>>,
    /// Messages of which pieces passed and the whole has not, in the order they began.
    partials: Vec<Partial>,
}

impl Stream {
    /// The run this stream is about.
    pub(super) fn run(&self) -> Option<&str> {
        self.run.as_deref()
    }

    /// When the first piece of text passed.
    pub(super) fn first_token_at(&self) -> Option<UnixMillis> {
        self.first_token_at
    }

    /// Takes an event if it is a delta of a message or a step. These are nearly all events there are, so they are recognised
    /// without being parsed as a whole, and only their text is read.
    pub(super) fn take_delta(&mut self, name: &str, data: &str, at: UnixMillis) -> bool {
        let named = name.ends_with(".delta");
        if !named && (name.starts_with("thread.") || !begins_with_delta(data)) {
            return false;
        }
        if name == "thread.run.step.delta" {
            return true;
        }
        let Ok(delta) = serde_json::from_str::<MessageDelta<'_>>(data) else { return named };
        match &*delta.object {
            "thread.message.delta" => {}
            "" if name == "thread.message.delta" => {}
            other => return other == "thread.run.step.delta",
        }
        let mut text = String::new();
        for part in delta.delta.content {
            text.push_str(part.text.value.as_str());
            text.push_str(part.refusal.as_str());
        }
        if !text.is_empty() {
            self.first_token_at.get_or_insert(at);
        }
        let room = self.partials.len() < MAX_PARTIALS && !delta.id.is_empty();
        match self.partials.iter_mut().find(|partial| partial.id == delta.id) {
            Some(partial) => partial.push(&text),
            None if !room => {}
            None => self.partials.push(Partial { id: delta.id.to_string(), text }),
        }
        true
    }

    /// Notes a message object. One that does not name its run is this stream's.
    pub(super) fn note_message(&mut self, message: &mut Message) {
        if message.run.is_none() {
            message.run.clone_from(&self.run);
        }
        if message.status != MessageStatus::InProgress {
            self.partials.retain(|partial| Some(&partial.id) != message.id.as_ref());
        }
    }

    /// Notes a run object.
    pub(super) fn note_run(&mut self, run: &Run) {
        self.run = Some(run.id.clone());
        self.status = Some(run.status.clone());
    }

    /// Notes an `error` event: `{message, …}`, or the same under `error`.
    pub(super) fn note_error(&mut self, event: &Value) {
        let error = event.get("error").filter(|error| !error.is_null()).unwrap_or(event);
        self.error = to_raw_value(error).ok();
    }

    /// Takes the messages of which only pieces were seen. They count as whole if the run completed.
    pub(super) fn take_partials(&mut self, thread: &str) -> Vec<Message> {
        let Some(run) = &self.run else { return Vec::new() };
        let status = match self.status {
            Some(RunStatus::Completed) => MessageStatus::Completed,
            _ => MessageStatus::InProgress,
        };
        let partials =
            std::mem::take(&mut self.partials).into_iter().filter(|partial| !partial.text.is_empty());
        partials
            .filter_map(|partial| object::partial_message(thread, run, &partial.id, &partial.text, status))
            .collect()
    }

    /// What the end of the stream tells, if it told of a run at all.
    pub(super) fn end(self, ending: Ending, missed: bool) -> Option<Fact> {
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

/// The text of a message so far.
#[derive(Debug)]
struct Partial {
    id: String,
    text: String,
}

impl Partial {
    fn push(&mut self, text: &str) {
        if self.text.len() + text.len() <= MAX_PARTIAL_BYTES {
            self.text.push_str(text);
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct MessageDelta<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    object: Cow<'a, str>,
    #[serde(borrow)]
    delta: Delta<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Delta<'a> {
    #[serde(borrow)]
    content: Vec<DeltaPart<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DeltaPart<'a> {
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

/// Whether an event without a name looks like a delta: `object` comes early wherever it was seen.
fn begins_with_delta(data: &str) -> bool {
    let beginning = &data.as_bytes()[..data.len().min(DELTA_SEARCH_BYTES)];
    memchr::memmem::find(beginning, b".delta\"").is_some()
}

const DELTA_SEARCH_BYTES: usize = 512;
/// Messages in progress at one time; the API writes one after the other.
const MAX_PARTIALS: usize = 64;
/// Text kept of a message that was never told as a whole. The API's own limit is 256,000 characters.
const MAX_PARTIAL_BYTES: usize = 1 << 20;
