//! One conversation: messages no run has claimed, runs that are not settled, and a memory of what is done.

use serde::{Deserialize, Serialize};

use super::Config;
use super::recent::Recent;
use super::run::{OpenRun, update_message};
use crate::attribution::Attribution;
use crate::interaction::Status;
use crate::message::{Message, Role};
use crate::observation::{Fact, MessageOrigin, Observation, Run, RunOrigin};
use crate::time::UnixMillis;

/// What survives of a conversation that has nothing pending: small, stored, and read back at the next start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    #[serde(default, skip_serializing_if = "Attribution::is_empty")]
    attribution: Attribution,
    /// Runs that are settled.
    runs: Recent<MEMORY>,
    /// Messages that belong to settled runs.
    messages: Recent<MEMORY>,
    /// Second in which the last claiming run was created: user messages up to then are claimed.
    boundary: Option<f64>,
    /// Whether no message before the next run's inputs can have been missed.
    history_known: bool,
    last_seen: UnixMillis,
}

/// A conversation in memory.
#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) state: State,
    pub(super) unclaimed: Vec<Message>,
    pub(super) runs: Vec<OpenRun>,
}

impl Conversation {
    pub(super) fn new(at: UnixMillis) -> Self {
        Self::restore(State {
            attribution: Attribution::default(),
            runs: Recent::default(),
            messages: Recent::default(),
            boundary: None,
            history_known: false,
            last_seen: at,
        })
    }

    pub(super) fn restore(state: State) -> Self {
        Self { state, unclaimed: Vec::new(), runs: Vec::new() }
    }

    /// Takes a fact. Runs it settles are appended to `settled`. Tells whether anything changed.
    pub(super) fn handle(
        &mut self,
        observation: &Observation,
        config: &Config,
        settled: &mut Vec<OpenRun>,
    ) -> bool {
        let Observation { conversation: _, at, attribution, fact } = observation;
        let at = *at;
        let changed = match fact {
            Fact::ConversationCreated { messages } => {
                self.state.history_known = true;
                self.unclaimed.extend(messages.iter().cloned());
                true
            }
            Fact::ConversationDeleted => self.delete(at, settled),
            Fact::MessageSeen { message, origin } => self.see_message(message, *origin, at, config),
            Fact::MessageDeleted { id } => self.delete_message(id),
            Fact::MessagesListed(page) => self.see_page(page, at, config),
            Fact::RunSeen { run, origin, first_token_at } => {
                let changed = self.see_run(run, origin, observation, config, settled);
                changed | self.on_run(&run.id, |run| run.note_first_token(*first_token_at))
            }
            Fact::StepSeen(step) => self.on_run(&step.run, |run| run.note_step(step)),
            Fact::StepsListed { run, steps, whole, requested_at } => self.on_run(run, |run| {
                let mut changed = false;
                for step in steps {
                    changed |= step.run == run.id() && run.note_step(step);
                }
                changed | (*whole && run.note_all_steps(*requested_at))
            }),
            Fact::ToolOutputsSubmitted { run, outputs } => {
                self.on_run(run, |run| run.note_tool_outputs(outputs))
            }
            Fact::StreamEnded { run, ending, first_token_at, error } => {
                self.on_run(run, |run| run.note_stream_end(*ending, *first_token_at, error.as_deref()))
            }
        };
        if changed {
            self.state.last_seen = self.state.last_seen.max(at);
            self.state.attribution.update(attribution);
        }
        self.settle_complete(settled);
        changed
    }

    /// Acts on deadlines. Tells whether the conversation is to be forgotten.
    pub(super) fn handle_timeout(
        &mut self,
        now: UnixMillis,
        config: &Config,
        settled: &mut Vec<OpenRun>,
    ) -> bool {
        for run in &mut self.runs {
            if run.deadline() <= now {
                run.conclude(now);
            }
        }
        self.settle_where(settled, |run| run.deadline() <= now);
        self.runs.is_empty() && self.forget_at(config) <= now
    }

