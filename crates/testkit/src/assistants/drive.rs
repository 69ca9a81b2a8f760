//! Plays runs over time and streams their events.

use std::sync::Arc;

use super::play::Played;
use crate::script::Progress;
use crate::server::Server;
use crate::stream::{Event, Wire, pause};

/// Plays a run until it is over or waits. The run continues if the client of its stream
/// disconnects.
pub(crate) async fn play(server: Arc<Server>, run: String, first: Vec<Event>, wire: Option<Wire>) {
    let mut random = server.split_random();
    let mut wire = wire;
    tell(&mut wire, &first).await;
    loop {
        let changed = server.changed.notified();
        tokio::pin!(changed);
        // No change after this point is missed.
        changed.as_mut().enable();
        let played = server.assistants().advance(&run, server.now_secs());
        match played {
            Played::Act { events, took_time } => {
                tell(&mut wire, &events).await;
                if events.iter().any(Event::is_error) {
                    if let Some(wire) = wire.take() {
                        wire.finish(false).await;
                    }
                    if server.script.progress != Progress::Time {
                        server.assistants().stop_driving(&run);
                        return;
                    }
                }
                if took_time {
                    pause(server.script.pace, &mut random).await;
                }
            }
            Played::Over => break,
            Played::Stalled => changed.await,
        }
    }
    if let Some(wire) = wire {
        wire.finish(true).await;
    }
}

/// Sends events to the client, if it is still connected.
async fn tell(wire: &mut Option<Wire>, events: &[Event]) {
    let Some(open) = wire else { return };
    for event in events {
        if open.tell(event).await.is_err() {
            *wire = None;
            return;
        }
    }
}
