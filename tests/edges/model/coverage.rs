//! Counts what the cases came upon: which status, by which routes of input, and how the end was learnt.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use threadtap_core::interaction::Status;

use super::ledger::Ending;

/// How a run's input came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Route {
    Message,
    Thread,
    ThreadAndRun,
    Additional,
    /// Its creation was not shown; a list, or the message itself, was.
    Listed,
    /// There was none.
    Nothing,
}

/// Records, by cell.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    records: BTreeMap<(&'static str, Ending, Route), usize>,
}

impl Coverage {
    pub(super) fn count(&mut self, status: Status, routes: &BTreeSet<Route>, ending: Ending) {
        for route in routes {
            *self.records.entry((status.as_str(), ending, *route)).or_default() += 1;
        }
    }

    /// The cells that can be reached and were not.
    pub(super) fn empty(&self) -> Vec<String> {
        let reachable = rows().flat_map(|(status, ending)| ROUTES.map(|(route, _)| (status, ending, route)));
        let empty = reachable.filter(|cell| !self.records.contains_key(cell));
        empty.map(|(status, ending, route)| format!("{status} by {ending:?} with {route:?}")).collect()
    }

    /// The table.
    pub(super) fn table(&self) -> String {
        let mut table = format!("{:<20} {:<14}", "status", "end learnt by");
        for (_, name) in ROUTES {
            write!(table, " {name:>12}").unwrap();
        }
        for (status, ending) in rows() {
            write!(table, "\n{status:<20} {:<14}", format!("{ending:?}")).unwrap();
            for (route, _) in ROUTES {
                let count = self.records.get(&(status, ending, route)).copied().unwrap_or_default();
                write!(table, " {count:>12}").unwrap();
            }
        }
        table
    }
}

/// The pairs of status and ending there can be.
fn rows() -> impl Iterator<Item = (&'static str, Ending)> {
    let by_the_apis_word = ["completed", "failed", "cancelled", "expired", "incomplete"];
    let anywhere =
        [Ending::Stream, Ending::Poll, Ending::ListRuns, Ending::Modify, Ending::Create, Ending::Submit];
    let told = by_the_apis_word.into_iter().flat_map(move |status| anywhere.map(|ending| (status, ending)));
    let assumed = ["unknown_final", "client_disconnected", "error", "expired"];
    told.chain([("cancelled", Ending::Cancel)])
        .chain(assumed.map(|status| (status, Ending::Assumed)))
        .chain([("thread_deleted", Ending::ThreadDeleted)])
}

const ROUTES: [(Route, &str); 6] = [
    (Route::Message, "message"),
    (Route::Thread, "thread"),
    (Route::ThreadAndRun, "thread+run"),
    (Route::Additional, "additional"),
    (Route::Listed, "listed"),
    (Route::Nothing, "nothing"),
];
