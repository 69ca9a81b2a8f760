//! Additional state of a run that is contained in one exchange.

use serde_json::value::RawValue;

use crate::correlator::heap_size;
use crate::observation::{Api, Reasoning, UsageAbsent};
use crate::time::UnixMillis;

/// The additional state of such a run.
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
    /// Until when the finished run waits for a run that continues it.
    pub(super) held_until: Option<UnixMillis>,
    /// The run that it continues, in one record.
    pub(super) continues: Option<String>,
    /// The runs that continued it and were merged into it.
    pub(super) continuations: Vec<String>,
    /// Whether it continues after the exchange that requested it.
    pub(super) background: bool,
    /// Whether its end was reported with complete contents.
    pub(super) told_whole: bool,
    /// Whether no more can arrive: the client left the exchange that the run depends on, or the run
    /// can no longer be fetched.
    pub(super) left: bool,
}

impl TurnState {
    /// How much memory it uses.
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
