//! Further threads that serve the connections of a listener.

use std::io;
use std::num::NonZero;
use std::thread;

use socket2::SockRef;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{oneshot, watch};

use super::link::Phase;
use super::{Drained, Handler, Listening};

/// So many workers as were asked for; by default one for each core.
pub(super) fn count(wished: Option<usize>) -> usize {
    wished.unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZero::get))
}

/// A runtime for a thread that serves connections.
pub(super) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().event_interval(EVENT_INTERVAL).build()
}

/// Threads that serve connections beside the one that started them. Each has a runtime of its own, takes connections from the
/// listener itself, and serves them to their end: no connection changes its thread, and no two threads share a lock on the way.
pub(super) struct Workers {
    running: Vec<oneshot::Receiver<Drained>>,
}

impl Workers {
    /// Starts `count` of them, which do as they are `told`. Those that cannot be started are done without: the others take their connections.
    pub(super) fn start<H: Handler>(
        count: usize,
        listener: &TcpListener,
        listening: &Listening<H>,
        told: &watch::Receiver<Phase>,
    ) -> Self {
        let started = (0..count).map_while(|_| {
            let worker = start(listener, listening.for_worker(), told.clone());
            worker
                .inspect_err(
                    |error| tracing::error!(%error, "cannot start a worker; continuing with one less"),
                )
                .ok()
        });
        Self { running: started.collect() }
    }

    /// Waits until all have drained.
    pub(super) async fn drained(self) -> Drained {
        let mut drained = Drained::Complete;
        for worker in self.running {
            // A worker that panicked has cut its connections.
            drained = drained.and(worker.await.unwrap_or(Drained::Cut));
        }
        drained
    }
}

fn start<H: Handler>(
    listener: &TcpListener,
    listening: Listening<H>,
    told: watch::Receiver<Phase>,
) -> io::Result<oneshot::Receiver<Drained>> {
    let socket = std::net::TcpListener::from(SockRef::from(listener).try_clone()?);
    let runtime = runtime()?;
    let (done, drained) = oneshot::channel();
    let work = async move {
        let listener = TcpListener::from_std(socket)?;
        io::Result::Ok(listening.serve(listener, told).await)
    };
    thread::Builder::new().name("threadtap-proxy".to_owned()).spawn(move || {
        match runtime.block_on(work) {
            // Nobody waits any more when this fails.
            Ok(drained) => _ = done.send(drained),
            Err(error) => tracing::error!(%error, "a worker cannot listen; continuing with one less"),
        }
        // A name that is being resolved is not waited for.
        runtime.shutdown_background();
    })?;
    Ok(drained)
}

/// After how many turns of connections the sockets are asked what is new. Each turn may send a quarter of a megabyte, so that by
/// tokio's own number, 61, a small request would wait for 15 MB of others.
const EVENT_INTERVAL: u32 = 8;
