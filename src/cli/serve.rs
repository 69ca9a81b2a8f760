//! `threadtap`: forwards until it is told to stop.

use std::io;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Failure, start_logs};
use crate::app::App;
use crate::config::{Config, Flags, ProcessEnvironment};

pub(super) fn run(flags: &Flags) -> Result<(), Failure> {
    let config = Config::load(flags, &ProcessEnvironment).map_err(Failure::unusable)?;
    start_logs(&config.log)?;
    // Before it starts: a signal that comes as soon as it forwards must drain it, not kill it.
    let signals = Signals::listen().map_err(anyhow::Error::from)?;
    let app = App::start(config).map_err(Failure::unusable)?;
    signals.wait().map_err(anyhow::Error::from)?;
    app.stop()?;
    Ok(())
}

/// The signals that concern a running threadtap.
struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (terminate, interrupt, hang_up) = {
            let _entered = runtime.enter();
            (
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
                signal(SignalKind::hangup())?,
            )
        };
        Ok(Self { runtime, terminate, interrupt, hang_up })
    }

    /// Waits for SIGTERM or SIGINT. A second one ends the process at once: what was written stays, and goes on at the next
    /// start.
    fn wait(self) -> io::Result<()> {
        let Self { runtime, mut terminate, mut interrupt, mut hang_up } = self;
        runtime.block_on(async {
            loop {
                // Cancel safe: a signal that is not received here is received in the next round.
                tokio::select! {
                    _ = terminate.recv() => break,
                    _ = interrupt.recv() => break,
                    _ = hang_up.recv() => {
                        tracing::warn!("SIGHUP does not change the settings of a running threadtap yet: restart it");
                    }
                }
            }
        });
        std::thread::Builder::new().name("threadtap-signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                tracing::warn!("told to stop twice: stopping at once");
                std::process::exit(130);
            });
        })?;
        Ok(())
    }
}
