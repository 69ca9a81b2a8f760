//! A listener that is served on threads of its own.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::{Config, Drained, Handler, serve, workers};
use crate::metrics::Metrics;

/// The running workers. Dropped, they cut what is in progress and end.
#[derive(Debug)]
pub struct Service {
    drain: oneshot::Sender<()>,
    cut: oneshot::Sender<()>,
    ended: oneshot::Receiver<Drained>,
}

impl Service {
    /// Starts to serve `listener`. When it returns, its clients are accepted.
    ///
    /// # Errors
    /// When there is no thread, or no file for its runtime.
    pub fn start<H: Handler>(
        listener: std::net::TcpListener,
        config: Config,
        handler: H,
        metrics: Metrics,
    ) -> io::Result<Self> {
        let runtime = workers::runtime()?;
        let listener = {
            let _runtime = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let (drain, told_to_drain) = oneshot::channel::<()>();
        let (cut, told_to_cut) = oneshot::channel::<()>();
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new().name("threadtap-proxy".to_owned()).spawn(move || {
            // That nobody is left to tell is a wish to end, too.
            let drain = async { _ = told_to_drain.await };
            let cut = async { _ = told_to_cut.await };
            let drained = runtime.block_on(serve(listener, config, handler, &metrics, drain, cut));
            // A name that is being resolved is not waited for long.
            runtime.shutdown_timeout(RESOLVING_GRACE);
            // Nobody waits any more when this fails.
            _ = end.send(drained);
        })?;
        Ok(Self { drain, cut, ended })
    }

    /// Accepts nobody any more, lets exchanges and tunnels in progress end until `grace` completes, and cuts the rest. Then nothing
    /// of the handler is left. None when it panicked.
    pub async fn shutdown(self, grace: impl Future<Output = ()>) -> Option<Drained> {
        let Self { drain, cut, mut ended } = self;
        drop(drain);
        tokio::select! {
            drained = &mut ended => return drained.ok(),
            () = grace => drop(cut),
        }
        ended.await.ok()
    }
}

const RESOLVING_GRACE: Duration = Duration::from_secs(1);
