//! Merges a turn that ends in calls of the app's functions with the turn that submits their
//! outputs, if both become one record. The first is held until the second is over, and then absorbs
//! it.

use serde_json::Value;

use super::OpenRun;
use super::merge::fill;
use super::turn_state::TurnState;
use super::usage;
use crate::correlator::placed::Placement;
use crate::message::{Message, Role};
use crate::observation::{ToolCall, ToolOutput};

impl OpenRun {
    /// Whether it is over and waits for a run that continues it.
    pub(in crate::correlator) fn is_held(&self) -> bool {
        self.is_terminal() && self.turn.as_ref().is_some_and(|turn| turn.held_until.is_some())
    }

    /// The run that it continues, in one record.
    pub(in crate::correlator) fn continues(&self) -> Option<&str> {
        self.turn.as_ref()?.continues.as_deref()
    }

    /// Makes it a continuation of a held run.
    pub(in crate::correlator) fn go_on_with(&mut self, held: String) {
        if let Some(turn) = &mut self.turn {
            turn.continues = Some(held);
        }
    }

    /// Notes how long a turn that has just ended is held. Returns whether that is new.
    pub(super) fn note_hold(&mut self, placement: &Placement) -> bool {
        let Some(state) = &mut self.turn else { return false };
        let changed = fill(&mut state.held_until, placement.held_until);
        if let Some(until) = state.held_until {
            // An incompletely reported turn may also be fetched later.
            self.times.deadline = if state.told_whole { until } else { self.times.deadline.max(until) };
        }
        changed
    }

    /// Absorbs the run that continued this one. Tool outputs become the outputs of the calls. Other
    /// new inputs of that request are added to the inputs. The later run determines the status and
    /// the response.
    pub(in crate::correlator) fn absorb(&mut self, next: Self) {
        let usage_absent = next.usage_absent().or_else(|| self.usage_absent());
        let told = usage_absent.is_none();
        let usage = self.run.usage.as_deref().zip(next.run.usage.as_deref()).filter(|_| told);
        self.run.usage = usage.and_then(|(first, second)| usage::sum(first, second));
        let Self {
            run,
            creation,
            inputs,
            outputs,
            proofs: _,
            tools,
            times,
            ending,
            attribution,
            pairing: _,
            turn,
        } = next;
        self.run.status = run.status;
        self.run.ended_at = run.ended_at;
        self.run.error = run.error;
        self.run.model = run.model.or_else(|| self.run.model.take());
        fill(&mut self.run.assistant, run.assistant);
        fill(&mut self.run.metadata, run.metadata);
        fill(&mut self.creation.instructions, creation.instructions);
        fill(&mut self.times.first_token_at, times.first_token_at);
        self.times.end_at = times.end_at;
        self.ending = ending;
        self.inputs.complete &= inputs.complete;
        self.outputs.lost |= outputs.lost;
        self.tools.left_out += tools.left_out;
        self.attribution.update(&attribution.attribution());
        let unanswered = |input: Message| match returned(&input, &self.tools.calls) {
            Some(output) => Err(output),
            None => Ok(input),
        };
        let (mut told, mut rest) = (Vec::new(), Vec::new());
        for input in inputs.messages.into_iter().map(unanswered) {
            match input {
                Ok(input) => rest.push(input),
                Err(output) => told.push(output),
            }
        }
        self.tools.note_outputs(&told);
        self.tools.append_calls(tools.calls);
        self.inputs.messages.append(&mut rest);
        self.outputs.messages.extend(outputs.messages);
        let (Some(state), Some(later)) = (&mut self.turn, turn) else { return };
        let TurnState { reasoning, request, response, told_whole, held_until, mut continuations, .. } =
            *later;
        state.reasoning.extend(reasoning);
        state.usage_absent = usage_absent;
        // The last request repeats the earlier conversation, and the response belongs to that
        // request.
        (state.request, state.response) = (request, response);
        state.told_whole &= told_whole;
        state.held_until = held_until;
        state.continuations.push(run.id);
        state.continuations.append(&mut continuations);
    }
}

/// The output of one of these calls in a message. None if the message has no such output.
fn returned(message: &Message, calls: &[ToolCall]) -> Option<ToolOutput> {
    if message.role != Role::Tool {
        return None;
    }
    let object: Value = serde_json::from_str(message.object.get()).ok()?;
    let call = match object["tool_call_id"].as_str() {
        Some(id) => calls.iter().find(|call| call.id == id),
        None => {
            calls.iter().find(|call| call.name.is_some() && call.name.as_deref() == object["name"].as_str())
        }
    }?;
    Some(ToolOutput { call: call.id.clone(), output: message.text() })
}
