//! `threadtap`: runs the proxy until a signal stops it.

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
    // Before the app starts: the default action of an early signal would kill the process.
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

/// Reads the settings again. If one cannot be used, nothing changes.
fn reload(flags: &Flags, app: &mut App, set_logs: &SetLogs) {
    let config = match Config::load(flags, &ProcessEnvironment) {
        Ok(config) => config,
        Err(error) => {
            return tracing::error!(%error, "cannot reload: the settings are invalid; nothing was changed");
        }
    };
    if let Err(failure) = logs::level(&config.log) {
        return tracing::error!(error = %failure.error, "cannot reload: the settings are invalid; nothing was changed");
    }
    let log = config.log.clone();
    let Changes { applied, needs_restart } = match app.reload(config) {
        Ok(changes) => changes,
        Err(error) => {
            return tracing::error!(%error, "cannot reload: the settings are invalid; nothing was changed");
        }
    };
    if let Err(failure) = set_logs(&log) {
        tracing::error!(error = %failure.error, "cannot reload the log settings; they are unchanged");
    }
    let named = |keys: &[&str]| if keys.is_empty() { "nothing".to_owned() } else { keys.join(", ") };
    if !needs_restart.is_empty() {
        tracing::warn!(settings = named(&needs_restart), "settings changed that need a restart");
    }
    tracing::info!(applied = named(&applied), "reloaded the settings");
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

/// A second signal ends the process as soon as what was captured is written. A third one, or a
/// store that takes too long, ends it at once. Delivery of what was written continues at the next
/// start.
fn hurry_if_asked_twice(runtime: Runtime, mut signals: Signals, stopper: Stopper) -> std::io::Result<()> {
    std::thread::Builder::new().name("threadtap-signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            while let Wish::Reload = signals.wish().await {}
            tracing::warn!(
                "received a second signal to stop: cutting exchanges and writing what was captured"
            );
            stopper.hurry();
            let third = async { while let Wish::Reload = signals.wish().await {} };
            // Cancel safe: a signal that is not received has no effect.
            _ = tokio::time::timeout(HURRY_PATIENCE, third).await;
        });
        tracing::error!("stopping before all captures are written; the rest is lost");
        std::process::exit(HURRIED);
    })?;
    Ok(())
}

/// The exit code after a second signal.
const HURRIED: i32 = 130;
/// How long writing may take after a second signal. Supervisors kill after 10 s or more.
const HURRY_PATIENCE: Duration = Duration::from_secs(8);
