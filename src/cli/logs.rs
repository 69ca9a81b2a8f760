//! Logs on standard error, as text for people or JSON for machines.
//!
//! Text from outside in a field cannot control a terminal. Text logs replace the unsafe characters.
//! JSON logs escape them, and JSON readers undo that.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};

use threadtap_core::printable::{is_unprintable, printable};
use tracing::Subscriber;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::fmt::format;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, reload};

use super::Failure;
use crate::config::{Log, LogFormat};

/// Changes the level and the format of the logs.
pub(super) type SetLogs = Box<dyn Fn(&Log) -> Result<(), Failure>>;

/// Sets up logs on standard error.
pub(super) fn start(log: &Log) -> Result<SetLogs, Failure> {
    let (filter, set_filter) = reload::Layer::new(level(log)?);
    let (lines, set_lines) = reload::Layer::new(lines(log.format));
    let started = tracing_subscriber::registry().with(filter).with(lines).try_init();
    started.map_err(|error| Failure::from(anyhow::anyhow!(error)))?;
    Ok(Box::new(move |log| {
        let filter = level(log)?;
        set_filter.reload(filter).map_err(anyhow::Error::from)?;
        Ok(set_lines.reload(self::lines(log.format)).map_err(anyhow::Error::from)?)
    }))
}

/// Writes lines on standard error.
fn lines<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let terminal = io::stderr().is_terminal();
    let json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Json => true,
        LogFormat::Text => false,
    };
    let lines = fmt::layer().with_ansi(terminal);
    if !json {
        // The colours come from threadtap; the fields may have text from outside.
        let fields = format::debug_fn(|writer, field, value| {
            let value = format!("{value:?}");
            match field.name() {
                "message" => write!(writer, "{}", printable(&value)),
                name => write!(writer, "{name}={}", printable(&value)),
            }
        });
        return lines.fmt_fields(fields.delimited(" ")).with_writer(io::stderr).boxed();
    }
    // A span that began under the other format has no fields in this one. Formatting it would
    // panic.
    let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
    lines.with_writer(|| Escaped(io::stderr())).boxed()
}

pub(super) fn level(log: &Log) -> Result<Targets, Failure> {
    log.level.parse().map_err(|error: ParseError| {
        Failure::unusable(anyhow::anyhow!(
            "log.level is `{}`: use a level such as info, or module=level pairs: {error}",
            log.level
        ))
    })
}

/// Writes lines of JSON. Characters that a terminal would not show are written as `\uXXXX` (RFC
/// 8259 §7).
struct Escaped<W>(W);

impl<W: io::Write> io::Write for Escaped<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        // Each call gets a whole line.
        match std::str::from_utf8(bytes) {
            Ok(line) if line.contains(|char| char != '\n' && is_unprintable(char)) => {
                self.0.write_all(escaped(line).as_bytes())
            }
            _ => self.0.write_all(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn escaped(line: &str) -> String {
    let mut escaped = String::with_capacity(line.len() + 64);
    for char in line.chars() {
        if char == '\n' || !is_unprintable(char) {
            escaped.push(char);
            continue;
        }
        for unit in char.encode_utf16(&mut [0; 2]) {
            // Writing to a string does not fail.
            let _ = write!(escaped, "\\u{unit:04x}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn lines_of_json_mean_the_same_and_hold_nothing_that_drives_a_terminal() {
        let said = "\u{202e}pay\u{200b} \u{9b}2J \u{e0041} \x1b[2J\t ä漢🙂";
        let line = format!("{}\n", serde_json::json!({ "error": said }));
        let mut out = Escaped(Vec::new());
        out.write_all(line.as_bytes()).unwrap();
        let written = String::from_utf8(out.0).unwrap();
        assert!(!written.trim_end().contains(is_unprintable) && written.ends_with('\n'), "{written:?}");
        let read: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(read["error"], said);
    }
}
