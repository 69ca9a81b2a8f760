use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::*;
use crate::assistants::{
    Assistants, Cut, CutKind, Framing, LineEnd, Mishap, Pace, Progress, Script, Split, Tail, UsageTiming,
    WireShape,
};
use crate::client::Client;

struct World {
    fake: Assistants,
    client: Client,
}

impl World {
    async fn new(script: Script) -> Self {
        let fake = Assistants::start(script).await.unwrap();
        let client = Client::new(&fake.base_url());
        Self { fake, client }
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.client.json(Method::POST, path, &body).await.unwrap()
    }

    async fn read(&self, path: &str) -> Value {
        self.client.json(Method::GET, path, &Value::Null).await.unwrap()
    }

    async fn respond(&self, model: &str, fields: Value) -> Value {
        let mut body = json!({"model": model, "input": "hi there"});
        for (name, value) in fields.as_object().unwrap() {
            body[name] = value.clone();
        }
        self.post("/responses", body).await
    }

    /// The status and the message of a request that is refused.
    async fn refusal(&self, method: Method, path: &str, body: Value) -> (u16, String) {
        let answered = self.client.send(method, path, &body).await.unwrap();
        let status = answered.status.as_u16();
        let error: Value = serde_json::from_slice(&answered.bytes().await.unwrap()).unwrap();
        (status, error["error"]["message"].as_str().unwrap().to_owned())
    }

    /// The events of a stream; their names are checked against their types.
    async fn stream(&self, method: Method, path: &str, body: Value) -> Vec<Value> {
        let mut answered = self.client.send(method, path, &body).await.unwrap();
        assert_eq!(answered.headers["content-type"], "text/event-stream; charset=utf-8");
        let mut events = Vec::new();
        while let Some(event) = answered.event().await.unwrap() {
            let data: Value = serde_json::from_str(&event.data).unwrap();
            assert_eq!(data["type"], json!(event.name));
            events.push(data);
        }
        events
    }

    /// The events of a new response.
    async fn streamed(&self, model: &str) -> Vec<Value> {
        let body = json!({"model": model, "input": "hi there", "stream": true});
        self.stream(Method::POST, "/responses", body).await
    }

    fn truth(&self) -> ExpectedResponse {
        self.fake.responses().pop().unwrap()
    }