    /// When this conversation wants to be looked at again.
    pub(super) fn deadline(&self, config: &Config) -> UnixMillis {
        let runs = self.runs.iter().map(OpenRun::deadline).min();
        runs.unwrap_or_else(|| self.forget_at(config))
    }

    /// Whether nothing is pending.
    pub(super) fn is_settled(&self) -> bool {
        self.runs.is_empty() && self.unclaimed.is_empty()
    }

    pub(super) fn state(&self) -> State {
        self.state.clone()
    }

    pub(super) fn attribution(&self) -> &Attribution {
        &self.state.attribution
    }

    pub(super) fn open_runs(&self) -> usize {
        self.runs.len()
    }

    /// Whether a message is known by its id: claimed, waiting, or of an open run.
    pub(super) fn knows_message(&self, id: &str) -> bool {
        self.state.messages.contains(id)
            || self.unclaimed.iter().any(|message| message.id.as_deref() == Some(id))
            || self.runs.iter().any(|run| {
                let mut messages = run.inputs.iter().chain(&run.outputs);
                messages.any(|message| message.id.as_deref() == Some(id))
            })
    }

    /// Finds where a user's message is held and brings it up to date: by its id, else as one that was born in a request and
    /// has the same text. None when it is held nowhere; else whether anything changed.
    pub(super) fn update_input(&mut self, message: &Message) -> Option<bool> {
        let held = || self.runs.iter().flat_map(|run| &run.inputs).chain(&self.unclaimed);
        let by_id = held().position(|known| known.id.is_some() && known.id == message.id);
        let at = by_id.or_else(|| {
            let text = held().any(|known| known.id.is_none()).then(|| message.text())?;
            held().position(|known| known.id.is_none() && known.role == message.role && known.text() == text)
        })?;
        let mut held = self.runs.iter_mut().flat_map(|run| &mut run.inputs).chain(&mut self.unclaimed);
        let known = held.nth(at).expect("the position was found in the same sequence");
        if known.id.is_none() {
            *known = message.clone();
            return Some(true);
        }
        Some(update_message(known, message))
    }

    /// Second in which the last claiming run was created.
    pub(super) fn boundary(&self) -> Option<f64> {
        self.state.boundary
    }

    fn see_message(
        &mut self,
        message: &Message,
        origin: MessageOrigin,
        at: UnixMillis,
        config: &Config,
    ) -> bool {
        let Some(id) = &message.id else { return false };
        match &message.run {
            Some(run) => {
                let Some(run) = self.runs.iter_mut().find(|open| open.id() == run) else { return false };
                if message.role == Role::Assistant {
                    return run.note_output(message, at, config);
                }
            }
            None if origin == MessageOrigin::Created => {}
            // Alone, a message that was fetched proves nothing: it may be old, and of any run.
            None => return self.update_input(message).unwrap_or(false),
        }
        if let Some(changed) = self.update_input(message) {
            return changed;
        }
        if self.knows_message(id) {
            return false;
        }
        match self.runs.iter_mut().find(|open| Some(open.id()) == message.run.as_deref()) {
            Some(run) => run.inputs.push(message.clone()),
            None => self.unclaimed.push(message.clone()),
        }
        true
    }

    fn delete_message(&mut self, id: &str) -> bool {
        let before = self.unclaimed.len();
        // A run's inputs stay: the model saw them.
        self.unclaimed.retain(|message| message.id.as_deref() != Some(id));
        self.unclaimed.len() < before
    }

