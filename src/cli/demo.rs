//! `threadtap demo`: runs the whole system in one process, on free ports, with no key and no
//! network.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use threadtap_core::observation::api_id;
use threadtap_core::settings::Secret;
use threadtap_core::sink::{Sink, reconify};
use threadtap_testkit::assistants::{Assistants, Pace, Progress, Script};
use threadtap_testkit::collector::{Collector, Received};
use threadtap_testkit::driver::{self, Line, Report, Turn};

use super::{Failure, logs};
use crate::app::App;
use crate::config::{Config, Environment, Flags, Interactions, Log, LogFormat, ProcessEnvironment};

pub(super) fn run() -> Result<(), Failure> {
    let level = ProcessEnvironment.variable("RUST_LOG").unwrap_or_else(|| "warn".to_owned());
    let log = Log { level, format: LogFormat::Text, interactions: Interactions::Never };
    let _set_level = logs::start(&log)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(anyhow::Error::from)?;
    Ok(runtime.block_on(play())?)
}

async fn play() -> anyhow::Result<()> {
    let screen = Screen::default();
    let script = Script {
        pace: Pace::Human,
        progress: Progress::Time,
        poll_after: Some(Duration::from_millis(500)),
        ..Script::default()
    };
    let api = Assistants::start(script).await.context("cannot start the fake API")?;
    let payloads = screen.clone();
    let backend = Collector::start_with(Box::new(move |received| payloads.payload(received)));
    let backend = backend.await.context("cannot start the fake analytics backend")?;
    let app = start_proxy(&api, &backend).await?;

    screen.line(&format!("fake OpenAI API       http://{}", api.addr()));
    screen.line(&format!("fake Reconify backend http://{}", backend.addr()));
    screen.line(&format!("threadtap             http://{}  <- the app's base URL", app.listen()));
    let base_url = format!("http://{}/v1", app.listen());
    let report =
        driver::play(&base_url, |line| screen.talk(line)).await.context("a call through threadtap failed")?;

    let ids = |turns: &mut dyn Iterator<Item = &Turn>| sorted(turns.map(|turn| turn.run.clone()));
    let sent = ids(&mut report.turns.iter());
    let expected = ids(&mut report.turns.iter().filter(|turn| turn.status == "completed"));
    tokio::time::timeout(PATIENCE, backend.wait_for(expected.len())).await.ok();
    let recorded = sorted(records(app.admin(), sent.len()).await?.iter().map(recorded_id));
    // Stopping waits for threads, and an asynchronous task must not block.
    tokio::task::spawn_blocking(move || app.stop()).await??;
    tokio::time::timeout(PATIENCE, backend.wait_for(expected.len())).await.ok();
    let delivered = sorted(backend.accepted().iter().map(delivered_id));
    finish(&screen, &report, recorded.len(), delivered.len());
    ensure!(recorded == sent, "not every turn was recorded, or one was recorded twice");
    ensure!(delivered == expected, "not every completed turn was delivered, or one was delivered twice");
    Ok(())
}

/// Starts threadtap like the command does, but with other addresses and without the environment.
async fn start_proxy(api: &Assistants, backend: &Collector) -> anyhow::Result<App> {
    let flags = Flags {
        listen: Some("127.0.0.1:0".to_owned()),
        admin_listen: Some("127.0.0.1:0".to_owned()),
        upstream: Some(format!("http://{}", api.addr())),
        ..Flags::default()
    };
    let mut config = Config::load(&flags, &Nothing)?;
    config.data_dir = None;
    // Enough for the demo's app, and too few to cause a warning about the limit of open files.
    config.net.max_connections = 16;
    let mut sink = reconify::Config::new(Secret::from("demo-app"), Secret::from("demo-key"));
    sink.url = backend.url("/track").parse()?;
    config.sinks = vec![Arc::new(Sink::Reconify(reconify::Reconify::new(sink)?))];
    tokio::task::spawn_blocking(move || App::start(config)).await?
}

