//! The admin listener as a task.

use std::io;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Ports, serve};

/// The running listener.
#[derive(Debug)]
pub struct Service {
    close: oneshot::Sender<()>,
    task: JoinHandle<io::Result<()>>,
}

impl Service {
    /// Starts it on the current runtime.
    ///
    /// # Errors
    /// When the listener cannot be used.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(listener: std::net::TcpListener, ports: Ports) -> io::Result<Self> {
        let listener = TcpListener::from_std(listener)?;
        let (close, closed) = oneshot::channel::<()>();
        let task = tokio::spawn(serve(listener, ports, async { _ = closed.await }));
        Ok(Self { close, task })
    }

    /// Accepts no more connections, and waits up to a second until started responses are sent. A
    /// client that keeps its connection open must not keep the process alive.
    pub async fn shutdown(self) {
        let Self { close, mut task } = self;
        drop(close);
        match tokio::time::timeout(GRACE, &mut task).await {
            Ok(Ok(Ok(()))) => {}
            Ok(failed) => tracing::error!(?failed, "the admin listener failed"),
            Err(_) => task.abort(),
        }
    }
}

const GRACE: Duration = Duration::from_secs(1);
