//! What capture was shown so far, and so what it has to know. Written from the cases' list, not from the correlator.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use threadtap_core::correlator::Config;

/// All that was shown.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) threads: BTreeMap<String, ThreadSeen>,
    pub(super) runs: BTreeMap<String, RunSeen>,
    pub(super) messages: BTreeMap<String, MessageSeen>,
}

/// A thread, as it was shown.
#[derive(Debug, Default)]
pub(super) struct ThreadSeen {
    /// Whether a page named a run on one of its messages.
    pub(super) names_runs: bool,
    pub(super) created: bool,
    /// Whether something that decides on inputs was not seen, or in an order that no answer tells.
    pub(super) unclear: bool,
}

/// A message, as it was shown.
#[derive(Debug, Default)]
pub(super) struct MessageSeen {
    /// Whether its creation was shown.
    pub(super) created: bool,
    /// Whether it was shown as a whole.
    whole: bool,
    /// The metadata of the last object shown.
    pub(super) metadata: Option<Value>,
    /// Whether its deletion was shown.
    pub(super) deleted: bool,
}

/// A run, as it was shown.
#[derive(Debug, Default)]
pub(super) struct RunSeen {
    pub(super) thread: String,
    pub(super) first_at: u64,
    /// When its creation was asked for, if that was shown.
    pub(super) requested_at: Option<u64>,
    /// Whether it was over, and too old to be recorded, when it was first shown.
    pub(super) history: bool,
    pub(super) status: String,
    pub(super) ended: Option<(Ending, u64)>,
    pub(super) usage: Option<Value>,
    pub(super) error: Option<Value>,
    pub(super) metadata: Option<Value>,
    /// Whether a page had named a run on a message by then.
    pub(super) names_runs: bool,
    /// When it was last said not to be over; and when there was any sign of it.
    pub(super) word_at: u64,
    pub(super) sign_at: u64,
    pub(super) stream_error: Option<Value>,
    pub(super) client_gone: bool,
    /// Whether all of it was streamed, and no stream broke.
    pub(super) streamed: bool,
    /// Outputs shown as a whole.
    pub(super) whole: BTreeSet<String>,
    /// Outputs shown, and not as a whole.
    pub(super) begun: BTreeSet<String>,
    /// Text told in pieces by streams that are over.
    pub(super) pieces: BTreeMap<String, String>,
    pub(super) step_messages: BTreeSet<String>,
    /// Tool calls whose step was shown.
    pub(super) stepped: BTreeSet<String>,
    /// Tool calls, and whether it was shown what they returned.
    pub(super) calls: BTreeMap<String, bool>,
    /// Whether a message was deleted that was never shown, and so may have been an output.
    unseen_deleted: bool,
    pub(super) thread_deleted: bool,
    /// Whether nothing is left that could bring outputs.
    pub(super) settled: bool,
    /// Whether it was shown that no output is missing.
    pub(super) proven: bool,
    /// Where the listings of each kind asked for after the end have come to.
    reached: BTreeMap<(bool, bool), String>,
    /// When something was last listed of it.
    pub(super) listed_at: u64,
    /// Whether the next run was created, or the process shut down.
    pub(super) superseded: bool,
    pub(super) recorded: bool,
}

/// How the end of a run was learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ending {
    Stream,
    Poll,
    ListRuns,
    Modify,
    Create,
    Submit,
    Cancel,
    Assumed,
    ThreadDeleted,
}

/// A stream, as far as it was shown.
#[derive(Debug)]
pub(super) struct StreamSeen {
    pub(super) run: Option<String>,
    /// When the run's creation was asked for; none for one that goes on.
    pub(super) creation: Option<u64>,
    status: String,
    pieces: BTreeMap<String, String>,
    error: Option<Value>,
}

/// A page that was asked for.
#[derive(Clone, Debug)]
pub(super) struct PageAsked {
    pub(super) ascending: bool,
    pub(super) run: Option<String>,
    /// `Some("")` at the beginning.
    pub(super) after: Option<String>,
}

impl StreamSeen {
    pub(super) fn new(creation: Option<u64>) -> Self {
        Self { run: None, creation, status: String::new(), pieces: BTreeMap::new(), error: None }
    }
}

