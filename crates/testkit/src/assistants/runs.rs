//! Client operations on runs. `play` advances runs.

use serde_json::Value;

use super::behaviour::{Act, Behaviour};
use super::expected::{ExpectedCall, Usage};
use super::objects::{Message, Run, RunState, Step, StepDetails};
use super::state::{Driver, Playing, State};
use crate::call::metadata;
use crate::fault::Fault;
use crate::page::PageQuery;
use crate::script::UsageTiming;
use crate::stream::Event;

impl State {
    /// Creates a run in a thread. The returned events are the first of its stream.
    pub(super) fn create_run(
        &mut self,
        thread: &str,
        body: &Value,
        now: u64,
    ) -> Result<(String, Vec<Event>), Fault> {
        if let Some(run) = self.active_run(thread)? {
            return Err(Fault::refused(format!("Thread {thread} already has an active run {run}.")));
        }
        let Some(assistant) = body["assistant_id"].as_str() else {
            return Err(Fault::missing("assistant_id"));
        };
        let known = self.assistant(assistant)?;
        let model = body["model"].as_str().or_else(|| known["model"].as_str()).unwrap_or(DEFAULT_MODEL);
        let additional = self.new_messages(thread, &body["additional_messages"], now)?;
        let id = self.random.id("run");

        let thread = self.thread_mut(thread)?;
        thread.messages.extend(additional);
        let mut inputs = Vec::new();
        for message in thread.messages.iter_mut().filter(|message| !message.claimed && message.run.is_none())
        {
            message.claimed = true;
            inputs.push(message.truth());
        }
        let words =
            thread.messages.iter().map(|message| message.text().split_whitespace().count()).sum::<usize>();
        thread.runs.push(id.clone());
        let run = Run {
            id: id.clone(),
            thread: thread.id.clone(),
            assistant: assistant.to_owned(),
            model: model.to_owned(),
            state: RunState::Queued,
            created_at: now,
            started_at: None,
            ended_at: None,
            last_error: None,
            incomplete_reason: None,
            metadata: metadata(body),
            request: body.clone(),
            usage: Usage {
                prompt_tokens: 10 + u64::try_from(words).unwrap_or(u64::MAX),
                completion_tokens: 0,
            },
            steps: Vec::new(),
            inputs,
            outputs: Vec::new(),
            thread_deleted: false,
            terminal_views: 0,
        };
        let texts: Vec<&str> = run.inputs.iter().map(|input| input.text.as_str()).collect();
        let plan = Behaviour::of(assistant, &run.metadata).plan(&texts);
        let object = run.object(false);
        self.runs.insert(id.clone(), Playing { run, plan, open: None, driver: Driver::of(body) });
        self.run_order.push(id.clone());
        Ok((
            id,
            vec![Event::new("thread.run.created", object.clone()), Event::new("thread.run.queued", object)],
        ))
    }

    /// Creates a thread and a run in it.
    pub(super) fn create_thread_and_run(
        &mut self,
        body: &Value,
        now: u64,
    ) -> Result<(String, Vec<Event>), Fault> {
        let thread = self.create_thread(&body["thread"], now)?;
        let mut events = vec![Event::new("thread.created", self.thread(&thread)?.object())];
        let created = self.create_run(&thread, body, now);
        if created.is_err() {
            self.threads.remove(&thread);
        }
        let (run, more) = created?;
        events.extend(more);
        Ok((run, events))
    }

    /// The run, if its thread still exists.
    pub(super) fn playing(&mut self, thread: &str, run: &str) -> Result<&mut Playing, Fault> {
        self.thread(thread)?;
        let found = self.runs.get_mut(run).filter(|playing| playing.run.thread == thread);
        found.ok_or_else(|| Fault::unknown("run", run))
    }

    /// The run as a client may see it now.
    pub(super) fn view(&mut self, thread: &str, run: &str) -> Result<Value, Fault> {
        let timing = self.usage;
        Ok(self.playing(thread, run)?.run.view(timing))
    }

    /// The run as a client may see it now, looked up by its id alone.
    pub(super) fn view_run(&mut self, run: &str) -> Result<Value, Fault> {
        let timing = self.usage;
        let playing = self.runs.get_mut(run).ok_or_else(|| Fault::unknown("run", run))?;
        Ok(playing.run.view(timing))
    }

    pub(super) fn list_runs(&mut self, thread: &str, query: &PageQuery) -> Result<Value, Fault> {
        let timing = self.usage;
        let ids = self.thread(thread)?.runs.clone();
        query.cut(ids.iter().filter_map(|id| Some(self.runs.get_mut(id)?.run.view(timing))).collect())
    }

