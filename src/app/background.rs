//! A thread with a runtime for all that must not be in the way of the proxy: delivery, the admin listener, intake.

use std::future::Future;
use std::io;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, EnterGuard, Handle};
use tokio::sync::oneshot;

/// The thread. Dropped, it ends with whatever runs on it.
#[derive(Debug)]
pub(super) struct Background {
    runtime: Handle,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Background {
    /// Starts it.
    ///
    /// # Errors
    /// When there is no thread, or no file for its runtime.
    pub(super) fn start() -> io::Result<Self> {
        let driver = Builder::new_current_thread().enable_all().build()?;
        let runtime = driver.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread =
            std::thread::Builder::new().name("threadtap-background".to_owned()).spawn(move || {
                // An error says that nobody is left to stop it.
                driver.block_on(stopped).ok();
                driver.shutdown_background();
            })?;
        Ok(Self { runtime, stop, thread })
    }

    /// Within it tasks are spawned on this thread.
    pub(super) fn enter(&self) -> EnterGuard<'_> {
        self.runtime.enter()
    }

    /// Waits for something, blocking the thread.
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
