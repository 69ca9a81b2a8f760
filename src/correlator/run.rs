//! One run that is not settled.
//!
//! Its state only moves forward: active and requires_action may alternate, a terminal status never changes again. Deadlines:
//! `outputs_grace` after it became terminal (longer when a page brought more of its outputs); until then `unresolved_grace`
//! beyond `expires_at`, or beyond the time a run is assumed to take.

mod record;

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::Config;
use crate::attribution::Attribution;
use crate::interaction::{Pairing, Status};
use crate::message::{Message, MessageStatus};
use crate::observation::{PageOrder, Run, RunOrigin, RunStatus, Step, StreamEnding, ToolCall, ToolOutput};
use crate::time::UnixMillis;

/// A run, and all that was seen of it.
#[derive(Debug)]
pub(super) struct OpenRun {
    run: Run,
    pub(super) inputs: Vec<Message>,
    pub(super) outputs: Vec<Message>,
    tool_calls: Vec<ToolCall>,
    /// Step id to the message it created: in step order, for ids are compared as they came.
    steps: Vec<(String, Option<String>)>,
    attribution: Attribution,
    request_at: UnixMillis,
    first_token_at: Option<UnixMillis>,
    end_at: Option<UnixMillis>,
    deadline: UnixMillis,
    /// Whether every part of the run so far was told by streams that were seen as a whole.
    streamed_whole: bool,
    /// Whether all steps were listed after the run was over.
    steps_whole: bool,
    /// Whether listed pages prove that no output is missing.
    pub(super) pages_prove_outputs: bool,
    /// Where a listing that has not passed beyond this run's outputs stopped.
    pub(super) page_frontier: BTreeMap<(bool, bool), String>,
    pub(super) inputs_complete: bool,
    pub(super) pairing: Pairing,
    /// Our conclusion where the API said none.
    concluded: Option<Status>,
    client_gone: bool,
    stream_error: Option<Box<RawValue>>,
}

impl OpenRun {
    pub(super) fn new(run: Run, at: UnixMillis, config: &Config) -> Self {
        let mut open = Self {
            run: Run { status: RunStatus::Active(String::new()), tool_calls: Vec::new(), ..run.clone() },
            inputs: Vec::new(),
            outputs: Vec::new(),
            tool_calls: Vec::new(),
            steps: Vec::new(),
            attribution: Attribution::default(),
            request_at: at,
            first_token_at: None,
            end_at: None,
            deadline: at,
            streamed_whole: false,
            steps_whole: false,
            pages_prove_outputs: false,
            page_frontier: BTreeMap::new(),
            inputs_complete: false,
            pairing: Pairing::Exact,
            concluded: None,
            client_gone: false,
            stream_error: None,
        };
        open.deadline = open.unresolved_deadline(at, config);
        open.merge(run, at, config);
        open
    }

    /// Takes in another state of the run. Tells whether it said anything new.
    pub(super) fn merge(&mut self, newer: Run, at: UnixMillis, config: &Config) -> bool {
        let Run {
            id: _,
            status,
            assistant,
            model,
            created_at,
            started_at,
            ended_at,
            expires_at,
            usage,
            error,
            metadata,
            tool_calls,
        } = newer;
        let known = &mut self.run;
        if status.is_terminal() && started_at.is_some() {
            known.started_at = None; // A run that waited for tools started more than once: its last word counts.
        }
        let mut changed = fill(&mut known.assistant, assistant)
            | fill(&mut known.model, model)
            | fill(&mut known.created_at, created_at)
            | fill(&mut known.started_at, started_at)
            | fill(&mut known.ended_at, ended_at)
            | fill(&mut known.expires_at, expires_at);
        changed |= replace(&mut known.usage, usage)
            | replace(&mut known.error, error)
            | replace(&mut known.metadata, metadata);
        for call in tool_calls {
            changed |= self.note_tool_call(call);
        }
        if !self.run.status.is_terminal() && self.run.status != status {
            changed = true;
            self.run.status = status;
            if self.run.status.is_terminal() {
                self.end_at = Some(at);
                self.deadline = at.after(config.outputs_grace);
            } else {
                self.deadline = self.unresolved_deadline(at, config).max(self.deadline);
            }
        }
        changed
    }