    /// Waits for what the server does by itself.
    async fn until(&self, holds: impl Fn(&ExpectedResponse) -> bool) -> ExpectedResponse {
        loop {
            if let Some(truth) = self.fake.responses().pop().filter(&holds) {
                return truth;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// The types of a stream's events without `response.`, repeated deltas once.
fn types(events: &[Value]) -> String {
    let types = events.iter().map(|event| event["type"].as_str().unwrap());
    let mut types: Vec<&str> = types.map(|name| name.strip_prefix("response.").unwrap_or(name)).collect();
    types.dedup();
    types.join(" ")
}

fn texts(items: &[ExpectedItem]) -> Vec<&str> {
    items.iter().map(|item| item.text.as_str()).collect()
}

#[tokio::test]
async fn a_stream_tells_a_response_in_the_order_of_the_api_and_the_state_agrees() {
    let world = World::new(Script::default()).await;
    let events = world.streamed("gpt-5").await;
    assert_eq!(
        types(&events),
        "created in_progress output_item.added content_part.added output_text.delta output_text.done \
         content_part.done output_item.done completed"
    );
    let numbers: Vec<u64> = events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..u64::try_from(events.len()).unwrap()).collect::<Vec<_>>());
    let deltas = events.iter().filter(|event| event["type"] == "response.output_text.delta");
    assert!(deltas.clone().all(|event| event["obfuscation"].as_str().unwrap().len() == 7));
    let told: String = deltas.map(|event| event["delta"].as_str().unwrap()).collect();
    assert_eq!(told, "You said: hi there");

    let (truth, response) = (world.truth(), &events.last().unwrap()["response"]);
    assert_eq!((texts(&truth.inputs), texts(&truth.outputs)), (vec!["hi there"], vec![told.as_str()]));
    assert_eq!(response["output"], json!([truth.outputs[0].object]));
    assert_eq!(response["usage"], truth.usage.unwrap().object());
    assert_eq!(response["usage"]["total_tokens"], 16);
    assert_eq!(*response, world.read(&format!("/responses/{}", truth.response)).await);
    let items = world.read(&format!("/responses/{}/input_items", truth.response)).await;
    assert_eq!(items["data"], json!([truth.inputs[0].object]));
}

#[tokio::test]
async fn a_response_at_once_is_what_its_stream_would_have_ended_with() {
    for model in
        ["gpt-5", "fake-messages", "fake-refuse", "fake-reason", "fake-search", "fake-mcp", "fake-tools"]
    {
        let whole = World::new(Script::default()).await.respond(model, json!({})).await;
        let events = World::new(Script::default()).await.streamed(model).await;
        let last = &events.last().unwrap()["response"];
        for field in ["status", "usage", "error", "incomplete_details", "model"] {
            assert_eq!(whole[field], last[field], "{model}");
        }
        let kinds = |response: &Value| -> Vec<Value> {
            response["output"].as_array().unwrap().iter().map(|item| item["type"].clone()).collect()
        };
        assert_eq!(kinds(&whole), kinds(last), "{model}");
        assert!(kinds(last).iter().all(|kind| !kind.is_null()));
    }
}

#[tokio::test]
async fn responses_end_in_every_way() {
    let world = World::new(Script::default()).await;
    for (model, status, last) in [
        ("fake-fail", "failed", "failed"),
        ("fake-fail_early", "failed", "failed"),
        ("fake-incomplete", "incomplete", "incomplete"),
        ("fake-filter", "incomplete", "incomplete"),
        ("fake-empty", "completed", "completed"),
    ] {
        let events = world.streamed(model).await;
        assert!(types(&events).ends_with(last), "{model}");
        let truth = world.truth();
        assert_eq!(
            (truth.status.as_str(), &events.last().unwrap()["response"]["status"]),
            (status, &json!(status))
        );
        assert_eq!(truth.error.is_some(), status != "completed", "{model}");
        let whole = world.respond(model, json!({})).await;
        assert_eq!(whole["status"], status, "{model}");
    }
    let events = world.streamed("fake-error").await;
    assert!(types(&events).ends_with("output_text.delta error"));
    world.until(|truth| truth.status == "failed").await;
    let refusal =
        world.refusal(Method::POST, "/responses", json!({"model": "fake-error", "input": "x"})).await;
    assert_eq!((refusal.0, world.truth().refused), (500, true));
}

#[tokio::test]
async fn chains_are_known_by_their_root_and_only_new_items_are_inputs() {
    let world = World::new(Script::default()).await;
    let first = world.respond("gpt-5", json!({})).await;
    let second =
        world.respond("gpt-5", json!({"previous_response_id": first["id"], "input": "and then?"})).await;
    assert_eq!(second["previous_response_id"], first["id"]);
    let truth = world.truth();
    assert_eq!((json!(truth.root), texts(&truth.inputs)), (first["id"].clone(), vec!["and then?"]));
    assert_eq!(second["usage"]["input_tokens_details"]["cached_tokens"], 6);

    let history = json!([
        {"role": "user", "content": "hi there"}, first["output"][0].clone(), {"role": "user", "content": "again"},
    ]);
    let resent = world.respond("gpt-5", json!({"input": history, "store": false})).await;
    let truth = world.truth();
    assert_eq!(
        (texts(&truth.inputs), json!(truth.follows), json!(truth.root)),
        (vec!["again"], first["id"].clone(), first["id"].clone())
    );
    let path = format!("/responses/{}", resent["id"].as_str().unwrap());
    assert_eq!(world.refusal(Method::GET, &path, Value::Null).await.0, 404);
    let body = json!({"model": "gpt-5", "input": "x", "previous_response_id": resent["id"]});
    assert_eq!(world.refusal(Method::POST, "/responses", body).await.0, 400);
}

#[tokio::test]
async fn tool_outputs_continue_the_turn_that_called() {
    let world = World::new(Script::default()).await;
    let call = |response: &Value| response["output"][0]["call_id"].clone();
    let output =
        |call: Value, text: &str| json!([{"type": "function_call_output", "call_id": call, "output": text}]);
    let first = world.respond("fake-tool_twice", json!({})).await;
    assert_eq!(first["output"][0]["name"], "get_weather");
    let fields = json!({"previous_response_id": first["id"], "input": output(call(&first), "rain")});
    let second = world.respond("fake-tool_twice", fields).await;
    assert_eq!(second["output"][0]["name"], "get_time");
    let fields = json!({"previous_response_id": second["id"], "input": output(call(&second), "noon")});
    world.respond("fake-tool_twice", fields).await;
    let truth = world.truth();
    assert_eq!(texts(&truth.outputs), ["The tools said: noon. You said: hi there"]);
    assert_eq!((json!(truth.continues), json!(truth.turn)), (second["id"].clone(), first["id"].clone()));

    // The same without a chain: everything is sent again.
    let first = world.respond("fake-reason_tool", json!({"store": false})).await;
    let mut input = vec![json!({"role": "user", "content": "hi there"})];
    input.extend(first["output"].as_array().unwrap().clone());
    input.extend(output(first["output"][1]["call_id"].clone(), "rain").as_array().unwrap().clone());
    world.respond("fake-reason_tool", json!({"store": false, "input": input})).await;
    let truth = world.truth();
    assert_eq!((json!(truth.continues), texts(&truth.inputs)), (first["id"].clone(), vec!["rain"]));

    // Semantic Kernel names the response before, and repeats its turn all the same.
    let first = world.respond("fake-tool_twice", json!({})).await;
    let mut input = vec![json!({"role": "user", "content": "hi there"})];
    input.extend(output(call(&first), "rain").as_array().unwrap().clone());
    let fields = json!({"previous_response_id": first["id"], "input": input});
    let second = world.respond("fake-tool_twice", fields).await;
    assert_eq!(second["output"][0]["name"], "get_time");
    input.extend(output(call(&second), "noon").as_array().unwrap().clone());
    let fields = json!({"previous_response_id": second["id"], "input": input});
    world.respond("fake-tool_twice", fields).await;
    let truth = world.truth();
    assert_eq!(texts(&truth.outputs), ["The tools said: noon. You said: hi there"]);
    assert_eq!((json!(truth.continues), json!(truth.turn)), (second["id"].clone(), first["id"].clone()));

    // Who asks something else beside has begun a turn.
    let first = world.respond("fake-tool", json!({})).await;
    let mut input = vec![json!({"role": "user", "content": "and then?"})];
    input.extend(output(call(&first), "rain").as_array().unwrap().clone());
    world.respond("gpt-5", json!({"previous_response_id": first["id"], "input": input})).await;
    assert_eq!((world.truth().continues, texts(&world.truth().inputs)), (None, vec!["and then?", "rain"]));

    let strange = json!({"model": "gpt-5", "input": output(json!("call_none"), "x")});
    assert_eq!(world.refusal(Method::POST, "/responses", strange).await.0, 400);
}

#[tokio::test]
async fn the_conversation_is_handed_over_by_the_function_that_says_so() {
    let world = World::new(Script::default()).await;
    let tools = json!([{"type": "function", "name": "get_weather"}, {"type": "function", "name": "handoff"}]);
    let arguments = r#"{"to_agent":"Zoé"}"#;
    let metadata = json!({"behaviour": "handoff", "arguments": arguments});
    let first = world.respond("gpt-5", json!({"tools": tools, "metadata": metadata})).await;
    let call = &first["output"][0];
    assert_eq!((&call["name"], &call["arguments"]), (&json!("handoff"), &json!(arguments)));
    let output = json!([{"type": "function_call_output", "call_id": call["call_id"], "output": "done"}]);
    let fields = json!({"previous_response_id": first["id"], "input": output, "tools": tools});
    world.respond("fake-handoff", fields).await;
    let truth = world.truth();
    assert_eq!(texts(&truth.outputs), ["The tools said: done. You said: hi there"]);
    assert_eq!(json!(truth.continues), first["id"]);
    world.respond("fake-handoff", json!({})).await;
    assert_eq!(texts(&world.truth().outputs), ["You said: hi there"]);
}

#[tokio::test]
async fn what_was_added_to_a_conversation_is_the_input_of_its_next_response() {
    let world = World::new(Script::default()).await;
    let items = json!({"items": [{"type": "message", "role": "user", "content": "one"}]});
    let conversation = world.post("/conversations", items.clone()).await;
    let path = format!("/conversations/{}", conversation["id"].as_str().unwrap());
    let added = world.post(&format!("{path}/items"), items).await;
    let response = world.respond("gpt-5", json!({"conversation": conversation["id"], "input": "two"})).await;
    assert_eq!(response["conversation"]["id"], conversation["id"]);
    assert_eq!(texts(&world.truth().inputs), ["one", "one", "two"]);
    assert_eq!(world.truth().inputs[1].id, added["data"][0]["id"].as_str().unwrap());
    let again = json!({"conversation": {"id": conversation["id"]}, "input": "three"});
    world.respond("gpt-5", again).await;
    assert_eq!(texts(&world.truth().inputs), ["three"]);

    let listed = world.read(&format!("{path}/items?order=asc&limit=100")).await;
    let ids: Vec<&str> =
        listed["data"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect();
    assert_eq!((ids.len(), ids[3]), (6, response["output"][0]["id"].as_str().unwrap()));
    assert_eq!(world.read(&format!("{path}/items/{}", ids[3])).await["id"], ids[3]);
    let deleted = world.client.json(Method::DELETE, &format!("{path}/items/{}", ids[3]), &Value::Null).await;
    assert_eq!(deleted.unwrap()["object"], "conversation");
    world.client.json(Method::DELETE, &path, &Value::Null).await.unwrap();
    assert!(world.truth().conversation_deleted);
    assert_eq!(world.refusal(Method::GET, &path, Value::Null).await.0, 404);
}

#[tokio::test]
async fn links_can_be_left_out_as_llama_stack_does() {
    let world = World::new(Script {
        wire: WireShape { omit_links: true, ..WireShape::default() },
        ..Script::default()
    })
    .await;
    let conversation = world.post("/conversations", json!({})).await;
    let response = world.respond("gpt-5", json!({"conversation": conversation["id"]})).await;
    assert!(response.get("conversation").is_none());
    let next = world.respond("gpt-5", json!({"previous_response_id": response["id"]})).await;
    assert!(next["previous_response_id"].is_null());
    assert_eq!(json!(world.truth().previous), response["id"]);
}

#[tokio::test]
async fn in_the_background_polls_move_a_response_and_usage_can_be_late() {
    let world = World::new(Script { usage: UsageTiming::Late, ..Script::default() }).await;
    let response = world.respond("gpt-5", json!({"background": true})).await;
    assert_eq!(response["status"], "queued");
    let path = format!("/responses/{}", response["id"].as_str().unwrap());
    let polled = world.client.poll(&path).await.unwrap();
    assert_eq!((&polled["status"], &polled["usage"]), (&json!("completed"), &Value::Null));
    assert_eq!(world.read(&path).await["usage"], world.truth().usage.unwrap().object());

    let stalled = world.respond("fake-stall", json!({"background": true})).await;
    let path = format!("/responses/{}", stalled["id"].as_str().unwrap());
    assert_eq!(world.read(&path).await["status"], "in_progress");
    assert_eq!(world.post(&format!("{path}/cancel"), Value::Null).await["status"], "cancelled");
    assert_eq!(world.read(&path).await["status"], "cancelled");
    let whole = world.respond("gpt-5", json!({})).await;
    let path = format!("/responses/{}/cancel", whole["id"].as_str().unwrap());
    assert_eq!(world.refusal(Method::POST, &path, Value::Null).await.0, 400);
}

#[tokio::test]
async fn a_stream_in_the_background_can_be_resumed_where_it_broke_off() {
    let cut = Some(Cut { after_bytes: 9000, how: CutKind::Close });
    let world = World::new(Script::default()).await;
    world.fake.reshape(WireShape { cut, ..WireShape::default() });
    let body = json!({"model": "fake-long", "input": "x", "background": true, "stream": true});
    let mut answered = world.client.send(Method::POST, "/responses", &body).await.unwrap();
    let mut first = Vec::new();
    while let Ok(Some(event)) = answered.event().await {
        first.push(serde_json::from_str::<Value>(&event.data).unwrap());
    }
    world.fake.reshape(WireShape::default());
    let id = world.truth().response;
    let after = first.last().unwrap()["sequence_number"].as_u64().unwrap();
    let path = format!("/responses/{id}?stream=true&starting_after={after}");
    let rest = world.stream(Method::GET, &path, Value::Null).await;
    assert_eq!(rest[0]["sequence_number"], after + 1);
    first.extend(rest);
    assert_eq!(types(&first).rsplit(' ').next(), Some("completed"));
    let told = first.iter().filter(|event| event["type"] == "response.output_text.delta");
    let told: String = told.map(|event| event["delta"].as_str().unwrap()).collect();
    assert_eq!(texts(&world.truth().outputs), [told]);
    assert!(!world.truth().abandoned);
}

#[tokio::test]
async fn who_looks_on_takes_over_from_a_stream_that_is_left() {
    let world = World::new(Script::default()).await;
    let body = json!({"model": "fake-long", "input": "x", "background": true, "stream": true});
    let mut answered = world.client.send(Method::POST, "/responses", &body).await.unwrap();
    answered.event().await.unwrap();
    let path = format!("/responses/{}?stream=true", world.truth().response);
    let mut second = world.client.send(Method::GET, &path, &Value::Null).await.unwrap();
    drop(answered);
    let mut last = String::new();
    while let Some(event) = second.event().await.unwrap() {
        last = event.name;
    }
    assert_eq!((last.as_str(), world.truth().status.as_str()), ("response.completed", "completed"));
}

#[tokio::test]
async fn time_moves_a_response_in_the_background_and_a_second_look_sees_all() {
    let script =
        Script { progress: Progress::Time, pace: Pace::Even(Duration::from_millis(1)), ..Script::default() };
    let world = World::new(script).await;
    let response = world.respond("gpt-5", json!({"background": true, "stream": false})).await;
    world.until(|truth| truth.status == "completed").await;
    let path = format!("/responses/{}?stream=true", response["id"].as_str().unwrap());
    assert_eq!(world.refusal(Method::GET, &path, Value::Null).await.0, 400);

    let body = json!({"model": "gpt-5", "input": "x", "background": true, "stream": true});
    let mut answered = world.client.send(Method::POST, "/responses", &body).await.unwrap();
    answered.event().await.unwrap();
    let path = format!("/responses/{}?stream=true", world.truth().response);
    let events = world.stream(Method::GET, &path, Value::Null).await;
    assert!(types(&events).starts_with("created queued") && types(&events).ends_with("completed"));
}

#[tokio::test]
async fn a_response_ends_with_its_stream() {
    let world = World::new(Script { pace: Pace::Even(Duration::from_millis(1)), ..Script::default() }).await;
    let body = json!({"model": "fake-long", "input": "x", "stream": true});
    let mut answered = world.client.send(Method::POST, "/responses", &body).await.unwrap();
    answered.event().await.unwrap();
    drop(answered);
    let truth = world.until(|truth| truth.abandoned).await;
    assert_eq!((truth.status.as_str(), truth.stored), ("cancelled", false));
    let stalled = json!({"model": "fake-stall", "input": "x", "stream": true});
    let mut answered = world.client.send(Method::POST, "/responses", &stalled).await.unwrap();
    answered.event().await.unwrap();
    drop(answered);
    world.until(|truth| truth.abandoned && truth.model.starts_with("fake-stall")).await;
    world.fake.spoil([Mishap::Refuse(503), Mishap::LoseAnswer]);
    assert_eq!(world.refusal(Method::POST, "/responses", body.clone()).await.0, 503);
    world
        .client
        .send(Method::POST, "/responses", &json!({"model": "gpt-5", "input": "x"}))
        .await
        .unwrap_err();
    assert_eq!(world.truth().status, "completed");
}

#[tokio::test]
async fn who_stalls_wakes_nobody() {
    let world = World::new(Script::default()).await;
    let stalled = json!({"model": "fake-stall", "input": "x", "stream": true});
    let mut answered = world.client.send(Method::POST, "/responses", &stalled).await.unwrap();
    while answered.event().await.unwrap().unwrap().name != "response.output_text.delta" {}
    let changed = world.fake.server().changed.notified();
    tokio::pin!(changed);
    // The acts of the stream are over, or soon are.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    changed.set(world.fake.server().changed.notified());
    changed.as_mut().enable();
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(!changed.as_mut().enable(), "somebody acted");
}

/// The bytes of one stream.
async fn raw_stream(wire: WireShape) -> String {
    let world = World::new(Script { wire, ..Script::default() }).await;
    let body = json!({"model": "gpt-5", "input": "hi", "stream": true});
    let answered = world.client.send(Method::POST, "/responses", &body).await.unwrap();
    String::from_utf8(answered.bytes().await.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn a_stream_can_be_framed_in_every_way_and_never_says_done() {
    let named = raw_stream(WireShape::default()).await;
    assert!(named.starts_with("event: response.created\ndata: {\"") && named.ends_with("}\n\n"));
    let shape = WireShape { framing: Framing::DataOnly, ..WireShape::default() };
    let unnamed = raw_stream(shape).await;
    assert!(!unnamed.contains("event:") && !unnamed.contains("[DONE]"));
    for (tail, line_end, end) in [
        (Tail::Line, LineEnd::Lf, "}\n"),
        (Tail::Nothing, LineEnd::Lf, "}"),
        (Tail::Line, LineEnd::CrLf, "}\r\n"),
    ] {
        let split = Split::Random(5);
        let text = raw_stream(WireShape { tail, line_end, split, ..WireShape::default() }).await;
        assert!(
            text.ends_with(end) && !text.ends_with(&format!("{end}{}", &end[1..])) || tail == Tail::Nothing
        );
        assert_eq!(text.replace("\r\n", "\n").trim_end().len(), named.trim_end().len(), "{tail:?}");
    }
}

#[tokio::test]
async fn counting_and_compacting_are_no_responses() {
    let world = World::new(Script::default()).await;
    let counted = world.post("/responses/input_tokens", json!({"model": "gpt-5", "input": "a b"})).await;
    assert_eq!(counted["input_tokens"], 12);
    let compacted = world.post("/responses/compact", json!({"model": "gpt-5", "input": "a b"})).await;
    assert_eq!(compacted["object"], "response.compaction");
    assert!(world.fake.responses().is_empty());
    for (body, status) in [
        (json!({"input": "x"}), 400),
        (json!({"model": "gpt-5"}), 400),
        (json!({"model": "gpt-5", "input": "x", "conversation": "conv_none"}), 404),
        (json!({"model": "gpt-5", "input": "x", "background": true, "store": false}), 400),
    ] {
        assert_eq!(world.refusal(Method::POST, "/responses", body).await.0, status);
    }
}
