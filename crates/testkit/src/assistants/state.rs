//! Threads, messages and assistants, whose operations are immediate. Runs take time, and are in
//! `runs` and `play`.

use std::collections::{HashMap, VecDeque};

use serde_json::{Value, json};

use super::behaviour::Act;
use super::expected::ExpectedRun;
use super::objects::{Message, MessageState, Run, Thread};
use crate::call::metadata;
use crate::fault::Fault;
use crate::page::PageQuery;
use crate::random::Random;
use crate::script::{Progress, Script, UsageTiming};

/// The whole state of the server. It is pure: times (seconds since the epoch) are arguments, and
/// ids come from the seed.
pub(crate) struct State {
    pub(crate) random: Random,
    pub(super) usage: UsageTiming,
    pub(super) progress: Progress,
    pub(super) lock_active_runs: bool,
    pub(super) assistants: Vec<Value>,
    pub(super) threads: HashMap<String, Thread>,
    /// All threads so far, in the order they were created.
    pub(super) thread_order: Vec<String>,
    pub(super) runs: HashMap<String, Playing>,
    /// All runs so far, in the order they were created.
    pub(super) run_order: Vec<String>,
    /// Runs that time must drive from now on. The owner of the clock takes them from here.
    pub(crate) released: Vec<String>,
}

/// A run and its remaining plan.
pub(super) struct Playing {
    pub(super) run: Run,
    pub(super) plan: VecDeque<Act>,
    /// The message it is writing.
    pub(super) open: Option<String>,
    pub(super) driver: Driver,
}

/// What advances a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Driver {
    /// No driver. Polls or the test may advance it.
    None,
    /// A stream, which also sends its events.
    Stream,
    /// Time.
    Time,
}

impl Driver {
    /// The driver that a request asks for.
    pub(super) fn of(body: &Value) -> Self {
        if body["stream"] == true { Self::Stream } else { Self::None }
    }
}

impl State {
    /// Creates an empty state.
    pub(crate) fn new(script: &Script) -> Self {
        Self {
            random: Random::new(script.seed),
            usage: script.usage,
            progress: script.progress,
            lock_active_runs: script.lock_active_runs,
            assistants: Vec::new(),
            threads: HashMap::new(),
            thread_order: Vec::new(),
            runs: HashMap::new(),
            run_order: Vec::new(),
            released: Vec::new(),
        }
    }

    /// The current state of every run, including finished ones, oldest first.
    pub(super) fn snapshot(&self) -> Vec<ExpectedRun> {
        self.run_order.iter().filter_map(|id| self.runs.get(id)).map(|playing| self.truth(playing)).collect()
    }

    pub(super) fn create_thread(&mut self, body: &Value, now: u64) -> Result<String, Fault> {
        let id = self.random.id("thread");
        let thread = Thread {
            id: id.clone(),
            created_at: now,
            metadata: metadata(body),
            messages: Vec::new(),
            runs: Vec::new(),
        };
        let messages = self.new_messages(&id, &body["messages"], now)?;
        self.threads.insert(id.clone(), Thread { messages, ..thread });
        self.thread_order.push(id.clone());
        Ok(id)
    }

    /// The threads that are not deleted.
    pub(super) fn list_threads(&self, query: &PageQuery) -> Result<Value, Fault> {
        let threads = self.thread_order.iter().filter_map(|id| self.threads.get(id));
        query.cut(threads.map(Thread::object).collect())
    }

    pub(super) fn thread(&self, id: &str) -> Result<&Thread, Fault> {
        self.threads.get(id).ok_or_else(|| Fault::unknown("thread", id))
    }

    pub(super) fn thread_mut(&mut self, id: &str) -> Result<&mut Thread, Fault> {
        self.threads.get_mut(id).ok_or_else(|| Fault::unknown("thread", id))
    }

    pub(super) fn modify_thread(&mut self, id: &str, body: &Value) -> Result<Value, Fault> {
        let thread = self.thread_mut(id)?;
        thread.metadata.extend(metadata(body));
        Ok(thread.object())
    }

    pub(super) fn delete_thread(&mut self, id: &str) -> Result<Value, Fault> {
        let thread = self.threads.remove(id).ok_or_else(|| Fault::unknown("thread", id))?;
        for run in &thread.runs {
            let playing = self.runs.get_mut(run).expect("a thread's runs are known");
            playing.run.thread_deleted = true;
            playing.plan.clear();
        }
        Ok(json!({"id": id, "object": "thread.deleted", "deleted": true}))
    }

    pub(super) fn create_message(&mut self, thread: &str, body: &Value, now: u64) -> Result<Value, Fault> {
        if let Some(run) = self.active_run(thread)? {
            let message = format!("Can't add messages to {thread} while a run {run} is active.");
            return Err(Fault::refused(message));
        }
        let message = self.new_message(thread, body, now)?;
        let object = message.object();
        self.thread_mut(thread)?.messages.push(message);
        Ok(object)
    }

    pub(super) fn list_messages(&self, thread: &str, query: &PageQuery) -> Result<Value, Fault> {
        let messages = self.thread(thread)?.messages.iter();
        let wanted = messages.filter(|message| query.run.is_none() || message.run == query.run);
        query.cut(wanted.map(Message::object).collect())
    }

    pub(super) fn message_mut(&mut self, thread: &str, id: &str) -> Result<&mut Message, Fault> {
        let messages = &mut self.thread_mut(thread)?.messages;
        messages.iter_mut().find(|message| message.id == id).ok_or_else(|| Fault::unknown("message", id))
    }

    pub(super) fn modify_message(&mut self, thread: &str, id: &str, body: &Value) -> Result<Value, Fault> {
        let message = self.message_mut(thread, id)?;
        message.metadata.extend(metadata(body));
        Ok(message.object())
    }

