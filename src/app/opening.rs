//! Opens the store in its data directory, or in memory.

use std::net::SocketAddr;

use anyhow::{Context, Result};

use crate::clock::Clock;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::store::{self, OpenError, Recovered, Store};

/// Opens the store. If the directory cannot be used, for whatever reason, the store is opened in
/// memory, unless the directory is required. The directory is not tried again later: records in
/// memory would then have to move, and a restart has the same effect.
pub(super) fn open_store(
    config: &Config,
    listen: SocketAddr,
    admin: SocketAddr,
    metrics: &Metrics,
    clock: Clock,
) -> Result<(Store, Recovered)> {
    let Config { store, data_dir, store_required: required, .. } = config;
    // This names this process to another one that finds the directory locked.
    let config = store::Config { holder: listen.to_string(), admin: admin.to_string(), ..store.clone() };
    let Some(data_dir) = data_dir else { return Ok(Store::open(config, metrics.clone(), clock)?) };
    let on_disk = store::Config { data_dir: Some(data_dir.value().clone()), ..config.clone() };
    let error = match Store::open(on_disk, metrics.clone(), clock) {
        Ok(opened) => return Ok(opened),
        Err(error) => error,
    };
    if *required || matches!(error, OpenError::Thread(_)) {
        let directory = data_dir.value().display();
        return Err(error).with_context(|| format!("data_dir is `{directory}`: it cannot be used"));
    }
    let why = with_causes(&error);
    tracing::warn!(
        error = %why,
        data_dir = %data_dir.value().display(),
        "records are kept in memory only and are lost when this process ends; repair the data directory or choose another one, then restart"
    );
    let in_memory = store::Config { data_dir: None, instead_of: Some(why), ..config };
    Ok(Store::open(in_memory, metrics.clone(), clock)?)
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
