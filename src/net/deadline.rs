//! A time limit that restarts for each message of a connection.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// A time limit that can be moved. Moving it does not touch the timer: the timer is reset only when
/// it fires too early.
#[derive(Debug)]
pub(super) struct Deadline {
    at: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Deadline {
    pub(super) fn after(time: Duration) -> Self {
        let at = later(time);
        Self { at, timer: Box::pin(sleep_until(at)) }
    }

    /// Restarts the time limit. It may only become later.
    pub(super) fn restart(&mut self, time: Duration) {
        self.at = later(time);
    }

    /// Waits until the time is over.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if self.timer.deadline() >= self.at {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(self.at);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "it is for how long a client takes")]
fn later(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or_else(|| now + FAR)
}

/// So long that nobody waits for it to end.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
