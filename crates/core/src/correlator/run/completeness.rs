//! Decides whether all outputs of a run were seen.

use super::OpenRun;
use super::outputs::update_message;
use crate::correlator::config::Config;
use crate::message::{Message, MessageStatus};
use crate::time::UnixMillis;

impl OpenRun {
    /// Notes that all steps were listed. This is evidence only if the list was requested when the
    /// run was over.
    pub(in crate::correlator) fn note_all_steps(&mut self, requested_at: UnixMillis) -> bool {
        let proof = self.ended_before(requested_at);
        let changed = proof && !self.proofs.steps_whole;
        self.proofs.steps_whole |= proof;
        changed
    }

    /// Adds an assistant message of this run. Returns whether it contained anything new.
    pub(in crate::correlator) fn note_output(
        &mut self,
        message: &Message,
        before: Option<&str>,
        at: UnixMillis,
        config: &Config,
    ) -> bool {
        let changed = match self.outputs.messages.iter_mut().find(|output| output.id == message.id) {
            Some(known) => update_message(known, message),
            None => {
                let next = self
                    .outputs
                    .messages
                    .iter()
                    .position(|output| before.is_some() && output.id.as_deref() == before);
                self.outputs.messages.insert(next.unwrap_or(self.outputs.messages.len()), message.clone());
                true
            }
        };
        if changed {
            self.await_more_pages(at, config);
        }
        changed
    }

    /// Notes that outputs of a finished run are being fetched: there may be more of them.
    pub(in crate::correlator) fn await_more_pages(&mut self, at: UnixMillis, config: &Config) {
        if self.is_terminal() {
            self.times.deadline = self.times.deadline.max(at.after(config.outputs_grace));
        }
    }

    /// Whether there are unfinished messages, or steps whose message was not seen.
    fn outputs_are_open(&self) -> bool {
        let unseen = |message: &String| {
            !self.outputs.messages.iter().any(|output| output.id.as_ref() == Some(message))
        };
        self.outputs.messages.iter().any(|output| output.status == MessageStatus::InProgress)
            || self.tools.steps.iter().filter_map(|step| step.message.as_ref()).any(unseen)
    }

    /// Whether no more outputs can arrive.
    pub(super) fn outputs_are_settled(&self) -> bool {
        self.told_all_outputs() || (self.proofs.pages && !self.outputs_are_open())
    }

    /// Whether every output was seen. A list does not show messages that were deleted earlier.
    pub(super) fn outputs_are_complete(&self) -> bool {
        if let Some(turn) = &self.turn {
            return turn.told_whole && !self.outputs.lost;
        }
        let listed = self.proofs.pages && !self.outputs_are_open() && !self.outputs.unseen_deleted;
        !self.outputs.lost && (self.told_all_outputs() || listed)
    }

    /// Whether streams or steps showed which outputs exist, and all of those were seen.
    fn told_all_outputs(&self) -> bool {
        if self.proofs.streamed_whole && self.proofs.stream_told_end {
            // A failed run's last message may never be reported completely. If a completed run
            // showed neither message nor step, the server's streams do not include them.
            return if self.is_completed() {
                let told_anything = !self.outputs.messages.is_empty() || !self.tools.steps.is_empty();
                told_anything && !self.outputs_are_open()
            } else {
                true
            };
        }
        self.proofs.steps_whole && !self.tools.steps.is_empty() && !self.outputs_are_open()
    }
}
