//! What capture was shown of each response, and what its record must say.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use threadtap_core::interaction::{Interaction, Pairing, Status};
use threadtap_core::message::{Message, Role};

use super::case::Style;
use super::server::Response;

/// All that was shown.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Whether what hands in tool outputs is merged with what called the tools.
    merges: bool,
    pub(crate) shown: Vec<Shown>,
    conversations: BTreeMap<String, Conversation>,
    /// Conversations by the responses in them.
    known: BTreeMap<String, String>,
    /// Responses that were over long before they were first seen.
    learnt: BTreeSet<String>,
    /// Responses whose request said all that was said before, and whose end was seen with all of the output.
    remembered: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Conversation {
    /// Items that wait for a response: their ids, where they are known, and texts.
    waiting: Vec<(Option<String>, String)>,
    history_known: bool,
    boundary: Option<u64>,
    /// Responses that called tools: their ids, those that began their turns, and the calls.
    callers: Vec<(String, String, Vec<String>)>,
}

/// A response that was seen.
#[derive(Debug)]
pub(crate) struct Shown {
    /// Its id; none if it was not told one.
    pub(crate) run: Option<String>,
    conversation: String,
    created_at: u64,
    claimed: Vec<(Option<String>, String)>,
    claimed_after: Option<u64>,
    asked: Vec<String>,
    inputs_complete: bool,
    parent: Option<String>,
    turn: Option<String>,
    background: bool,
    left: bool,
    deadline: u64,
    outputs: Vec<String>,
    /// The API's last word, if it was heard without all of the output.
    last_word: Option<&'static str>,
    done: Option<Done>,
    calls: Vec<String>,
    /// What the tools returned that it hands in: the calls, and what each returned.
    returned: Vec<(String, String)>,
    /// Until when it waits for another one to go on with it, once it is over.
    held_until: Option<u64>,
    /// The one that goes on with it, in one record.
    continued_by: Option<usize>,
    continues: bool,
    /// Whether it was held, and is no more.
    gone: bool,
}

#[derive(Debug)]
struct Done {
    status: String,
    complete: bool,
    assumed: bool,
}

/// What a request says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) inputs: Vec<String>,
    pub(crate) answers: Vec<String>,
    pub(crate) conversation: Option<String>,
    pub(crate) previous: Option<String>,
    /// The response that the request repeats, with what that was asked.
    pub(crate) repeats: Option<String>,
    /// Whether the user says something.
    pub(crate) asks: bool,
}

impl Ledger {
    pub(crate) fn new(merges: bool) -> Self {
        Self { merges, ..Self::default() }
    }

    /// Time passes.
    pub(crate) fn tick(&mut self, now: u64) {
        for shown in self.shown.iter_mut().filter(|shown| shown.continued_by.is_none()) {
            if shown.done.is_some() {
                shown.gone |= shown.held_until.is_some_and(|until| until <= now);
            }
            if shown.done.is_some() || shown.deadline > now {
                continue;
            }
            shown.gone = true;
            let status = match (shown.last_word, shown.left) {
                (Some(status), _) => status,
                (None, true) => "client_disconnected",
                (None, false) => "unknown_final",
            };
            let assumed = shown.last_word.is_none();
            shown.done = Some(Done { status: status.to_owned(), complete: false, assumed });
        }
    }

    pub(crate) fn conversation_created(&mut self, id: &str, items: Vec<String>) {
        let conversation = self.conversations.entry(id.to_owned()).or_default();
        conversation.history_known = true;
        conversation.waiting.extend(items.into_iter().map(|text| (None, text)));
    }

    pub(crate) fn item_added(&mut self, conversation: &str, id: &str, text: &str) {
        let conversation = self.conversations.entry(conversation.to_owned()).or_default();
        conversation.waiting.push((Some(id.to_owned()), text.to_owned()));
    }

    pub(crate) fn item_deleted(&mut self, conversation: &str, id: &str) {
        if let Some(conversation) = self.conversations.get_mut(conversation) {
            conversation.waiting.retain(|(known, _)| known.as_deref() != Some(id));
        }
    }

    pub(crate) fn conversation_deleted(&mut self, id: &str) {
        let Some(conversation) = self.conversations.get_mut(id) else { return };
        conversation.history_known &= conversation.waiting.is_empty();
        conversation.waiting.clear();
        for shown in self.shown.iter_mut().filter(|shown| shown.conversation == id) {
            shown.gone = true;
            if shown.done.is_none() {
                let status = shown.last_word.unwrap_or("thread_deleted").to_owned();
                shown.done = Some(Done { status, complete: false, assumed: shown.last_word.is_none() });
            }
        }
    }

