//! A listener that is served on its own threads.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::{Config, Drained, Handler, serve, workers};
use crate::metrics::Metrics;

/// The running workers. Dropping this cuts off what is in progress and ends the workers.
#[derive(Debug)]
pub struct Service {
    drain: oneshot::Sender<()>,
    cut: oneshot::Sender<()>,
    ended: oneshot::Receiver<Drained>,
}

impl Service {
    /// Starts to serve `listener`. Once this returns, clients are being accepted.
    ///
    /// # Errors
    /// If a thread cannot be started, or no file can be opened for its runtime.
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
            // A dropped sender also means that serving should end.
            let drain = async { _ = told_to_drain.await };
            let cut = async { _ = told_to_cut.await };
            let drained = runtime.block_on(serve(listener, config, handler, &metrics, drain, cut));
            // Does not wait long for a name that is still being resolved.
            runtime.shutdown_timeout(RESOLVING_GRACE);
            // If this fails, nobody is waiting any more.
            _ = end.send(drained);
        })?;
        Ok(Self { drain, cut, ended })
    }

    /// Stops accepting clients, lets exchanges and tunnels in progress finish until `grace`
    /// completes, and cuts off the rest. After that the handler is dropped. Returns `None` if it
    /// panicked.
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
