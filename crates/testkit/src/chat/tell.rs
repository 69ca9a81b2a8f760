//! Streams a completion.

use std::sync::Arc;

use crate::server::Server;
use crate::stream::{Event, Wire, pause};

/// Sends the chunks one by one, at the script's pace. Without a wire there is no client, and
/// nothing is sent.
pub(crate) async fn tell(
    server: Arc<Server>,
    completion: usize,
    chunks: Vec<Event>,
    stalls: bool,
    wire: Option<Wire>,
) {
    let Some(mut wire) = wire else { return };
    let mut random = server.split_random();
    let mut broken = false;
    for chunk in &chunks {
        if wire.tell(chunk).await.is_err() {
            server.chat().abandon(completion);
            return;
        }
        broken = chunk.data["error"].is_object();
        pause(server.script.pace, &mut random).await;
    }
    if stalls {
        wire.closed().await;
        server.chat().abandon(completion);
        return;
    }
    wire.finish(!broken).await;
}