    /// A state of a response was told; `asked` with its creation, `over` as it is at the end, `whole` with all its output.
    pub(crate) fn state(
        &mut self,
        response: &Response,
        asked: Option<&Asked>,
        (over, whole): (bool, bool),
        (at, style): (u64, Style),
    ) {
        if self.learnt.contains(&response.id) {
            return;
        }
        let place = match self.shown.iter().position(|shown| shown.run.as_ref() == Some(&response.id)) {
            Some(place) => place,
            None if asked.is_none() && over && at - response.ended_at.unwrap() * 1000 > 900_000 => {
                self.learnt.insert(response.id.clone());
                let key = self.place(response, asked, style);
                let conversation = self.conversations.entry(key).or_default();
                conversation.waiting.clear();
                conversation.boundary = conversation.boundary.max(Some(response.created_at));
                return;
            }
            None => self.first_seen(response, asked, at, style),
        };
        let merges = self.merges;
        if self.shown[place].done.is_some() || self.is_settled(place) {
            return;
        }
        let shown = &mut self.shown[place];
        if over {
            if shown.last_word.replace(response.status).is_none() {
                shown.deadline = at + 30_000;
            }
            if merges && response.status == "completed" && !response.calls().is_empty() {
                let until = *shown.held_until.get_or_insert(at + GRACE);
                shown.deadline = shown.deadline.max(until);
            }
            self.note_calls(place, &response.calls());
            let shown = &mut self.shown[place];
            shown.outputs = texts(&response.output);
            if whole {
                let status = response.status.to_owned();
                shown.done = Some(Done { status, complete: true, assumed: false });
            }
        } else if shown.background && shown.last_word.is_none() {
            shown.deadline = shown.deadline.max(at + 660_000);
        }
    }

    /// All of a response was shown, and all that was said before it.
    pub(crate) fn remember(&mut self, response: &Response) {
        if !response.output.is_empty() {
            self.remembered.insert(response.id.clone());
        }
    }

