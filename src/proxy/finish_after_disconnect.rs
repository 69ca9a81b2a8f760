//! Reads responses to their end after their client has disconnected, so that the record is
//! complete.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use tokio::sync::Semaphore;

use super::upstream_body::UpstreamBody;
use crate::capture::ResponseTee;
use crate::net::Link;

/// How long such responses are read, and how many at one time.
#[derive(Clone, Debug)]
pub(super) struct FinishAfterDisconnect {
    time: Duration,
    places: Arc<Semaphore>,
}

/// The same, for one response.
#[derive(Debug)]
pub(super) struct Reader {
    finish_after_disconnect: FinishAfterDisconnect,
    link: Arc<Link>,
}

impl FinishAfterDisconnect {
    /// Reads on for `time`. Returns `None` if that is zero.
    pub(super) fn new(time: Duration) -> Option<Self> {
        (!time.is_zero()).then(|| Self { time, places: Arc::new(Semaphore::new(MAX_ANSWERS)) })
    }

    /// For a response that goes to the client of `link`.
    pub(super) fn reader(&self, link: &Arc<Link>) -> Reader {
        Reader { finish_after_disconnect: self.clone(), link: Arc::clone(link) }
    }
}

impl Reader {
    /// Takes over a response whose client has disconnected. A response that is not copied, or for
    /// which there is no place, ends here, which cancels it upstream. The same happens if it does
    /// not end in time, or when the grace period of a drain is over.
    pub(super) fn take(self, mut body: ResponseTee<UpstreamBody>) {
        let Self { finish_after_disconnect: FinishAfterDisconnect { time, places }, link } = self;
        if !body.is_tapped() || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let Ok(place) = places.try_acquire_owned() else { return };
        link.spawn(async move {
            let _place = place;
            // When the time is over the body is dropped, which tells capture that the client has
            // disconnected.
            let _ = tokio::time::timeout(time, async { while let Some(Ok(_)) = body.frame().await {} }).await;
        });
    }
}

/// Each one keeps a connection to upstream open.
const MAX_ANSWERS: usize = 1024;
