//! `threadtap resend`: delivers the records of a period to a sink again.

use serde_json::json;

use super::period::{Progress, Until, period};
use super::target::Target;
use super::{Failure, print, print_json};
use crate::config::Flags;
use crate::operations::ResendQuery;

/// Deliver the records of a period to a sink again: the same bytes under the same keys
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Name of the sink
    #[arg(long)]
    sink: String,
    /// Start of the period: RFC 3339, or an age (2h)
    #[arg(long, value_name = "TIME")]
    since: String,
    #[command(flatten)]
    until: Until,
    /// Print JSON
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
    let when = if target.runs() { "" } else { "; they are sent at the next start" };
    print(&format!("{made_due} records queued for {}{when}", query.sink))
}