    /// The response that a request repeats, if it is known by that.
    fn repeated<'a>(&self, asked: Option<&'a Asked>) -> Option<&'a String> {
        asked?.repeats.as_ref().filter(|id| self.remembered.contains(*id))
    }

    /// A stream ended before the response did, with these texts and calls told.
    pub(crate) fn stream_ended(
        &mut self,
        response: &Response,
        (texts, calls): (Vec<String>, Vec<String>),
        left: bool,
        at: u64,
    ) {
        let Some(place) = self.shown.iter().position(|shown| shown.run.as_ref() == Some(&response.id)) else {
            return;
        };
        if self.shown[place].done.is_some() || self.shown[place].last_word.is_some() {
            return;
        }
        self.note_calls(place, &calls);
        let shown = &mut self.shown[place];
        shown.outputs = texts;
        shown.left |= left;
        if shown.background {
            shown.deadline = shown.deadline.max(at + 660_000);
        } else if left {
            let status = "client_disconnected".to_owned();
            shown.done = Some(Done { status, complete: false, assumed: true });
        } else {
            shown.deadline = at + 60_000;
        }
    }

    /// A stream ended before it told of a response.
    pub(crate) fn nameless(&mut self, asked: &Asked, left: bool, at: u64) {
        let nameless = Response {
            id: format!("nameless_{}", self.shown.len()),
            conversation: None,
            previous: None,
            background: false,
            created_at: u64::MAX,
            ended_at: None,
            status: "in_progress",
            output: Vec::new(),
        };
        let style = Style { names: false, crlf: false, omits: true, repeats: false, bare: false };
        self.state(&nameless, Some(asked), (false, false), (at, style));
        self.stream_ended(&nameless, (Vec::new(), Vec::new()), left, at);
        let shown = self.shown.last_mut().unwrap();
        shown.run = None;
    }

    fn place(&self, response: &Response, asked: Option<&Asked>, style: Style) -> String {
        let told = |from_request: Option<&String>, own: &Option<String>| {
            from_request.or_else(|| own.as_ref().filter(|_| !style.omits)).cloned()
        };
        if let Some(id) = told(asked.and_then(|asked| asked.conversation.as_ref()), &response.conversation) {
            return id;
        }
        if let Some(known) = self.known.get(&response.id) {
            return known.clone();
        }
        if let Some(id) = told(asked.and_then(|asked| asked.previous.as_ref()), &response.previous) {
            return self.known.get(&id).cloned().unwrap_or(id);
        }
        let answers = asked.map(|asked| asked.answers.as_slice()).unwrap_or_default();
        let made = |call: &String| {
            let mut conversations = self.conversations.iter();
            conversations.find(|(_, of)| of.callers.iter().any(|(.., calls)| calls.contains(call)))
        };
        let caller = answers.iter().find_map(made);
        let repeated = || self.repeated(asked).map(|repeated| self.known[repeated].clone());
        let key = caller.map(|(key, _)| key.clone()).or_else(repeated);
        key.unwrap_or_else(|| response.id.clone())
    }

    fn first_seen(&mut self, response: &Response, asked: Option<&Asked>, at: u64, style: Style) -> usize {
        let key = self.place(response, asked, style);
        let repeated = self.repeated(asked);
        let nameless = response.created_at == u64::MAX;
        self.known.insert(response.id.clone(), key.clone());
        let created = response.created_at;
        let mut claimed_after = self.conversations.entry(key.clone()).or_default().boundary;
        let open: Vec<bool> = (0..self.shown.len()).map(|place| !self.is_settled(place)).collect();
        let conversation = self.conversations.entry(key.clone()).or_default();
        let later = self.shown.iter_mut().zip(open).filter_map(|(shown, open)| open.then_some(shown));
        let later =
            later.filter(|shown| shown.conversation == key && shown.created_at > created && !nameless);
        for shown in later.filter(|shown| shown.created_at != u64::MAX) {
            claimed_after = claimed_after.min(shown.claimed_after);
            if shown.claimed_after < Some(created) {
                shown.claimed_after = Some(created);
                conversation.waiting.splice(0..0, std::mem::take(&mut shown.claimed));
            }
        }
        // What only waits for more of its output waits no longer when the conversation goes on.
        let waiting = self.shown.iter_mut().filter(|shown| shown.conversation == key && shown.done.is_none());
        for shown in waiting.filter(|shown| asked.is_some() && shown.held_until.is_none()) {
            if let Some(status) = shown.last_word {
                shown.done = Some(Done { status: status.to_owned(), complete: false, assumed: false });
            }
        }
        let named = asked.is_some_and(|asked| asked.conversation.is_some());
        let told_conversation = response.conversation.is_some() && !style.omits;
        conversation.history_known |= asked.is_some() && !named && !told_conversation;
        let inputs_complete = asked.is_some() && conversation.history_known;
        conversation.history_known |= asked.is_some();
        let claimed = std::mem::take(&mut conversation.waiting);
        if !nameless {
            conversation.boundary = conversation.boundary.max(Some(created));
        }
        let empty = Asked::default();
        let asks = asked.is_none_or(|asked| asked.asks);
        let asked = asked.unwrap_or(&empty);
        let told = || response.previous.clone().filter(|_| !style.omits);
        let previous = asked.previous.clone().or_else(told).or_else(|| repeated.cloned());
        let made = |(_, _, calls): &&(String, String, Vec<String>)| {
            calls.iter().any(|call| asked.answers.contains(call))
        };
        let before = match &previous {
            Some(previous) => {
                let caller = conversation.callers.iter().find(|(run, ..)| run == previous);
                Some(caller.map_or((previous, previous), |(run, turn, _)| (run, turn)))
            }
            None => conversation.callers.iter().rev().find(made).map(|(run, turn, _)| (run, turn)),
        };
        let parent = before.map(|(run, _)| run.clone());
        let turn = before.filter(|_| !asks).map(|(_, turn)| turn.clone());
        let caller = conversation.callers.iter().rev().find(made).map(|(run, ..)| run);
        let caller = caller.filter(|caller| turn.is_some() && parent.as_ref() == Some(caller));
        let held =
            caller.and_then(|caller| self.shown.iter().position(|shown| shown.run.as_ref() == Some(caller)));
        let held = held.filter(|held| {
            let held = &self.shown[*held];
            held.held_until.is_some() && held.continued_by.is_none() && !held.gone
        });
        if let Some(held) = held {
            self.shown[held].continued_by = Some(self.shown.len());
        }
        let texts = asked.inputs.iter().map(|text| text.trim_start_matches("Tool: ").to_owned());
        self.shown.push(Shown {
            calls: Vec::new(),
            returned: asked.answers.iter().cloned().zip(texts).collect(),
            held_until: None,
            continued_by: None,
            continues: held.is_some(),
            gone: false,
            run: Some(response.id.clone()),
            conversation: key,
            created_at: created,
            claimed,
            claimed_after,
            asked: asked.inputs.clone(),
            inputs_complete,
            parent,
            turn,
            background: response.background,
            left: false,
            deadline: at + 660_000,
            outputs: Vec::new(),
            last_word: None,
            done: None,
        });
        self.shown.len() - 1
    }

    /// Whether it is recorded, with those that go on with it.
    fn is_settled(&self, place: usize) -> bool {
        let mut last = &self.shown[place];
        while let Some(next) = last.continued_by {
            last = &self.shown[next];
        }
        last.gone || (last.done.is_some() && last.held_until.is_none())
    }

    fn note_calls(&mut self, place: usize, calls: &[String]) {
        let shown = &mut self.shown[place];
        if calls.len() > shown.calls.len() {
            shown.calls = calls.to_vec();
        }
        let run = shown.run.clone().unwrap();
        let turn = shown.turn.clone().unwrap_or_else(|| run.clone());
        let conversation = self.conversations.get_mut(&shown.conversation).unwrap();
        match conversation.callers.iter_mut().find(|(known, ..)| *known == run) {
            _ if calls.is_empty() => {}
            Some((.., known)) if known.len() < calls.len() => *known = calls.to_vec(),
            Some(_) => {}
            None => conversation.callers.push((run, turn, calls.to_vec())),
        }
    }

    /// Holds the records against what was shown; all of it must be over by now.
    pub(crate) fn judge(
        &self,
        records: &[Interaction],
        cells: &mut BTreeMap<String, u32>,
    ) -> Result<(), String> {
        let mut rest: Vec<&Interaction> = records.iter().collect();
        for shown in self.shown.iter().filter(|shown| !shown.continues) {
            let mut line = vec![shown];
            while let Some(next) = line[line.len() - 1].continued_by {
                line.push(&self.shown[next]);
            }
            let place = rest.iter().position(|record| match &shown.run {
                Some(run) => record.run == *run,
                None => record.run.starts_with("exchange_") && said(&record.inputs) == shown.inputs(),
            });
            let record = rest.remove(place.ok_or_else(|| format!("no record of {shown:?}"))?);
            judge(&line, record).map_err(|wrong| format!("{wrong}\nof {record:?}\nshown {line:?}"))?;
            for cell in shown.cells(record) {
                *cells.entry(cell.to_owned()).or_default() += 1;
            }
        }
        if rest.is_empty() { Ok(()) } else { Err(format!("records nobody asked for: {rest:?}")) }
    }
}

