//! What an app says to the Assistants API.

use http::Method;
use serde_json::{Value, json};
use threadtap_testkit::client::{Answered, Client};

use crate::support::soon;

/// An app in one thread.
pub(crate) struct Talk {
    pub(crate) client: Client,
    pub(crate) thread: String,
}

impl Talk {
    /// Begins a thread, with these messages in it.
    pub(crate) async fn begin(client: Client, messages: &[&str]) -> Self {
        let thread = post(&client, "/threads", &json!({"messages": users(messages)})).await;
        Self { client, thread: text(&thread["id"]) }
    }

    /// A thread that is there already.
    pub(crate) fn resume(client: Client, thread: &str) -> Self {
        Self { client, thread: thread.to_owned() }
    }

    pub(crate) async fn say(&self, text: &str) {
        let message = json!({"role": "user", "content": text});
        post(&self.client, &self.path("/messages"), &message).await;
    }

    /// Starts a run to be polled.
    pub(crate) async fn start(&self, assistant: &str, additional: &[&str]) -> String {
        let run = json!({"assistant_id": assistant, "additional_messages": users(additional)});
        text(&post(&self.client, &self.path("/runs"), &run).await["id"])
    }

    /// Starts a run and reads the head of its stream.
    pub(crate) async fn open_stream(&self, assistant: &str) -> Answered {
        let run = json!({"assistant_id": assistant, "stream": true});
        let path = self.path("/runs");
        let answered =
            soon("the head of a stream", self.client.send(Method::POST, &path, &run)).await.unwrap();
        assert_eq!(answered.status, 200);
        answered
    }

    /// Streams a run to its end, submitting what its tools return: the run as it was last.
    pub(crate) async fn stream(&self, assistant: &str) -> Value {
        let mut run = finish(self.open_stream(assistant).await).await;
        while run["status"] == "requires_action" {
            let outputs = json!({"tool_outputs": call_tools(&run), "stream": true});
            let path = self.path(&format!("/runs/{}/submit_tool_outputs", text(&run["id"])));
            let answered = self.client.send(Method::POST, &path, &outputs).await.unwrap();
            run = finish(answered).await;
        }
        run
    }

    /// Polls a run to its end, submitting what its tools return: the run as it was last.
    pub(crate) async fn poll(&self, run: &str) -> Value {
        let path = self.path(&format!("/runs/{run}"));
        loop {
            let seen = soon("a run to rest", self.client.poll(&path)).await.unwrap();
            if seen["status"] != "requires_action" {
                return seen;
            }
            let outputs = json!({"tool_outputs": call_tools(&seen)});
            post(&self.client, &format!("{path}/submit_tool_outputs"), &outputs).await;
        }
    }

    /// Lists the thread's messages, newest first as by default.
    pub(crate) async fn list(&self) -> Value {
        let path = self.path("/messages");
        soon("a list", self.client.json(Method::GET, &path, &Value::Null)).await.unwrap()
    }

    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/threads/{}{rest}", self.thread)
    }
}

/// Posts, and expects to be served.
pub(crate) async fn post(client: &Client, path: &str, body: &Value) -> Value {
    soon(path, client.json(Method::POST, path, body)).await.unwrap()
}

/// Reads a stream of a run to its end: the run as it was last.
pub(crate) async fn finish(mut stream: Answered) -> Value {
    let mut run = Value::Null;
    while let Some(event) = soon("an event", stream.event()).await.unwrap() {
        if event.name == "done" {
            break;
        }
        let data: Value = serde_json::from_str(&event.data).unwrap();
        if data["object"] == "thread.run" {
            run = data;
        }
    }
    run
}

/// Reads a stream until it has shown so many pieces of text: the id of the run.
pub(crate) async fn read_deltas(stream: &mut Answered, count: usize) -> String {
    let (mut run, mut deltas) = (String::new(), 0);
    while deltas < count {
        let event = soon("an event", stream.event()).await.unwrap().expect("the stream goes on");
        let data: Value = serde_json::from_str(&event.data).unwrap();
        if data["object"] == "thread.run" {
            run = text(&data["id"]);
        }
        deltas += usize::from(event.name == "thread.message.delta");
    }
    run
}

/// User messages as a request carries them.
pub(crate) fn users(texts: &[&str]) -> Value {
    texts.iter().map(|text| json!({"role": "user", "content": text})).collect()
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not text: {value}")).to_owned()
}

fn call_tools(run: &Value) -> Vec<Value> {
    let calls = run["required_action"]["submit_tool_outputs"]["tool_calls"].as_array().unwrap();
    calls.iter().map(|call| json!({"tool_call_id": call["id"], "output": "it rains"})).collect()
}
