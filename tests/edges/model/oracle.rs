//! What a record must say, by the server's own truth and by what capture was shown of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use threadtap_core::correlator::Config;
use threadtap_core::interaction::{Interaction, Pairing, Status};
use threadtap_core::message::{Message, Role};
use threadtap_core::observation::{ToolCall, UsageAbsent};
use threadtap_testkit::assistants::{ExpectedMessage, ExpectedRun};

use super::ledger::{Ending, Ledger, RunSeen, is_terminal};

/// A record, and everything it is held against.
pub(super) struct Judged<'a> {
    pub(super) record: &'a Interaction,
    pub(super) truth: &'a ExpectedRun,
    pub(super) seen: &'a RunSeen,
    pub(super) ledger: &'a Ledger,
    /// The ids of all messages that runs wrote.
    pub(super) outputs: &'a BTreeSet<&'a str>,
    /// Every message there ever was in the thread.
    pub(super) thread: &'a [ExpectedMessage],
    /// The seconds in which they were written.
    pub(super) seconds: &'a BTreeMap<String, u64>,
    /// Those that were deleted.
    pub(super) deleted: &'a BTreeSet<String>,
    pub(super) config: &'a Config,
    pub(super) drops_app_messages: bool,
    pub(super) now: u64,
}

macro_rules! must {
    ($holds:expr, $($what:tt)+) => {
        if !$holds {
            return Err(format!($($what)+));
        }
    };
}

