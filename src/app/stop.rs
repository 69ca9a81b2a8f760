//! Telling a process to stop, and to hurry.

use tokio::sync::watch;

/// How far a process is told to stop; more cannot be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stop {
    Not,
    Draining,
    Hurried,
}

/// Hurries an [`App`](super::App) that is being stopped.
#[derive(Clone, Debug)]
pub struct Stopper(watch::Sender<Stop>);

impl Stopper {
    pub(super) fn new(stop: watch::Sender<Stop>) -> Self {
        Self(stop)
    }

    /// Has it write what was captured, and do nothing else any more.
    pub fn hurry(&self) {
        self.0.send_replace(Stop::Hurried);
    }

    /// Whether it was hurried.
    #[must_use]
    pub fn hurried(&self) -> bool {
        *self.0.borrow() == Stop::Hurried
    }
}

/// Completes when the process is told to stop as far as this. That nobody is left to tell is a wish to stop too.
pub(super) async fn told(mut stopped: watch::Receiver<Stop>, how: Stop) {
    stopped.wait_for(|stop| *stop >= how).await.ok();
}