impl Shown {
    fn inputs(&self) -> Vec<String> {
        self.claimed.iter().map(|(_, text)| text).chain(&self.asked).cloned().collect()
    }

    fn cells(&self, record: &Interaction) -> Vec<&'static str> {
        let is = [
            ("assumed", record.assumed),
            ("background", self.background),
            ("chained", record.parent_id.is_some()),
            ("claimed", !self.claimed.is_empty()),
            ("client_disconnected", record.status == Status::ClientDisconnected),
            ("completed", record.status == Status::Completed),
            ("continued", self.turn.is_some()),
            ("held_in_vain", self.held_until.is_some() && self.continued_by.is_none()),
            ("incomplete_inputs", !record.inputs_complete),
            ("merged", record.continuations.len() == 1),
            ("merged_more", record.continuations.len() > 1),
            ("nameless", self.run.is_none()),
            ("partial", !record.outputs_complete && !record.outputs.is_empty()),
            ("joined_by_history", record.pairing == Pairing::History),
            ("reasoned", !record.reasoning.is_empty()),
            ("thread_deleted", record.status == Status::ThreadDeleted),
            ("unknown_final", record.status == Status::UnknownFinal),
        ];
        is.into_iter().filter(|(_, is)| *is).map(|(cell, _)| cell).collect()
    }
}

