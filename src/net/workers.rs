//! Additional threads that serve the connections of a listener.

use std::io;
use std::num::NonZero;
use std::thread;

use socket2::SockRef;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{oneshot, watch};

use super::link::Phase;
use super::{Drained, Handler, Listening};

/// The number of workers that was asked for; by default one per core.
pub(super) fn count(wished: Option<usize>) -> usize {
    wished.unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZero::get))
}

/// A runtime for a thread that serves connections.
pub(super) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Threads that serve connections in addition to the one that started them. Each has its own
/// runtime, accepts connections from the listener itself, and serves them until they end. No
/// connection moves to another thread, and no two threads share a lock on the way.
pub(super) struct Workers {
    running: Vec<oneshot::Receiver<Drained>>,
}

impl Workers {
    /// Starts `count` workers, which follow the phase in `told`. If a worker cannot be started, the
    /// others take its connections.
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
            // A worker that panicked has cut off its connections.
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
            // If this fails, nobody is waiting any more.
            Ok(drained) => _ = done.send(drained),
            Err(error) => tracing::error!(%error, "a worker cannot listen; continuing with one less"),
        }
        // Does not wait for a name that is still being resolved.
        runtime.shutdown_background();
    })?;
    Ok(drained)
}
