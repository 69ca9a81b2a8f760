//! The settings that a reload replaces while everything runs. [`Changes`](crate::config::Changes)
//! lists them.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use threadtap_core::sink::Sink;
use tokio::sync::watch;

use super::caller_key;
use crate::config::{Callers, Choice, Config, Interactions};
use crate::console::Console;
use crate::proxy::CallerKey;
use crate::{admin, delivery, intake};

/// The sinks of records. The pipeline applies their filters, and delivery sends to them.
pub(super) type Sinks = Vec<Arc<Sink>>;

/// The sending side, which replaces settings.
#[derive(Debug)]
pub(super) struct Live {
    sinks: watch::Sender<Sinks>,
    delivery: watch::Sender<delivery::Config>,
    admin: watch::Sender<admin::Config>,
    intake: watch::Sender<intake::Config>,
    console: watch::Sender<Console>,
    caller_key: watch::Sender<Option<CallerKey>>,
    /// The setting from which the caller key was made.
    callers: Callers,
    /// The directory in use. Changing it needs a restart.
    data_dir: Option<Choice<PathBuf>>,
}

/// The receiving side, for the parts.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) sinks: watch::Receiver<Sinks>,
    pub(super) delivery: watch::Receiver<delivery::Config>,
    pub(super) admin: watch::Receiver<admin::Config>,
    pub(super) intake: watch::Receiver<intake::Config>,
    pub(super) console: watch::Receiver<Console>,
    pub(super) caller_key: watch::Receiver<Option<CallerKey>>,
}

impl Live {
    /// Creates both sides with the settings at the start.
    ///
    /// # Errors
    /// When the caller key cannot be created.
    pub(super) fn new(config: &Config) -> Result<(Self, Settings)> {
        let (sinks, sinks_watch) = watch::channel(config.sinks.clone());
        let (delivery, delivery_watch) = watch::channel(config.delivery.clone());
        let (admin, admin_watch) = watch::channel(config.admin.clone());
        let (intake, intake_watch) = watch::channel(config.intake.clone());
        let (console, console_watch) = watch::channel(console(config));
        let (callers, data_dir) = (config.callers.clone(), config.data_dir.clone());
        let (caller_key, caller_key_watch) = watch::channel(key_of(&callers, data_dir.as_ref())?);
        let settings = Settings {
            sinks: sinks_watch,
            delivery: delivery_watch,
            admin: admin_watch,
            intake: intake_watch,
            console: console_watch,
            caller_key: caller_key_watch,
        };
        Ok((Self { sinks, delivery, admin, intake, console, caller_key, callers, data_dir }, settings))
    }

    /// Replaces all settings.
    ///
    /// # Errors
    /// When the caller key cannot be created. Nothing is replaced then.
    pub(super) fn replace(&mut self, config: &Config) -> Result<()> {
        // A key that was created for this process only must not change when another setting
        // changes.
        if self.callers != config.callers {
            self.caller_key.send_replace(key_of(&config.callers, self.data_dir.as_ref())?);
            self.callers = config.callers.clone();
        }
        // The open files were divided by the number of lanes at the start.
        let lanes = self.delivery.borrow().lanes;
        replace(&self.delivery, delivery::Config { lanes, ..config.delivery.clone() });
        replace(&self.sinks, config.sinks.clone());
        replace(&self.admin, config.admin.clone());
        replace(&self.intake, config.intake.clone());
        replace(&self.console, console(config));
        Ok(())
    }
}

/// Notifies the receivers only if the value changes, because delivery restarts on each
/// notification.
fn replace<T: PartialEq>(live: &watch::Sender<T>, value: T) {
    live.send_if_modified(|now| {
        let changes = *now != value;
        *now = value;
        changes
    });
}

/// Where interactions are shown.
fn console(config: &Config) -> Console {
    match config.log.interactions {
        Interactions::Always => Console::Plain,
        Interactions::Auto if config.sinks.is_empty() => Console::on_terminal(),
        Interactions::Auto | Interactions::Never => Console::Off,
    }
}

fn key_of(callers: &Callers, data_dir: Option<&Choice<PathBuf>>) -> Result<Option<CallerKey>> {
    match callers {
        Callers::Off => Ok(None),
        Callers::Keyed(key) => Ok(Some(CallerKey::new(key.expose().as_bytes()))),
        Callers::KeyOfDataDir => {
            let directory = data_dir.map(|choice| choice.value().as_path());
            let directory = directory.filter(|directory| directory.is_dir());
            let key = caller_key::load_or_make(directory).or_else(|error| {
                tracing::warn!(%error, "cannot keep the caller key in the data directory; callers get new names after a restart");
                caller_key::load_or_make(None)
            });
            Ok(Some(key.context("cannot create the caller key")?))
        }
    }
}
