//! `threadtap resend`: has a period's records delivered to a sink once more.

use serde_json::json;

use super::period::{Progress, Until, period};
use super::target::Target;
use super::{Failure, print, print_json};
use crate::config::Flags;
use crate::operations::ResendQuery;

/// Makes the records of a period due at a sink once more: the same bytes under the same keys
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The sink's name
    #[arg(long)]
    sink: String,
    /// From this time on: RFC 3339, or how long ago (2h)
    #[arg(long, value_name = "TIME")]
    since: String,
    #[command(flatten)]
    until: Until,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: Arguments, flags: &Flags) -> Result<(), Failure> {
    let Arguments { sink, since, until, json } = arguments;
    let period = period(Some(&since), until.until.as_deref())?;
    let target = Target::find(flags)?;
    let mut query = ResendQuery { sink, period, after: None };
    let mut progress = Progress::new(period);
    let mut made_due = 0;
    loop {
        let page = target.resend(&query).await?;
        made_due += page.made_due;
        progress.at(page.next, made_due);
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    progress.end();
    if json {
        return print_json(&json!({ "made_due": made_due }));
    }
    let when = if target.runs() { "" } else { ", delivered at the next start" };
    print(&format!("{made_due} records made due at {}{when}", query.sink))
}
