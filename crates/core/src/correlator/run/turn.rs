//! Additional operations on a run that is contained in one exchange.

use super::OpenRun;
use super::merge::fill;
use super::turn_state::TurnState;
use crate::correlator::config::Config;
use crate::correlator::placed::Placement;
use crate::interaction::{Pairing, Status};
use crate::message::Message;
use crate::observation::{Api, Reasoning, RunStatus, StreamEnding, Turn};
use crate::time::UnixMillis;

impl OpenRun {
    /// Makes it a turn, with its placement.
    pub(in crate::correlator) fn become_turn(
        &mut self,
        turn: &Turn,
        placement: &Placement,
        (parent_id, turn_id): (Option<String>, Option<String>),
    ) {
        let state = self.turn.get_or_insert_with(|| {
            Box::new(TurnState {
                api: turn.api,
                turn_id: None,
                parent_id: None,
                reasoning: Vec::new(),
                usage_absent: None,
                request: None,
                response: None,
                held_until: None,
                continues: None,
                continuations: Vec::new(),
                background: turn.background,
                told_whole: false,
                left: false,
            })
        });
        if placement.by_history {
            self.pairing = Pairing::History;
        }
        state.parent_id = parent_id;
        state.turn_id = turn_id;
    }

    /// The deadline of a turn that continues after the exchange that requested it. It may take
    /// hours, but is polled now and then.
    pub(super) fn background_deadline(&self, at: UnixMillis, config: &Config) -> Option<UnixMillis> {
        let background = self.turn.as_ref().is_some_and(|turn| turn.background);
        background.then(|| at.after(config.assumed_run_time).after(config.unresolved_grace))
    }

    pub(in crate::correlator) fn api(&self) -> Api {
        self.turn.as_ref().map_or_else(Api::default, |turn| turn.api)
    }

    /// The run that began the user's turn.
    pub(in crate::correlator) fn turn_id(&self) -> &str {
        self.turn.as_ref().and_then(|turn| turn.turn_id.as_deref()).unwrap_or_else(|| self.id())
    }

    /// The previous run.
    pub(in crate::correlator) fn parent_id(&self) -> Option<&str> {
        self.turn.as_ref().and_then(|turn| turn.parent_id.as_deref())
    }

    /// Merges what a state of the turn contains besides the run itself. `outputs` are those for
    /// which there is room, and `outputs_lost` says whether there were others. Returns whether
    /// anything is new.
    pub(in crate::correlator) fn note_turn(
        &mut self,
        (turn, placement): (&Turn, &Placement),
        outputs: Vec<Message>,
        outputs_lost: bool,
        (at, config): (UnixMillis, &Config),
    ) -> bool {
        let terminal = turn.run.status.is_terminal();
        let mut changed = self.note_first_token(turn.first_token_at);
        if outputs_lost {
            changed |= self.outputs.lose();
        }
        for output in &outputs {
            changed |= self.note_output(output, None, at, config);
        }
        let Some(state) = &mut self.turn else { return changed };
        changed |= fill(&mut state.usage_absent, turn.usage_absent);
        state.background |= turn.background;
        // A later state of the response replaces an earlier one.
        if let Some(response) = &turn.response {
            state.response = Some(response.clone());
            changed = true;
        }
        changed |= fill(&mut state.request, turn.request.clone());
        state.left |= terminal && !turn.api.traits().keeps_runs;
        let bytes = |list: &[Reasoning]| list.iter().map(|item| item.text.len()).sum::<usize>();
        let told = bytes(&turn.reasoning);
        if told <= MAX_REASONING_BYTES
            && (told, turn.reasoning.len()) > (bytes(&state.reasoning), state.reasoning.len())
        {
            state.reasoning.clone_from(&turn.reasoning);
            changed = true;
        }
        if terminal && turn.whole && !state.told_whole {
            state.told_whole = true;
            // A complete response replaces one that was assembled from pieces.
            self.outputs.messages = outputs;
            changed = true;
        }
        changed | self.note_hold(placement)
    }

    /// Notes how an exchange ended that this run depends on, without reporting the run's end. After
    /// an error the run has failed. If the client left, nothing follows. If the exchange was
    /// aborted, the run may still be fetched.
    pub(super) fn note_exchange_end(&mut self, ending: StreamEnding, at: UnixMillis, config: &Config) {
        let terminal = self.is_terminal();
        let Some(turn) = self.turn.as_mut().filter(|turn| !turn.background && !terminal) else { return };
        if self.ending.stream_error.is_some() {
            turn.left = true;
            self.run.status = RunStatus::Failed;
            self.times.end_at = Some(at);
        } else if ending == StreamEnding::ClientGone {
            turn.left = true;
            self.finish_as(Status::ClientDisconnected, at);
        } else if !turn.api.traits().keeps_runs {
            turn.left = true;
            self.finish_as(Status::UnknownFinal, at);
        } else {
            self.times.deadline = at.after(config.unresolved_grace);
        }
    }
}

/// How much of one run's reasoning is kept.
const MAX_REASONING_BYTES: usize = 1 << 20;
