//! Decides which messages may be inputs of a run.

use super::OpenRun;
use super::inputs::Merge;
use crate::message::Message;
use crate::time::UnixMillis;

impl OpenRun {
    /// Removes and returns a message that a list showed, if the message's creation was requested
    /// after this run was seen.
    pub(in crate::correlator) fn release(&mut self, id: &str, requested_at: UnixMillis) -> Option<Message> {
        let place = self.inputs.messages.iter().position(|input| input.id.as_deref() == Some(id))?;
        let other =
            place < self.inputs.messages.len() - self.inputs.carried && self.times.first_seen <= requested_at;
        other.then(|| self.inputs.withdraw(place))
    }

    /// Whether a message may be the input at an index, by its times: an earlier run may have had an
    /// input with the same text.
    pub(in crate::correlator) fn may_be_input(
        &self,
        place: usize,
        message: &Message,
        merge: Merge<'_>,
    ) -> bool {
        self.may_be(place >= self.inputs.messages.len() - self.inputs.carried, message, merge)
    }

    /// Whether a listed message may have come with the request that created the run.
    pub(in crate::correlator) fn may_be_carried(&self, message: &Message, requested_at: UnixMillis) -> bool {
        self.may_be(true, message, Merge::Listed { requested_at, after: &[] })
    }

    fn may_be(&self, carried: bool, message: &Message, merge: Merge<'_>) -> bool {
        let second = message.created_at.map(f64::floor);
        // Messages that came with the run are as old as the run. A server may store them slightly
        // earlier, if nothing is in between.
        let since = match self.created_second().filter(|_| carried) {
            Some(created) if self.inputs.claimed_after.is_some_and(|claimed| claimed >= created - 1.0) => {
                Some(created)
            }
            Some(created) => Some(created - 1.0),
            None => self.inputs.claimed_after,
        };
        let early = since.zip(second).is_some_and(|(since, second)| second < since);
        // They may also be stored slightly later.
        let late = second.zip(self.created_second()).is_some_and(|(second, created)| second > created + 1.0);
        if early || late {
            return false;
        }
        let Merge::Listed { requested_at, after } = merge else { return true };
        let too_early = carried && self.creation.request_at.is_some_and(|request| requested_at < request);
        let answered_before = after.iter().any(|later| {
            let other = later.run.as_deref().is_some_and(|run| run != self.run.id);
            let second = later.created_at.map(f64::floor);
            other && second.zip(self.created_second()).is_some_and(|(later, run)| later <= run)
        });
        !too_early && !answered_before
    }

    /// Whether this run was created and seen while a message was being created: then the API's
    /// times decide which was first.
    pub(in crate::correlator) fn overtook(
        &self,
        message: &Message,
        requested_at: Option<UnixMillis>,
    ) -> bool {
        let second = message.created_at.map(f64::floor);
        let earlier = second.zip(self.created_second()).is_some_and(|(message, run)| message < run);
        let claimed = self.inputs.claimed_after.is_some_and(|claimed| second < Some(claimed));
        earlier && !claimed && requested_at.is_some_and(|requested| requested < self.times.first_seen)
    }
}
