//! The inputs of a run: where a message belongs among them, and which may be one of them.

use std::mem::take;

use super::OpenRun;
use crate::correlator::input::Merge;
use crate::message::Message;
use crate::time::UnixMillis;

impl OpenRun {
    /// Takes the messages that came with the request that created the run: they follow all others.
    pub(in crate::correlator) fn carry(&mut self, messages: impl IntoIterator<Item = Message>) {
        let before = self.inputs.len();
        self.inputs.extend(messages);
        self.carried += self.inputs.len() - before;
    }

    /// Takes an input out again.
    pub(in crate::correlator) fn withdraw_input(&mut self, place: usize) -> Message {
        if place >= self.inputs.len() - self.carried {
            self.carried -= 1;
        }
        self.inputs.remove(place)
    }

    /// Takes out a message that a list showed, if it was asked for after this run was seen.
    pub(in crate::correlator) fn release(&mut self, id: &str, requested_at: UnixMillis) -> Option<Message> {
        let place = self.inputs.iter().position(|input| input.id.as_deref() == Some(id))?;
        let other = place < self.inputs.len() - self.carried && self.first_seen <= requested_at;
        other.then(|| self.withdraw_input(place))
    }

    /// Takes out the inputs that were in the thread before the run, and before a second.
    pub(in crate::correlator) fn withdraw_until(&mut self, second: f64) -> Vec<Message> {
        let before = self.inputs.len() - self.carried;
        let carried = self.inputs.split_off(before);
        let later = |message: &Message| message.created_at.is_some_and(|at| at.floor() > second);
        let (kept, withdrawn) = take(&mut self.inputs).into_iter().partition(later);
        self.inputs = kept;
        self.inputs.extend(carried);
        withdrawn
    }

    /// Takes a message that was in the thread before the run, in its place.
    pub(in crate::correlator) fn take_input(&mut self, message: Message) {
        insert_in_time(&mut self.inputs, self.carried, message);
    }

    /// Whether a message may be the input in a place, going by times: an earlier run may have answered the same words.
    pub(in crate::correlator) fn may_be_input(
        &self,
        place: usize,
        message: &Message,
        merge: Merge<'_>,
    ) -> bool {
        self.may_be(place >= self.inputs.len() - self.carried, message, merge)
    }

    /// Whether a message that a list showed may be one that came with the request that created the run.
    pub(in crate::correlator) fn may_be_carried(&self, message: &Message, requested_at: UnixMillis) -> bool {
        self.may_be(true, message, Merge::Listed { requested_at, after: &[] })
    }

    fn may_be(&self, carried: bool, message: &Message, merge: Merge<'_>) -> bool {
        let second = message.created_at.map(f64::floor);
        // What came with the run is as old as the run; a server may write it down a little earlier, if nothing lies there.
        let since = match self.created_second().filter(|_| carried) {
            Some(created) if self.claimed_after.is_some_and(|claimed| claimed >= created - 1.0) => {
                Some(created)
            }
            Some(created) => Some(created - 1.0),
            None => self.claimed_after,
        };
        let early = since.zip(second).is_some_and(|(since, second)| second < since);
        // Written down a little later, as well.
        let late = second.zip(self.created_second()).is_some_and(|(second, created)| second > created + 1.0);
        if early || late {
            return false;
        }
        let Merge::Listed { requested_at, after } = merge else { return true };
        let too_early = carried && self.request_at.is_some_and(|request| requested_at < request);
        let answered_before = after.iter().any(|later| {
            let other = later.run.as_deref().is_some_and(|run| run != self.run.id);
            let second = later.created_at.map(f64::floor);
            other && second.zip(self.created_second()).is_some_and(|(later, run)| later <= run)
        });
        !too_early && !answered_before
    }

    /// Whether this run was created, and seen, while a message's creation went on: the API's times say which was first.
    pub(in crate::correlator) fn overtook(
        &self,
        message: &Message,
        requested_at: Option<UnixMillis>,
    ) -> bool {
        let second = message.created_at.map(f64::floor);
        let earlier = second.zip(self.created_second()).is_some_and(|(message, run)| message < run);
        let claimed = self.claimed_after.is_some_and(|claimed| second < Some(claimed));
        earlier && !claimed && requested_at.is_some_and(|requested| requested < self.first_seen)
    }
}

/// Puts a message in the place its time gives it, before the `last` messages.
pub(in crate::correlator) fn insert_in_time(messages: &mut Vec<Message>, last: usize, message: Message) {
    let second = message.created_at.map(f64::floor);
    let end = messages.len() - last;
    let later = |known: &Message| {
        known.created_at.map(f64::floor).zip(second).is_some_and(|(known, second)| known > second)
    };
    let place = messages[..end].iter().position(later).unwrap_or(end);
    messages.insert(place, message);
}
