//! `threadtap export`: writes the records of a period as JSON lines.

use super::period::{Progress, Until, period};
use super::target::Target;
use super::{Failure, print_exact};
use crate::config::Flags;
use crate::operations::ExportQuery;

/// Write records to standard output as JSON lines, oldest first
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Start of the period: RFC 3339, or an age (2h) [default: the beginning]
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    #[command(flatten)]
    until: Until,
    /// Print JSON; the output is always JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: Arguments, flags: &Flags) -> Result<(), Failure> {
    let Arguments { since, until, json: _ } = arguments;
    let period = period(since.as_deref(), until.until.as_deref())?;
    let target = Target::find(flags)?;
    let mut query =
        ExportQuery { since: period.since.0, until: period.until.0, after_at: None, after_id: None };
    let mut progress = Progress::new(period);
    let mut records = 0;
    loop {
        let page = target.export(&query).await?;
        for record in &page.data {
            print_exact(record.get())?;
        }
        records += page.data.len() as u64;
        progress.at(page.next, records);
        let Some(next) = page.next else { break };
        (query.after_at, query.after_id) = (Some(next.at.0), Some(next.id));
    }
    progress.end();
    Ok(())
}
