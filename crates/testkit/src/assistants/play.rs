//! Advances a run one act at a time. Each act returns the events that a stream would show.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::behaviour::{Act, Finish, answer, cut};
use super::expected::ExpectedCall;
use super::objects::{Message, MessageState, Run, RunState, Step, StepDetails, Thread};
use super::state::{Driver, Playing, State};
use crate::answers::{Failure, Function, conclusion, halves};
use crate::random::Random;
use crate::script::{Progress, UsageTiming};
use crate::stream::Event;

/// The result of one act.
#[derive(Debug)]
pub(super) enum Played {
    /// The act was done, and a stream shows these events (perhaps none).
    Act {
        events: Vec<Event>,
        /// Whether a real model would have needed time for it.
        took_time: bool,
    },
    /// The run is over, or waits for tool outputs.
    Over,
    /// Nothing happens until somebody acts on the run.
    Stalled,
}

impl State {
    /// Makes a run do its next act.
    pub(super) fn advance(&mut self, run: &str, now: u64) -> Played {
        let Some(playing) = self.runs.get_mut(run) else { return Played::Over };
        let thread = self.threads.get_mut(&playing.run.thread);
        let (Some(thread), RunState::Queued | RunState::InProgress | RunState::Cancelling) =
            (thread, playing.run.state)
        else {
            playing.driver = Driver::None;
            return Played::Over;
        };
        if playing.plan.front() == Some(&Act::Stall) {
            return Played::Stalled;
        }
        let Some(act) = playing.plan.pop_front() else {
            playing.driver = Driver::None;
            return Played::Over;
        };
        let took_time = act.takes_time();
        let stage = Stage { playing, thread, random: &mut self.random, usage: self.usage, now };
        Played::Act { events: stage.perform(act), took_time }
    }

    /// Advances a run that is not streamed until a poll would show something new.
    pub(super) fn poll(&mut self, run: &str, now: u64) {
        loop {
            let Some(playing) = self.runs.get(run) else { return };
            let shows = playing.plan.front().is_some_and(Act::shows);
            if playing.driver != Driver::None
                || !matches!(self.advance(run, now), Played::Act { .. })
                || shows
            {
                return;
            }
        }
    }

    /// Advances a run until it is over or waits.
    fn finish(&mut self, run: &str, now: u64) {
        while matches!(self.advance(run, now), Played::Act { .. }) {}
    }

    /// Advances a run that is not streamed, as the script says. Call this after every client
    /// action.
    pub(crate) fn release(&mut self, run: &str, now: u64) {
        match self.progress {
            Progress::Immediate => self.finish(run, now),
            Progress::Manual | Progress::Polls => {}
            Progress::Time => {
                if self.start_driving(run) {
                    self.released.push(run.to_owned());
                }
            }
        }
    }

    /// Makes time drive a run. Returns false if it already has a driver.
    fn start_driving(&mut self, run: &str) -> bool {
        let Some(playing) = self.runs.get_mut(run).filter(|playing| playing.driver == Driver::None) else {
            return false;
        };
        playing.driver = Driver::Time;
        true
    }

    /// Whether a run has nothing left to show: it is over, or waits for tool outputs.
    pub(super) fn rests(&self, run: &str) -> bool {
        self.runs.get(run).is_none_or(|Playing { run, .. }| {
            run.thread_deleted || run.state.is_terminal() || run.state == RunState::RequiresAction
        })
    }

    /// Removes the driver of a run, so that only polls advance it.
    pub(super) fn stop_driving(&mut self, run: &str) {
        if let Some(playing) = self.runs.get_mut(run) {
            playing.driver = Driver::None;
        }
    }
}

/// The state that one act can change.
struct Stage<'a> {
    playing: &'a mut Playing,
    thread: &'a mut Thread,
    random: &'a mut Random,
    usage: UsageTiming,
    now: u64,
}

