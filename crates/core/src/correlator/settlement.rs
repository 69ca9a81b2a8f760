//! When runs of a conversation are settled: each alone, or together with the runs that continued
//! it.
//!
//! A held run (see `run::continuation`) is over, and waits for one that submits its tool outputs.
//! That run continues it, and may be held in turn. Such a sequence of runs is settled as one when
//! its last run is. All but the last are over, so only the last has a deadline.

use super::config::Config;
use super::conversation::{Conversation, Outcome};
use super::run::OpenRun;
use crate::observation::{RunOrigin, Turn};
use crate::time::UnixMillis;

impl Conversation {
    /// Acts on deadlines in the order of their times, even if several have passed, for example
    /// after a restart. A restarted process therefore remembers the same as one that kept running.
    /// Returns whether to forget the conversation.
    pub(super) fn handle_timeout(&mut self, now: UnixMillis, config: &Config, outcome: &mut Outcome) -> bool {
        let due = self.runs.iter().filter(|run| run.deadline() <= now);
        let mut due: Vec<(UnixMillis, String)> =
            due.map(|run| (run.deadline(), run.id().to_owned())).collect();
        due.sort_by_key(|(at, _)| *at);
        for (_, id) in due {
            if let Some(run) = self.runs.iter_mut().find(|run| run.id() == id) {
                run.finish(now);
            }
            self.settle_where(outcome, |run| run.id() == id);
        }
        self.measure();
        // Runs that were just settled must be emitted first.
        self.runs.is_empty() && outcome.settled.is_empty() && self.forget_at(config) <= now
    }

    /// Settles everything with what is known, because there is no room to wait.
    pub(super) fn give_up(&mut self, now: UnixMillis, outcome: &mut Outcome) {
        for run in &mut self.runs {
            run.finish(now);
        }
        self.settle_all(outcome);
        self.drop_unclaimed();
        self.measure();
    }

    /// Settles finished runs with the outputs seen so far, and held runs, because nothing more can
    /// arrive. While something else is pending the journal stays. A later process that replays it
    /// would hold a recorded run again, so held runs then stay held.
    pub(super) fn let_go(&mut self, outcome: &mut Outcome) {
        let is_all = self.unclaimed.is_empty() && self.last_runs().all(OpenRun::is_terminal);
        self.settle_where(outcome, |run| run.is_terminal() && (is_all || !run.is_held()));
        self.measure();
    }

    /// Settles finished runs with the outputs seen so far.
    pub(super) fn settle_terminal(&mut self, outcome: &mut Outcome) {
        self.settle_where(outcome, |run| run.is_terminal() && !run.is_held());
        self.measure();
    }

    pub(super) fn settle_complete(&mut self, outcome: &mut Outcome) {
        self.settle_where(outcome, OpenRun::is_complete);
    }

    pub(super) fn settle_all(&mut self, outcome: &mut Outcome) {
        self.settle_where(outcome, |_| true);
    }

    /// Settles the oldest run, and the runs that continued it, with what is known.
    pub(super) fn settle_oldest(&mut self, at: UnixMillis, outcome: &mut Outcome) {
        let mut last = 0;
        while let Some(next) = self.continued_at(last) {
            last = next;
        }
        self.runs[last].finish(at);
        let id = self.runs[last].id().to_owned();
        self.settle_where(outcome, |run| run.id() == id);
    }

    /// Settles held runs that an earlier process recorded. `is_recorded` checks the first run of a
    /// sequence.
    pub(super) fn let_go_where(
        &mut self,
        mut is_recorded: impl FnMut(&OpenRun) -> bool,
        outcome: &mut Outcome,
    ) {
        let mut recorded = Vec::new();
        for last in self.last_runs().filter(|run| run.is_held()) {
            let mut first = last;
            while let Some(before) = self.runs.iter().find(|run| first.continues() == Some(run.id())) {
                first = before;
            }
            if is_recorded(first) {
                recorded.push(last.id().to_owned());
            }
        }
        self.settle_where(outcome, |run| recorded.iter().any(|id| id == run.id()));
        self.measure();
    }

    /// Whether any run is held.
    pub(super) fn holds_any(&self) -> bool {
        self.runs.iter().any(OpenRun::is_held)
    }

    /// The runs that no other run has continued.
    pub(super) fn last_runs(&self) -> impl Iterator<Item = &OpenRun> {
        let continued: Vec<&str> = self.runs.iter().filter_map(OpenRun::continues).collect();
        self.runs.iter().filter(move |run| !continued.contains(&run.id()))
    }

    /// The held run that a turn's tool outputs belong to, if there is one. The first such turn
    /// continues it.
    pub(super) fn held_for(&self, turn: &Turn) -> Option<String> {
        if !matches!(turn.origin, RunOrigin::Created { .. }) {
            return None;
        }
        let caller = self.continued_by(turn)?;
        let place = self.runs.iter().position(|run| run.id() == caller)?;
        let run = &self.runs[place];
        let free = run.is_held() && run.api() == turn.api && self.continued_at(place).is_none();
        (free && run.id() != turn.run.id).then(|| caller.to_owned())
    }

    /// The index of the run that continues another.
    fn continued_at(&self, place: usize) -> Option<usize> {
        let id = self.runs[place].id();
        self.runs.iter().position(|run| run.continues() == Some(id))
    }

    fn settle_where(&mut self, outcome: &mut Outcome, done: impl Fn(&OpenRun) -> bool) {
        let mut at = 0;
        while at < self.runs.len() {
            if !done(&self.runs[at]) || self.continued_at(at).is_some() {
                at += 1;
                continue;
            }
            let mut run = self.take_run(at);
            let before = |runs: &[OpenRun], run: &OpenRun| {
                runs.iter().position(|before| run.continues() == Some(before.id()))
            };
            while let Some(place) = before(&self.runs, &run) {
                let mut first = self.take_run(place);
                first.absorb(run);
                run = first;
                at -= usize::from(place < at);
            }
            outcome.notes.extend(run.notes());
            outcome.settled.push(run);
        }
    }

    /// Removes a run, and remembers it as settled.
    fn take_run(&mut self, place: usize) -> OpenRun {
        let run = self.runs.remove(place);
        for id in run
            .inputs
            .messages
            .iter()
            .chain(&run.outputs.messages)
            .filter_map(|message| message.id.as_deref())
        {
            self.state.messages.insert(id);
            self.listed.forget(id);
        }
        self.state.runs.insert(run.id());
        run
    }
}
