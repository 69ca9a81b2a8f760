//! The sinks: those in the file, and those that keys in the environment enable.

use std::sync::Arc;

use threadtap_core::sink::{Sink, SinkSettings, align, reconify};

use super::{ConfigError, Environment};

/// Builds the sinks. Keys in the environment complete the file's first sink of their kind. If the
/// file has none, they create one. They never add a second.
pub(super) fn build(
    file: Vec<SinkSettings>,
    environment: &impl Environment,
) -> Result<Vec<Arc<Sink>>, ConfigError> {
    let (align_keys, reconify_keys) = (align::Keys::read(environment), reconify::Keys::read(environment));
    for [one, other] in [align_keys.half(), reconify_keys.half()].into_iter().flatten() {
        tracing::warn!("{one} and {other} must be set together; one alone is ignored");
    }
    let (mut align_keys, mut reconify_keys) = (Some(align_keys), Some(reconify_keys));
    let mut sinks: Vec<Arc<Sink>> = Vec::new();
    for (number, settings) in file.into_iter().enumerate() {
        let section = format!("sinks[{number}]");
        let sink = match settings {
            SinkSettings::Align(settings) => {
                Sink::Align(settings.build(&section, align_keys.take().unwrap_or_default(), environment)?)
            }
            SinkSettings::Reconify(settings) => Sink::Reconify(settings.build(
                &section,
                reconify_keys.take().unwrap_or_default(),
                environment,
            )?),
        };
        if sinks.iter().any(|other| other.name() == sink.name()) {
            let name = sink.name().to_string();
            return Err(ConfigError::value(
                format!("{section}.name"),
                name,
                "give each sink a name of its own",
            ));
        }
        sinks.push(Arc::new(sink));
    }
    let section = "the environment";
    if let Some(keys) = align_keys.filter(align::Keys::are_enough) {
        sinks.push(Arc::new(Sink::Align(align::Settings::default().build(section, keys, environment)?)));
    }
    if let Some(keys) = reconify_keys.filter(reconify::Keys::are_enough) {
        sinks.push(Arc::new(Sink::Reconify(reconify::Settings::default().build(
            section,
            keys,
            environment,
        )?)));
    }
    Ok(sinks)
}