pub(super) fn is_terminal(status: &str) -> bool {
    matches!(status, "completed" | "failed" | "cancelled" | "expired" | "incomplete")
}

impl Ledger {
    pub(super) fn thread(&mut self, id: &str) -> &mut ThreadSeen {
        self.threads.entry(id.to_owned()).or_default()
    }

    pub(super) fn created_messages<'a>(&mut self, ids: impl IntoIterator<Item = &'a String>) {
        for id in ids {
            self.messages.entry(id.clone()).or_default().created = true;
        }
    }

    /// A run that is waited for.
    fn open(&mut self, id: &str) -> Option<&mut RunSeen> {
        self.runs.get_mut(id).filter(|run| !run.recorded && !run.history)
    }

    fn open_in<'a>(&'a mut self, thread: &'a str) -> impl Iterator<Item = (&'a String, &'a mut RunSeen)> {
        let runs = self.runs.iter_mut();
        runs.filter(move |(_, run)| run.thread == thread && !run.recorded && !run.history)
    }

    /// A run object was shown; `creation` says when the request came that it answers.
    pub(super) fn see_run(&mut self, object: &Value, how: Ending, creation: Option<u64>, at: u64) {
        let text = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
        let (id, thread, status) = (text("id"), text("thread_id"), text("status"));
        let terminal = is_terminal(&status);
        if !self.runs.contains_key(&id) {
            let ended = ["completed_at", "failed_at", "cancelled_at", "created_at"];
            let ended = ended.iter().find_map(|name| object[*name].as_u64()).unwrap_or_default() * 1000;
            let history = creation.is_none() && terminal && at.saturating_sub(ended) > 15 * 60_000;
            if creation.is_some() {
                self.open_in(&thread).for_each(|(_, run)| run.superseded |= run.ended.is_some());
            }
            let names_runs = self.thread(&thread).names_runs;
            let (first_at, word_at, sign_at) = (at, at, at);
            let run =
                RunSeen { thread, first_at, history, word_at, sign_at, names_runs, ..RunSeen::default() };
            self.runs.insert(id.clone(), run);
        }
        let Some(run) = self.open(&id) else { return };
        if run.requested_at.is_none() && creation.is_some() {
            run.requested_at = creation;
            run.streamed = how == Ending::Stream;
        }
        if run.ended.is_none() {
            if terminal {
                run.ended = Some((how, at));
            } else {
                (run.word_at, run.sign_at) = (at, at);
            }
            run.status = status;
        }
        let given = |name: &str| Some(&object[name]).filter(|value| !value.is_null()).cloned();
        run.usage = given("usage").or_else(|| run.usage.take());
        run.error = given("last_error").or_else(|| given("incomplete_details")).or_else(|| run.error.take());
        let metadata =
            given("metadata").filter(|metadata| *metadata != Value::Object(serde_json::Map::new()));
        run.metadata = metadata.or_else(|| run.metadata.take());
        let calls = object.pointer("/required_action/submit_tool_outputs/tool_calls");
        for call in calls.and_then(Value::as_array).into_iter().flatten() {
            run.calls.entry(call["id"].as_str().unwrap_or_default().to_owned()).or_default();
        }
    }

    /// A message object was shown.
    pub(super) fn see_message(&mut self, object: &Value, at: u64) {
        let id = object["id"].as_str().unwrap_or_default().to_owned();
        let seen = self.messages.entry(id.clone()).or_default();
        let whole = object["status"] != "in_progress";
        // One that is still being written is older than one that is whole, whenever it is shown.
        if whole || !seen.whole {
            seen.metadata = Some(object["metadata"].clone());
        }
        seen.whole |= whole;
        let Some(run) = object["run_id"].as_str().and_then(|run| self.open(run)) else { return };
        run.listed_at = at;
        if whole {
            run.begun.remove(&id);
            run.whole.insert(id);
        } else if !run.whole.contains(&id) {
            run.begun.insert(id);
        }
    }

    /// A step object was shown.
    pub(super) fn see_step(&mut self, object: &Value) {
        let Some(run) = object["run_id"].as_str().and_then(|run| self.open(run)) else { return };
        let details = &object["step_details"];
        if let Some(message) = details["message_creation"]["message_id"].as_str() {
            run.step_messages.insert(message.to_owned());
        }
        for call in details["tool_calls"].as_array().into_iter().flatten() {
            let returned = match &call["code_interpreter"] {
                Value::Null => !call["function"]["output"].is_null(),
                code => !code["outputs"].is_null(),
            };
            run.stepped.insert(call["id"].as_str().unwrap_or_default().to_owned());
            *run.calls.entry(call["id"].as_str().unwrap_or_default().to_owned()).or_default() |= returned;
        }
    }

    /// All steps were listed.
    pub(super) fn see_all_steps(&mut self, run: &str, requested_at: u64) {
        let Some(run) = self.open(run) else { return };
        let shown = !run.step_messages.is_empty() || !run.calls.is_empty();
        let over = run.ended.is_some_and(|(_, at)| at <= requested_at);
        run.proven |= over && shown && run.has_all_that_began();
        run.settled |= run.proven;
    }

    /// The app handed in what its tools returned.
    pub(super) fn see_submitted(&mut self, run: &str, calls: &[String], streamed: bool) {
        let Some(run) = self.open(run) else { return };
        run.streamed &= streamed;
        for call in calls {
            if let Some(returned) = run.calls.get_mut(call) {
                *returned = true;
            }
        }
    }

    /// A page of messages was shown.
    pub(super) fn see_page(
        &mut self,
        thread: &str,
        page: &PageAsked,
        answer: &Value,
        requested_at: u64,
        at: u64,
    ) {
        let items = answer["data"].as_array().cloned().unwrap_or_default();
        for item in &items {
            self.see_message(item, at);
        }
        self.thread(thread).names_runs |= items.iter().any(|item| item["run_id"].is_string());
        let key = (page.ascending, page.run.is_some());
        let is_last = answer["has_more"] == false;
        for (id, run) in self.open_in(thread) {
            let over = run.ended.is_some_and(|(_, ended)| ended <= requested_at);
            if !over || page.run.as_ref().is_some_and(|wanted| wanted != id) {
                continue;
            }
            let goes_on = match page.after.as_deref() {
                Some("") => true,
                Some(after) => run.reached.get(&key).is_some_and(|reached| reached == after),
                None => false,
            };
            if !goes_on {
                continue;
            }
            // A completed run that shows no output at all may yet show one.
            let odd = run.status == "completed" && run.whole.is_empty();
            if is_last && !odd {
                run.settled |= run.has_all_that_began();
                run.proven |= run.settled && !run.unseen_deleted;
            } else if let Some(last) = items.last() {
                let last = last["id"].as_str().unwrap_or_default().to_owned();
                if run.reached.insert(key, last.clone()) != Some(last) {
                    run.listed_at = at;
                }
            }
        }
    }

    /// A message was deleted.
    pub(super) fn see_deleted(&mut self, thread: &str, id: &str) {
        // A message that was born in a request is known without its id: which one was deleted is not.
        let known = self.messages.get(id).is_some_and(|message| message.metadata.is_some());
        self.messages.entry(id.to_owned()).or_default().deleted = true;
        self.open_in(thread).for_each(|(_, run)| run.unseen_deleted |= !known);
    }

    pub(super) fn see_thread_deleted(&mut self, thread: &str) {
        self.open_in(thread).for_each(|(_, run)| run.thread_deleted = true);
    }

    /// An event of a stream was shown.
    pub(super) fn see_piece(&mut self, stream: &mut StreamSeen, data: &Value, born: &[String], at: u64) {
        match data["object"].as_str().unwrap_or_default() {
            "thread.run" => {
                if stream.run.is_none() {
                    self.created_messages(born);
                }
                let first = stream.run.is_none();
                stream.run = data["id"].as_str().map(str::to_owned);
                stream.status = data["status"].as_str().unwrap_or_default().to_owned();
                let terminal = is_terminal(&stream.status);
                if terminal {
                    self.flush(stream, at);
                }
                self.see_run(data, Ending::Stream, stream.creation.filter(|_| first), at);
                if let Some(run) = self.open(stream.run.as_deref().unwrap_or_default())
                    && terminal
                    && run.streamed
                {
                    let told =
                        !run.whole.is_empty() || !run.step_messages.is_empty() || !run.calls.is_empty();
                    run.proven |= run.status != "completed" || (told && run.has_all_that_began());
                    run.settled |= run.proven;
                }
            }
            "thread.message" => {
                stream.pieces.remove(data["id"].as_str().unwrap_or_default());
                let mut begun = stream.pieces.clone();
                self.see_message(data, at);
                if data["status"] == "in_progress" {
                    begun.insert(data["id"].as_str().unwrap_or_default().to_owned(), String::new());
                }
                stream.pieces = begun;
            }
            "thread.message.delta" => {
                let id = data["id"].as_str().unwrap_or_default().to_owned();
                let text = data["delta"]["content"][0]["text"]["value"].as_str().unwrap_or_default();
                stream.pieces.entry(id).or_default().push_str(text);
            }
            "thread.run.step" => self.see_step(data),
            _ if data["error"].is_object() => stream.error = Some(data["error"].clone()),
            _ => {}
        }
        if let Some(run) = stream.run.as_deref().and_then(|run| self.open(run)) {
            run.sign_at = at;
        }
    }

    /// What a stream told in pieces is an output like any other, and waited on like one, once no more of it can come.
    fn flush(&mut self, stream: &mut StreamSeen, at: u64) {
        let pieces = std::mem::take(&mut stream.pieces);
        if let Some(run) = stream.run.as_deref().and_then(|run| self.open(run)) {
            if pieces.values().any(|text| !text.is_empty()) {
                run.listed_at = at;
            }
            run.pieces.extend(pieces.into_iter().filter(|(_, text)| !text.is_empty()));
        }
    }

    /// A stream is over; `broken` says who broke it off, if somebody did.
    pub(super) fn see_stream_end(
        &mut self,
        mut stream: StreamSeen,
        broken: Option<super::case::Break>,
        at: u64,
    ) {
        self.flush(&mut stream, at);
        let told_all = is_terminal(&stream.status) || stream.status == "requires_action";
        let Some(run) = stream.run.as_deref().and_then(|run| self.open(run)) else { return };
        if stream.error.is_some() || (broken.is_some() && !told_all) {
            run.streamed = false;
        }
        run.client_gone |= broken == Some(super::case::Break::ClientGone) && !told_all;
        run.stream_error = stream.error.or_else(|| run.stream_error.take());
    }

    /// A refusal was shown.
    pub(super) fn see_refusal(&mut self, answer: &Value, at: u64) {
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        let named = self.runs.iter_mut().filter(|(id, _)| message.contains(id.as_str()));
        named.for_each(|(_, run)| run.sign_at = at);
    }

    /// The process was killed, and with it whatever passed.
    pub(super) fn see_killed(&mut self, stream: &StreamSeen) {
        if let Some(run) = stream.run.as_deref().and_then(|run| self.open(run)) {
            run.streamed = false;
        }
    }

    /// A run that should have been recorded by now.
    pub(super) fn overdue(&self, config: &Config, now: u64) -> Option<String> {
        let ms = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap();
        let waited = |run: &RunSeen| match run.ended {
            _ if run.thread_deleted => Some("though its thread was deleted"),
            Some(_) if run.settled => Some("though all its outputs were shown"),
            Some(_) if run.superseded => Some("though it was superseded"),
            Some((_, at)) if now >= at.max(run.listed_at) + ms(config.outputs_grace) => {
                Some("after the grace")
            }
            None if now
                >= (run.first_at + ms(config.assumed_run_time)).max(run.sign_at)
                    + ms(config.unresolved_grace) =>
            {
                Some("though its time is over")
            }
            _ => None,
        };
        let mut open = self.runs.iter().filter(|(_, run)| !run.recorded && !run.history);
        open.find_map(|(id, run)| Some(format!("{id} is not recorded {}", waited(run)?)))
    }

    /// The process shuts down: what is over is recorded.
    pub(super) fn see_shutdown(&mut self) {
        self.runs.values_mut().for_each(|run| run.superseded |= run.ended.is_some());
    }
}

impl RunSeen {
    /// Whether every output of which something was shown was shown as a whole.
    fn has_all_that_began(&self) -> bool {
        self.begun.is_empty()
            && self.step_messages.iter().all(|message| self.whole.contains(message))
            && self.pieces.keys().all(|message| self.whole.contains(message))
    }
}