fn sorted(ids: impl Iterator<Item = String>) -> Vec<String> {
    let mut ids: Vec<String> = ids.collect();
    ids.sort_unstable();
    ids
}

/// The API's id of what a record is about.
fn recorded_id(record: &Value) -> String {
    api_id(record["interaction"]["run"].as_str().unwrap_or_default()).to_owned()
}

/// The API's id of what a payload is about: the id of a completion, or else of the run or response
/// that its message belongs to.
fn delivered_id(payload: &Value) -> String {
    let response = &payload["response"];
    let id = response["run_id"].as_str().or_else(|| response["id"].as_str());
    api_id(id.unwrap_or_default()).to_owned()
}

/// The records that threadtap reports. Waits a while for the expected number. A failed run is not
/// delivered, so no delivery shows that it was recorded.
async fn records(admin: SocketAddr, expected: usize) -> anyhow::Result<Vec<Value>> {
    let url = format!("http://{admin}/api/v1/interactions");
    let mut pauses = 0..RECORD_PAUSES;
    loop {
        let page = driver::get(&url).await?;
        let records = page["data"].as_array().cloned().unwrap_or_default();
        if records.len() >= expected || pauses.next().is_none() {
            return Ok(records);
        }
        tokio::time::sleep(RECORD_PAUSE).await;
    }
}

fn finish(screen: &Screen, report: &Report, recorded: usize, delivered: usize) {
    screen.line("");
    screen.line("── results");
    for turn in &report.turns {
        let tokens =
            turn.total_tokens.map_or_else(|| "no usage".to_owned(), |tokens| format!("{tokens} tokens"));
        screen.line(&format!("   {:<10} {:<5} {:<28} {tokens}", turn.status, turn.user, turn.question));
    }
    let sent = report.turns.len();
    screen.line(&format!(
        "{sent} turns sent, {recorded} recorded, {delivered} delivered (by default Reconify receives completed turns only)"
    ));
}

/// Standard output, shared by the app's side and the backend's.
#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Cursor>>);

#[derive(Default)]
struct Cursor {
    mid_line: bool,
}

impl Screen {
    fn line(&self, text: &str) {
        self.write(|out, cursor| {
            if std::mem::take(&mut cursor.mid_line) {
                writeln!(out)?;
            }
            writeln!(out, "{text}")
        });
    }

    fn talk(&self, line: &Line<'_>) {
        match line {
            Line::Title(title) => self.line(&format!("\n── {title}")),
            Line::User { user, text } => self.line(&format!("{user}: {text}")),
            Line::Text(text) => self.write(|out, cursor| {
                if !cursor.mid_line {
                    write!(out, "assistant: ")?;
                }
                cursor.mid_line = true;
                write!(out, "{text}")?;
                out.flush()
            }),
            Line::Tool { name, arguments, output } => {
                self.line(&format!("tool: {name}({arguments}) -> {output}"))
            }
            Line::Outcome { run, status } => self.line(&format!("{run} {status}")),
        }
    }

    fn payload(&self, received: &Received) {
        let pretty = serde_json::to_string_pretty(&received.body).unwrap_or_default();
        self.line(&format!("\n── Reconify received POST {}\n{pretty}", received.target));
    }

    /// A reader that is gone (`threadtap demo | head`) does not matter.
    fn write(&self, act: impl FnOnce(&mut io::StdoutLock<'_>, &mut Cursor) -> io::Result<()>) {
        let mut cursor = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut io::stdout().lock(), &mut cursor).ok();
    }
}

/// An environment without variables.
struct Nothing;

impl Environment for Nothing {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }

    fn text_of(&self, _: &Path) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }
}

const PATIENCE: Duration = Duration::from_secs(5);
const RECORD_PAUSES: u32 = 100;
const RECORD_PAUSE: Duration = Duration::from_millis(50);
