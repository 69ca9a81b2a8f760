//! Which of the messages that are held were only listed.

use super::heap_size;
use crate::time::UnixMillis;

/// The ids of messages whose own creation was not seen: a run that is yet to be seen may have been created with them.
#[derive(Debug, Default)]
pub(super) struct Listed(Vec<(String, UnixMillis)>);

impl Listed {
    /// Notes a message that was not known, and when the list was asked for that showed it.
    pub(super) fn note(&mut self, id: &str, requested_at: UnixMillis) {
        self.0.push((id.to_owned(), requested_at));
    }

    /// Forgets a message: its own creation was seen, or it is held no longer. Tells whether it was noted.
    pub(super) fn forget(&mut self, id: &str) -> bool {
        let place = self.0.iter().position(|(known, _)| known == id);
        place.is_some_and(|place| {
            self.0.swap_remove(place);
            self.0.shrink_to_fit();
            true
        })
    }

    /// When the list was asked for that showed a message, if that is all that was seen of it.
    pub(super) fn requested_at(&self, id: &str) -> Option<UnixMillis> {
        self.0.iter().find(|(known, _)| known == id).map(|(_, requested_at)| *requested_at)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What it takes in memory beside its own fields.
    pub(super) fn bytes(&self) -> usize {
        heap_size::list(&self.0) + self.0.iter().map(|(id, _)| heap_size::text(id)).sum::<usize>()
    }
}
