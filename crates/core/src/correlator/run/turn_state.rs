//! What is known of a run beside others when one exchange tells it as a whole.

use serde_json::value::RawValue;

use crate::correlator::heap_size;
use crate::observation::{Api, Reasoning, UsageAbsent};
use crate::time::UnixMillis;

/// What is known of such a run.
#[derive(Debug)]
pub(super) struct TurnState {
    pub(super) api: Api,
    /// The run that began the user's turn, if it is another one.
    pub(super) turn_id: Option<String>,
    pub(super) parent_id: Option<String>,
    pub(super) reasoning: Vec<Reasoning>,
    pub(super) usage_absent: Option<UsageAbsent>,
    pub(super) request: Option<Box<RawValue>>,
    pub(super) response: Option<Box<RawValue>>,
    /// Until when it waits, once it is over, for a run that goes on with it.
    pub(super) held_until: Option<UnixMillis>,
    /// The run that it goes on with, in one record.
    pub(super) continues: Option<String>,
    /// The runs that went on with it, which it has taken in.
    pub(super) continuations: Vec<String>,
    /// Whether it goes on without the exchange that asked for it.
    pub(super) background: bool,
    /// Whether its end was told with everything there is.
    pub(super) told_whole: bool,
    /// Whether nothing more can come of it: the client left the exchange it is bound to, or nobody can ask for it again.
    pub(super) left: bool,
}

impl TurnState {
    /// What it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        let Self { turn_id, parent_id, continues, reasoning, request, response, .. } = self;
        let raw = |raw: &Option<Box<RawValue>>| raw.as_ref().map_or(0, |raw| heap_size::text(raw.get()));
        let texts = |item: &Reasoning| heap_size::optional(&item.id) + heap_size::text(&item.text);
        heap_size::allocation(size_of::<Self>())
            + heap_size::optional(turn_id)
            + heap_size::optional(parent_id)
            + heap_size::optional(continues)
            + heap_size::list(reasoning)
            + reasoning.iter().map(texts).sum::<usize>()
            + raw(request)
            + raw(response)
    }
}
