//! The command line: one file per command, and the exit codes they share.
//!
//! 0 is success, 1 a failure at work, 2 a wish that cannot be fulfilled: a wrong flag, a setting that cannot be used.

mod dead_letters;
mod demo;
mod export;
mod forget;
mod logs;
mod period;
mod resend;
mod serve;
mod status;
mod target;

use std::future::Future;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde::Serialize;
use threadtap_core::printable::printable;

use crate::config::{Flags, Log};

/// A transparent HTTP reverse proxy that logs LLM assistant traffic: point the app's base URL here.
#[derive(Debug, Parser)]
#[command(version, disable_help_subcommand = true, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show all of it in one process: a fake API, a fake analytics backend, and threadtap between them. Needs no key and no network.
    Demo,
    /// Show how an instance is, or what a stopped one left.
    Status(status::Arguments),
    /// List, show, retry, drop or export what was given up.
    DeadLetters(dead_letters::Arguments),
    /// Write records, one JSON object a line.
    Export(export::Arguments),
    /// Deliver the records of a period to a sink once more: the same bytes under the same keys.
    Resend(resend::Arguments),
    /// Erase a conversation, or all that has to do with a user, for good.
    Forget(forget::Arguments),
}

/// Settings that have a flag. The file has many more: see config.example.toml.
#[derive(Debug, clap::Args)]
#[allow(rustdoc::bare_urls, reason = "the text is first of all the help on a terminal")]
struct Settings {
    /// Settings file (TOML); none is read unless named
    #[arg(long, value_name = "FILE", global = true, env = "THREADTAP_CONFIG")]
    config: Option<PathBuf>,
    /// Where clients connect [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR", global = true, env = "THREADTAP_LISTEN")]
    listen: Option<String>,
    #[expect(rustdoc::bare_urls, reason = "the text is shown as help, where brackets would be in the way")]
    /// Where requests go, with a path prefix if need be [default: https://api.openai.com]
    #[arg(long, value_name = "URL", global = true, env = "THREADTAP_UPSTREAM")]
    upstream: Option<String>,
    /// Where health, metrics and records are [default: 127.0.0.1:9090, or the next free port]
    #[arg(long, value_name = "ADDR", global = true, env = "THREADTAP_ADMIN_LISTEN")]
    admin_listen: Option<String>,
    /// Where records are kept [default: the user's data directory]
    #[arg(long, value_name = "DIR", global = true, env = "THREADTAP_DATA_DIR")]
    data_dir: Option<PathBuf>,
}

impl Settings {
    fn into_flags(self) -> Flags {
        // A variable that is set to nothing is as if it were not set.
        let text = |value: Option<String>| value.filter(|value| !value.is_empty());
        let path = |value: Option<PathBuf>| value.filter(|value| !value.as_os_str().is_empty());
        Flags {
            config: path(self.config),
            listen: text(self.listen),
            upstream: text(self.upstream),
            admin_listen: text(self.admin_listen),
            data_dir: path(self.data_dir),
        }
    }
}

/// Runs the command that was asked for.
#[must_use]
pub fn run() -> ExitCode {
    let Arguments { command, settings } = Arguments::parse();
    let result = match command {
        None => serve::run(&settings.into_flags()),
        Some(Command::Demo) => demo::run(),
        Some(Command::Status(arguments)) => block_on(status::run(arguments, &settings.into_flags())),
        Some(Command::DeadLetters(arguments)) => {
            block_on(dead_letters::run(arguments, &settings.into_flags()))
        }
        Some(Command::Export(arguments)) => block_on(export::run(arguments, &settings.into_flags())),
        Some(Command::Resend(arguments)) => block_on(resend::run(arguments, &settings.into_flags())),
        Some(Command::Forget(arguments)) => block_on(forget::run(arguments, &settings.into_flags())),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, error }) => {
            complain(&error);
            ExitCode::from(code)
        }
    }
}

fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)?
        .block_on(command)
}

/// Lines on standard output, for people: what they hold of others cannot drive the terminal.
fn print(lines: &str) -> Result<(), Failure> {
    print_exact(&lines.split('\n').map(printable).collect::<Vec<_>>().join("\n"))
}

/// A line on standard output, for machines.
fn print_exact(line: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{line}") {
        // Who has seen enough (`| head`) is no failure.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => Ok(written.map_err(anyhow::Error::from)?),
    }
}

/// A line of JSON on standard output.
fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    print_exact(&serde_json::to_string(value).map_err(anyhow::Error::from)?)
}

/// Logs for a command that ends: warnings and worse.
fn with_warnings(log: &Log) -> Result<(), Failure> {
    logs::start(&Log { level: "warn".to_owned(), ..log.clone() }).map(drop)
}

/// Why a command failed, and the exit code that tells it.
#[derive(Debug)]
struct Failure {
    code: u8,
    error: anyhow::Error,
}

impl Failure {
    /// Something that was asked for cannot be done.
    fn unusable(error: impl Into<anyhow::Error>) -> Self {
        Self { code: 2, error: error.into() }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { code: 1, error }
    }
}

/// One line on standard error, with the causes.
#[expect(clippy::print_stderr, reason = "this is the command's own word to its user, not a log")]
fn complain(error: &anyhow::Error) {
    eprintln!("threadtap: {}", printable(&format!("{error:#}")));
}

const AFTER_HELP: &str = "\
Sinks switch on by their keys: RECONIFY_APP_KEY and RECONIFY_API_KEY (RECONIFY_URL for another address),\nALIGNAI_API_KEY and ALIGNAI_PROJECT_ID (ALIGNAI_HOST).
Without a command threadtap forwards until SIGTERM or SIGINT, which drain it.";