/// Holds a record against what was shown of a response, and of those that went on with it.
fn judge(line: &[&Shown], record: &Interaction) -> Result<(), String> {
    let [first, later @ ..] = line else { return Err("nothing was shown".to_owned()) };
    let done = line[line.len() - 1].done.as_ref().ok_or("it is not over")?;
    let run = &record.run;
    let mut wrong = Vec::new();
    let mut must = |what: &str, found: String, expected: String| {
        if found != expected {
            wrong.push(format!("{what} {found} instead of {expected}"));
        }
    };
    must("status", record.status.as_str().to_owned(), done.status.clone());
    // What tools returned stands with the calls.
    let further = later.iter().flat_map(|shown| shown.claimed.iter().map(|(_, text)| text.clone()));
    let inputs: Vec<String> = first.inputs().into_iter().chain(further).collect();
    must("inputs", format!("{:?}", said(&record.inputs)), format!("{inputs:?}"));
    let outputs: Vec<&String> = line.iter().flat_map(|shown| &shown.outputs).collect();
    must("outputs", format!("{:?}", said(&record.outputs)), format!("{outputs:?}"));
    let runs: Vec<&String> = later.iter().filter_map(|shown| shown.run.as_ref()).collect();
    must("continuations", format!("{:?}", record.continuations), format!("{runs:?}"));
    let mut calls = Vec::new();
    for (place, shown) in line.iter().enumerate() {
        let returned = line.get(place + 1).map(|next| next.returned.as_slice()).unwrap_or_default();
        let output =
            |call: &String| returned.iter().find(|(of, _)| of == call).map(|(_, output)| output.as_str());
        calls.extend(shown.calls.iter().map(|call| (call.as_str(), output(call))));
    }
    let told: Vec<_> =
        record.tool_calls.iter().map(|call| (call.id.as_str(), call.output.as_deref())).collect();
    must("calls", format!("{told:?}"), format!("{calls:?}"));
    let inputs_complete = line.iter().all(|shown| shown.inputs_complete);
    must("inputs_complete", record.inputs_complete.to_string(), inputs_complete.to_string());
    let complete = line.iter().all(|shown| shown.done.as_ref().is_some_and(|done| done.complete));
    must("outputs_complete", record.outputs_complete.to_string(), complete.to_string());
    must("assumed", record.assumed.to_string(), done.assumed.to_string());
    must("parent", format!("{:?}", record.parent_id), format!("{:?}", first.parent));
    let turn = first.turn.clone().unwrap_or_else(|| run.clone());
    must("turn", format!("{:?}", record.turn_id), format!("{:?}", Some(turn)));
    let conversation = if first.run.is_some() || !first.conversation.starts_with("nameless_") {
        first.conversation.clone()
    } else {
        run.clone()
    };
    must("conversation", record.conversation.id.to_string(), conversation);
    let usage = if done.status == "completed" { Some(7 * line.len() as u64) } else { None };
    must("tokens", format!("{:?}", record.tokens.and_then(|tokens| tokens.total)), format!("{usage:?}"));
    let absent = match (usage, done.status.as_str(), done.assumed) {
        (Some(_), ..) => None,
        (None, "client_disconnected", _) => Some("client_disconnected"),
        (None, _, true) => Some("end_not_seen"),
        (None, _, false) => Some("not_reported"),
    };
    must("usage_absent", format!("{:?}", record.usage_absent.map(|a| a.as_str())), format!("{absent:?}"));
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

/// What enough cases must have come to.
pub(crate) const CELLS: [&str; 17] = [
    "assumed",
    "background",
    "chained",
    "claimed",
    "client_disconnected",
    "completed",
    "continued",
    "held_in_vain",
    "incomplete_inputs",
    "joined_by_history",
    "merged",
    "merged_more",
    "nameless",
    "partial",
    "reasoned",
    "thread_deleted",
    "unknown_final",
];

/// The texts of messages in an output.
pub(crate) fn texts(output: &[Value]) -> Vec<String> {
    let messages = output.iter().filter(|item| item["type"] == "message");
    let text = |item: &Value| match &item["content"][0] {
        part if part["type"] == "refusal" => format!("[refusal: {}]", part["refusal"].as_str().unwrap()),
        part => part["text"].as_str().unwrap().to_owned(),
    };
    messages.map(text).collect()
}

fn said(messages: &[Message]) -> Vec<String> {
    let said = |message: &Message| match message.role {
        Role::Tool => format!("Tool: {}", message.text()),
        _ => message.text(),
    };
    messages.iter().map(said).collect()
}

/// How long what called tools is held where it is.
pub(crate) const GRACE: u64 = 300_000;
