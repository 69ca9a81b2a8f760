//! The steps of a run and the tools it called.

use std::mem::take;

use super::merge::fill;
use crate::correlator::heap_size;
use crate::observation::{Step, ToolCall, ToolOutput};

/// The steps of a run and the tools it called.
#[derive(Debug, Default)]
pub(in crate::correlator) struct ToolUse {
    pub(super) calls: Vec<ToolCall>,
    /// How much memory they use.
    pub(super) bytes: usize,
    /// How many steps, tool calls or their texts were omitted.
    pub(super) left_out: usize,
    /// What is known about the steps, in order.
    pub(super) steps: Vec<StepSeen>,
}

impl ToolUse {
    pub(in crate::correlator) fn note_step(&mut self, step: &Step) -> bool {
        let calls = || step.tool_calls.iter().map(|call| call.id.clone());
        let mut changed = match self.steps.iter().position(|known| known.id == step.id) {
            Some(place) => {
                let known = &mut self.steps[place];
                let before = known.calls.len();
                let new: Vec<String> = calls().filter(|call| !known.calls.contains(call)).collect();
                known.calls.extend(new.into_iter().take(MAX_STEPS.saturating_sub(before)));
                fill(&mut known.message, step.message.clone()) | (known.calls.len() > before)
            }
            None if self.steps.len() >= MAX_STEPS => {
                self.left_out += 1;
                false
            }
            None => {
                let (id, message) = (step.id.clone(), step.message.clone());
                self.steps.push(StepSeen { id, message, calls: calls().take(MAX_STEPS).collect() });
                true
            }
        };
        for call in &step.tool_calls {
            changed |= self.note_call(call.clone());
        }
        changed
    }

    /// Sorts known steps by the order of a list, oldest first. Returns whether that changed
    /// anything.
    pub(in crate::correlator) fn order_steps<'a>(
        &mut self,
        listed: impl Iterator<Item = &'a String>,
    ) -> bool {
        let listed: Vec<&String> = listed.collect();
        let rank = |step: &StepSeen| listed.iter().position(|id| **id == step.id);
        let places: Vec<usize> =
            (0..self.steps.len()).filter(|at| rank(&self.steps[*at]).is_some()).collect();
        let mut moved: Vec<StepSeen> = places.iter().map(|at| take(&mut self.steps[*at])).collect();
        let changed = !moved.is_sorted_by_key(rank);
        moved.sort_by_key(rank);
        for (at, step) in places.into_iter().zip(moved) {
            self.steps[at] = step;
        }
        changed
    }

    pub(in crate::correlator) fn note_outputs(&mut self, outputs: &[ToolOutput]) -> bool {
        let mut changed = false;
        for output in outputs {
            if let Some(call) = self.calls.iter_mut().find(|call| call.id == output.call) {
                changed |= grow(&mut call.output, Some(&output.output));
            }
        }
        self.measure();
        changed
    }

    pub(super) fn note_call(&mut self, newer: ToolCall) -> bool {
        let ToolCall { id, kind: _, server: _, name, arguments, output } = &newer;
        let changed = match self.calls.iter().position(|call| call.id == *id) {
            Some(known) => {
                let known = &mut self.calls[known];
                grow(&mut known.name, name.as_ref())
                    | grow(&mut known.arguments, arguments.as_ref())
                    | grow(&mut known.output, output.as_ref())
            }
            None if self.calls.len() >= MAX_STEPS || self.bytes > MAX_TOOL_BYTES => {
                self.left_out += 1;
                false
            }
            None => {
                self.calls.push(newer);
                true
            }
        };
        if changed {
            self.measure();
        }
        changed
    }

    /// Appends the calls of another run. Their ids may repeat.
    pub(super) fn append_calls(&mut self, calls: Vec<ToolCall>) {
        let room = MAX_STEPS.saturating_sub(self.calls.len());
        self.left_out += calls.len().saturating_sub(room);
        self.calls.extend(calls.into_iter().take(room));
        self.measure();
    }

    /// Measures the size of the tool calls. Beyond the limit, the longest texts are dropped.
    fn measure(&mut self) {
        let bytes = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let texts: usize = self.calls.iter().map(heap_size::tool_call).sum();
        self.bytes = heap_size::list(&self.calls) + texts;
        while self.bytes > MAX_TOOL_BYTES {
            let texts = self.calls.iter_mut().flat_map(|call| [&mut call.arguments, &mut call.output]);
            let Some(longest) = texts.max_by_key(|text| bytes(text)) else { return };
            let Some(text) = longest.take() else { return };
            self.bytes -= text.len();
            self.left_out += 1;
        }
    }
}

/// What is known about a step.
#[derive(Debug, Default)]
pub(super) struct StepSeen {
    pub(super) id: String,
    /// The message it created.
    pub(super) message: Option<String>,
    /// The calls it made.
    pub(super) calls: Vec<String>,
}

impl StepSeen {
    /// How much memory it uses besides its own fields.
    pub(super) fn heap_bytes(&self) -> usize {
        let Self { id, message, calls } = self;
        let ids: usize = calls.iter().map(|call| heap_size::text(call)).sum();
        heap_size::text(id) + heap_size::optional(message) + heap_size::list(calls) + ids
    }
}

/// The longer text wins, because an unfinished text grows.
fn grow(known: &mut Option<String>, newer: Option<&String>) -> bool {
    let longer = newer.map(String::len) > known.as_ref().map(String::len);
    if longer {
        *known = newer.cloned();
    }
    longer
}

/// The maximum number of steps, and of tool calls, of one run: far more than any run uses.
const MAX_STEPS: usize = 1024;
/// The maximum size of the texts of one run's tool calls.
const MAX_TOOL_BYTES: usize = 4 << 20;
