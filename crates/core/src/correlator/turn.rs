//! Turns: runs that are each contained in one exchange, and their placement.

use super::chain::{Chain, MAX_CALLS, call_link};
use super::config::Config;
use super::conversation::{Conversation, Outcome};
use super::placed::Placement;
use super::run::OpenRun;
use crate::message::Role;
use crate::observation::{Observation, RunOrigin, ToolCall, Turn, scoped_call};

impl Conversation {
    /// Handles a state of a turn. Returns whether anything changed.
    pub(super) fn see_turn(
        &mut self,
        (turn, placement): (&Turn, &Placement),
        observation: &Observation,
        config: &Config,
        outcome: &mut Outcome,
    ) -> bool {
        let place_of = |runs: &[OpenRun]| runs.iter().position(|run| run.id() == turn.run.id);
        let created_before = place_of(&self.runs).is_some_and(|place| self.runs[place].created_seen());
        let mut changed = self.see_run(&turn.run, &turn.origin, observation, config, outcome);
        if let Some(alias) = &turn.alias
            && (place_of(&self.runs).is_some() || self.state.runs.contains(&turn.run.id))
        {
            changed |= self.state.chain.note_alias(alias, &turn.run.id, &mut outcome.relinked);
        }
        let Some(place) = place_of(&self.runs) else { return changed };
        // The turn may have been fetched before its creation response was seen. The creation shows
        // more of its placement.
        if !self.runs[place].is_turn() || (!created_before && self.runs[place].created_seen()) {
            let (parent, began) = self.place_turn(turn);
            self.runs[place].become_turn(turn, placement, (parent, began));
            if let Some(held) = self.held_for(turn).filter(|held| placement.continues.as_ref() == Some(held))
            {
                self.runs[place].go_on_with(held);
            }
            changed = true;
        }
        let relinked = &mut outcome.relinked;
        // Later facts of the same exchange also find it by that id.
        changed |= self.state.chain.note_run(&turn.run.id, relinked);
        let run = &self.runs[place];
        let (id, began) = (run.id(), run.turn_id());
        let before = run.parent_id().filter(|_| began != id);
        let asked = |chain: &Chain| chain.asked_with(before, &run.inputs.messages);
        changed |= self.state.chain.note_calls((id, began), &call_links(turn), asked, relinked);
        if let Some(item) = &turn.last_item {
            changed |= self.state.chain.note_item(item, &turn.run.id, relinked);
        }
        let (mut outputs, mut lost) = (Vec::with_capacity(turn.outputs.len()), false);
        for output in &turn.outputs {
            if self.runs[place].outputs.has(output) || self.admit(output, config, outcome) {
                outputs.push(output.clone());
            } else {
                lost = true;
            }
        }
        changed | self.runs[place].note_turn((turn, placement), outputs, lost, (observation.at, config))
    }

    /// The run that a turn submits tool outputs for, if it continues the same user turn.
    pub(super) fn continued_by(&self, turn: &Turn) -> Option<&str> {
        let (caller, _) = self.state.chain.caller(&turn.answers)?;
        let (parent, began) = self.place_turn(turn);
        began.filter(|_| parent.as_deref() == Some(caller)).map(|_| caller)
    }

    /// The run before a turn, and the run that began it, if that is another one.
    fn place_turn(&self, turn: &Turn) -> (Option<String>, Option<String>) {
        let chain = &self.state.chain;
        let before = match turn.previous.as_deref() {
            Some(named) => {
                Some(chain.caller_after(named, &turn.answers).unwrap_or_else(|| chain.turn_of(named)))
            }
            None => chain
                .caller(&turn.answers)
                .or_else(|| chain.run_of_item(&turn.history).map(|run| chain.turn_of(run))),
        };
        let asks = match &turn.origin {
            RunOrigin::Created { messages, .. } => messages.iter().any(|message| message.role == Role::User),
            RunOrigin::Continued { .. } | RunOrigin::Seen => true,
        };
        let goes_on = !asks && !turn.answers.is_empty();
        (before.map(|(run, _)| run.to_owned()), before.filter(|_| goes_on).map(|(_, began)| began.to_owned()))
    }
}

/// The key of each of a turn's calls.
fn call_links(turn: &Turn) -> Vec<u64> {
    let link = |call: &ToolCall| match &turn.question {
        Some(question) => call_link(&scoped_call(question, &call.id)),
        None => call_link(&call.id),
    };
    let named = turn.named_calls.iter().map(|call| call_link(call));
    turn.run.tool_calls.iter().map(link).chain(named).take(MAX_CALLS).collect()
}
