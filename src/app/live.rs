//! What a reload replaces while everything runs: sinks, keys and tokens, and what else is cheap to replace.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use secrecy::ExposeSecret;
use threadtap_core::sink::Sink;
use tokio::sync::watch;

use super::caller_key;
use crate::config::{Callers, Choice, Config};
use crate::proxy::CallerKey;
use crate::{admin, intake};

/// Where records go. The pipeline asks their filters, delivery sends to them.
pub(super) type Sinks = Vec<Arc<Sink>>;

/// The side that replaces.
#[derive(Debug)]
pub(super) struct Live {
    sinks: watch::Sender<Sinks>,
    admin: watch::Sender<admin::Config>,
    intake: watch::Sender<intake::Config>,
    caller_key: watch::Sender<Option<CallerKey>>,
    /// What the key of callers was made of.
    callers: Callers,
    /// The directory in use: another one needs a restart.
    data_dir: Option<Choice<PathBuf>>,
}

/// The side of the parts.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) sinks: watch::Receiver<Sinks>,
    pub(super) admin: watch::Receiver<admin::Config>,
    pub(super) intake: watch::Receiver<intake::Config>,
    pub(super) caller_key: watch::Receiver<Option<CallerKey>>,
}

impl Live {
    /// Begins with the settings of the start.
    ///
    /// # Errors
    /// When no key can be made for callers.
    pub(super) fn new(config: &Config) -> Result<(Self, Settings)> {
        let key = key_of(&config.callers, config.data_dir.as_ref())?;
        let (sinks, sinks_watch) = watch::channel(config.sinks.clone());
        let (admin, admin_watch) = watch::channel(config.admin.clone());
        let (intake, intake_watch) = watch::channel(config.intake.clone());
        let (caller_key, caller_key_watch) = watch::channel(key);
        let settings = Settings {
            sinks: sinks_watch,
            admin: admin_watch,
            intake: intake_watch,
            caller_key: caller_key_watch,
        };
        let (callers, data_dir) = (config.callers.clone(), config.data_dir.clone());
        Ok((Self { sinks, admin, intake, caller_key, callers, data_dir }, settings))
    }

    /// Replaces all of it.
    ///
    /// # Errors
    /// When no key can be made for callers; nothing was replaced then.
    pub(super) fn replace(&mut self, config: &Config) -> Result<()> {
        // A key that is made for this process alone must not change because something else did.
        if self.callers != config.callers {
            self.caller_key.send_replace(key_of(&config.callers, self.data_dir.as_ref())?);
            self.callers = config.callers.clone();
        }
        self.sinks.send_replace(config.sinks.clone());
        self.admin.send_replace(config.admin.clone());
        self.intake.send_replace(config.intake.clone());
        Ok(())
    }
}

fn key_of(callers: &Callers, data_dir: Option<&Choice<PathBuf>>) -> Result<Option<CallerKey>> {
    match callers {
        Callers::Off => Ok(None),
        Callers::Keyed(key) => Ok(Some(CallerKey::new(key.expose_secret().as_bytes()))),
        Callers::KeyOfDataDir => {
            let directory = data_dir.map(|choice| choice.value().as_path());
            let directory = directory.filter(|directory| directory.is_dir());
            let key = caller_key::load_or_make(directory).or_else(|error| {
                tracing::warn!(%error, "the data directory keeps no key for callers; their names end with this process");
                caller_key::load_or_make(None)
            });
            Ok(Some(key.context("no key can be made for callers")?))
        }
    }
}
