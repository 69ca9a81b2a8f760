//! Which of the held messages are known only from lists.

use super::heap_size;
use crate::time::UnixMillis;

/// The ids of messages whose own creation was not seen. A run that is not seen yet may have been
/// created with them.
#[derive(Debug, Default)]
pub(super) struct Listed(Vec<(String, UnixMillis)>);

impl Listed {
    /// Notes an unknown message, and when the list that showed it was requested.
    pub(super) fn note(&mut self, id: &str, requested_at: UnixMillis) {
        self.0.push((id.to_owned(), requested_at));
    }

    /// Forgets a message, because its own creation was seen or it is no longer held. Returns
    /// whether it was noted.
    pub(super) fn forget(&mut self, id: &str) -> bool {
        let place = self.0.iter().position(|(known, _)| known == id);
        place.is_some_and(|place| {
            self.0.swap_remove(place);
            self.0.shrink_to_fit();
            true
        })
    }

    /// When the list that showed a message was requested, if the message is known only from lists.
    pub(super) fn requested_at(&self, id: &str) -> Option<UnixMillis> {
        self.0.iter().find(|(known, _)| known == id).map(|(_, requested_at)| *requested_at)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How much memory it uses besides its own fields.
    pub(super) fn bytes(&self) -> usize {
        heap_size::list(&self.0) + self.0.iter().map(|(id, _)| heap_size::text(id)).sum::<usize>()
    }
}
