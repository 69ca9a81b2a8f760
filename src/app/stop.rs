//! Being hurried while stopping.

use std::time::Duration;

use tokio::sync::watch;

/// Hurries an [`App`](super::App) that is being stopped.
#[derive(Clone, Debug)]
pub struct Stopper(watch::Sender<bool>);

impl Stopper {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Has it write what was captured, and do nothing else any more.
    pub fn hurry(&self) {
        self.0.send_replace(true);
    }

    /// Whether it was hurried.
    #[must_use]
    pub fn hurried(&self) -> bool {
        *self.0.borrow()
    }

    /// Completes when it is.
    pub(super) async fn told(&self) {
        // It holds a sender itself, so the channel is open.
        self.0.subscribe().wait_for(|hurried| *hurried).await.ok();
    }

    /// Completes after a pause, or when it is hurried.
    pub(super) async fn pause(&self, pause: Duration) {
        tokio::time::timeout(pause, self.told()).await.ok();
    }
}
