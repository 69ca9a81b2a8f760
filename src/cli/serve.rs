//! `threadtap`: forwards until it is told to stop.

use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, start_logs};
use crate::app::App;
use crate::config::{Config, Flags, ProcessEnvironment};

pub(super) fn run(flags: &Flags) -> Result<(), Failure> {
    let config = Config::load(flags, &ProcessEnvironment).map_err(Failure::unusable)?;
    start_logs(&config.log)?;
    let app = App::start(config).map_err(Failure::unusable)?;
    wait_for_signal().map_err(anyhow::Error::from)?;
    app.stop()?;
    Ok(())
}

/// Waits for SIGTERM or SIGINT. A second one ends the process at once: what was written stays, and goes on at the next start.
fn wait_for_signal() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
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
        std::io::Result::Ok(())
    })?;
    std::thread::Builder::new().name("threadtap-signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            let (Ok(mut terminate), Ok(mut interrupt)) =
                (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
            else {
                return;
            };
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
