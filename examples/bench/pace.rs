//! A timer with the precision of microseconds: tokio's own has that of a millisecond.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Wakes tasks on time; cloning shares it. While something is due soon its task spins, giving way to all others each time.
#[derive(Clone, Default)]
pub(crate) struct Pacer(Arc<Inner>);

#[derive(Default)]
struct Inner {
    due: Mutex<BinaryHeap<Reverse<Due>>>,
    pushed: Notify,
}

impl Pacer {
    /// Starts one on this runtime.
    pub(crate) fn start() -> Self {
        let pacer = Self::default();
        tokio::spawn(pacer.clone().run());
        pacer
    }

    /// Waits until `at`. Returns at once when that is over.
    pub(crate) async fn until(&self, at: Instant) {
        let mut asked = false;
        poll_fn(|cx| {
            if Instant::now() >= at {
                return Poll::Ready(());
            }
            // The only waker there is is our own, so one request is enough.
            if !asked {
                asked = true;
                let mut due = self.0.due.lock().unwrap_or_else(PoisonError::into_inner);
                due.push(Reverse(Due { at, waker: cx.waker().clone() }));
                self.0.pushed.notify_one();
            }
            Poll::Pending
        })
        .await;
    }

    async fn run(self) {
        loop {
            let next = self.wake(Instant::now());
            match next {
                None => self.0.pushed.notified().await,
                Some(next) if next > Instant::now() + SPIN => tokio::time::sleep(COARSE).await,
                Some(_) => tokio::task::yield_now().await,
            }
        }
    }

    /// Wakes what is due, and tells when the next will be.
    fn wake(&self, now: Instant) -> Option<Instant> {
        let mut due = self.0.due.lock().unwrap_or_else(PoisonError::into_inner);
        while due.peek().is_some_and(|Reverse(next)| next.at <= now) {
            if let Some(Reverse(next)) = due.pop() {
                next.waker.wake();
            }
        }
        due.peek().map(|Reverse(next)| next.at)
    }
}

struct Due {
    at: Instant,
    waker: Waker,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

const SPIN: Duration = Duration::from_millis(3);
const COARSE: Duration = Duration::from_millis(1);