impl Stage<'_> {
    fn perform(mut self, act: Act) -> Vec<Event> {
        match act {
            Act::CallTools(functions) => self.call_tools(&functions),
            Act::Cancel => self.end(RunState::Cancelled, "run_cancelled", "cancelled"),
            Act::Cancelling => {
                self.playing.run.state = RunState::Cancelling;
                vec![Event::new("thread.run.cancelling", self.playing.run.object(false))]
            }
            Act::CloseMessage => self.close_message(MessageState::Completed, "completed"),
            Act::Complete => self.end(RunState::Completed, "", "completed"),
            Act::Conclude(finish) => {
                self.conclude(finish);
                Vec::new()
            }
            Act::CutMessage(reason) => self.close_message(MessageState::Incomplete(reason), "completed"),
            Act::Expire => self.end(RunState::Expired, "run_expired", "expired"),
            Act::Fail(Failure { code, message }) => {
                self.playing.run.last_error = Some(json!({"code": code, "message": message}));
                self.end(RunState::Failed, "run_failed", "failed")
            }
            Act::Idle | Act::Stall => Vec::new(),
            Act::Incomplete(reason) => {
                self.playing.run.incomplete_reason = Some(reason);
                self.end(RunState::Incomplete, "", "completed")
            }
            Act::Interpret { input, logs } => self.interpret(input, logs),
            Act::OpenMessage => self.open_message(),
            Act::Refusal(refusal) => {
                let part = json!({"type": "refusal", "refusal": refusal});
                self.write(part.clone(), part)
            }
            Act::RequireAction => {
                self.playing.run.state = RunState::RequiresAction;
                vec![Event::new("thread.run.requires_action", self.playing.run.object(false))]
            }
            Act::Search => self.search(),
            Act::Start => {
                self.playing.run.state = RunState::InProgress;
                self.playing.run.started_at.get_or_insert(self.now);
                vec![Event::new("thread.run.in_progress", self.playing.run.object(false))]
            }
            Act::TellError => vec![Event::error()],
            Act::Text(text) => {
                let part = json!({"type": "text", "text": {"value": text, "annotations": []}});
                self.write(part, json!({"type": "text", "text": {"value": text}}))
            }
        }
    }

    fn begin_step(&mut self, details: StepDetails) {
        let id = self.random.id("step");
        let step = Step { id, created_at: self.now, ended_at: None, status: "in_progress", details };
        self.playing.run.steps.push(step);
    }

    /// The events that show the last step. `names` are the ends of their names.
    fn step_events(&self, names: &[&'static str]) -> Vec<Event> {
        let run = &self.playing.run;
        let Some(step) = run.steps.last() else { return Vec::new() };
        names.iter().map(|name| Event::new(name, step.object(run))).collect()
    }

    fn end_step(&mut self, status: &'static str) -> Vec<Event> {
        let Some(step) = self.playing.run.steps.last_mut().filter(|step| step.status == "in_progress") else {
            return Vec::new();
        };
        step.status = status;
        step.ended_at = Some(self.now);
        self.step_events(&[match status {
            "cancelled" => "thread.run.step.cancelled",
            "expired" => "thread.run.step.expired",
            "failed" => "thread.run.step.failed",
            _ => "thread.run.step.completed",
        }])
    }

    fn open_message(&mut self) -> Vec<Event> {
        let id = self.random.id("msg");
        self.begin_step(StepDetails::Message(id.clone()));
        let mut events = self.step_events(&["thread.run.step.created", "thread.run.step.in_progress"]);
        let message = Message {
            id: id.clone(),
            created_at: self.now,
            ended_at: None,
            thread: self.thread.id.clone(),
            role: "assistant".to_owned(),
            content: Vec::new(),
            state: MessageState::InProgress,
            run: Some(self.playing.run.id.clone()),
            assistant: Some(self.playing.run.assistant.clone()),
            attachments: json!([]),
            metadata: serde_json::Map::new(),
            claimed: true,
        };
        let object = message.object();
        self.thread.messages.push(message);
        self.playing.open = Some(id);
        events.push(Event::new("thread.message.created", object.clone()));
        events.push(Event::new("thread.message.in_progress", object));
        events
    }

    /// The message the run is writing. `None` if a client has deleted it.
    fn open(&mut self) -> Option<&mut Message> {
        let id = self.playing.open.as_ref()?;
        self.thread.messages.iter_mut().find(|message| message.id == *id)
    }

    /// Adds a part to the open message, or extends its last one.
    fn write(&mut self, part: Value, mut delta: Value) -> Vec<Event> {
        self.playing.run.usage.completion_tokens += 1;
        let Some(message) = self.open() else { return Vec::new() };
        let more = part["text"]["value"].as_str();
        match message.content.last_mut().and_then(|last| last.pointer_mut("/text/value")) {
            Some(Value::String(text)) if more.is_some() => text.push_str(more.unwrap_or_default()),
            _ => {
                delta = part.clone();
                message.content.push(part);
            }
        }
        delta["index"] = json!(message.content.len() - 1);
        let data = json!({"id": message.id, "object": "thread.message.delta", "delta": {"content": [delta]}});
        vec![Event::new("thread.message.delta", data)]
    }

    /// Ends the open message, if there is one, and its step.
    fn close_message(&mut self, state: MessageState, step: &'static str) -> Vec<Event> {
        let now = self.now;
        let mut events = Vec::new();
        if let Some(message) = self.open() {
            message.state = state;
            message.ended_at = Some(now);
            let completed = state == MessageState::Completed;
            let name = if completed { "thread.message.completed" } else { "thread.message.incomplete" };
            events.push(Event::new(name, message.object()));
            let truth = message.truth();
            self.playing.run.outputs.push(truth);
        }
        self.playing.open = None;
        events.extend(self.end_step(step));
        events
    }

    /// Ends the run, and everything that is still open.
    fn end(&mut self, state: RunState, reason: &'static str, step: &'static str) -> Vec<Event> {
        let mut events = self.close_message(MessageState::Incomplete(reason), step);
        self.playing.run.state = state;
        self.playing.run.ended_at = Some(self.now);
        self.playing.plan.clear();
        let name = match state {
            RunState::Cancelled => "thread.run.cancelled",
            RunState::Expired => "thread.run.expired",
            RunState::Failed => "thread.run.failed",
            RunState::Incomplete => "thread.run.incomplete",
            _ => "thread.run.completed",
        };
        // This event is seen only on a stream, which matters if usage is reported late.
        if self.playing.driver == Driver::Stream {
            events.push(Event::new(name, self.playing.run.view(self.usage)));
        }
        events
    }

    fn call_tools(&mut self, functions: &[Function]) -> Vec<Event> {
        self.begin_step(StepDetails::Tools(Vec::new()));
        let mut events = self.step_events(&["thread.run.step.created", "thread.run.step.in_progress"]);
        let mut calls = Vec::new();
        for (index, function) in functions.iter().enumerate() {
            let id = self.random.id("call");
            let head = json!({"name": function.name, "arguments": "", "output": null});
            events.push(
                self.call_delta(json!({"index": index, "id": id, "type": "function", "function": head})),
            );
            let (first, second) = halves(&function.arguments);
            for arguments in [first, second] {
                let function = json!({ "arguments": arguments });
                events
                    .push(self.call_delta(json!({"index": index, "type": "function", "function": function})));
                self.playing.run.usage.completion_tokens += 1;
            }
            calls.push(ExpectedCall {
                id,
                kind: "function".to_owned(),
                name: function.name.to_string(),
                arguments: function.arguments.to_string(),
                output: None,
            });
        }
        self.fill_tools(calls);
        events
    }

    fn interpret(&mut self, input: String, logs: String) -> Vec<Event> {
        self.begin_step(StepDetails::Tools(Vec::new()));
        let mut events = self.step_events(&["thread.run.step.created", "thread.run.step.in_progress"]);
        let id = self.random.id("call");
        let code = json!({"input": input, "outputs": []});
        let head = json!({"index": 0, "id": id, "type": "code_interpreter", "code_interpreter": code});
        events.push(self.call_delta(head));
        let outputs = json!({"outputs": [{"index": 0, "type": "logs", "logs": logs}]});
        events.push(
            self.call_delta(json!({"index": 0, "type": "code_interpreter", "code_interpreter": outputs})),
        );
        self.fill_tools(vec![ExpectedCall {
            id,
            kind: "code_interpreter".to_owned(),
            name: String::new(),
            arguments: input,
            output: Some(logs),
        }]);
        events.extend(self.end_step("completed"));
        events
    }

    fn search(&mut self) -> Vec<Event> {
        self.begin_step(StepDetails::Tools(Vec::new()));
        let mut events = self.step_events(&["thread.run.step.created", "thread.run.step.in_progress"]);
        let mut call = |kind: &str, arguments: &str, output: Option<&str>| ExpectedCall {
            id: self.random.id("call"),
            kind: kind.to_owned(),
            name: String::new(),
            arguments: arguments.to_owned(),
            output: output.map(str::to_owned),
        };
        let index = call("azure_ai_search", "opening hours", Some("{'results': 2}"));
        let web = call(
            "bing_grounding",
            r#"{"requesturl":"https://api.bing.microsoft.com/v7.0/search?q=hours"}"#,
            None,
        );
        self.fill_tools(vec![index, web]);
        events.extend(self.end_step("completed"));
        events
    }

    fn call_delta(&self, call: Value) -> Event {
        let step = self.playing.run.steps.last().map(|step| step.id.clone());
        let details = json!({"type": "tool_calls", "tool_calls": [call]});
        let delta =
            json!({"id": step, "object": "thread.run.step.delta", "delta": {"step_details": details}});
        Event::new("thread.run.step.delta", delta)
    }

    fn fill_tools(&mut self, calls: Vec<ExpectedCall>) {
        if let Some(step) = self.playing.run.steps.last_mut() {
            step.details = StepDetails::Tools(calls);
        }
    }

    /// Plans the answer, now that the tools' outputs are known.
    fn conclude(&mut self, finish: Option<Finish>) {
        let run: &Run = &self.playing.run;
        let inputs: Vec<&str> = run.inputs.iter().map(|input| input.text.as_str()).collect();
        let outputs: Vec<&str> = run.tool_calls().filter_map(|call| call.output.as_deref()).collect();
        let text = conclusion(&outputs, &inputs);
        let mut plan = VecDeque::new();
        match finish {
            Some(finish) => cut(&mut plan, &text, finish),
            None => {
                answer(&mut plan, &text);
                plan.push_back(Act::Complete);
            }
        }
        self.playing.plan = plan;
    }
}
