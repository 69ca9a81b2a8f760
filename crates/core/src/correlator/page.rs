//! Listed messages: what they bring, and what they prove.
//!
//! Routing goes by id and `run_id`, never by position; only servers that name no run on a message leave place and time
//! ([`Pairing::Heuristic`]). A listing proves a run's outputs whole when it was asked for after the run was over, goes
//! without a gap from one end of the thread (or of the run, where the server honours `run_id`), and has passed beyond them.

use super::config::Config;
use super::conversation::{Conversation, Outcome};
use super::run::{Merge, OpenRun};
use crate::interaction::Pairing;
use crate::message::{Message, Role};
use crate::observation::{MessagePage, PageOrder, PageStart};
use crate::time::UnixMillis;

impl Conversation {
    /// Takes in a page. Tells whether anything changed.
    pub(super) fn see_page(
        &mut self,
        page: &MessagePage,
        at: UnixMillis,
        config: &Config,
        outcome: &mut Outcome,
    ) -> bool {
        let mut chronological: Vec<&Message> = page.messages.iter().collect();
        if page.order == PageOrder::Descending {
            chronological.reverse();
        }
        let filtered = honours_filter(page);
        let mut changed = false;
        // Whoever names a run once does so always; but what knows nothing of the thread yet is not worth remembering.
        let names_runs = self.state.names_runs || page.messages.iter().any(|message| message.run.is_some());
        if names_runs && !self.state.names_runs && !(self.is_settled() && self.state.runs.is_empty()) {
            self.state.names_runs = true;
            changed = true;
        }
        let mut last = Asked::Nothing;
        for (place, message) in chronological.iter().enumerate() {
            let after = &chronological[place + 1..];
            if message.role != Role::Assistant {
                let around = (&chronological[..place], after);
                changed |= self.see_listed_input(message, around, filtered, page, config, outcome);
                last = self.asked(message);
                continue;
            }
            if message.run.is_none()
                && let Some(updated) =
                    self.update_input(message, Merge::Listed { requested_at: page.requested_at, after })
            {
                changed |= updated;
                continue;
            }
            let run = match (&message.run, last) {
                (Some(run), _) => self.runs.iter().position(|open| open.id() == run),
                (None, _) if self.knows_as_output(message) => self.run_with_output(message),
                (None, _) if names_runs => None,
                (None, Asked::Run(run)) => Some(run).filter(|run| !self.is_older(message, *run)),
                (None, Asked::Before | Asked::Nothing) => self.only_run_at(message),
                (None, Asked::Else) => None,
            };
            let Some(run) = run else {
                changed |= self.note_late_output(message, outcome);
                continue;
            };
            if message.run.is_none() {
                self.runs[run].pairing = Pairing::Heuristic;
            }
            let before = self.output_after(run, after, page);
            changed |= self.take_output(run, message, before.as_deref(), at, config, outcome);
        }
        changed |= self.prove_inputs(page, &chronological, filtered);
        for run in &mut self.runs {
            if prove_outputs(run, page, filtered) {
                run.await_more_pages(at, config);
                changed = true;
            }
        }
        changed
    }

    /// The known output of a run that comes next behind some place on a page; the pages of a list newest first go on before
    /// the message the last one ended with.
    fn output_after(&self, run: usize, after: &[&Message], page: &MessagePage) -> Option<String> {
        let run = &self.runs[run];
        let on_page = after.iter().find(|later| run.outputs.has(later)).and_then(|later| later.id.clone());
        on_page.or_else(|| match (&page.start, page.order) {
            (PageStart::After(id), PageOrder::Descending) => Some(id.clone()),
            _ => None,
        })
    }

    /// Whoever lists back to something older than a run's inputs has seen them all.
    fn prove_inputs(&mut self, page: &MessagePage, chronological: &[&Message], filtered: bool) -> bool {
        if filtered {
            return false;
        }
        let reaches_beginning = match page.order {
            PageOrder::Ascending => page.start == PageStart::Beginning,
            PageOrder::Descending => page.has_more == Some(false),
        };
        let mut changed = false;
        for run in self.runs.iter_mut().filter(|run| !run.inputs.complete) {
            let first = chronological.iter().position(|message| {
                run.inputs.messages.iter().any(|input| input.id.is_some() && input.id == message.id)
            });
            let Some(first) = first else { continue };
            let older = chronological[..first].iter().any(|message| message.role == Role::Assistant);
            if older || reaches_beginning {
                run.inputs.complete = true;
                changed = true;
            }
        }
        changed
    }