impl Judged<'_> {
    /// What is wrong with the record; else how the run's end was learnt.
    pub(super) fn verdict(&self) -> Result<Ending, String> {
        must!(!self.seen.recorded, "recorded twice");
        must!(!self.seen.history, "history is recorded");
        let ending = self.status()?;
        self.time(ending)?;
        self.fields()?;
        self.inputs()?;
        self.outputs()?;
        self.tool_calls()?;
        Ok(ending)
    }

    fn status(&self) -> Result<Ending, String> {
        let Self { record, truth, seen, .. } = self;
        let (expected, ending) = match seen.ended {
            Some((ending, _)) => (truth.status.as_str(), ending),
            None if seen.thread_deleted => ("thread_deleted", Ending::ThreadDeleted),
            None if seen.stream_error.is_some() => ("error", Ending::Assumed),
            None if seen.client_gone => ("client_disconnected", Ending::Assumed),
            None if seen.status == "requires_action" => ("expired", Ending::Assumed),
            None => ("unknown_final", Ending::Assumed),
        };
        must!(record.status.as_str() == expected, "status {} instead of {expected}", record.status);
        must!(record.assumed == seen.ended.is_none(), "assumed is {}", record.assumed);
        Ok(ending)
    }

    /// Nothing is recorded before its time.
    fn time(&self, ending: Ending) -> Result<(), String> {
        let Self { seen, now, config, .. } = self;
        let ms = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap();
        match ending {
            Ending::Assumed => {
                let unresolved = ms(config.unresolved_grace);
                let due = (seen.first_at + ms(config.assumed_run_time)).max(seen.word_at) + unresolved;
                must!(*now >= due, "given up at {now}, before {due}");
            }
            Ending::ThreadDeleted => {}
            _ => {
                let (_, ended) = seen.ended.unwrap();
                let due = ended + ms(config.outputs_grace);
                let settled =
                    self.record.outputs_complete || seen.thread_deleted || seen.superseded || seen.settled;
                must!(*now >= due || settled, "not waited for outputs: at {now}, before {due}");
            }
        }
        Ok(())
    }

    fn fields(&self) -> Result<(), String> {
        let Self { record, truth, seen, .. } = self;
        let raw = |raw: &Option<Box<serde_json::value::RawValue>>| {
            raw.as_ref().map(|raw| serde_json::from_str::<Value>(raw.get()).unwrap())
        };
        must!(record.assistant.as_ref() == Some(&truth.assistant), "assistant {:?}", record.assistant);
        must!(record.model.as_ref() == Some(&truth.model), "model {:?}", record.model);
        must!(raw(&record.usage) == seen.usage, "usage {:?} instead of {:?}", record.usage, seen.usage);
        if let Some(usage) = &seen.usage {
            must!(
                Some(usage) == truth.usage.map(|usage| usage.object()).as_ref(),
                "usage is not the server's"
            );
        }
        let absent =
            seen.usage.is_none().then_some(if record.assumed { "end_not_seen" } else { "not_reported" });
        must!(
            record.usage_absent.map(UsageAbsent::as_str) == absent,
            "usage_absent {:?}",
            record.usage_absent
        );
        let error = seen.error.as_ref().or(seen.stream_error.as_ref());
        must!(raw(&record.error).as_ref() == error, "error {:?} instead of {error:?}", record.error);
        must!(
            raw(&record.metadata) == seen.metadata,
            "metadata {:?} instead of {:?}",
            record.metadata,
            seen.metadata
        );
        let times = &record.times;
        must!(times.created_at == Some(truth.created_at as f64), "created_at {:?}", times.created_at);
        must!(
            times.request_at.0 == seen.requested_at.unwrap_or(seen.first_at),
            "request_at {:?}",
            times.request_at
        );
        if let Some((_, at)) = seen.ended {
            must!(times.end_at.0 == at, "end_at {:?} instead of {at}", times.end_at);
            let told = matches!(record.status, Status::Completed | Status::Failed | Status::Cancelled);
            let ended = truth.ended_at.filter(|_| told).map(|at| at as f64);
            must!(times.ended_at == ended, "ended_at {:?} instead of {ended:?}", times.ended_at);
            let started = truth.started_at.map(|at| at as f64);
            must!(times.started_at == started, "started_at {:?} instead of {started:?}", times.started_at);
        }
        // A server that has not named a run on any message yet may be one that never does.
        must!(record.pairing == Pairing::Exact || !seen.names_runs, "pairing is heuristic");
        Ok(())
    }

    fn inputs(&self) -> Result<(), String> {
        let Self { record, truth, seen, ledger, .. } = self;
        let thread = &ledger.threads[&seen.thread];
        let wanted =
            truth.inputs.iter().filter(|input| !self.drops_app_messages || input.role != "assistant");
        let (wanted, texts): (Vec<_>, Vec<_>) = (wanted.clone().collect(), view(&record.inputs));
        for (at, input) in record.inputs.iter().enumerate() {
            let Some(id) = &input.id else { continue };
            let same = |message: &&ExpectedMessage| message.id == *id && message.text == input.text();
            must!(self.thread.iter().any(|message| same(&message)), "input {id} is invented");
            let doubled = record.inputs[..at].iter().any(|other| other.id == input.id);
            must!(!doubled, "input {id} is there twice");
            let told = ledger.messages.get(id).and_then(|message| message.metadata.as_ref());
            let has: Value = serde_json::from_str(input.object.get()).unwrap();
            let unchanged = told.is_none_or(|told| has["metadata"] == *told);
            must!(unchanged, "input {id} is {} instead of {told:?}", has["metadata"]);
        }
        if thread.unclear {
            // Whose a message is may not be knowable; that it was said so often is.
            for text in &texts {
                let said = self.thread.iter().filter(|message| line(message) == *text).count();
                let recorded = texts.iter().filter(|other| *other == text).count();
                must!(recorded <= said, "{text} was said {said} times and is recorded {recorded} times");
            }
            return Ok(());
        }
        for input in &record.inputs {
            let Some(id) = input.id.as_ref().filter(|id| !wanted.iter().any(|input| input.id == **id)) else {
                continue;
            };
            // The same words in the same second: an answer that names no ids leaves open which are which.
            let near = self.seconds[id].abs_diff(truth.created_at) <= 1;
            let same = near && wanted.iter().any(|wanted| wanted.text == input.text());
            must!(same, "input {id} is another run's");
        }
        let created =
            |input: &&&ExpectedMessage| ledger.messages.get(&input.id).is_some_and(|seen| seen.created);
        let known: Vec<_> = wanted.iter().filter(created).map(|input| line(input)).collect();
        let all: Vec<_> = wanted.iter().map(|input| line(input)).collect();
        must!(is_within(&known, &texts), "inputs {texts:?} lack some of {known:?}");
        must!(is_within(&texts, &all), "inputs {texts:?} are not those of {all:?}");
        let whole = known.len() == all.len() && seen.requested_at.is_some() && thread.created;
        must!(record.inputs_complete || !whole, "inputs are said to be incomplete, and were all seen");
        Ok(())
    }

    fn outputs(&self) -> Result<(), String> {
        let Self { record, truth, seen, ledger, .. } = self;
        let ids: Vec<&str> = record.outputs.iter().filter_map(|output| output.id.as_deref()).collect();
        must!(ids.len() == record.outputs.len(), "an output has no id");
        let mut places = Vec::new();
        for output in &record.outputs {
            let id = output.id.as_deref().unwrap();
            must!(output.role == Role::Assistant, "an output is the {:?}'s", output.role);
            let place = truth.outputs.iter().chain(&truth.writing).position(|truth| truth.id == id);
            let Some(place) = place else {
                let vanished =
                    truth.thread_deleted || ledger.messages.get(id).is_some_and(|seen| seen.deleted);
                let apps = record.pairing == Pairing::Heuristic && !self.outputs.contains(id);
                must!(vanished || apps || seen.begun.contains(id), "output {id} is not the run's");
                continue;
            };
            places.push((place, output.created_at, seen.step_messages.contains(id)));
            let whole = truth.outputs.get(place).or(truth.writing.as_ref()).unwrap();
            must!(whole.text.starts_with(&output.text()), "output {id} says {:?}", output.text());
            let told = !seen.whole.contains(id) || output.text() == whole.text;
            must!(told, "output {id} was shown as a whole and says {:?}", output.text());
            if let Some(metadata) = ledger.messages.get(id).and_then(|message| message.metadata.as_ref())
                && seen.whole.contains(id)
            {
                let has: Value = serde_json::from_str(output.object.get()).unwrap();
                must!(
                    has["metadata"] == *metadata,
                    "output {id} is {} instead of {metadata}",
                    has["metadata"]
                );
            }
        }
        for (at, (place, created_at, stepped)) in places.iter().enumerate() {
            for (later, created_later, stepped_later) in &places[at + 1..] {
                must!(place != later, "an output is there twice: {ids:?}");
                // Of one second only steps tell the order; pages may come in any.
                let known = created_at != created_later || (*stepped && *stepped_later);
                must!(place < later || !known, "outputs are out of order: {ids:?}");
            }
        }
        for id in &seen.whole {
            must!(ids.contains(&id.as_str()), "output {id} was shown and is missing");
        }
        for (id, text) in &seen.pieces {
            let output = record.outputs.iter().find(|output| output.id.as_deref() == Some(id));
            let told = output.is_some_and(|output| output.text().starts_with(text.as_str()));
            must!(told, "of output {id} was told {text:?}");
        }
        if record.outputs_complete {
            must!(is_terminal(&truth.status) && !record.assumed, "outputs are complete without an end");
            for output in truth.outputs.iter().filter(|output| !ids.contains(&output.id.as_str())) {
                // Nobody who was shown neither the message nor its deletion can miss it.
                let shown = ledger.messages.get(&output.id).is_some_and(|message| message.deleted);
                must!(
                    self.deleted.contains(&output.id) && !shown,
                    "outputs are said to be complete without {}",
                    output.id
                );
            }
        }
        must!(
            record.outputs_complete || !seen.proven,
            "outputs are said to be incomplete, and were all shown"
        );
        Ok(())
    }

    fn tool_calls(&self) -> Result<(), String> {
        let Self { record, truth, seen, .. } = self;
        let mut places = Vec::new();
        for call in &record.tool_calls {
            let place = truth.tool_calls.iter().position(|truth| truth.id == call.id);
            let Some(place) = place else { return Err(format!("tool call {} is not the run's", call.id)) };
            // A call of which only the name is known has no place among the others.
            places.extend(seen.stepped.contains(&call.id).then_some(place));
            let whole = &truth.tool_calls[place];
            must!(call.kind == whole.kind, "tool call {} is a {}", call.id, call.kind);
            let name = call.name.as_deref().unwrap_or_default();
            must!(name == whole.name, "tool call {} is {name}", call.id);
            let arguments = call.arguments.as_deref().unwrap_or_default();
            must!(whole.arguments.starts_with(arguments), "tool call {} has {arguments}", call.id);
            let output = returned(call);
            must!(output.is_none() || output == whole.output, "tool call {} returned {output:?}", call.id);
            match seen.calls.get(&call.id) {
                Some(true) => must!(output == whole.output, "tool call {} has lost its output", call.id),
                Some(false) => {}
                None => continue,
            }
            must!(arguments == whole.arguments, "tool call {} has lost its arguments", call.id);
        }
        let ids: BTreeSet<&String> = record.tool_calls.iter().map(|call| &call.id).collect();
        must!(ids.len() == record.tool_calls.len(), "a tool call is there twice");
        must!(places.is_sorted_by(|a, b| a < b), "tool calls are out of order or doubled: {places:?}");
        for id in seen.calls.keys() {
            must!(
                record.tool_calls.iter().any(|call| call.id == *id),
                "tool call {id} was shown and is missing"
            );
        }
        Ok(())
    }
}

fn returned(call: &ToolCall) -> Option<String> {
    let output = call.output.clone()?;
    if call.kind != "code_interpreter" {
        return Some(output);
    }
    let outputs: Value = serde_json::from_str(&output).ok()?;
    outputs[0]["logs"].as_str().map(str::to_owned)
}

fn line(message: &ExpectedMessage) -> String {
    json!([message.role, message.text]).to_string()
}

fn view(messages: &[Message]) -> Vec<String> {
    let role = |message: &Message| if message.role == Role::User { "user" } else { "assistant" };
    messages.iter().map(|message| json!([role(message), message.text()]).to_string()).collect()
}

/// Whether a list has all of another one's items, in their order.
fn is_within(part: &[String], whole: &[String]) -> bool {
    let mut rest = whole.iter();
    part.iter().all(|item| rest.any(|other| other == item))
}
