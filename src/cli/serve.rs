//! `threadtap`: forwards until it is told to stop.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failure;
use super::logs::{self, SetLogs};
use crate::app::{App, Stopper};
use crate::config::{Changes, Config, Flags, ProcessEnvironment};

pub(super) fn run(flags: &Flags) -> Result<(), Failure> {
    let config = Config::load(flags, &ProcessEnvironment).map_err(Failure::unusable)?;
    let set_logs = logs::start(&config.log)?;
    let runtime = Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from)?;
    // Before anything can be in use: a signal that comes early must not find its default action, which is to kill.
    let mut signals = {
        let _guard = runtime.enter();
        Signals::new().map_err(anyhow::Error::from)?
    };
    let mut app = App::start(config).map_err(Failure::unusable)?;
    while let Wish::Reload = runtime.block_on(signals.wish()) {
        reload(flags, &mut app, &set_logs);
    }
    let stopper = app.stopper();
    hurry_if_asked_twice(runtime, signals, stopper.clone()).map_err(anyhow::Error::from)?;
    app.stop()?;
    if stopper.hurried() {
        std::process::exit(HURRIED);
    }
    Ok(())
}

/// Reads the settings again. One that cannot be used changes nothing.
fn reload(flags: &Flags, app: &mut App, set_logs: &SetLogs) {
    let config = match Config::load(flags, &ProcessEnvironment) {
        Ok(config) => config,
        Err(error) => return tracing::error!(%error, "the settings cannot be used; nothing was changed"),
    };
    if let Err(failure) = logs::level(&config.log) {
        return tracing::error!(error = %failure.error, "the settings cannot be used; nothing was changed");
    }
    let log = config.log.clone();
    let Changes { applied, needs_restart } = match app.reload(config) {
        Ok(changes) => changes,
        Err(error) => return tracing::error!(%error, "the settings cannot be used; nothing was changed"),
    };
    if let Err(failure) = set_logs(&log) {
        tracing::error!(error = %failure.error, "the settings of the logs cannot be used; they stay as they were");
    }
    let named = |keys: &[&str]| if keys.is_empty() { "nothing".to_owned() } else { keys.join(", ") };
    if !needs_restart.is_empty() {
        tracing::warn!(settings = named(&needs_restart), "settings that changed need a restart");
    }
    tracing::info!(applied = named(&applied), "the settings were read again");
}

/// What a signal asks for.
enum Wish {
    Reload,
    Stop,
}

struct Signals {
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

/// A second wish to stop ends the process as soon as what was captured is written; a third, or a store that takes too long, at
/// once. What is delivered by then, and what is written, goes on at the next start.
fn hurry_if_asked_twice(runtime: Runtime, mut signals: Signals, stopper: Stopper) -> std::io::Result<()> {
    std::thread::Builder::new().name("threadtap-signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            while let Wish::Reload = signals.wish().await {}
            tracing::warn!("told to stop twice: exchanges are cut, what was captured is written");
            stopper.hurry();
            let third = async { while let Wish::Reload = signals.wish().await {} };
            // Cancel safe: nothing is done with a signal that is not seen.
            _ = tokio::time::timeout(HURRY_PATIENCE, third).await;
        });
        tracing::error!("stopping before all that was captured is written: what is not is lost");
        std::process::exit(HURRIED);
    })?;
    Ok(())
}

/// The exit code of a process that was told to stop twice.
const HURRIED: i32 = 130;
/// How long writing may take then. Supervisors kill after 10 s or more.
const HURRY_PATIENCE: Duration = Duration::from_secs(8);
