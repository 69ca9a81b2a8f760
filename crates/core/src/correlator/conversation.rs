//! One conversation: messages that no run has claimed, runs that are not settled, and a memory of
//! finished runs and messages.

use serde::{Deserialize, Serialize};

use super::chain::{Chain, Relinked};
use super::chains::Chains;
use super::config::Config;
use super::deadlines::{Place, Stake};
use super::heap_size;
use super::limits::Note;
use super::listed::Listed;
use super::packed_attribution::PackedAttribution;
use super::placed::Placed;
use super::recent::Recent;
use super::run::OpenRun;
use crate::attribution::Attribution;
use crate::interaction::Status;
use crate::message::Message;
use crate::observation::{ConversationKey, Fact, Observation, Run, RunOrigin};
use crate::time::UnixMillis;

/// The state of a conversation that has nothing pending. It is small, stored, and restored at the
/// next start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConversationState {
    #[serde(default, skip_serializing_if = "PackedAttribution::is_unknown")]
    pub(super) attribution: PackedAttribution,
    /// Runs that are settled.
    pub(super) runs: Recent<MEMORY>,
    /// Settled runs that were already history when first seen, and so were never recorded.
    #[serde(default)]
    pub(super) learnt: Recent<MEMORY>,
    /// Messages that belong to settled runs.
    pub(super) messages: Recent<MEMORY>,
    /// The second in which the last claiming run was created: user messages up to then are claimed.
    pub(super) boundary: Option<f64>,
    /// Whether no message before the next run's inputs can be missing.
    pub(super) history_known: bool,
    /// Whether the server was seen to name the run on a message. If so, a message without a run
    /// belongs to none.
    #[serde(default)]
    pub(super) names_runs: bool,
    /// Runs that are each contained in one exchange, as other requests may refer to them.
    #[serde(default, skip_serializing_if = "Chain::is_empty")]
    pub(super) chain: Chain,
    last_seen: UnixMillis,
}

impl ConversationState {
    /// How much memory it uses besides its own fields, including its share of the indexes.
    fn heap_bytes(&self) -> usize {
        let Self { attribution, runs, learnt, messages, chain, .. } = self;
        let ids = runs.heap_bytes() + learnt.heap_bytes() + messages.heap_bytes();
        attribution.heap_bytes() + ids + chain.heap_bytes() + Chains::bytes_for(chain)
    }
}

/// A conversation in memory.
#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) state: ConversationState,
    pub(super) unclaimed: Vec<Message>,
    pub(super) runs: Vec<OpenRun>,
    /// Which of the held messages are known only from lists.
    pub(super) listed: Listed,
    /// How much memory messages and runs use.
    pub(super) pending_bytes: usize,
    /// How much memory the whole conversation uses.
    bytes: usize,
}

/// The results of a change.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Runs that were settled.
    pub(super) settled: Vec<OpenRun>,
    pub(super) notes: Vec<Note>,
    /// Whether the certainty of something held decreased.
    pub(super) flagged: bool,
    /// How the links by which the conversation can be found changed.
    pub(super) relinked: Relinked,
}

impl Conversation {
    pub(super) fn new(at: UnixMillis) -> Self {
        Self::restore(ConversationState {
            attribution: PackedAttribution::default(),
            runs: Recent::default(),
            learnt: Recent::default(),
            messages: Recent::default(),
            boundary: None,
            history_known: false,
            names_runs: false,
            chain: Chain::default(),
            last_seen: at,
        })
    }

    pub(super) fn restore(state: ConversationState) -> Self {
        let (unclaimed, runs, listed) = (Vec::new(), Vec::new(), Listed::default());
        let mut conversation = Self { state, unclaimed, runs, listed, pending_bytes: 0, bytes: 0 };
        conversation.measure();
        conversation
    }

