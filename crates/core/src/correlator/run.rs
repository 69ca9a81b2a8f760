//! One unsettled run.
//!
//! Its state only moves forward: active and requires_action may alternate, a terminal status never
//! changes again. A terminal run has a deadline of `outputs_grace` after it became terminal (longer
//! while pages bring more of its outputs). Until then the deadline is `unresolved_grace` after
//! `expires_at`, or after the assumed duration of a run, or after the run was last seen active.

mod completeness;
mod continuation;
mod inputs;
mod matching;
mod merge;
mod outputs;
mod record;
mod tools;
mod turn;
mod turn_state;
mod usage;

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::config::Config;
use super::heap_size;
use super::limits::Note;
use super::packed_attribution::PackedAttribution;
use crate::attribution::Attribution;
use crate::interaction::{Pairing, Status};
use crate::observation::{PageOrder, Run, RunOrigin, RunStatus, StreamEnding};
use crate::time::UnixMillis;
pub(super) use inputs::{Inputs, Merge, insert_in_time};
use merge::{fill, learn, replace};
pub(super) use outputs::{Outputs, update_message};
use tools::{StepSeen, ToolUse};
use turn_state::TurnState;

/// A run, and everything that was seen of it.
#[derive(Debug)]
pub(super) struct OpenRun {
    /// What the API says about it, except its tool calls.
    run: Run,
    creation: Creation,
    pub(super) inputs: Inputs,
    pub(super) outputs: Outputs,
    pub(super) proofs: OutputProofs,
    pub(super) tools: ToolUse,
    times: SeenTimes,
    ending: Ending,
    attribution: PackedAttribution,
    pub(super) pairing: Pairing,
    /// Additional state if one exchange contains the whole run.
    turn: Option<Box<TurnState>>,
}

/// The request that created a run.
#[derive(Debug, Default)]
struct Creation {
    /// When it arrived. None if it was not seen.
    request_at: Option<UnixMillis>,
    trace_id: Option<String>,
    instructions: Option<String>,
    additional_instructions: Option<String>,
}

/// Evidence that no output is missing.
#[derive(Debug, Default)]
pub(super) struct OutputProofs {
    /// Whether every part of the run so far was in streams that were seen completely.
    streamed_whole: bool,
    /// Whether a stream reported the end, so that none of it can still arrive.
    stream_told_end: bool,
    /// Whether all steps were listed after the run was over.
    steps_whole: bool,
    /// Whether listed pages show all outputs.
    pub(super) pages: bool,
    /// Where a listing stopped that has not yet passed this run's outputs.
    pub(super) page_frontier: BTreeMap<(bool, bool), String>,
}

/// When a run was seen, by the proxy's clock.
#[derive(Debug)]
struct SeenTimes {
    first_seen: UnixMillis,
    first_token_at: Option<UnixMillis>,
    end_at: Option<UnixMillis>,
    deadline: UnixMillis,
}

/// How a run ended if the API did not say.
#[derive(Debug, Default)]
struct Ending {
    /// The assumed status.
    assumed: Option<Status>,
    client_gone: bool,
    stream_error: Option<Box<RawValue>>,
}

impl OpenRun {
    pub(super) fn new(run: &Run, at: UnixMillis, config: &Config) -> Self {
        let mut open = Self {
            run: Run { status: RunStatus::Active(String::new()), tool_calls: Vec::new(), ..run.clone() },
            creation: Creation::default(),
            inputs: Inputs::default(),
            outputs: Outputs::default(),
            proofs: OutputProofs::default(),
            tools: ToolUse::default(),
            times: SeenTimes { first_seen: at, first_token_at: None, end_at: None, deadline: at },
            ending: Ending::default(),
            attribution: PackedAttribution::default(),
            pairing: Pairing::Exact,
            turn: None,
        };
        open.merge(run, at, config);
        open
    }

