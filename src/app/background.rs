//! A thread with a runtime for the work that must not delay the proxy: delivery, the admin listener
//! and intake.

use std::future::Future;
use std::io;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, EnterGuard, Handle};
use tokio::sync::oneshot;

/// The thread. If this is dropped, the thread ends, together with all tasks on it.
#[derive(Debug)]
pub(super) struct Background {
    runtime: Handle,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Background {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the thread cannot be started, or its runtime cannot open a file.
    pub(super) fn start() -> io::Result<Self> {
        let driver = Builder::new_current_thread().enable_all().build()?;
        let runtime = driver.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread =
            std::thread::Builder::new().name("threadtap-background".to_owned()).spawn(move || {
                // An error means that the sender was dropped, which also stops the thread.
                driver.block_on(stopped).ok();
                driver.shutdown_background();
            })?;
        Ok(Self { runtime, stop, thread })
    }

    /// While the guard is held, tasks are spawned on this thread.
    pub(super) fn enter(&self) -> EnterGuard<'_> {
        self.runtime.enter()
    }

    /// Runs a future to completion. Blocks the calling thread.
    pub(super) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Ends the thread.
    pub(super) fn shutdown(self) {
        let Self { stop, thread, .. } = self;
        drop(stop);
        if thread.join().is_err() {
            tracing::error!("the thread in the background panicked");
        }
    }
}
