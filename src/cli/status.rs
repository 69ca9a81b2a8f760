//! `threadtap status`: shows the state of the instance and its store.

use super::period::shown;
use super::target::Target;
use super::{Failure, print, print_json};
use crate::config::Flags;
use crate::descriptors::Shares;
use crate::operations::Status;
use crate::store::Overview;

/// Show the state of an instance, running or stopped
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: Arguments, flags: &Flags) -> Result<(), Failure> {
    let target = Target::find(flags)?;
    let status = target.status().await?;
    if arguments.json {
        return print_json(&status);
    }
    print(&text(&status))
}

fn text(status: &Status) -> String {
    let Status { version, process, sinks, limits, store } = status;
    let Overview {
        failing, database_bytes, log_bytes, used_bytes, first_used_at, oldest_at, newest_at, ..
    } = store;
    let runs =
        process.map_or_else(|| "is not running".to_owned(), |process| format!("runs as process {process}"));
    let place =
        store.data_dir.as_ref().map_or_else(|| "memory".to_owned(), |place| place.display().to_string());
    let state = if *failing { "FAILING: cannot write, retrying" } else { "ok" };
    let mut lines = vec![
        format!("threadtap {version} {runs}"),
        format!("store    {place}, since {}: {state}", shown(*first_used_at)),
        format!(
            "         {} in use, {} on disk, {} of log",
            size(*used_bytes),
            size(*database_bytes),
            size(*log_bytes)
        ),
    ];
    if let Some(why) = &store.instead_of {
        lines.push(format!("         NOT ON DISK, records are lost when the process ends: {why}"));
    }
    if let Some(limits) = limits {
        lines.push(connections(limits));
    }
    lines.push(match oldest_at.zip(*newest_at) {
        Some((oldest, newest)) => format!("records  {} to {}", shown(oldest), shown(newest)),
        None => "records  none".to_owned(),
    });
    let known = store.backlog.sinks.keys().map(|sink| sink.to_string());
    let mut names: Vec<String> = sinks.iter().cloned().chain(known).collect();
    names.sort();
    names.dedup();
    for name in names {
        let waiting = store.backlog.sinks.get(name.as_str()).copied().unwrap_or_default();
        let oldest =
            waiting.oldest.map(|oldest| format!(", the oldest since {}", shown(oldest))).unwrap_or_default();
        let gone = if sinks.contains(&name) { "" } else { " (no such sink is configured)" };
        lines.push(format!(
            "sink     {name}{gone}: {} waiting{oldest}; {} dead letters",
            waiting.deliveries, waiting.dead_letters
        ));
    }
    for path in &store.set_aside {
        lines.push(format!("corrupt  {} was set aside", path.display()));
    }
    lines.join("\n")
}

fn connections(limits: &Shares) -> String {
    let Shares { open_files, connections, connections_wanted, upstream_connections, admin_connections } =
        limits;
    let wanted = match connections < connections_wanted {
        true => format!(" (server.max_connections asks for {connections_wanted})"),
        false => String::new(),
    };
    format!(
        "limits   {connections} client connections{wanted}, {upstream_connections} to upstream, {admin_connections} admin; \
         {open_files} open files"
    )
}

fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}