    /// Merges another state of the run. Returns whether it contained anything new.
    pub(super) fn merge(&mut self, newer: &Run, at: UnixMillis, config: &Config) -> bool {
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
        if status.is_terminal() && started_at.is_some() && known.started_at != *started_at {
            known.started_at = None; // A run that waited for tools started more than once: the last value counts.
        }
        let mut changed = learn(&mut known.assistant, assistant)
            | learn(&mut known.model, model)
            | learn(&mut known.created_at, created_at)
            | learn(&mut known.started_at, started_at)
            | learn(&mut known.ended_at, ended_at)
            | learn(&mut known.expires_at, expires_at);
        changed |= replace(&mut known.usage, usage)
            | replace(&mut known.error, error)
            | replace(&mut known.metadata, metadata);
        for call in tool_calls {
            changed |= self.tools.note_call(call.clone());
        }
        if !self.run.status.is_terminal() && self.run.status != *status {
            changed = true;
            self.run.status = status.clone();
            if self.run.status.is_terminal() {
                self.times.end_at = Some(at);
                self.times.deadline = at.after(config.outputs_grace);
            }
        }
        changed | self.wait_on(at, config)
    }

    /// Notes that the run was not over at a time. Returns whether this extends its deadline.
    pub(super) fn wait_on(&mut self, at: UnixMillis, config: &Config) -> bool {
        if self.is_terminal() {
            return false;
        }
        let seen = self.background_deadline(at, config).unwrap_or_else(|| at.after(config.unresolved_grace));
        let deadline = self.unresolved_deadline(config).max(seen);
        let longer = deadline > self.times.deadline;
        self.times.deadline = self.times.deadline.max(deadline);
        longer
    }

    /// Notes how this state was seen.
    pub(super) fn note_origin(&mut self, origin: &RunOrigin) -> bool {
        match origin {
            RunOrigin::Created {
                request_at,
                trace_id,
                streamed,
                instructions,
                additional_instructions,
                messages_lost,
                ..
            } => {
                if self.created_seen() {
                    return false;
                }
                self.creation.request_at = Some(*request_at);
                self.creation.trace_id.clone_from(trace_id);
                self.proofs.streamed_whole = *streamed;
                self.creation.instructions.clone_from(instructions);
                self.creation.additional_instructions.clone_from(additional_instructions);
                self.inputs.complete &= !messages_lost;
                true
            }
            RunOrigin::Continued { streamed } => {
                self.proofs.streamed_whole &= streamed;
                true
            }
            RunOrigin::Seen => false,
        }
    }

    /// Notes that the run's own stream reported its state.
    pub(super) fn note_streamed_state(&mut self) -> bool {
        let told = self.is_terminal() && !self.proofs.stream_told_end;
        self.proofs.stream_told_end |= told;
        told
    }

    pub(super) fn note_attribution(&mut self, attribution: &Attribution) {
        self.attribution.update(attribution);
    }

    pub(super) fn note_first_token(&mut self, at: Option<UnixMillis>) -> bool {
        fill(&mut self.times.first_token_at, at)
    }

    pub(super) fn note_stream_end(
        &mut self,
        ending: StreamEnding,
        first_token_at: Option<UnixMillis>,
        error: Option<&RawValue>,
        (at, config): (UnixMillis, &Config),
    ) -> bool {
        self.note_first_token(first_token_at);
        if ending == StreamEnding::Complete && error.is_none() {
            self.note_streamed_state();
        } else {
            // After an error the run may continue unseen.
            self.proofs.streamed_whole = false;
        }
        self.ending.client_gone |= ending == StreamEnding::ClientGone;
        if let Some(error) = error {
            self.ending.stream_error = Some(error.to_owned());
        }
        self.note_exchange_end(ending, at, config);
        true
    }

    /// The position of this run in time, in whole seconds. Servers order reliably only by seconds.
    pub(super) fn created_second(&self) -> Option<f64> {
        self.run.created_at.map(f64::floor)
    }

    /// The second in which the run ended, as reported by the API.
    pub(super) fn ended_second(&self) -> Option<f64> {
        self.run.ended_at.map(f64::floor)
    }

    /// Whether the run was seen from its creation.
    pub(super) fn created_seen(&self) -> bool {
        self.creation.request_at.is_some()
    }

    pub(super) fn is_completed(&self) -> bool {
        self.run.status == RunStatus::Completed
    }

