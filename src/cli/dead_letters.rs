//! `threadtap dead-letters`: lists, retries and drops dead letters.

use std::sync::Arc;

use clap::Subcommand;

use super::period::shown;
use super::target::Target;
use super::{Failure, print, print_json};
use crate::config::Flags;
use crate::operations::{Changed, DeadLetterQuery};
use crate::store::{DeadLetter, DeadLetters};

/// List, show, retry, drop or export dead letters
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List dead letters, oldest first
    List(List),
    /// Show one, with the response of the backend and its event
    Show {
        /// Id of the dead letter
        id: u64,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Queue them again, under the same keys
    Retry(Which),
    /// Delete them permanently
    Drop(Which),
    /// Write them with their events as JSON lines
    Export {
        /// Only those of this sink
        #[arg(long)]
        sink: Option<Arc<str>>,
    },
}

#[derive(Debug, clap::Args)]
struct List {
    /// Only those of this sink
    #[arg(long)]
    sink: Option<Arc<str>>,
    /// Print JSON lines
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[group(skip)]
struct Which {
    /// Ids of the dead letters
    #[arg(required_unless_present_any = ["sink", "all"], conflicts_with_all = ["sink", "all"])]
    ids: Vec<u64>,
    /// All dead letters of this sink
    #[arg(long, conflicts_with = "all")]
    sink: Option<Arc<str>>,
    /// All dead letters
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Which {
    fn dead_letters(&self) -> DeadLetters {
        match &self.sink {
            Some(sink) => DeadLetters::Sink(Arc::clone(sink)),
            None if self.all => DeadLetters::All,
            None => DeadLetters::Ids(self.ids.clone()),
        }
    }
}

pub(super) async fn run(arguments: Arguments, flags: &Flags) -> Result<(), Failure> {
    let target = Target::find(flags)?;
    match arguments.command {
        Command::List(List { sink, json }) => {
            let mut none = true;
            each(&target, sink, false, |letter| {
                if json {
                    return print_json(letter);
                }
                if std::mem::take(&mut none) {
                    print(&format!(
                        "{:>8}  {:<20}  {:<12}  {:<14}  {:>8}  response",
                        "id", "died", "sink", "reason", "attempts"
                    ))?;
                }
                print(&line(letter))
            })
            .await?;
            if none && !json {
                print("no dead letters")?;
            }
            Ok(())
        }
        Command::Show { id, json } => {
            let letter = target.dead_letter(id).await?;
            if json { print_json(&letter) } else { print(&text(&letter)?) }
        }
        Command::Retry(which) => {
            let changed = target.retry(which.dead_letters()).await?;
            let what =
                if target.runs() { "queued again" } else { "queued again; they are sent at the next start" };
            finish(&which, changed, what)
        }
        Command::Drop(which) => {
            let changed = target.drop_letters(which.dead_letters()).await?;
            finish(&which, changed, "dropped")
        }
        Command::Export { sink } => each(&target, sink, true, print_json).await,
    }
}

/// Calls `act` for each dead letter, a page at a time.
async fn each(
    target: &Target,
    sink: Option<Arc<str>>,
    events: bool,
    mut act: impl FnMut(&DeadLetter) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut query = DeadLetterQuery { sink, after: 0, events };
    loop {
        let page = target.dead_letters(&query).await?.data;
        let Some(last) = page.last() else { return Ok(()) };
        query.after = last.id;
        page.iter().try_for_each(&mut act)?;
    }
}

fn finish(which: &Which, changed: Changed, what: &str) -> Result<(), Failure> {
    if which.json {
        print_json(&changed)?;
    } else {
        print(&format!("{} dead letters {what}", changed.changed))?;
    }
    if changed.changed == 0 && !which.ids.is_empty() {
        return Err(anyhow::anyhow!("no dead letters have these ids").into());
    }
    Ok(())
}

fn line(letter: &DeadLetter) -> String {
    let DeadLetter { id, sink, died_at, attempts, reason, answer, .. } = letter;
    let died = shown(*died_at);
    format!("{id:>8}  {died:<20}  {sink:<12}  {reason:<14}  {attempts:>8}  {}", first_line(answer))
}

fn text(letter: &DeadLetter) -> Result<String, Failure> {
    let DeadLetter { id, sink, kind, key, queued_at, died_at, attempts, reason, answer, event } = letter;
    let event: serde_json::Value = match event {
        Some(event) => serde_json::from_str(event.get()).map_err(anyhow::Error::from)?,
        None => serde_json::Value::Null,
    };
    let event = serde_json::to_string_pretty(&event).map_err(anyhow::Error::from)?;
    Ok(format!(
        "dead letter {id}: {kind} for {sink}\nkey       {key}\nqueued    {}\nfailed    {} after {attempts} attempts: {reason}\nresponse  {}\nevent     {event}",
        shown(*queued_at),
        shown(*died_at),
        one_line(answer),
    ))
}

fn first_line(answer: &str) -> String {
    answer.lines().next().unwrap_or_default().chars().take(80).collect()
}

/// A backend's response must not look like a line of threadtap.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