    /// Notes how this state came to be seen.
    pub(super) fn note_origin(&mut self, origin: &RunOrigin) -> bool {
        match origin {
            RunOrigin::Created { request_at, streamed, .. } => {
                self.request_at = *request_at;
                self.streamed_whole = *streamed;
                true
            }
            RunOrigin::Continued { streamed } => {
                self.streamed_whole &= streamed;
                true
            }
            RunOrigin::Seen => false,
        }
    }

    pub(super) fn note_attribution(&mut self, attribution: &Attribution) {
        self.attribution.update(attribution);
    }

    pub(super) fn note_first_token(&mut self, at: Option<UnixMillis>) -> bool {
        fill(&mut self.first_token_at, at)
    }

    pub(super) fn note_step(&mut self, step: &Step) -> bool {
        let mut changed = match self.steps.iter_mut().find(|(id, _)| *id == step.id) {
            Some((_, message)) => fill(message, step.message.clone()),
            None => {
                self.steps.push((step.id.clone(), step.message.clone()));
                true
            }
        };
        for call in &step.tool_calls {
            changed |= self.note_tool_call(call.clone());
        }
        changed
    }

    /// Notes that all steps were listed; a proof only if it was asked for when the run was over.
    pub(super) fn note_all_steps(&mut self, requested_at: UnixMillis) -> bool {
        let proof = self.ended_before(requested_at);
        let changed = proof && !self.steps_whole;
        self.steps_whole |= proof;
        changed
    }

    pub(super) fn note_tool_outputs(&mut self, outputs: &[ToolOutput]) -> bool {
        let mut changed = false;
        for output in outputs {
            if let Some(call) = self.tool_calls.iter_mut().find(|call| call.id == output.call) {
                changed |= fill(&mut call.output, Some(output.output.clone()));
            }
        }
        changed
    }

    pub(super) fn note_stream_end(
        &mut self,
        ending: StreamEnding,
        first_token_at: Option<UnixMillis>,
        error: Option<&RawValue>,
    ) -> bool {
        self.note_first_token(first_token_at);
        // After an error the run may go on, unseen.
        if ending != StreamEnding::Complete || error.is_some() {
            self.streamed_whole = false;
        }
        self.client_gone |= ending == StreamEnding::ClientGone;
        if let Some(error) = error {
            self.stream_error = Some(error.to_owned());
        }
        true
    }

    /// Takes in an assistant message of this run. Tells whether it said anything new.
    pub(super) fn note_output(&mut self, message: &Message, at: UnixMillis, config: &Config) -> bool {
        let changed = match self.outputs.iter_mut().find(|output| output.id == message.id) {
            Some(known) => update_message(known, message),
            None => {
                self.outputs.push(message.clone());
                true
            }
        };
        if changed && self.is_terminal() {
            self.deadline = self.deadline.max(at.after(config.outputs_grace));
        }
        changed
    }

    /// Where in time this run lies, in whole seconds: that is what servers can be trusted to order by.
    pub(super) fn created_second(&self) -> Option<f64> {
        self.run.created_at.map(f64::floor)
    }

    pub(super) fn id(&self) -> &str {
        &self.run.id
    }

    pub(super) fn is_terminal(&self) -> bool {
        self.run.status.is_terminal()
    }

    pub(super) fn deadline(&self) -> UnixMillis {
        self.deadline
    }

    /// When the run ended by the API's word, else when it was created.
    pub(super) fn api_end(&self) -> Option<UnixMillis> {
        let seconds = self.run.ended_at.or(self.run.created_at)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
        Some(UnixMillis((seconds * 1000.0) as u64))
    }

    /// Whether the run was already seen to be over at a time. Listings asked for earlier may be older than its outputs.
    pub(super) fn ended_before(&self, time: UnixMillis) -> bool {
        self.end_at.is_some_and(|end| end <= time)
    }

    /// The frontier of a listing: pages of one order and one kind of filter go on where the last one stopped.
    pub(super) fn frontier(order: PageOrder, filtered: bool) -> (bool, bool) {
        (order == PageOrder::Ascending, filtered)
    }

