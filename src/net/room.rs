//! Limits how much memory the requests of HTTP/2 clients may hold at one time. Otherwise a few
//! connections with hundreds of streams could use up the memory of the process.
//!
//! Each connection has a part of its own, which no other connection can use. Beyond its part it
//! uses a shared pool. On HTTP/1 a connection is one request, so `max_connections` is the bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What all connections share.
#[derive(Debug)]
pub(super) struct Room {
    left: AtomicUsize,
}

/// The part of one connection.
#[derive(Debug)]
pub(super) struct Part {
    room: Arc<Room>,
    /// What is left of its own part.
    left: AtomicUsize,
}

/// The memory a request holds, released when this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    part: Arc<Part>,
    own: usize,
    shared: usize,
}

impl Room {
    /// Creates a shared pool of this many bytes.
    pub(super) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(bytes) })
    }

    /// The part of a new connection.
    pub(super) fn part(self: &Arc<Self>) -> Arc<Part> {
        Arc::new(Part { room: Arc::clone(self), left: AtomicUsize::new(OWN_BYTES) })
    }
}

impl Part {
    /// Holds this many bytes, first from its own part, then from the shared pool; `None` when there
    /// is no room. One thread serves the connection, so nothing else takes from its own part
    /// meanwhile.
    pub(super) fn hold(self: &Arc<Self>, bytes: usize) -> Option<Held> {
        let own = bytes.min(self.left.load(Ordering::Relaxed));
        let shared = bytes - own;
        if shared > 0 {
            let taken = |left: usize| left.checked_sub(shared);
            self.room.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).ok()?;
        }
        self.left.fetch_sub(own, Ordering::Relaxed);
        Some(Held { part: Arc::clone(self), own, shared })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.part.left.fetch_add(self.own, Ordering::Relaxed);
        if self.shared > 0 {
            self.part.room.left.fetch_add(self.shared, Ordering::Relaxed);
        }
    }
}

/// The part that no other connection can use: twenty requests with heads of the usual size.
const OWN_BYTES: usize = 512 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_takes_of_its_own_and_then_of_what_all_share() {
        let room = Room::new(100);
        let (greedy, modest) = (room.part(), room.part());
        let own = greedy.hold(OWN_BYTES - 10).unwrap();
        let both = greedy.hold(60).unwrap();
        assert_eq!((both.own, both.shared), (10, 50));
        assert!(greedy.hold(51).is_none());
        let rest = greedy.hold(50).unwrap();
        assert!(greedy.hold(1).is_none());
        assert!(modest.hold(OWN_BYTES).is_some_and(|held| held.shared == 0), "nobody else can take it");
        assert!(modest.hold(OWN_BYTES + 1).is_none());
        drop(both);
        assert!(modest.hold(OWN_BYTES + 50).is_some());
        drop((own, rest));
        let left = |left: &AtomicUsize| left.load(Ordering::Relaxed);
        assert_eq!([left(&greedy.left), left(&modest.left), left(&room.left)], [OWN_BYTES, OWN_BYTES, 100]);
    }
}
