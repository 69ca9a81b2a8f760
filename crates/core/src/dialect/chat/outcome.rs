//! How a completion ended, and why.

use super::Observer;
use super::choice::Choice;
use super::finish::Finish;
use crate::exchange::Ending;
use crate::observation::{RunStatus, UsageAbsent};

impl Observer {
    pub(super) fn status(&self, finished: bool) -> RunStatus {
        let choices = self.response.choices();
        let failed = choices.iter().any(|choice| choice.finish() == Some(Finish::Failed));
        if failed || self.response.error().is_some() {
            RunStatus::Failed
        } else if !finished {
            RunStatus::Active("in_progress".to_owned())
        } else if choices.is_empty()
            || choices.iter().any(|choice| choice.finish().is_some_and(Finish::is_incomplete))
        {
            RunStatus::Incomplete
        } else {
            RunStatus::Completed
        }
    }

    /// Why the response did not end well, in the words of the API if it gives a reason.
    pub(super) fn reason(&self, status: &RunStatus) -> Option<&str> {
        let is_meant = match status {
            RunStatus::Failed => |finish| finish == Finish::Failed,
            RunStatus::Incomplete => Finish::is_incomplete,
            _ => return None,
        };
        if self.unreadable {
            return Some("unreadable_response");
        }
        let choices = self.response.choices();
        let choice = choices.iter().find(|choice| choice.finish().is_some_and(is_meant));
        choice.map_or_else(|| choices.is_empty().then_some("no_choices"), Choice::finish_reason)
    }

    pub(super) fn usage_absent(&self, finished: bool, ending: Ending) -> UsageAbsent {
        if self.streamed && !self.includes_usage && !self.asked_lost {
            UsageAbsent::StreamWithoutIncludeUsage
        } else if ending == Ending::ClientGone {
            UsageAbsent::ClientDisconnected
        } else if finished || self.response.error().is_some() {
            UsageAbsent::NotReported
        } else {
            UsageAbsent::EndNotSeen
        }
    }
}
