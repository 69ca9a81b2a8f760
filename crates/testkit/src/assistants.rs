//! A fake Assistants API (v2), whole and stateful: threads, messages, runs, steps and assistants, streamed and polled.
//!
//! Its server speaks [Responses](super::responses) and [Chat Completions](super::chat) as well. It speaks HTTP/1.1 and h2c on a free loopback port, wants no credentials, and keeps everything in memory for as long as
//! it lives. What a run does is its assistant's [`Behaviour`]; how the server behaves is the [`Script`]; what really
//! happened is its [`snapshot`](Assistants::snapshot). Times never make a run expire: only its behaviour or the test does.
//! [`Simulation`] is the same server as a value: no sockets, no tasks, and the time is an argument.

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

/// A running fake server of all APIs; dropping it ends every connection and run.
pub struct Assistants {
    server: Arc<Server>,
    listener: Listener,
}

impl Assistants {
    /// Starts a server on a free loopback port.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start(script: Script) -> io::Result<Self> {
        let keep_input = script.keep_requests;
        let server = Arc::new(Server::new(script));
        let listener = Listener::start(Arc::clone(&server), keep_input).await?;
        Ok(Self { server, listener })
    }

    /// Gives every later answer another shape.
    pub fn reshape(&self, wire: WireShape) {
        *self.server.wire.lock().expect("no holder panics") = wire;
    }

    /// Lets this go wrong with the requests that come next, one each, in the order their bodies are read.
    pub fn spoil(&self, mishaps: impl IntoIterator<Item = Mishap>) {
        self.server.mishaps.lock().expect("no holder panics").extend(mishaps);
    }

    /// Lets a run do one act; false when it rests. Meant for [`Progress::Manual`].
    pub fn advance(&self, run: &str) -> bool {
        matches!(self.server.assistants().advance(run, self.server.now_secs()), Played::Act { .. })
    }

    /// Lets a run's time be over: it expires with its next poll or act, unless it is terminal.
    pub fn expire(&self, run: &str) {
        self.server.assistants().expire_run(run);
        self.server.release(run);
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.listener.addr()
    }

    /// What an SDK takes for its base URL when it talks to this server directly.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.addr())
    }

    /// Every run there ever was, oldest first, as it is now: what the records should say.
    #[must_use]
    pub fn snapshot(&self) -> Vec<ExpectedRun> {
        self.server.assistants().snapshot()
    }

    /// Every response there ever was, oldest first, as it is now: what the records should say.
    #[must_use]
    pub fn responses(&self) -> Vec<ExpectedResponse> {
        self.server.responses().snapshot()
    }

    /// Every chat completion there ever was, oldest first: what the records should say.
    #[must_use]
    pub fn completions(&self) -> Vec<ExpectedCompletion> {
        self.server.chat().snapshot()
    }

    /// Lets a response in the background do one act; false when it rests. Meant for [`Progress::Manual`].
    pub fn advance_response(&self, response: &str) -> bool {
        let acted = self.server.responses().advance(response, self.server.now_secs());
        self.server.changed.notify_waiters();
        acted != super::responses::Advanced::Over
    }

    /// How many requests have arrived.
    #[must_use]
    pub fn request_count(&self) -> u64 {
        self.server.request_count.load(Ordering::Relaxed)
    }

    /// The requests so far, oldest first; none unless the script keeps them.
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.server.requests.lock().expect("no holder panics").clone()
    }

    /// Every byte received so far, one string per connection, oldest first; none unless the script keeps them.
    #[must_use]
    pub fn raw_input(&self) -> Vec<Vec<u8>> {
        self.listener.input()
    }
}

#[cfg(test)]
impl Assistants {
    /// What all connections share.
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
