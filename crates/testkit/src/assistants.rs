//! A complete, stateful fake Assistants API (v2): threads, messages, runs, steps and assistants,
//! streamed and polled.
//!
//! The same server also serves [Responses](super::responses) and [Chat Completions](super::chat).
//! It speaks HTTP/1.1 and h2c on a free loopback port, requires no credentials, and keeps
//! everything in memory until it is dropped. The assistant's [`Behaviour`] determines what a run
//! does, and the [`Script`] how the server behaves. The [`snapshot`](Assistants::snapshot) shows
//! what really happened. Runs never expire by the clock: only their behaviour or the test makes
//! them expire. [`Simulation`] is the same server as a value: it has no sockets and no tasks, and
//! takes the time as an argument.

mod behaviour;
mod drive;
mod expected;
mod objects;
mod play;
mod routes;
mod runs;
mod simulation;
mod state;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub use self::behaviour::{Behaviour, Finish};
pub(super) use self::drive::play;
pub use self::expected::{ExpectedCall, ExpectedMessage, ExpectedRun, Usage};
use self::play::Played;
pub(super) use self::routes::route;
pub use self::simulation::{Answered, EventStream, Payload, Piece, Simulation};
pub(super) use self::state::State;
use super::chat::ExpectedCompletion;
use super::listener::Listener;
use super::responses::ExpectedResponse;
pub use super::script::{
    ChatShape, Cut, CutKind, Framing, LineEnd, Mishap, Pace, Progress, Script, Split, StreamedUsage, Tail,
    UsageTiming, WireShape,
};
pub use super::server::RecordedRequest;
use super::server::Server;

/// A running fake server of all APIs. Dropping it ends every connection and run.
pub struct Assistants {
    server: Arc<Server>,
    listener: Listener,
}

impl Assistants {
    /// Starts a server on a free loopback port.
    ///
    /// # Errors
    ///
    /// If no port can be bound.
    pub async fn start(script: Script) -> io::Result<Self> {
        let keep_input = script.keep_requests;
        let server = Arc::new(Server::new(script));
        let listener = Listener::start(Arc::clone(&server), keep_input).await?;
        Ok(Self { server, listener })
    }

    /// Changes the wire format of all later responses.
    pub fn reshape(&self, wire: WireShape) {
        *self.server.wire.lock().expect("no holder panics") = wire;
    }

    /// Makes the next requests go wrong. Each mishap applies to one request, in the order their
    /// bodies are read.
    pub fn spoil(&self, mishaps: impl IntoIterator<Item = Mishap>) {
        self.server.mishaps.lock().expect("no holder panics").extend(mishaps);
    }

    /// Makes a run do one act. Returns false if the run has nothing to do. Meant for
    /// [`Progress::Manual`].
    pub fn advance(&self, run: &str) -> bool {
        matches!(self.server.assistants().advance(run, self.server.now_secs()), Played::Act { .. })
    }

    /// Makes a run expire with its next poll or act, unless it is terminal.
    pub fn expire(&self, run: &str) {
        self.server.assistants().expire_run(run);
        self.server.release(run);
    }

    /// The address the server listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.listener.addr()
    }

    /// The base URL to give to an SDK that talks to this server directly.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.addr())
    }

    /// The current state of every run, including finished ones, oldest first. This is what the
    /// records should contain.
    #[must_use]
    pub fn snapshot(&self) -> Vec<ExpectedRun> {
        self.server.assistants().snapshot()
    }

    /// The current state of every response, including finished ones, oldest first. This is what the
    /// records should contain.
    #[must_use]
    pub fn responses(&self) -> Vec<ExpectedResponse> {
        self.server.responses().snapshot()
    }

    /// Every chat completion, oldest first. This is what the records should contain.
    #[must_use]
    pub fn completions(&self) -> Vec<ExpectedCompletion> {
        self.server.chat().snapshot()
    }

    /// Makes a background response do one act. Returns false if the response has nothing to do.
    /// Meant for [`Progress::Manual`].
    pub fn advance_response(&self, response: &str) -> bool {
        let acted = self.server.responses().advance(response, self.server.now_secs());
        self.server.changed.notify_waiters();
        acted != super::responses::Advanced::Over
    }

    /// The number of requests received.
    #[must_use]
    pub fn request_count(&self) -> u64 {
        self.server.request_count.load(Ordering::Relaxed)
    }

    /// The requests received so far, oldest first. Empty unless the script keeps them.
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.server.requests.lock().expect("no holder panics").clone()
    }

    /// All bytes received so far, one string per connection, oldest first. Empty unless the script
    /// keeps them.
    #[must_use]
    pub fn raw_input(&self) -> Vec<Vec<u8>> {
        self.listener.input()
    }
}

#[cfg(test)]
impl Assistants {
    /// The state shared by all connections.
    pub(super) fn server(&self) -> &Server {
        &self.server
    }
}

impl Drop for Assistants {
    fn drop(&mut self) {
        self.server.stop();
    }
}

impl fmt::Debug for Assistants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Assistants({})", self.addr())
    }
}

#[cfg(test)]
mod tests;