    /// How much memory it uses besides its list entry.
    pub(super) fn bytes(&self) -> usize {
        let Run { id, assistant, model, usage, error, metadata, .. } = &self.run;
        let texts = [
            assistant,
            model,
            &self.creation.trace_id,
            &self.creation.instructions,
            &self.creation.additional_instructions,
        ];
        let raws = [usage, error, metadata, &self.ending.stream_error];
        heap_size::text(id)
            + texts.into_iter().map(heap_size::optional).sum::<usize>()
            + raws.into_iter().map(heap_size::raw).sum::<usize>()
            + self.attribution.heap_bytes()
            + heap_size::messages(&self.inputs.messages)
            + heap_size::messages(&self.outputs.messages)
            + self.tools.bytes
            + heap_size::list(&self.tools.steps)
            + self.tools.steps.iter().map(StepSeen::heap_bytes).sum::<usize>()
            + self.proofs.page_frontier.values().map(|id| heap_size::text(id)).sum::<usize>()
            + self.turn.as_ref().map_or(0, |turn| turn.bytes())
    }

    /// One note for each text that was omitted from this run.
    pub(super) fn notes(&self) -> impl Iterator<Item = Note> {
        std::iter::repeat_n(Note::TextFull, self.tools.left_out)
    }

    pub(super) fn id(&self) -> &str {
        &self.run.id
    }

    pub(super) fn is_terminal(&self) -> bool {
        self.run.status.is_terminal()
    }

    pub(super) fn deadline(&self) -> UnixMillis {
        self.times.deadline
    }

    /// When the run ended, as reported by the API, else when it was created.
    pub(super) fn api_end(&self) -> Option<UnixMillis> {
        let seconds = self.run.ended_at.or(self.run.created_at)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
        Some(UnixMillis((seconds * 1000.0) as u64))
    }

    /// Whether the run was already seen to be over at a time. Lists requested earlier may be older
    /// than its outputs.
    pub(super) fn ended_before(&self, time: UnixMillis) -> bool {
        self.times.end_at.is_some_and(|end| end <= time)
    }

    /// The frontier of a listing: pages with the same order and kind of filter continue where the
    /// last one stopped.
    pub(super) fn frontier(order: PageOrder, filtered: bool) -> (bool, bool) {
        (order == PageOrder::Ascending, filtered)
    }

    /// Whether the run is over and no more outputs can arrive.
    pub(super) fn is_complete(&self) -> bool {
        match &self.turn {
            Some(_) if self.is_held() => false,
            Some(turn) => turn.left || (self.is_terminal() && turn.told_whole),
            None => self.is_terminal() && self.outputs_are_settled(),
        }
    }

    /// Whether one exchange contains the whole run.
    pub(super) fn is_turn(&self) -> bool {
        self.turn.is_some()
    }

    /// Concludes a status if the API reported none in time.
    pub(super) fn finish(&mut self, at: UnixMillis) {
        if self.is_terminal() {
            return;
        }
        let status = if self.ending.stream_error.is_some() {
            Status::Error
        } else if self.ending.client_gone {
            Status::ClientDisconnected
        } else if self.run.status == RunStatus::RequiresAction {
            Status::Expired
        } else {
            Status::UnknownFinal
        };
        self.finish_as(status, at);
    }

    /// Concludes a given status if the API reported none.
    pub(super) fn finish_as(&mut self, status: Status, at: UnixMillis) {
        if !self.is_terminal() {
            self.ending.assumed = Some(status);
            self.times.end_at = Some(at);
        }
    }

    /// When this program gives up on a run whose end it has not seen. The API's clock is used only
    /// for durations, because it may differ from ours.
    fn unresolved_deadline(&self, config: &Config) -> UnixMillis {
        let span = self.run.expires_at.zip(self.run.created_at).map(|(expires, created)| expires - created);
        let span = span.filter(|span| *span > 0.0 && *span < LONGEST_RUN_SECS);
        let span = span.map_or(config.assumed_run_time, std::time::Duration::from_secs_f64);
        self.times.first_seen.after(span).after(config.unresolved_grace)
    }
}

/// Longer waits can only be invalid data from the wire.
const LONGEST_RUN_SECS: f64 = 30.0 * 24.0 * 3600.0;