    /// Whether the run is over and no output can be missing.
    pub(super) fn is_complete(&self) -> bool {
        self.is_terminal() && self.outputs_are_complete()
    }

    /// Whether there are messages still being written, or steps whose message was not seen.
    fn outputs_are_open(&self) -> bool {
        let unseen =
            |message: &String| !self.outputs.iter().any(|output| output.id.as_ref() == Some(message));
        self.outputs.iter().any(|output| output.status == MessageStatus::InProgress)
            || self.steps.iter().filter_map(|(_, message)| message.as_ref()).any(unseen)
    }

    fn outputs_are_complete(&self) -> bool {
        let completed = self.run.status == RunStatus::Completed;
        if self.streamed_whole {
            // A failed run's last message may never be told as a whole. A completed one that showed neither message nor
            // step is told by a server whose streams do not carry them.
            return if completed {
                let told_anything = !self.outputs.is_empty() || !self.steps.is_empty();
                told_anything && !self.outputs_are_open()
            } else {
                true
            };
        }
        !self.outputs_are_open() && ((self.steps_whole && !self.steps.is_empty()) || self.pages_prove_outputs)
    }

    /// Concludes a status where the API said none in time.
    pub(super) fn conclude(&mut self, at: UnixMillis) {
        if self.is_terminal() {
            return;
        }
        let status = if self.stream_error.is_some() {
            Status::Error
        } else if self.client_gone {
            Status::ClientDisconnected
        } else if self.run.status == RunStatus::RequiresAction {
            Status::Expired
        } else {
            Status::UnknownFinal
        };
        self.conclude_as(status, at);
    }

    /// Concludes a given status if the API said none.
    pub(super) fn conclude_as(&mut self, status: Status, at: UnixMillis) {
        if !self.is_terminal() && self.concluded.is_none() {
            self.concluded = Some(status);
            self.end_at = Some(at);
        }
    }

    fn note_tool_call(&mut self, newer: ToolCall) -> bool {
        let Some(known) = self.tool_calls.iter_mut().find(|call| call.id == newer.id) else {
            self.tool_calls.push(newer);
            return true;
        };
        fill(&mut known.name, newer.name)
            | fill(&mut known.arguments, newer.arguments)
            | fill(&mut known.output, newer.output)
    }

    /// When this program gives up on a run whose end it has not seen. The API's clock only tells how long it takes, for it may
    /// differ from ours.
    fn unresolved_deadline(&self, at: UnixMillis, config: &Config) -> UnixMillis {
        let span = self.run.expires_at.zip(self.run.created_at).map(|(expires, created)| expires - created);
        let span = span.filter(|span| *span > 0.0 && *span < LONGEST_RUN_SECS);
        let span = span.map_or(config.assumed_run_time, std::time::Duration::from_secs_f64);
        at.after(span).after(config.unresolved_grace)
    }
}

/// Replaces a message by a later state of it. Tells whether anything changed.
pub(super) fn update_message(known: &mut Message, newer: &Message) -> bool {
    if newer.status < known.status || newer.object.get() == known.object.get() {
        return false;
    }
    if newer.status == known.status && !is_fuller(newer, known) {
        return false;
    }
    let created_at = newer.created_at.or(known.created_at);
    *known = Message { created_at, ..newer.clone() };
    true
}

/// Whether a message says at least as much as another. Text goes first: what a broken stream told of a message has more text
/// than the object it began with, and fewer fields.
fn is_fuller(newer: &Message, known: &Message) -> bool {
    let extent = |message: &Message| (message.text().len(), message.object.get().len());
    extent(newer) >= extent(known)
}

/// Takes a value if none was known.
fn fill<T>(known: &mut Option<T>, newer: Option<T>) -> bool {
    let changed = known.is_none() && newer.is_some();
    if changed {
        *known = newer;
    }
    changed
}

/// The last value given wins.
fn replace(known: &mut Option<Box<RawValue>>, newer: Option<Box<RawValue>>) -> bool {
    let Some(newer) = newer else { return false };
    let changed = known.as_ref().is_none_or(|known| known.get() != newer.get());
    *known = Some(newer);
    changed
}

/// Longer waits are nonsense from the wire.
const LONGEST_RUN_SECS: f64 = 30.0 * 24.0 * 3600.0;