    fn see_run(
        &mut self,
        run: &Run,
        origin: &RunOrigin,
        observation: &Observation,
        config: &Config,
        settled: &mut Vec<OpenRun>,
    ) -> bool {
        let at = observation.at;
        if let Some(open) = self.runs.iter_mut().find(|open| open.id() == run.id) {
            let mut changed = open.merge(run.clone(), at, config) | open.note_origin(origin);
            // The creation may be told after a poll of the same run: a slow answer, another client.
            if let RunOrigin::Created { messages, .. } = origin {
                open.inputs.extend(messages.iter().cloned());
                changed = true;
            }
            if changed {
                open.note_attribution(&observation.attribution);
            }
            return changed;
        }
        if self.state.runs.contains(&run.id) {
            return false;
        }
        let created = matches!(origin, RunOrigin::Created { .. });
        let mut open = OpenRun::new(run.clone(), at, config);
        if !created && open.is_terminal() && !is_recent(&open, at, config) {
            return self.learn_silently(&open);
        }
        open.note_origin(origin);
        open.note_attribution(&observation.attribution);
        let mut messages: &[Message] = &[];
        if let RunOrigin::Created { messages: carried, new_conversation, .. } = origin {
            messages = carried;
            self.state.history_known |= new_conversation;
            // A run can only be created when the ones before are over, on servers that lock; and it claims what came next.
            self.settle_terminal(settled);
        }
        // Whoever missed the run's creation may have missed messages too.
        open.inputs_complete = created && self.state.history_known;
        open.inputs = self.claim(open.created_second());
        open.inputs.extend(messages.iter().cloned());
        self.state.history_known |= created;
        self.runs.push(open);
        true
    }

    /// Takes the unclaimed messages a run created in this second answers: not those that came later.
    fn claim(&mut self, created: Option<f64>) -> Vec<Message> {
        let later = |message: &Message| {
            created.zip(message.created_at).is_some_and(|(run, message)| message.floor() > run)
        };
        let (kept, claimed) = std::mem::take(&mut self.unclaimed).into_iter().partition(later);
        self.unclaimed = kept;
        self.raise_boundary(created);
        claimed
    }

    /// A run that was over long before it was first seen is history. What it answered is not the next run's.
    fn learn_silently(&mut self, run: &OpenRun) -> bool {
        let claimed = self.claim(run.created_second());
        for id in claimed.iter().filter_map(|message| message.id.as_deref()) {
            self.state.messages.insert(id);
        }
        self.state.runs.insert(run.id())
    }

    fn raise_boundary(&mut self, created: Option<f64>) {
        if let Some(created) = created {
            self.state.boundary = Some(self.state.boundary.map_or(created, |known| known.max(created)));
        }
    }

    fn delete(&mut self, at: UnixMillis, settled: &mut Vec<OpenRun>) -> bool {
        for run in &mut self.runs {
            run.conclude_as(Status::ThreadDeleted, at);
        }
        self.settle_where(settled, |_| true);
        self.unclaimed.clear();
        true
    }

    fn on_run(&mut self, id: &str, change: impl FnOnce(&mut OpenRun) -> bool) -> bool {
        self.runs.iter_mut().find(|run| run.id() == id).is_some_and(change)
    }

    /// Settles what is over, with the outputs seen so far.
    pub(super) fn settle_terminal(&mut self, settled: &mut Vec<OpenRun>) {
        self.settle_where(settled, OpenRun::is_terminal);
    }

    fn settle_complete(&mut self, settled: &mut Vec<OpenRun>) {
        self.settle_where(settled, OpenRun::is_complete);
    }

    fn settle_where(&mut self, settled: &mut Vec<OpenRun>, done: impl Fn(&OpenRun) -> bool) {
        let mut at = 0;
        while at < self.runs.len() {
            if !done(&self.runs[at]) {
                at += 1;
                continue;
            }
            let run = self.runs.remove(at);
            for id in run.inputs.iter().chain(&run.outputs).filter_map(|message| message.id.as_deref()) {
                self.state.messages.insert(id);
            }
            self.state.runs.insert(run.id());
            settled.push(run);
        }
    }

    fn forget_at(&self, config: &Config) -> UnixMillis {
        self.state.last_seen.after(config.conversation_ttl)
    }
}

/// Whether a run first seen when it was over is recent enough to be recorded: it ended after capture began, and not long ago.
fn is_recent(run: &OpenRun, now: UnixMillis, config: &Config) -> bool {
    run.api_end().is_some_and(|end| {
        // The API's times are whole seconds, rounded down.
        end.after(std::time::Duration::from_secs(1)) > config.first_used
            && now.since(end) <= config.history_max_age
    })
}

/// Ids remembered per conversation, of runs and of messages.
const MEMORY: usize = 128;
