//! Listed messages: what they bring, and what they prove.
//!
//! Routing goes by id and `run_id`, never by position; only servers that name no run on a message leave place and time
//! ([`Pairing::Heuristic`]). A listing proves a run's outputs whole when it was asked for after the run was over, goes
//! without a gap from one end of the thread (or of the run, where the server honours `run_id`), and has passed beyond them.

use super::Config;
use super::conversation::Conversation;
use super::run::OpenRun;
use crate::interaction::Pairing;
use crate::message::{Message, Role};
use crate::observation::{MessagePage, PageOrder, PageStart};
use crate::time::UnixMillis;

impl Conversation {
    /// Takes in a page. Tells whether anything changed.
    pub(super) fn see_page(&mut self, page: &MessagePage, at: UnixMillis, config: &Config) -> bool {
        let mut chronological: Vec<&Message> = page.messages.iter().collect();
        if page.order == PageOrder::Descending {
            chronological.reverse();
        }
        let filtered = honours_filter(page);
        let names_runs = page.messages.iter().any(|message| message.run.is_some());
        let mut changed = false;
        // The run whose inputs the last user message belonged to.
        let mut owner: Option<usize> = None;
        let mut user_message_seen = false;
        for (place, message) in chronological.iter().enumerate() {
            let after = &chronological[place + 1..];
            if message.role != Role::Assistant {
                user_message_seen = true;
                changed |= self.see_listed_input(message, after, filtered, page);
                owner = self.run_with_input(message);
                continue;
            }
            let run = match &message.run {
                Some(run) => self.runs.iter().position(|open| open.id() == run),
                None if self.knows_as_output(message) => self.run_with_output(message),
                None if names_runs => None,
                None if owner.is_some() => owner,
                None if !user_message_seen => self.only_run_at(message),
                None => None,
            };
            let Some(run) = run else { continue };
            let run = &mut self.runs[run];
            if message.run.is_none() {
                run.pairing = Pairing::Heuristic;
            }
            changed |= run.note_output(message, at, config);
        }
        changed |= self.prove_inputs(page, &chronological, filtered);
        for run in &mut self.runs {
            changed |= prove_outputs(run, page, filtered);
        }
        changed
    }

    /// A listed message that is not the assistant's: known, waiting, an input seen late, or history.
    fn see_listed_input(
        &mut self,
        message: &Message,
        after: &[&Message],
        filtered: bool,
        page: &MessagePage,
    ) -> bool {
        let Some(id) = &message.id else { return false };
        if let Some(changed) = self.update_input(message) {
            return changed;
        }
        if self.knows_message(id) {
            return false;
        }
        if let Some(run) = &message.run {
            let Some(run) = self.runs.iter_mut().find(|open| open.id() == run) else { return false };
            run.inputs.push(message.clone());
            return true;
        }
        if filtered {
            return false;
        }
        let second = message.created_at.map(f64::floor);
        // An input of a run that began before this program knew the thread: nothing of another run may lie between.
        let candidate = self.runs.iter_mut().find(|run| {
            !run.inputs_complete
                && second.zip(run.created_second()).is_none_or(|(message, run)| message <= run)
                && after.iter().all(|later| {
                    let later_second = later.created_at.map(f64::floor);
                    later.role != Role::Assistant
                        || later.run.as_deref() == Some(run.id())
                        || (later.run.is_none()
                            && later_second
                                .zip(run.created_second())
                                .is_some_and(|(later, run)| later >= run))
                })
        });
        if let Some(run) = candidate {
            let place = run.inputs.iter().position(|input| {
                let known = input.created_at.map(f64::floor);
                known.zip(second).is_some_and(|(known, second)| known > second)
            });
            let place = place.unwrap_or_else(|| {
                // Oldest first within a page, before whatever the run's own request carried.
                run.inputs.iter().position(|input| input.id.is_none()).unwrap_or(run.inputs.len())
            });
            run.inputs.insert(place, message.clone());
            return true;
        }
        let newer_than_claims =
            self.boundary().is_none_or(|boundary| second.is_some_and(|second| second > boundary));
        let answered = after.iter().any(|later| later.role == Role::Assistant);
        let newest_shown = page.order == PageOrder::Descending || page.has_more == Some(false);
        let covered = self
            .runs
            .iter()
            .any(|run| second.zip(run.created_second()).is_none_or(|(message, run)| message <= run));
        if newer_than_claims && !answered && newest_shown && !covered {
            self.unclaimed.push(message.clone());
            return true;
        }
        false
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
        for run in self.runs.iter_mut().filter(|run| !run.inputs_complete) {
            let first = chronological.iter().position(|message| {
                run.inputs.iter().any(|input| input.id.is_some() && input.id == message.id)
            });
            let Some(first) = first else { continue };
            let older = chronological[..first].iter().any(|message| message.role == Role::Assistant);
            if older || reaches_beginning {
                run.inputs_complete = true;
                changed = true;
            }
        }
        changed
    }

    fn run_with_input(&self, message: &Message) -> Option<usize> {
        self.runs.iter().position(|run| run.inputs.iter().any(|input| input.id == message.id))
    }

    fn run_with_output(&self, message: &Message) -> Option<usize> {
        self.runs.iter().position(|run| run.outputs.iter().any(|output| output.id == message.id))
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

/// Whether the page shows one run only: it was asked to, and does.
fn honours_filter(page: &MessagePage) -> bool {
    page.run_filter.is_some()
        && !page.messages.is_empty()
        && page.messages.iter().all(|message| message.run == page.run_filter)
}

/// Judges whether this page completes a listing that shows every output of the run. Tells whether anything changed.
fn prove_outputs(run: &mut OpenRun, page: &MessagePage, filtered: bool) -> bool {
    if run.pages_prove_outputs || !run.ended_before(page.requested_at) {
        return false;
    }
    if filtered && page.run_filter.as_deref() != Some(run.id()) {
        return false;
    }
    let frontier = OpenRun::frontier(page.order, filtered);
    let continues = match &page.start {
        PageStart::Beginning => true,
        PageStart::After(id) => run.page_frontier.get(&frontier) == Some(id),
        PageStart::Unknown => false,
    };
    if !continues {
        return false;
    }
    let is_own =
        |message: &Message| run.outputs.iter().any(|output| output.id.is_some() && output.id == message.id);
    let passed = page.has_more == Some(false) || (!filtered && passes_beyond(run, page, is_own));
    let any_output = !run.outputs.is_empty();
    if passed && any_output {
        run.pages_prove_outputs = true;
        return true;
    }
    let Some(last) = page.messages.last().and_then(|message| message.id.clone()) else { return false };
    run.page_frontier.insert(frontier, last);
    true
}

/// Whether the page's last messages lie beyond the run's outputs, in the direction of its order.
fn passes_beyond(run: &OpenRun, page: &MessagePage, is_own: impl Fn(&Message) -> bool) -> bool {
    let Some(last) = page.messages.last().filter(|last| !is_own(last)) else { return false };
    let Some(created) = run.created_second() else { return page.messages.iter().any(&is_own) };
    let Some(second) = last.created_at.map(f64::floor) else { return page.messages.iter().any(&is_own) };
    match page.order {
        // An input of the run itself lies beyond its outputs too.
        PageOrder::Descending => second < created || run.inputs.iter().any(|input| input.id == last.id),
        PageOrder::Ascending => {
            second > created && page.messages.iter().any(&is_own) && last.run.as_deref() != Some(run.id())
        }
    }
}
