//! Streams a response. Also drives it if the stream or time is its driver.

use std::sync::Arc;

use super::play::Advanced;
use crate::random::Random;
use crate::script::Pace;
use crate::server::Server;
use crate::stream::{Event, Wire, pause};

/// Streams a response, starting at its event `from`, until it is over. Drives the response if
/// `drives` is set. Without a wire there is no client, and nothing is sent.
pub(crate) async fn follow(server: Arc<Server>, id: String, from: usize, drives: bool, wire: Option<Wire>) {
    let mut random = server.split_random();
    let (mut wire, mut next, mut drives) = (wire, from, drives);
    loop {
        let changed = server.changed.notified();
        tokio::pin!(changed);
        // No change after this point is missed.
        changed.as_mut().enable();
        let events = server.responses().events(&id, next);
        next = next.saturating_add(events.len());
        let broken = events.iter().any(Event::is_error);
        if let Some(open) = &mut wire
            && !tell(open, &events).await
        {
            return leave(&server, &id, drives);
        }
        if broken && let Some(wire) = wire.take() {
            wire.finish(false).await;
            if !drives {
                return;
            }
        }
        // The previous driver may have left.
        drives = drives || server.responses().take_over(&id);
        let advanced = match drives {
            true => step(&server, &id, &mut random).await,
            false => server.responses().rests(&id),
        };
        match advanced {
            // Events logged in the meantime must still be sent.
            Advanced::Over if server.responses().events(&id, next).is_empty() => break,
            Advanced::Act { .. } | Advanced::Over => {}
            Advanced::Stalled => match &wire {
                None => changed.await,
                // Both futures can be dropped at any time.
                Some(open) => tokio::select! {
                    () = changed => {}
                    () = open.closed() => return leave(&server, &id, drives),
                },
            },
        }
    }
    if let Some(wire) = wire {
        wire.finish(true).await;
    }
}

/// Continues without a client that has disconnected.
fn leave(server: &Arc<Server>, id: &str, drives: bool) {
    if drives && server.responses().abandon(id, server.now_secs()) {
        server.release_response(id);
    }
    server.changed.notify_waiters();
}

/// Sends events to the client. Returns false if the client has disconnected.
async fn tell(wire: &mut Wire, events: &[Event]) -> bool {
    for event in events {
        if wire.tell(event).await.is_err() {
            return false;
        }
    }
    true
}

async fn step(server: &Server, id: &str, random: &mut Random) -> Advanced {
    let advanced = server.responses().advance(id, server.now_secs());
    // Notifying after a stall would wake this same task again, in an endless loop.
    if matches!(advanced, Advanced::Act { .. }) {
        server.changed.notify_waiters();
    }
    if advanced == (Advanced::Act { took_time: true }) && server.script.pace != Pace::None {
        pause(server.script.pace, random).await;
    }
    advanced
}