    /// PackedAttribution question a listed message is.
    fn asked(&self, message: &Message) -> Asked {
        let mut runs = self.runs.iter();
        match runs.position(|run| run.inputs.messages.iter().any(|input| input.id == message.id)) {
            Some(run) => Asked::Run(run),
            None if message.id.as_deref().is_some_and(|id| self.state.messages.contains(id)) => Asked::Before,
            None => Asked::Else,
        }
    }

    /// Whether a message was there before a run was.
    fn is_older(&self, message: &Message, run: usize) -> bool {
        let second = message.created_at.map(f64::floor);
        second.zip(self.runs[run].created_second()).is_some_and(|(message, run)| message < run)
    }

    fn run_with_output(&self, message: &Message) -> Option<usize> {
        self.runs.iter().position(|run| run.outputs.messages.iter().any(|output| output.id == message.id))
    }

    fn knows_as_output(&self, message: &Message) -> bool {
        message.id.as_deref().is_some_and(|id| self.knows_message(id))
    }

    /// The run a message without `run_id` belongs to when its question is not on the page: only if there is no choice.
    fn only_run_at(&self, message: &Message) -> Option<usize> {
        let [run] = &self.runs[..] else { return None };
        let second = message.created_at.map(f64::floor)?;
        (second >= run.created_second()?).then_some(0)
    }
}

/// What the last question on a page before some place belongs to.
#[derive(Clone, Copy, Debug)]
enum Asked {
    /// A run that is settled.
    Before,
    /// No run that is known.
    Else,
    /// There was none.
    Nothing,
    /// An open run.
    Run(usize),
}

/// Whether the page shows one run only: it was asked to, and does. An empty one shows nothing of any other.
fn honours_filter(page: &MessagePage) -> bool {
    page.run_filter.is_some() && page.messages.iter().all(|message| message.run == page.run_filter)
}

/// Judges whether this page completes a listing that shows every output of the run. Tells whether anything changed.
fn prove_outputs(run: &mut OpenRun, page: &MessagePage, filtered: bool) -> bool {
    if run.proofs.pages || !run.ended_before(page.requested_at) {
        return false;
    }
    if filtered && page.run_filter.as_deref() != Some(run.id()) {
        return false;
    }
    let frontier = OpenRun::frontier(page.order, filtered);
    let continues = match &page.start {
        PageStart::Beginning => true,
        PageStart::After(id) => run.proofs.page_frontier.get(&frontier) == Some(id),
        PageStart::Unknown => false,
    };
    if !continues {
        return false;
    }
    let is_own = |message: &Message| {
        run.outputs.messages.iter().any(|output| output.id.is_some() && output.id == message.id)
    };
    let passed = page.has_more == Some(false) || (!filtered && passes_beyond(run, page, is_own));
    // A completed run that shows no output is odd enough to wait for more; one that failed may well have none.
    if passed && (!run.outputs.messages.is_empty() || !run.is_completed()) {
        run.proofs.pages = true;
        return true;
    }
    let Some(last) = page.messages.last().and_then(|message| message.id.clone()) else { return false };
    // Only a listing that goes on is worth waiting for, not one that shows the same page again and again.
    run.proofs.page_frontier.insert(frontier, last.clone()).as_ref() != Some(&last)
}

/// Whether the page's last messages lie beyond the run's outputs, in the direction of its order.
fn passes_beyond(run: &OpenRun, page: &MessagePage, is_own: impl Fn(&Message) -> bool) -> bool {
    let Some(last) = page.messages.last().filter(|last| !is_own(last)) else { return false };
    let Some(created) = run.created_second() else { return page.messages.iter().any(&is_own) };
    let Some(second) = last.created_at.map(f64::floor) else { return page.messages.iter().any(&is_own) };
    match page.order {
        // An input of the run itself lies beyond its outputs too.
        PageOrder::Descending => {
            second < created || run.inputs.messages.iter().any(|input| input.id == last.id)
        }
        // A later message may still lie between outputs, on servers that take messages while a run is active.
        PageOrder::Ascending => {
            let behind = run.ended_second().map_or(second > created, |ended| second >= ended);
            behind && page.messages.iter().any(&is_own) && last.run.as_deref() != Some(run.id())
        }
    }
}