    /// Applies a fact. Returns whether anything changed.
    pub(super) fn handle(&mut self, placed: &Placed, config: &Config, outcome: &mut Outcome) -> bool {
        let Placed { observation, placement } = placed;
        let Observation { conversation: _, at, attribution, fact } = observation;
        let at = *at;
        let changed = match fact {
            // A repeated request got the same response.
            Fact::ConversationCreated { .. } if self.state.history_known => false,
            Fact::ConversationCreated { messages, messages_lost } => {
                self.state.history_known = !messages_lost;
                let messages = self.admit_all(messages, config, outcome);
                self.unclaimed.extend(messages);
                self.unclaimed.shrink_to_fit();
                true
            }
            Fact::ConversationDeleted => self.delete(at, outcome),
            Fact::ConversationSeen => self.learn_attribution(attribution),
            Fact::MessageSeen { message, origin, requested_at } => {
                let origin = (*origin, *requested_at);
                self.see_message(message, origin, at, config, outcome)
            }
            Fact::MessageDeleted { id } => self.delete_message(id),
            Fact::MessagesListed(page) => self.see_page(page, at, config, outcome),
            Fact::RunGoesOn { run } => self.on_run(run, |run| run.wait_on(at, config)),
            Fact::RunSeen { run, origin, first_token_at, streamed } => {
                let changed = self.see_run(run, origin, observation, config, outcome);
                changed
                    | self.on_run(&run.id, |run| {
                        run.note_first_token(*first_token_at) | (*streamed && run.note_streamed_state())
                    })
            }
            Fact::StepSeen(step) => self.on_run(&step.run, |run| run.tools.note_step(step)),
            Fact::StepsListed { run, steps, whole, requested_at, follows, precedes } => {
                self.on_run(run, |run| {
                    let mut changed = false;
                    for step in steps {
                        changed |= step.run == run.id() && run.tools.note_step(step);
                    }
                    let listed = steps.iter().map(|step| &step.id);
                    changed |= run.tools.order_steps(follows.iter().chain(listed).chain(precedes));
                    changed | (*whole && run.note_all_steps(*requested_at))
                })
            }
            Fact::ToolOutputsSubmitted { run, outputs } => {
                self.on_run(run, |run| run.tools.note_outputs(outputs))
            }
            Fact::StreamEnded { run, ending, first_token_at, error } => self.on_run(run, |run| {
                run.note_stream_end(*ending, *first_token_at, error.as_deref(), (at, config))
            }),
            Fact::TurnSeen(turn) => self.see_turn((turn, placement), observation, config, outcome),
        };
        if !changed && !outcome.flagged {
            return false;
        }
        self.state.last_seen = self.state.last_seen.max(at);
        self.state.attribution.update(attribution);
        self.settle_complete(outcome);
        self.measure();
        true
    }

    /// When this conversation must be processed next, and what would be lost if it were evicted.
    pub(super) fn place(&self, config: &Config) -> Place {
        match self.last_runs().map(OpenRun::deadline).min() {
            Some(deadline) => (Stake::Run, deadline),
            None if self.unclaimed.is_empty() => (Stake::Nothing, self.forget_at(config)),
            None => (Stake::Messages, self.forget_at(config)),
        }
    }

    /// Whether nothing is pending.
    pub(super) fn is_settled(&self) -> bool {
        self.runs.is_empty() && self.unclaimed.is_empty()
    }

    /// Whether nothing can follow the settled runs: if the server stores no runs, only tool outputs
    /// refer back to one.
    pub(super) fn is_spent(&self, settled: &[OpenRun]) -> bool {
        self.is_settled()
            && self.state.chain.has_no_callers()
            && settled.iter().any(|run| !run.api().traits().keeps_runs)
    }

    pub(super) fn state(&self) -> ConversationState {
        self.state.clone()
    }

    pub(super) fn attribution(&self) -> Attribution {
        self.state.attribution.attribution()
    }

