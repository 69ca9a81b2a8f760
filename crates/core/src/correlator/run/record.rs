//! Builds the record of a settled run.

use super::OpenRun;
use super::tools::StepSeen;
use super::turn_state::TurnState;
use crate::attribution::{Attribution, Ranks};
use crate::event::key_of;
use crate::interaction::{Interaction, Status, TimeSource, Times, Tokens};
use crate::message::Message;
use crate::observation::{ConversationKey, RunStatus, ToolCall, UsageAbsent, api_id};

impl OpenRun {
    /// The record.
    pub(in crate::correlator) fn into_interaction(
        self,
        key: &ConversationKey,
        conversation: &Attribution,
    ) -> Interaction {
        let outputs_complete = self.is_terminal() && self.outputs_are_complete();
        let mut attribution = conversation.clone();
        attribution.update(&self.attribution.attribution());
        attribution.ranks = Ranks::default();
        let status = self.ending.assumed.unwrap_or(match self.run.status {
            RunStatus::Cancelled => Status::Cancelled,
            RunStatus::Completed => Status::Completed,
            RunStatus::Expired => Status::Expired,
            RunStatus::Failed => Status::Failed,
            RunStatus::Incomplete => Status::Incomplete,
            RunStatus::Active(_) | RunStatus::RequiresAction => Status::UnknownFinal,
        });
        let (usage_absent, turn_id) = (self.usage_absent(), self.turn_id().to_owned());
        let (api, idempotency_key) = (self.api(), self.key(key));
        let step_of = |message: &Message| {
            let by_step = |step: &StepSeen| step.message.is_some() && step.message == message.id;
            self.tools.steps.iter().position(by_step).unwrap_or(usize::MAX)
        };
        // A call whose step is unknown is placed where it was seen.
        let mut place = None;
        let mut tool_calls: Vec<(Option<usize>, ToolCall)> = Vec::with_capacity(self.tools.calls.len());
        for call in self.tools.calls {
            place = self.tools.steps.iter().position(|step| step.calls.contains(&call.id)).or(place);
            tool_calls.push((place, call));
        }
        tool_calls.sort_by_key(|(place, _)| *place);
        // An item without a time is placed where it was seen.
        let mut time = f64::NEG_INFINITY;
        let mut outputs: Vec<(f64, usize, Message)> = Vec::with_capacity(self.outputs.messages.len());
        for message in self.outputs.messages {
            time = message.created_at.map_or(time, f64::floor);
            outputs.push((time, step_of(&message), message));
        }
        // A stable sort: items that neither time nor steps can order keep the order in which they
        // were listed or seen.
        outputs.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let outputs = outputs.into_iter().map(|(_, _, message)| message).collect();
        let turn = self.turn.map(|turn| *turn);
        let (parent_id, continuations, reasoning, request, response) = match turn {
            Some(TurnState { parent_id, continuations, reasoning, request, response, .. }) => {
                (parent_id, continuations, reasoning, request, response)
            }
            None => (None, Vec::new(), Vec::new(), None, None),
        };
        let shown = |run: String| match api.traits().run_ids_repeat {
            true => api_id(&run).to_owned(),
            false => run,
        };
        Interaction {
            key: idempotency_key,
            api,
            conversation: key.clone(),
            turn_id: Some(shown(turn_id)),
            parent_id: parent_id.map(shown),
            continuations: continuations.into_iter().map(shown).collect(),
            run: shown(self.run.id),
            status,
            assistant: self.run.assistant,
            assistant_name: None,
            model: self.run.model,
            attribution,
            trace_id: self.creation.trace_id,
            inputs: self.inputs.messages,
            instructions: self.creation.instructions,
            additional_instructions: self.creation.additional_instructions,
            outputs,
            tool_calls: tool_calls.into_iter().map(|(_, call)| call).collect(),
            reasoning,
            request,
            response,
            usage_absent,
            tokens: self.run.usage.as_deref().and_then(Tokens::of),
            usage: self.run.usage,
            error: self.run.error.or(self.ending.stream_error),
            metadata: self.run.metadata,
            times: Times {
                created_at: self.run.created_at,
                started_at: self.run.started_at,
                ended_at: self.run.ended_at,
                request_at: self.creation.request_at.unwrap_or(self.times.first_seen),
                first_token_at: self.times.first_token_at,
                end_at: self.times.end_at.unwrap_or(self.times.first_seen),
                source: match self.creation.request_at {
                    Some(_) => TimeSource::Live,
                    None => TimeSource::Backfilled,
                },
            },
            inputs_complete: self.inputs.complete,
            outputs_complete,
            assumed: self.ending.assumed.is_some(),
            pairing: self.pairing,
        }
    }

    /// The idempotency key of its record.
    pub(in crate::correlator) fn key(&self, conversation: &ConversationKey) -> String {
        let upstream = &conversation.upstream;
        match &self.turn {
            None => key_of(&[upstream, &conversation.id, &self.run.id]),
            // The chain may not be known everywhere. The run's own id is unique.
            Some(turn) => key_of(&[upstream, turn.api.as_str(), &self.run.id]),
        }
    }

    /// Why there is no usage, if there is none.
    pub(super) fn usage_absent(&self) -> Option<UsageAbsent> {
        if self.run.usage.is_some() {
            return None;
        }
        let known = self.turn.as_ref().and_then(|turn| turn.usage_absent);
        Some(match self.ending.assumed {
            Some(Status::ClientDisconnected) if self.turn.is_some() => {
                known.unwrap_or(UsageAbsent::ClientDisconnected)
            }
            Some(_) => known.unwrap_or(UsageAbsent::EndNotSeen),
            None => known.unwrap_or(UsageAbsent::NotReported),
        })
    }
}