    pub(super) fn modify_run(&mut self, thread: &str, run: &str, body: &Value) -> Result<Value, Fault> {
        self.playing(thread, run)?.run.metadata.extend(metadata(body));
        self.view(thread, run)
    }

    pub(super) fn cancel_run(&mut self, thread: &str, run: &str) -> Result<(), Fault> {
        let playing = self.playing(thread, run)?;
        let state = playing.run.state;
        if state.is_terminal() || state == RunState::Cancelling {
            return Err(Fault::refused(format!("Cannot cancel run with status '{}'.", state.as_str())));
        }
        playing.run.state = RunState::Cancelling;
        playing.plan = [Act::Cancelling, Act::Cancel].into();
        Ok(())
    }

    /// Makes a run expire with its next act.
    pub(super) fn expire_run(&mut self, run: &str) {
        if let Some(playing) = self.runs.get_mut(run).filter(|playing| !playing.run.state.is_terminal()) {
            playing.run.state = RunState::InProgress;
            playing.plan = [Act::Expire].into();
        }
    }

    /// Accepts the outputs of the app's tools. The returned events are the first of the response's
    /// stream.
    pub(super) fn submit(
        &mut self,
        thread: &str,
        run: &str,
        body: &Value,
        now: u64,
    ) -> Result<Vec<Event>, Fault> {
        let playing = self.playing(thread, run)?;
        let state = playing.run.state;
        if state != RunState::RequiresAction {
            let message = format!("Runs in status \"{}\" do not accept tool outputs.", state.as_str());
            return Err(Fault::refused(message));
        }
        let outputs = body["tool_outputs"].as_array().ok_or_else(|| Fault::missing("tool_outputs"))?;
        let expected: Vec<String> = playing.run.waiting_calls().iter().map(|call| call.id.clone()).collect();
        let given: Vec<&str> = outputs.iter().filter_map(|output| output["tool_call_id"].as_str()).collect();
        if expected.len() != given.len() || expected.iter().any(|id| !given.contains(&id.as_str())) {
            let message = format!("Expected tool outputs for call_ids {expected:?}, got {given:?}");
            return Err(Fault::refused(message));
        }
        let step = playing.run.steps.last_mut().expect("a run that requires action has a tool step");
        let StepDetails::Tools(calls) = &mut step.details else {
            unreachable!("its last step is the tools'")
        };
        for call in calls {
            let output = outputs.iter().find(|output| output["tool_call_id"] == call.id.as_str());
            call.output = output.and_then(|output| output["output"].as_str()).map(str::to_owned);
        }
        step.status = "completed";
        step.ended_at = Some(now);
        playing.run.state = RunState::Queued;
        playing.plan.push_front(Act::Start);
        playing.driver = Driver::of(body);
        let step = playing.run.steps.last().expect("it was just changed");
        Ok(vec![
            Event::new("thread.run.step.completed", step.object(&playing.run)),
            Event::new("thread.run.queued", playing.run.object(false)),
        ])
    }

    pub(super) fn list_steps(&mut self, thread: &str, run: &str, query: &PageQuery) -> Result<Value, Fault> {
        let run = &self.playing(thread, run)?.run;
        query.cut(run.steps.iter().map(|step| step.object(run)).collect())
    }

    pub(super) fn step(&mut self, thread: &str, run: &str, step: &str) -> Result<Value, Fault> {
        let run = &self.playing(thread, run)?.run;
        let found = run.steps.iter().find(|candidate| candidate.id == step);
        found.map(|step| step.object(run)).ok_or_else(|| Fault::unknown("run step", step))
    }

    /// The current message, whether the app or a run wrote it.
    pub(super) fn message(&mut self, thread: &str, id: &str) -> Result<Value, Fault> {
        self.message_mut(thread, id).map(|message| Message::object(message))
    }
}

impl Run {
    /// The run as a client may see it now. This counts as a view.
    pub(super) fn view(&mut self, timing: UsageTiming) -> Value {
        let terminal = self.state.is_terminal();
        self.terminal_views += u32::from(terminal);
        self.object(match timing {
            UsageTiming::Late => self.terminal_views > 1,
            UsageTiming::Never => false,
            UsageTiming::Terminal => terminal,
        })
    }

    /// The tools it called, in order.
    pub(super) fn tool_calls(&self) -> impl Iterator<Item = &ExpectedCall> {
        self.steps.iter().flat_map(|step: &Step| match &step.details {
            StepDetails::Message(_) => &[][..],
            StepDetails::Tools(calls) => calls,
        })
    }
}

/// The default model of assistants.
pub(super) const DEFAULT_MODEL: &str = "gpt-4o-mini";
