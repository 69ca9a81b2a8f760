//! `threadtap`: forwards until it is told to stop.

use std::io;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Failure, SetLevel, start_logs};
use crate::app::App;
use crate::config::{Config, Flags, ProcessEnvironment};

pub(super) fn run(flags: &Flags) -> Result<(), Failure> {
    let config = Config::load(flags, &ProcessEnvironment).map_err(Failure::unusable)?;
    let set_level = start_logs(&config.log)?;
    let runtime = Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from)?;
    // Before anything can be in use: a signal that comes early must not find its default action, which is to kill.
    let mut signals = {
        let _guard = runtime.enter();
        Signals::new().map_err(anyhow::Error::from)?
    };
    let app = App::start(config).map_err(Failure::unusable)?;
    while let Wish::Reload = runtime.block_on(signals.wish()) {
        reload(flags, &app, &set_level);
    }
    stop_at_once_if_asked_twice(runtime, signals).map_err(anyhow::Error::from)?;
    start_logs(&config.log)?;
    // Before it starts: a signal that comes as soon as it forwards must drain it, not kill it.
    let signals = Signals::listen().map_err(anyhow::Error::from)?;
    let app = App::start(config).map_err(Failure::unusable)?;
    signals.wait().map_err(anyhow::Error::from)?;
    app.stop()?;
    Ok(())
}

/// Reads the settings again. One that cannot be used changes nothing.
fn reload(flags: &Flags, app: &App, set_level: &SetLevel) {
    let config = match Config::load(flags, &ProcessEnvironment) {
        Ok(config) => config,
        Err(error) => return tracing::error!(%error, "the settings cannot be used; nothing was changed"),
    };
    if let Err(failure) = set_level(&config.log) {
        return tracing::error!(error = %failure.error, "the settings cannot be used; nothing was changed");
    }
    let needs_restart = app.reload(&config);
    tracing::info!("the sinks and the log level were read again");
    if !needs_restart.is_empty() {
        tracing::warn!(changed = needs_restart.join(", "), "other settings changed too: they need a restart");
    }
}

/// What a signal asks for.
enum Wish {
    Reload,
    Stop,
}

struct Signals {
/// The signals that concern a running threadtap.
struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// # Cancel safety
    /// A signal that is not received here is received by the next call.
    async fn wish(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::Stop,
            _ = self.interrupt.recv() => Wish::Stop,
            _ = self.hang_up.recv() => Wish::Reload,
        }
    }
}

/// A second wish to stop ends the process at once: what was written stays, and goes on at the next start.
fn stop_at_once_if_asked_twice(runtime: Runtime, mut signals: Signals) -> std::io::Result<()> {
    std::thread::Builder::new().name("threadtap-signals".to_owned()).spawn(move || {
        while let Wish::Reload = runtime.block_on(signals.wish()) {}
        tracing::warn!("told to stop twice: stopping at once");
        std::process::exit(130);
    })?;
    Ok(())
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
