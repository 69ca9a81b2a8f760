//! Listed messages: what they add, and what they prove.
//!
//! Messages are assigned by id and `run_id`, never by position. Position and time are used only for
//! servers that name no run on a message ([`Pairing::Heuristic`]). A listing proves that a run's
//! outputs are complete if it was requested after the run was over, covers the thread (or the run,
//! if the server honours `run_id`) without a gap from one end, and extends beyond the outputs.

use super::config::Config;
use super::conversation::{Conversation, Outcome};
use super::run::{Merge, OpenRun};
use crate::interaction::Pairing;
use crate::message::{Message, Role};
use crate::observation::{MessagePage, PageOrder, PageStart};
use crate::time::UnixMillis;

impl Conversation {
    /// Handles a page. Returns whether anything changed.
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
        // A server that names a run once always does so. This is not stored for a conversation with
        // nothing else to remember.
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

    /// The first known output of a run after a position on a page. In a newest-first list, the
    /// messages of a page come before the last message of the previous page.
    fn output_after(&self, run: usize, after: &[&Message], page: &MessagePage) -> Option<String> {
        let run = &self.runs[run];
        let on_page = after.iter().find(|later| run.outputs.has(later)).and_then(|later| later.id.clone());
        on_page.or_else(|| match (&page.start, page.order) {
            (PageStart::After(id), PageOrder::Descending) => Some(id.clone()),
            _ => None,
        })
    }

    /// A listing that extends back beyond a run's inputs shows all of them.
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

    /// Which run a listed input message belongs to.
    fn asked(&self, message: &Message) -> Asked {
        let mut runs = self.runs.iter();
        match runs.position(|run| run.inputs.messages.iter().any(|input| input.id == message.id)) {
            Some(run) => Asked::Run(run),
            None if message.id.as_deref().is_some_and(|id| self.state.messages.contains(id)) => Asked::Before,
            None => Asked::Else,
        }
    }

    /// Whether a message was created before a run.
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

    /// The run of a message without `run_id` whose input is not on the page. Only if there is
    /// exactly one candidate.
    fn only_run_at(&self, message: &Message) -> Option<usize> {
        let [run] = &self.runs[..] else { return None };
        let second = message.created_at.map(f64::floor)?;
        (second >= run.created_second()?).then_some(0)
    }
}

/// What the last input before a position on a page belongs to.
#[derive(Clone, Copy, Debug)]
enum Asked {
    /// A run that is settled.
    Before,
    /// No known run.
    Else,
    /// There was no input.
    Nothing,
    /// An open run.
    Run(usize),
}

/// Whether the page shows one run only: the client asked for this, and the server did it. An empty
/// page shows no other run.
fn honours_filter(page: &MessagePage) -> bool {
    page.run_filter.is_some() && page.messages.iter().all(|message| message.run == page.run_filter)
}

/// Decides whether this page completes a listing that shows every output of the run. Returns
/// whether anything changed.
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
    // A completed run without outputs is unusual, so wait for more. A failed run may really have
    // none.
    if passed && (!run.outputs.messages.is_empty() || !run.is_completed()) {
        run.proofs.pages = true;
        return true;
    }
    let Some(last) = page.messages.last().and_then(|message| message.id.clone()) else { return false };
    // Waiting only makes sense if the listing advances, not if it shows the same page repeatedly.
    run.proofs.page_frontier.insert(frontier, last.clone()).as_ref() != Some(&last)
}

/// Whether the page's last messages are beyond the run's outputs, in the direction of its order.
fn passes_beyond(run: &OpenRun, page: &MessagePage, is_own: impl Fn(&Message) -> bool) -> bool {
    let Some(last) = page.messages.last().filter(|last| !is_own(last)) else { return false };
    let Some(created) = run.created_second() else { return page.messages.iter().any(&is_own) };
    let Some(second) = last.created_at.map(f64::floor) else { return page.messages.iter().any(&is_own) };
    match page.order {
        // An input of the run itself is also beyond its outputs.
        PageOrder::Descending => {
            second < created || run.inputs.messages.iter().any(|input| input.id == last.id)
        }
        // A later message may still be between outputs, on servers that accept messages while a run
        // is active.
        PageOrder::Ascending => {
            let behind = run.ended_second().map_or(second > created, |ended| second >= ended);
            behind && page.messages.iter().any(&is_own) && last.run.as_deref() != Some(run.id())
        }
    }
}