    pub(super) fn delete_message(&mut self, thread: &str, id: &str) -> Result<Value, Fault> {
        self.message_mut(thread, id)?;
        self.thread_mut(thread)?.messages.retain(|message| message.id != id);
        Ok(json!({"id": id, "object": "thread.message.deleted", "deleted": true}))
    }

    pub(super) fn create_assistant(&mut self, body: &Value, now: u64) -> Value {
        let id = self.random.id("asst");
        let object = assistant_object(&id, body, now);
        self.assistants.push(object.clone());
        object
    }

    /// An assistant that was created, or one of the built-in ones.
    pub(super) fn assistant(&self, id: &str) -> Result<Value, Fault> {
        if id == "asst_missing" || !id.starts_with("asst_") {
            return Err(Fault::unknown("assistant", id));
        }
        let created = self.assistants.iter().find(|assistant| assistant["id"] == id);
        Ok(created.cloned().unwrap_or_else(|| assistant_object(id, &json!({ "name": id }), 0)))
    }

    pub(super) fn modify_assistant(&mut self, id: &str, body: &Value) -> Result<Value, Fault> {
        let found = self.assistants.iter_mut().find(|assistant| assistant["id"] == id);
        let assistant = found.ok_or_else(|| Fault::unknown("assistant", id))?;
        for (name, value) in body.as_object().into_iter().flatten() {
            assistant[name] = value.clone();
        }
        Ok(assistant.clone())
    }

    pub(super) fn delete_assistant(&mut self, id: &str) -> Result<Value, Fault> {
        let before = self.assistants.len();
        self.assistants.retain(|assistant| assistant["id"] != id);
        if self.assistants.len() == before {
            return Err(Fault::unknown("assistant", id));
        }
        Ok(json!({"id": id, "object": "assistant.deleted", "deleted": true}))
    }

    /// The run that locks the thread, if locking is enabled.
    pub(super) fn active_run(&self, thread: &str) -> Result<Option<&str>, Fault> {
        let runs = &self.thread(thread)?.runs;
        let active = runs.iter().rev().find(|run| !self.runs[*run].run.state.is_terminal());
        Ok(active.filter(|_| self.lock_active_runs).map(String::as_str))
    }

    /// Creates messages from a request's list. Empty if there is no list.
    pub(super) fn new_messages(
        &mut self,
        thread: &str,
        list: &Value,
        now: u64,
    ) -> Result<Vec<Message>, Fault> {
        list.as_array().into_iter().flatten().map(|body| self.new_message(thread, body, now)).collect()
    }

    fn new_message(&mut self, thread: &str, body: &Value, now: u64) -> Result<Message, Fault> {
        let Some(role) = body["role"].as_str() else { return Err(Fault::missing("role")) };
        if !matches!(role, "user" | "assistant") {
            let message = format!("Invalid value: '{role}'. Supported values are: 'user' and 'assistant'.");
            return Err(Fault::invalid("role", message));
        }
        Ok(Message {
            id: self.random.id("msg"),
            created_at: now,
            ended_at: None,
            thread: thread.to_owned(),
            role: role.to_owned(),
            content: response_content(&body["content"])?,
            state: MessageState::Completed,
            run: None,
            assistant: None,
            attachments: match &body["attachments"] {
                Value::Null => json!([]),
                given => given.clone(),
            },
            metadata: metadata(body),
            claimed: false,
        })
    }

    fn truth(&self, playing: &Playing) -> ExpectedRun {
        let Playing { run, open, .. } = playing;
        let thread = self.threads.get(&run.thread).filter(|_| open.is_some());
        let mut messages = thread.into_iter().flat_map(|thread| &thread.messages);
        let reason = run.incomplete_reason.map(|reason| json!({ "reason": reason }));
        let usage_shown = run.state.is_terminal() && self.usage != UsageTiming::Never;
        ExpectedRun {
            thread: run.thread.clone(),
            run: run.id.clone(),
            assistant: run.assistant.clone(),
            model: run.model.clone(),
            status: run.state.as_str().to_owned(),
            inputs: run.inputs.clone(),
            outputs: run.outputs.clone(),
            writing: messages.find(|message| Some(&message.id) == open.as_ref()).map(Message::truth),
            tool_calls: run.tool_calls().cloned().collect(),
            usage: usage_shown.then_some(run.usage),
            error: run.last_error.clone().or(reason),
            metadata: run.metadata.clone(),
            created_at: run.created_at,
            started_at: run.started_at,
            ended_at: run.ended_at.filter(|_| run.state.is_terminal()),
            thread_deleted: run.thread_deleted,
        }
    }
}

fn assistant_object(id: &str, body: &Value, now: u64) -> Value {
    let mut object = json!({
        "id": id, "object": "assistant", "created_at": now, "name": null, "description": null,
        "model": super::runs::DEFAULT_MODEL, "instructions": null, "tools": [], "tool_resources": {}, "metadata": {},
        "top_p": 1.0, "temperature": 1.0, "response_format": "auto",
    });
    for (name, value) in body.as_object().into_iter().flatten() {
        object[name] = value.clone();
    }
    object
}

/// Converts a request's content to the response's format: text parts become objects with
/// annotations.
fn response_content(content: &Value) -> Result<Vec<Value>, Fault> {
    let text = |text: &Value| json!({"type": "text", "text": {"value": text, "annotations": []}});
    match content {
        Value::String(_) => Ok(vec![text(content)]),
        Value::Array(parts) => Ok(parts
            .iter()
            .map(|part| if part["type"] == "text" { text(&part["text"]) } else { part.clone() })
            .collect()),
        Value::Null => Err(Fault::missing("content")),
        _ => Err(Fault::invalid("content", "Invalid type for 'content': expected a string or an array.")),
    }
}
