//! Takes clients from a listener, one for each place.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::places::{Place, Places, Standing, Waiting};

/// Accepts clients. One client is accepted before it has a place, to know that room must be made
/// for it. Further clients wait in the listener's backlog.
pub(crate) struct Acceptor {
    listener: TcpListener,
    places: Places,
    backoff: Duration,
}

/// A client that has a place. It counts as waiting for its first request from the start, even
/// before a task serves it.
pub(crate) struct Arrival {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) place: Place,
    pub(crate) waiting: Waiting,
}

impl Acceptor {
    pub(crate) fn new(listener: TcpListener, places: Places) -> Self {
        Self { listener, places, backoff: MIN_BACKOFF }
    }

    /// Returns the next client, once it has a place. An error of the listener, such as too many
    /// open files, is logged, and accepting is tried again after a pause.
    ///
    /// # Cancel safety
    /// If the future is dropped, a client that was accepted and has no place yet is disconnected.
    pub(crate) async fn next(&mut self) -> Arrival {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    self.backoff = MIN_BACKOFF;
                    let place = self.places.take().await;
                    let waiting = place.wait(Standing::New);
                    return Arrival { stream, peer, place, waiting };
                }
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    tracing::error!(%error, retry_ms = self.backoff.as_millis(), "cannot accept connections");
                    tokio::time::sleep(self.backoff).await;
                    self.backoff = (self.backoff * 2).min(MAX_BACKOFF);
                }
            }
        }
    }
}

/// Whether an error of `accept` says nothing about the next call, see accept(2).
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::Interrupted
    )
}

const MIN_BACKOFF: Duration = Duration::from_millis(5);
const MAX_BACKOFF: Duration = Duration::from_secs(1);
