//! The command line: one file per command, and the exit codes they share.
//!
//! 0 is success, 1 a failure, 2 wrong usage: a wrong flag, or a setting that cannot be used.

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
    /// Run a demo in one process: a fake API, a fake analytics backend, and threadtap between them. Needs no key and no network.
    Demo,
    /// Show the state of an instance, running or stopped.
    Status(status::Arguments),
    /// List, show, retry, drop or export dead letters.
    DeadLetters(dead_letters::Arguments),
    /// Write records as JSON lines.
    Export(export::Arguments),
    /// Deliver the records of a period to a sink again: the same bytes under the same keys.
    Resend(resend::Arguments),
    /// Erase a conversation, or all conversations of a user, permanently.
    Forget(forget::Arguments),
}

/// Settings that have a flag. config.example.toml lists all others.
#[derive(Debug, clap::Args)]
#[allow(rustdoc::bare_urls, reason = "the text is first of all the help on a terminal")]
struct Settings {
    /// Settings file (TOML); no file is read unless you name one
    #[arg(long, value_name = "FILE", global = true, env = "THREADTAP_CONFIG")]
    config: Option<PathBuf>,
    /// Address on which clients connect [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR", global = true, env = "THREADTAP_LISTEN")]
    listen: Option<String>,
    #[expect(rustdoc::bare_urls, reason = "the text is shown as help, where brackets would be in the way")]
    /// URL to which requests are forwarded, with an optional path prefix [default: https://api.openai.com]
    #[arg(long, value_name = "URL", global = true, env = "THREADTAP_UPSTREAM")]
    upstream: Option<String>,
    /// Address of health, metrics and records [default: 127.0.0.1:9090, or the next free port]
    #[arg(long, value_name = "ADDR", global = true, env = "THREADTAP_ADMIN_LISTEN")]
    admin_listen: Option<String>,
    /// Directory of the records [default: the user's data directory]
    #[arg(long, value_name = "DIR", global = true, env = "THREADTAP_DATA_DIR")]
    data_dir: Option<PathBuf>,
}

impl Settings {
    fn into_flags(self) -> Flags {
        // An empty variable counts as unset.
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

/// Prints lines for people on standard output. Text from outside cannot control the terminal.
fn print(lines: &str) -> Result<(), Failure> {
    print_exact(&lines.split('\n').map(printable).collect::<Vec<_>>().join("\n"))
}

/// Prints a line for machines on standard output.
fn print_exact(line: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{line}") {
        // A reader that stops early (`| head`) is not a failure.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => Ok(written.map_err(anyhow::Error::from)?),
    }
}

/// Prints a line of JSON on standard output.
fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    print_exact(&serde_json::to_string(value).map_err(anyhow::Error::from)?)
}

/// Starts the logs of a command: warnings and errors only.
fn with_warnings(log: &Log) -> Result<(), Failure> {
    logs::start(&Log { level: "warn".to_owned(), ..log.clone() }).map(drop)
}

/// Why a command failed, and its exit code.
#[derive(Debug)]
struct Failure {
    code: u8,
    error: anyhow::Error,
}

impl Failure {
    /// For wrong usage: exit code 2.
    fn unusable(error: impl Into<anyhow::Error>) -> Self {
        Self { code: 2, error: error.into() }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { code: 1, error }
    }
}

/// Prints an error with its causes, as one line on standard error.
#[expect(clippy::print_stderr, reason = "this is output for the user of the command, not a log")]
fn complain(error: &anyhow::Error) {
    eprintln!("threadtap: {}", printable(&format!("{error:#}")));
}

const AFTER_HELP: &str = "\
Sinks are enabled by their keys: RECONIFY_APP_KEY and RECONIFY_API_KEY (RECONIFY_URL for another address),\nALIGNAI_API_KEY and ALIGNAI_PROJECT_ID (ALIGNAI_HOST).
Without a command, threadtap runs the proxy. SIGTERM or SIGINT drains and stops it.";
