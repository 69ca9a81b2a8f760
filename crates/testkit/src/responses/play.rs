//! Advances a response one act at a time. Each act logs the events that a stream shows.

use serde_json::{Map, Value, json};

use super::behaviour::Act;
use super::objects::{Driver, Response, ResponseState};
use super::state::State;
use crate::answers::{Failure, Function, halves};
use crate::random::Random;
use crate::script::UsageTiming;
use crate::stream::Event;

/// The result of one act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advanced {
    /// The act was done.
    Act {
        /// Whether a real model would have needed time for it.
        took_time: bool,
    },
    /// The response is over.
    Over,
    /// Nothing happens until somebody acts on the response.
    Stalled,
}

impl State {
    /// Makes a response do its next act.
    pub(crate) fn advance(&mut self, id: &str, now: u64) -> Advanced {
        let Some(response) = self.responses.get_mut(id).filter(|response| !response.state.is_terminal())
        else {
            return Advanced::Over;
        };
        if response.plan.front() == Some(&Act::Stall) {
            return Advanced::Stalled;
        }
        let Some(act) = response.plan.pop_front() else { return Advanced::Over };
        let took_time = act.takes_time();
        Stage { response, random: &mut self.random, usage: self.usage, now }.perform(act);
        self.settle(id);
        Advanced::Act { took_time }
    }

    /// Starts the event log of a new response.
    pub(super) fn announce(&mut self, id: &str) {
        let (random, usage) = (&mut self.random, self.usage);
        let Some(response) = self.responses.get_mut(id) else { return };
        let queued = response.state == ResponseState::Queued;
        let mut stage = Stage { response, random, usage, now: 0 };
        stage.tell_response("response.created");
        if queued {
            stage.tell_response("response.queued");
        }
    }

    /// Records which response made the calls. When the response is over, adds its inputs and
    /// outputs to its conversation.
    fn settle(&mut self, id: &str) {
        let Some(response) = self.responses.get(id) else { return };
        let calls = response.outputs.iter().filter(|item| item["type"] == "function_call");
        self.calls.extend(
            calls.filter_map(|call| call["call_id"].as_str()).map(|call| (call.to_owned(), id.to_owned())),
        );
        if !matches!(response.state, ResponseState::Completed | ResponseState::Incomplete) {
            return;
        }
        if let Some(conversation) =
            response.conversation.as_ref().and_then(|id| self.conversations.get_mut(id))
        {
            let added = response.inputs[response.pending_inputs..].iter().chain(&response.outputs);
            conversation.items.extend(added.map(|item| (item.clone(), true)));
        }
    }
}

impl Response {
    /// Ends it as cancelled. Its stream has no event for this.
    pub(super) fn stop(&mut self, now: u64) {
        if let Some(item) = self.outputs.last_mut().filter(|item| item["status"] == "in_progress") {
            item["status"] = json!("incomplete");
        }
        self.state = ResponseState::Cancelled;
        self.ended_at = Some(now);
        self.plan.clear();
        self.driver = Driver::None;
    }
}

/// The state that one act can change.
struct Stage<'a> {
    response: &'a mut Response,
    random: &'a mut Random,
    usage: UsageTiming,
    now: u64,
}

