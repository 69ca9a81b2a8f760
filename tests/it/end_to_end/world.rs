//! The fakes, a data directory, and what must be true of records and payloads.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use serde_json::{Value, json};
use tempfile::TempDir;
use threadtap_core::message::content_text;
use threadtap_testkit::assistants::{Assistants, ExpectedRun, Script};
use threadtap_testkit::collector::{Collector, Reaction, Received};

use super::launch::{Launch, Threadtap};
use crate::support::soon;

/// All that threadtap runs in.
pub(crate) struct World {
    pub(crate) assistants: Assistants,
    pub(crate) collector: Collector,
    home: TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Script::default(), []).await
    }

    pub(crate) async fn with(script: Script, reactions: impl IntoIterator<Item = Reaction>) -> Self {
        let assistants = Assistants::start(script).await.unwrap();
        let collector = Collector::start(reactions).await.unwrap();
        Self { assistants, collector, home: tempfile::tempdir().unwrap() }
    }

    /// Threadtap in this world, by flags and environment alone.
    pub(crate) fn launch(&self) -> Launch {
        self.launch_without_sink()
            .variable("RECONIFY_APP_KEY", APP_KEY)
            .variable("RECONIFY_API_KEY", API_KEY)
            .variable("RECONIFY_URL", self.collector.url("/track"))
    }

    /// The same, with settings of its own; the sink is in them or not at all.
    pub(crate) fn launch_with(&self, settings: &str) -> Launch {
        let file = self.settings();
        let settings = settings.replace("SINK", &self.sink());
        std::fs::write(&file, settings).unwrap();
        self.launch_without_sink().flag("--config", file)
    }

    pub(crate) fn launch_without_sink(&self) -> Launch {
        Launch::on_free_ports(self.home.path())
            .flag("--upstream", self.upstream())
            .flag("--data-dir", self.data_dir())
    }

    /// A command about this world's instance, with the sink by its variables.
    pub(crate) fn command(&self) -> Launch {
        Launch::new(self.home.path())
            .flag("--data-dir", self.data_dir())
            .variable("RECONIFY_APP_KEY", APP_KEY)
            .variable("RECONIFY_API_KEY", API_KEY)
            .variable("RECONIFY_URL", self.collector.url("/track"))
    }

    /// Where [`launch_with`](Self::launch_with) wrote its settings.
    pub(crate) fn settings(&self) -> PathBuf {
        self.home.path().join("threadtap.toml")
    }

    pub(crate) async fn start(&self) -> Threadtap {
        self.launch().start().await
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.home.path().join("data")
    }

    pub(crate) fn upstream(&self) -> String {
        format!("http://{}", self.assistants.addr())
    }

    /// Waits until this many different payloads were taken, and returns them by idempotency key. A payload may have come more
    /// than once, but never otherwise than before.
    pub(crate) async fn delivered(&self, count: usize) -> BTreeMap<String, Bytes> {
        let taken = |received: &[Received]| accepted(received).len() >= count;
        let received = soon(&format!("{count} payloads"), self.collector.wait_until(taken)).await;
        let delivered = accepted(&received);
        assert_eq!(delivered.len(), count);
        delivered
    }

    /// How often each run's payload was taken.
    pub(crate) fn deliveries(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for received in self.collector.received().iter().filter(|received| is_taken(received)) {
            *counts.entry(key(received)).or_default() += 1;
        }
        counts
    }

    fn sink(&self) -> String {
        let url = self.collector.url("/track");
        format!(
            "[[sinks]]\ntype = \"reconify\"\nurl = \"{url}\"\napp_key = \"{APP_KEY}\"\napi_key = \"{API_KEY}\"\n"
        )
    }
}

/// Payloads that were taken, by idempotency key.
pub(crate) fn accepted(received: &[Received]) -> BTreeMap<String, Bytes> {
    let mut payloads: BTreeMap<String, Bytes> = BTreeMap::new();
    for received in received {
        let known = payloads.entry(key(received)).or_insert_with(|| received.bytes.clone());
        assert_eq!(*known, received.bytes, "a repeated payload differs");
    }
    let taken: Vec<String> = received.iter().filter(|received| is_taken(received)).map(key).collect();
    payloads.retain(|key, _| taken.contains(key));
    payloads
}

fn is_taken(received: &Received) -> bool {
    matches!(received.reaction, Reaction::Ok | Reaction::Slow(_))
}

fn key(received: &Received) -> String {
    received.headers["idempotency-key"].to_str().unwrap().to_owned()
}

/// The payload of a run, among those that were delivered.
pub(crate) fn payload_of(delivered: &BTreeMap<String, Bytes>, record: &Value) -> Value {
    let key = record["key"].as_str().unwrap();
    let bytes = delivered.get(key).unwrap_or_else(|| panic!("nothing was delivered under {key}"));
    serde_json::from_slice(bytes).unwrap()
}

