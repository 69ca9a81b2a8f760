//! Hurries the stop of an app.

use std::time::Duration;

use tokio::sync::watch;

/// Hurries an [`App`](super::App) that is being stopped.
#[derive(Clone, Debug)]
pub struct Stopper(watch::Sender<bool>);

impl Stopper {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Makes the app write what was captured, and skip everything else.
    pub fn hurry(&self) {
        self.0.send_replace(true);
    }

    /// Whether the stop was hurried.
    #[must_use]
    pub fn hurried(&self) -> bool {
        *self.0.borrow()
    }

    /// Completes when the stop is hurried.
    pub(super) async fn told(&self) {
        // `self` holds a sender, so the channel is open.
        self.0.subscribe().wait_for(|hurried| *hurried).await.ok();
    }

    /// Completes after a pause, or earlier if the stop is hurried.
    pub(super) async fn pause(&self, pause: Duration) {
        tokio::time::timeout(pause, self.told()).await.ok();
    }
}
