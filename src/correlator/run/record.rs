//! The record a settled run becomes.

use super::OpenRun;
use super::tool::StepSeen;
use crate::attribution::{Attribution, Ranks};
use crate::event::key_of;
use crate::interaction::{Interaction, Status, TimeSource, Times};
use crate::message::Message;
use crate::observation::{ConversationKey, RunStatus, ToolCall};

impl OpenRun {
    /// The record.
    pub(in crate::correlator) fn into_interaction(
        self,
        key: &ConversationKey,
        conversation: &Attribution,
    ) -> Interaction {
        let outputs_complete = self.is_terminal() && self.outputs_are_complete();
        let mut attribution = conversation.clone();
        attribution.update(&self.whose.attribution());
        attribution.ranks = Ranks::default();
        let status = self.concluded.unwrap_or(match self.run.status {
            RunStatus::Cancelled => Status::Cancelled,
            RunStatus::Completed => Status::Completed,
            RunStatus::Expired => Status::Expired,
            RunStatus::Failed => Status::Failed,
            RunStatus::Incomplete => Status::Incomplete,
            RunStatus::Active(_) | RunStatus::RequiresAction => Status::UnknownFinal,
        });
        let step_of = |message: &Message| {
            let by_step = |step: &StepSeen| step.message.is_some() && step.message == message.id;
            self.steps.iter().position(by_step).unwrap_or(usize::MAX)
        };
        // A call whose step is not known lies where it was seen.
        let mut place = None;
        let mut tool_calls: Vec<(Option<usize>, ToolCall)> = Vec::with_capacity(self.tool_calls.len());
        for call in self.tool_calls {
            place = self.steps.iter().position(|step| step.calls.contains(&call.id)).or(place);
            tool_calls.push((place, call));
        }
        tool_calls.sort_by_key(|(place, _)| *place);
        // What was told without a time lies where it was seen.
        let mut time = f64::NEG_INFINITY;
        let mut outputs: Vec<(f64, usize, Message)> = Vec::with_capacity(self.outputs.len());
        for message in self.outputs {
            time = message.created_at.map_or(time, f64::floor);
            outputs.push((time, step_of(&message), message));
        }
        // A stable sort: what neither time nor steps tell apart stays in the order it was listed or seen.
        outputs.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let outputs = outputs.into_iter().map(|(_, _, message)| message).collect();
        Interaction {
            key: key_of(&[&key.upstream, &key.id, &self.run.id]),
            conversation: key.clone(),
            run: self.run.id,
            status,
            assistant: self.run.assistant,
            model: self.run.model,
            attribution,
            inputs: self.inputs,
            instructions: self.instructions,
            additional_instructions: self.additional_instructions,
            outputs,
            tool_calls: tool_calls.into_iter().map(|(_, call)| call).collect(),
            usage_absent: self.run.usage.is_none().then(|| {
                let assumed = self.concluded.is_some();
                if assumed { "end_not_seen" } else { "not_reported" }.to_owned()
            }),
            usage: self.run.usage,
            error: self.run.error.or(self.stream_error),
            metadata: self.run.metadata,
            times: Times {
                created_at: self.run.created_at,
                started_at: self.run.started_at,
                ended_at: self.run.ended_at,
                request_at: self.request_at.unwrap_or(self.first_seen),
                first_token_at: self.first_token_at,
                end_at: self.end_at.unwrap_or(self.first_seen),
                source: match self.request_at {
                    Some(_) => TimeSource::Live,
                    None => TimeSource::Backfilled,
                },
            },
            inputs_complete: self.inputs_complete,
            outputs_complete,
            assumed: self.concluded.is_some(),
            pairing: self.pairing,
        }
    }
}