    pub(super) fn open_runs(&self) -> usize {
        self.runs.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The complete state, for comparisons. The memory use may differ.
    #[cfg(any(test, fuzzing))]
    pub(super) fn shown(&self) -> String {
        let Self { state, unclaimed, runs, listed, pending_bytes: _, bytes: _ } = self;
        format!("{state:?} {unclaimed:?} {runs:?} {listed:?}")
    }

    fn learn_attribution(&mut self, attribution: &Attribution) -> bool {
        let known = !self.is_settled() || !self.state.runs.is_empty();
        known && self.state.attribution.update(attribution)
    }

    pub(super) fn see_run(
        &mut self,
        run: &Run,
        origin: &RunOrigin,
        observation: &Observation,
        config: &Config,
        outcome: &mut Outcome,
    ) -> bool {
        let at = observation.at;
        let created = matches!(origin, RunOrigin::Created { .. });
        let carried = match origin {
            RunOrigin::Created { messages, .. } => messages.as_slice(),
            RunOrigin::Continued { .. } | RunOrigin::Seen => &[],
        };
        if let Some(place) = self.runs.iter().position(|open| open.id() == run.id) {
            // The creation may be reported after a poll of the same run (a slow response, another
            // client), and again if the server responds to a repeated request with the same run.
            let late = created && !self.runs[place].created_seen();
            let open = &mut self.runs[place];
            if let RunOrigin::Created { new_conversation, messages_lost, .. } = origin
                && late
            {
                open.inputs.complete |= (open.inputs.history_known | new_conversation) && !messages_lost;
                self.state.history_known = true;
            }
            let changed = open.merge(run, at, config) | open.note_origin(origin) | late;
            if changed {
                open.note_attribution(&observation.attribution);
            }
            if late {
                self.carry(place, carried, config, outcome);
            }
            return changed;
        }
        if self.state.runs.contains(&run.id) {
            return false;
        }
        let mut open = OpenRun::new(run, at, config);
        if !created && open.is_terminal() && !is_recent(&open, at, config) {
            return self.learn_silently(&open);
        }
        open.note_origin(origin);
        open.note_attribution(&observation.attribution);
        open.inputs.claimed_after = self.unclaim(open.created_second());
        let mut messages_lost = false;
        if let RunOrigin::Created { new_conversation, messages_lost: lost, .. } = origin {
            messages_lost = *lost;
            self.state.history_known |= new_conversation;
            // On servers that lock, a run can only be created after the earlier ones are over, and
            // it claims the messages that came later.
            self.settle_terminal(outcome);
        }
        if self.runs.len() >= config.limits.conversation_runs.max(1) {
            outcome.notes.push(Note::RunsFull);
            self.settle_oldest(at, outcome);
        }
        // If the run's creation was missed, messages may have been missed too.
        open.inputs.history_known = self.state.history_known;
        open.inputs.complete = created && open.inputs.history_known && !messages_lost;
        open.inputs.messages = self.claim(open.created_second());
        if self.runs.is_empty() {
            // Nearly every conversation has one run, so room for three more would be wasted.
            self.runs.reserve_exact(1);
        }
        self.runs.push(open);
        self.carry(self.runs.len() - 1, carried, config, outcome);
        self.state.history_known |= created;
        true
    }

    /// A run that ended long before it was first seen is history. Its inputs do not belong to the
    /// next run.
    fn learn_silently(&mut self, run: &OpenRun) -> bool {
        let claimed = self.claim(run.created_second());
        for id in claimed.iter().filter_map(|message| message.id.as_deref()) {
            self.state.messages.insert(id);
            self.listed.forget(id);
        }
        self.state.learnt.insert(run.id());
        self.state.runs.insert(run.id())
    }

    fn delete(&mut self, at: UnixMillis, outcome: &mut Outcome) -> bool {
        let held = !self.is_settled();
        for run in &mut self.runs {
            run.finish_as(Status::ThreadDeleted, at);
        }
        self.settle_all(outcome);
        // A run whose creation response arrives later has lost its inputs.
        self.state.history_known &= self.unclaimed.is_empty();
        self.drop_unclaimed();
        held
    }

    pub(super) fn drop_unclaimed(&mut self) {
        self.unclaimed.clear();
        self.listed = Listed::default();
    }

    fn on_run(&mut self, id: &str, change: impl FnOnce(&mut OpenRun) -> bool) -> bool {
        self.runs.iter_mut().find(|run| run.id() == id).is_some_and(change)
    }

    pub(super) fn measure(&mut self) {
        let runs: usize = self.runs.iter().map(OpenRun::bytes).sum();
        let messages = heap_size::messages(&self.unclaimed) + self.listed.bytes();
        self.pending_bytes = messages + heap_size::list(&self.runs) + runs;
        self.bytes = FIXED_BYTES + self.state.heap_bytes() + self.pending_bytes;
    }

    pub(super) fn forget_at(&self, config: &Config) -> UnixMillis {
        self.state.last_seen.after(config.conversation_ttl)
    }
}

/// Whether a run that was already over when first seen is recent enough to be recorded: it ended
/// after capture began, and within the maximum age.
fn is_recent(run: &OpenRun, now: UnixMillis, config: &Config) -> bool {
    run.api_end().is_some_and(|end| {
        // The API's times are whole seconds, rounded down.
        end.after(std::time::Duration::from_secs(1)) > config.first_used
            && now.since(end) <= config.history_max_age
    })
}

/// The fixed memory use of a conversation: its entry in the map, part of which stays empty, and its
/// entry in the deadlines.
const FIXED_BYTES: usize =
    size_of::<(ConversationKey, Conversation)>() * 3 / 2 + 2 * size_of::<(Place, ConversationKey)>();
/// How many ids are remembered per conversation, for runs and for messages each.
const MEMORY: usize = 128;