impl Stage<'_> {
    fn perform(&mut self, act: Act) {
        match act {
            Act::Call(function) => self.call(function),
            Act::Cite => self.cite(),
            Act::Close(status) => self.close(status),
            Act::Complete => self.end(ResponseState::Completed),
            Act::Fail(Failure { code, message }) => {
                self.response.error = Some(json!({"code": code, "message": message}));
                self.end(ResponseState::Failed);
            }
            Act::Idle | Act::Stall => {}
            Act::Incomplete(reason) => {
                self.response.incomplete_reason = Some(reason);
                self.end(ResponseState::Incomplete);
            }
            Act::Mcp => self.call_mcp(),
            Act::Open(phase) => {
                let mut item = json!({
                    "id": self.random.id("msg"), "type": "message", "status": "in_progress", "role": "assistant",
                    "content": [],
                });
                if let Some(phase) = phase {
                    item["phase"] = json!(phase);
                }
                self.begin(item);
            }
            Act::Reason(summary) => self.reason(summary),
            Act::Refusal(text) => self.write("refusal", &text),
            Act::Search => self.search(),
            Act::Start => {
                self.response.state = ResponseState::InProgress;
                self.tell_response("response.in_progress");
            }
            Act::TellError => self.tell(
                "error",
                json!({
                    "code": "server_error", "message": "The server had an error while processing your request.",
                    "param": null,
                }),
            ),
            Act::Text(text) => self.write("output_text", &text),
        }
    }

    fn tell(&mut self, name: &'static str, data: Value) {
        let mut event = Map::from_iter([
            ("type".to_owned(), json!(name)),
            ("sequence_number".to_owned(), json!(self.response.log.len())),
        ]);
        event.extend(data.as_object().cloned().unwrap_or_default());
        if name.ends_with(".delta") && self.response.request["stream_options"]["include_obfuscation"] != false
        {
            let padding = self.random.id("");
            event.insert("obfuscation".to_owned(), json!(padding[1..8]));
        }
        self.response.log.push(Event::new(name, Value::Object(event)));
    }

    fn tell_response(&mut self, name: &'static str) {
        let object = self.response.object(false);
        self.tell(name, json!({ "response": object }));
    }

    /// Logs an event about the last item.
    fn tell_item(&mut self, name: &'static str, data: Value) {
        let output_index = self.response.outputs.len() - 1;
        let mut event = Map::from_iter([
            ("item_id".to_owned(), self.response.outputs[output_index]["id"].clone()),
            ("output_index".to_owned(), json!(output_index)),
        ]);
        event.extend(data.as_object().cloned().unwrap_or_default());
        self.tell(name, Value::Object(event));
    }

    fn begin(&mut self, item: Value) {
        self.response.outputs.push(item.clone());
        let output_index = self.response.outputs.len() - 1;
        self.tell("response.output_item.added", json!({"output_index": output_index, "item": item}));
    }

    /// Ends the last item in its current state.
    fn finish(&mut self) {
        let output_index = self.response.outputs.len() - 1;
        let item = self.response.outputs[output_index].clone();
        self.tell("response.output_item.done", json!({"output_index": output_index, "item": item}));
    }

    fn item(&mut self) -> &mut Value {
        self.response.outputs.last_mut().expect("an item was begun")
    }

    /// Adds text to the open message.
    fn write(&mut self, kind: &'static str, text: &str) {
        self.response.usage.output_tokens += 1;
        let (field, name) = match kind {
            "refusal" => ("refusal", "response.refusal.delta"),
            _ => ("text", "response.output_text.delta"),
        };
        if self.item()["content"] == json!([]) {
            let part = match kind {
                "refusal" => json!({"type": kind, "refusal": ""}),
                _ => json!({"type": kind, "text": "", "annotations": [], "logprobs": []}),
            };
            self.item()["content"] = json!([part]);
            self.tell_item("response.content_part.added", json!({"content_index": 0, "part": part}));
        }
        if let Value::String(all) = &mut self.item()["content"][0][field] {
            all.push_str(text);
        }
        let mut delta = json!({"content_index": 0, "delta": text});
        if kind == "output_text" {
            delta["logprobs"] = json!([]);
        }
        self.tell_item(name, delta);
    }

    fn cite(&mut self) {
        let text = self.item()["content"][0]["text"].as_str().unwrap_or_default();
        let annotation = json!({
            "type": "url_citation", "start_index": 0, "end_index": text.chars().count(),
            "url": "https://example.com/", "title": "Example",
        });
        self.item()["content"][0]["annotations"] = json!([annotation]);
        let event = json!({"content_index": 0, "annotation_index": 0, "annotation": annotation});
        self.tell_item("response.output_text.annotation.added", event);
    }

    /// Ends the open message.
    fn close(&mut self, status: &'static str) {
        let part = self.item()["content"][0].clone();
        if let Some(refusal) = part["refusal"].as_str() {
            self.tell_item("response.refusal.done", json!({"content_index": 0, "refusal": refusal}));
        } else if let Some(text) = part["text"].as_str() {
            let done = json!({"content_index": 0, "text": text, "logprobs": []});
            self.tell_item("response.output_text.done", done);
        }
        if !part.is_null() {
            self.tell_item("response.content_part.done", json!({"content_index": 0, "part": part}));
        }
        self.item()["status"] = json!(status);
        self.finish();
    }

    fn call(&mut self, function: Function) {
        let Function { name, arguments } = function;
        let item = json!({
            "id": self.random.id("fc"), "type": "function_call", "status": "in_progress",
            "call_id": self.random.id("call"), "name": name, "arguments": "",
        });
        self.begin(item);
        let (first, second) = halves(&arguments);
        for delta in [first, second] {
            self.response.usage.output_tokens += 1;
            self.tell_item("response.function_call_arguments.delta", json!({ "delta": delta }));
        }
        let done = json!({"name": name, "arguments": arguments});
        self.tell_item("response.function_call_arguments.done", done);
        self.item()["arguments"] = json!(arguments);
        self.item()["status"] = json!("completed");
        self.finish();
    }

    fn call_mcp(&mut self) {
        let item = json!({
            "id": self.random.id("mcp"), "type": "mcp_call", "status": "in_progress", "server_label": "shop",
            "name": "find_shop", "arguments": "", "output": null, "error": null, "approval_request_id": null,
        });
        self.begin(item);
        let arguments = r#"{"city":"Paris"}"#;
        self.tell_item("response.mcp_call.in_progress", json!({}));
        self.tell_item("response.mcp_call_arguments.delta", json!({ "delta": arguments }));
        self.tell_item("response.mcp_call_arguments.done", json!({ "arguments": arguments }));
        self.tell_item("response.mcp_call.completed", json!({}));
        self.item()["arguments"] = json!(arguments);
        self.item()["output"] = json!("Rue de Rivoli 1");
        self.item()["status"] = json!("completed");
        self.finish();
    }

    fn search(&mut self) {
        let item = json!({
            "id": self.random.id("ws"), "type": "web_search_call", "status": "in_progress",
            "action": {"type": "search", "query": "opening hours"},
        });
        self.begin(item);
        for name in [
            "response.web_search_call.in_progress",
            "response.web_search_call.searching",
            "response.web_search_call.completed",
        ] {
            self.tell_item(name, json!({}));
        }
        self.item()["status"] = json!("completed");
        self.finish();
    }

    fn reason(&mut self, summary: &str) {
        let mut item = json!({"id": self.random.id("rs"), "type": "reasoning", "summary": []});
        let included = self.response.request["include"].as_array().into_iter().flatten();
        if included.into_iter().any(|name| name == "reasoning.encrypted_content") {
            item["encrypted_content"] = json!(self.random.id("gAAAAA"));
        }
        self.begin(item);
        let part = |text: &str| json!({"type": "summary_text", "text": text});
        let added = json!({"summary_index": 0, "part": part("")});
        self.tell_item("response.reasoning_summary_part.added", added);
        for delta in crate::answers::tokens(summary) {
            self.response.usage.output_tokens += 1;
            self.response.usage.reasoning_tokens += 1;
            let delta = json!({"summary_index": 0, "delta": delta});
            self.tell_item("response.reasoning_summary_text.delta", delta);
        }
        let done = json!({"summary_index": 0, "text": summary});
        self.tell_item("response.reasoning_summary_text.done", done);
        let done = json!({"summary_index": 0, "part": part(summary)});
        self.tell_item("response.reasoning_summary_part.done", done);
        self.item()["summary"] = json!([part(summary)]);
        self.finish();
    }

    /// Ends the response, and an open message with it. The message gets no event of its own.
    fn end(&mut self, state: ResponseState) {
        if let Some(item) = self.response.outputs.last_mut().filter(|item| item["status"] == "in_progress") {
            item["status"] = json!("incomplete");
        }
        self.response.state = state;
        self.response.ended_at = Some(self.now);
        self.response.plan.clear();
        let streamed = self.response.driver == Driver::Stream;
        // This event is seen only on a stream, which matters if usage is reported late.
        let object =
            if streamed { self.response.view(self.usage) } else { self.response.object(self.shows_usage()) };
        let name = match state {
            ResponseState::Failed => "response.failed",
            ResponseState::Incomplete => "response.incomplete",
            _ => "response.completed",
        };
        self.tell(name, json!({ "response": object }));
        self.response.driver = Driver::None;
    }

    fn shows_usage(&self) -> bool {
        self.usage != UsageTiming::Never
    }
}