/// The record says what the server says happened.
pub(crate) fn check_record(record: &Value, truth: &ExpectedRun) {
    assert_eq!(record["run"], json!(truth.run), "{record}");
    assert_eq!(record["conversation"]["id"], json!(truth.thread), "{record}");
    assert_eq!(record["status"], json!(truth.status), "{record}");
    assert_eq!(record["assistant"], json!(truth.assistant), "{record}");
    assert_eq!(record["model"], json!(truth.model), "{record}");
    for (name, messages) in [("inputs", &truth.inputs), ("outputs", &truth.outputs)] {
        let recorded = record[name].as_array().unwrap();
        let texts: Vec<String> =
            recorded.iter().map(|message| content_text(&message["object"]["content"])).collect();
        let expected: Vec<&String> = messages.iter().map(|message| &message.text).collect();
        assert_eq!(texts.iter().collect::<Vec<_>>(), expected, "{name} of {record}");
        for (recorded, message) in recorded.iter().zip(messages) {
            assert!(recorded["id"].is_null() || recorded["id"] == json!(message.id), "{name} of {record}");
            assert!(name == "inputs" || !recorded["id"].is_null(), "{name} of {record}");
            assert_eq!(recorded["role"], json!(message.role), "{record}");
        }
    }
    let calls: Vec<Value> = truth
        .tool_calls
        .iter()
        .map(|call| json!({"id": call.id, "kind": call.kind, "output": call.output, "arguments": call.arguments}))
        .collect();
    let recorded: Vec<Value> = record["tool_calls"]
        .as_array()
        .unwrap()
        .iter()
        .map(|call| {
            let mut output = call["output"].clone();
            if call["kind"] == "code_interpreter" {
                let logs: Value = serde_json::from_str(output.as_str().unwrap()).unwrap();
                output = logs[0]["logs"].clone();
            }
            json!({"id": call["id"], "kind": call["kind"], "output": output, "arguments": call["arguments"]})
        })
        .collect();
    assert_eq!(recorded, calls, "{record}");
    assert_eq!(record["usage"], truth.usage.map_or(Value::Null, |usage| usage.object()), "{record}");
    assert_eq!(record["usage_absent"].is_null(), truth.usage.is_some(), "{record}");
    assert_eq!(record["error"], truth.error.clone().unwrap_or_default(), "{record}");
    let metadata = Some(&truth.metadata).filter(|metadata| !metadata.is_empty());
    assert_eq!(record["metadata"], json!(metadata), "{record}");
    #[expect(clippy::cast_precision_loss, reason = "seconds since the epoch are far below 2^52")]
    for (name, time) in [
        ("created_at", Some(truth.created_at)),
        ("started_at", truth.started_at),
        ("ended_at", told_end(truth)),
    ] {
        assert_eq!(record["times"][name].as_f64(), time.map(|time| time as f64), "{name} of {record}");
    }
    assert_eq!(record["inputs_complete"], true, "{record}");
    // That there is nothing to fetch is not proven by a list without it: the server may lag behind.
    assert!(record["outputs_complete"] == true || truth.outputs.is_empty(), "{record}");
    assert_eq!((&record["assumed"], &record["pairing"]), (&json!(false), &json!("exact")), "{record}");
}

/// The payload says what the server says happened, in the vendor's way.
pub(crate) fn check_payload(payload: &Value, truth: &ExpectedRun) {
    let keys: Vec<&String> = payload.as_object().unwrap().keys().collect();
    let known = ["reconify", "request", "response", "user", "session", "sessionTimeout", "timestamps"];
    assert_eq!(keys, known, "{payload}");
    let envelope = json!({
        "format": "openai", "appKey": APP_KEY, "apiKey": API_KEY, "type": "assistant", "version": "3.1.0",
    });
    assert_eq!(payload["reconify"], envelope);
    let request = &payload["request"];
    let joined = |messages: &[threadtap_testkit::assistants::ExpectedMessage]| {
        messages.iter().map(|message| message.text.as_str()).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(content_text(&request["content"]), joined(&truth.inputs), "{payload}");
    assert_eq!(request["assistant_id"], json!(truth.assistant), "{payload}");
    assert_eq!(request["thread_id"], json!(truth.thread), "{payload}");
    assert_eq!(request["model"], json!(truth.model), "{payload}");
    let last = truth.inputs.last();
    assert!(request.get("id").is_none_or(|id| Some(id.as_str().unwrap()) == last.map(|last| &*last.id)));
    let response = &payload["response"];
    match truth.outputs.last() {
        None if truth.status == "completed" => {
            assert_eq!(
                (&response["run_id"], &response["content"]),
                (&json!(truth.run), &json!([])),
                "{payload}"
            );
        }
        None => assert!(response.is_null(), "{payload}"),
        Some(last) => {
            assert_eq!(response["id"], json!(last.id), "{payload}");
            assert_eq!(content_text(&response["content"]), joined(&truth.outputs), "{payload}");
            assert_eq!(response["usage"], truth.usage.map_or(Value::Null, |usage| usage.object()));
        }
    }
    let times = &payload["timestamps"];
    if let Some(started) = truth.started_at {
        assert_eq!(times["request"], json!(started * 1000), "{payload}");
    }
    match told_end(truth) {
        Some(ended) => assert_eq!(times["response"], json!(ended * 1000), "{payload}"),
        None => assert!(times["response"].as_u64().unwrap() >= truth.created_at * 1000, "{payload}"),
    }
}

/// When the run ended, as far as the API tells: it has a time for completed, failed and cancelled runs alone.
fn told_end(truth: &ExpectedRun) -> Option<u64> {
    truth.ended_at.filter(|_| matches!(&*truth.status, "completed" | "failed" | "cancelled"))
}

pub(crate) const APP_KEY: &str = "app-key-of-the-tests";
pub(crate) const API_KEY: &str = "api-key-of-the-tests";
