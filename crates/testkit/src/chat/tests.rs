use http::Method;
use serde_json::{Value, json};

use super::*;
use crate::assistants::{
    Assistants, ChatShape, Cut, CutKind, Script, StreamedUsage, Tail, UsageTiming, WireShape,
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

    async fn complete(&self, body: Value) -> Value {
        self.client.json(Method::POST, "/chat/completions", &body).await.unwrap()
    }

    /// The chunks of a stream, and whether `[DONE]` came last.
    async fn stream(&self, path: &str, body: Value) -> (Vec<Value>, bool) {
        let mut answered = self.client.send(Method::POST, path, &body).await.unwrap();
        let (mut chunks, mut done) = (Vec::new(), false);
        while let Ok(Some(event)) = answered.event().await {
            assert!(event.name.is_empty() && !done);
            done = event.data == "[DONE]";
            if !done {
                chunks.push(serde_json::from_str(&event.data).unwrap());
            }
        }
        (chunks, done)
    }

    async fn until_abandoned(&self) {
        while !self.truth().abandoned {
            tokio::task::yield_now().await;
        }
    }

    fn truth(&self) -> ExpectedCompletion {
        self.fake.completions().pop().unwrap()
    }
}

fn asking(model: &str, fields: Value) -> Value {
    let mut body = json!({"model": model, "messages": [{"role": "user", "content": "hi there"}]});
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// The choices that a stream's chunks add up to.
fn merged(chunks: &[Value]) -> Vec<ChatChoice> {
    let mut choices: Vec<ChatChoice> = Vec::new();
    let told = chunks.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap());
    for told in told.filter(|told| told["delta"].is_object()) {
        let index = usize::try_from(told["index"].as_u64().unwrap()).unwrap();
        while choices.len() <= index {
            choices.push(ChatChoice { index: choices.len(), ..ChatChoice::default() });
        }
        let (choice, delta) = (&mut choices[index], &told["delta"]);
        let append = |text: &mut Option<String>, more: &Value| {
            if let Some(more) = more.as_str() {
                text.get_or_insert_default().push_str(more);
            }
        };
        append(&mut choice.content, &delta["content"]);
        append(&mut choice.refusal, &delta["refusal"]);
        append(&mut choice.reasoning, &delta["reasoning_content"]);
        append(&mut choice.transcript, &delta["audio"]["transcript"]);
        if delta["function_call"].is_object() {
            let call = choice.function_call.get_or_insert_default();
            call.name.push_str(delta["function_call"]["name"].as_str().unwrap_or_default());
            call.arguments.push_str(delta["function_call"]["arguments"].as_str().unwrap_or_default());
        }
        for part in delta["tool_calls"].as_array().into_iter().flatten() {
            let index = usize::try_from(part["index"].as_u64().unwrap()).unwrap();
            choice.tool_calls.resize(choice.tool_calls.len().max(index + 1), ChatCall::default());
            let call = &mut choice.tool_calls[index];
            call.id.push_str(part["id"].as_str().unwrap_or_default());
            call.name.push_str(part["function"]["name"].as_str().unwrap_or_default());
            call.arguments.push_str(part["function"]["arguments"].as_str().unwrap_or_default());
        }
        choice.finish_reason.push_str(told["finish_reason"].as_str().unwrap_or_default());
    }
    choices
}

#[tokio::test]
async fn chunks_add_up_to_the_choices_that_the_truth_has() {
    let world = World::new(Script::default()).await;
    let names = [
        "echo",
        "empty",
        "refuse",
        "reason",
        "tools",
        "talk_tool",
        "function",
        "incomplete",
        "filter",
        "long",
    ];
    for (name, n) in names.iter().flat_map(|name| [(name, 1), (name, 3)]) {
        let body = asking(&format!("fake-{name}"), json!({"n": n, "stream": true}));
        let (chunks, done) = world.stream("/chat/completions", body).await;
        assert!(done);
        let truth = world.truth();
        assert_eq!((merged(&chunks), truth.usage), (truth.choices, None), "{name}");
    }
    let spoken = asking("gpt-audio", json!({"modalities": ["text", "audio"], "stream": true}));
    let (chunks, _) = world.stream("/chat/completions", spoken).await;
    assert_eq!(merged(&chunks)[0].transcript.as_deref(), Some("You said: hi there"));
}

#[tokio::test]
async fn a_completion_as_a_whole_says_what_the_truth_has() {
    let world = World::new(Script::default()).await;
    let object = world.complete(asking("fake-tools", json!({"n": 2}))).await;
    let truth = world.truth();
    assert_eq!(object["id"], truth.completion);
    assert_eq!(object["usage"], truth.usage.unwrap().object());
    for (choice, told) in truth.choices.iter().zip(object["choices"].as_array().unwrap()) {
        assert_eq!(told["finish_reason"], "tool_calls");
        let ids = choice.tool_calls.iter().map(|call| json!(call.id)).collect::<Vec<_>>();
        let calls = told["message"]["tool_calls"].as_array().unwrap();
        assert_eq!(calls.iter().map(|call| call["id"].clone()).collect::<Vec<_>>(), ids);
    }
    let object = world.complete(asking("gpt-5", json!({"response_format": {"type": "json_object"}}))).await;
    let content = object["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(content).unwrap(), json!({"answer": "You said: hi there"}));
}

#[tokio::test]
async fn tool_messages_continue_the_turn_that_called() {
    let world = World::new(Script::default()).await;
    let first = world.complete(asking("fake-tool_twice", json!({}))).await;
    let mut messages = vec![json!({"role": "user", "content": "hi there"})];
    let output = |answer: &Value, text: &str| {
        let message = answer["choices"][0]["message"].clone();
        let id = message["tool_calls"][0]["id"].clone();
        [message, json!({"role": "tool", "tool_call_id": id, "content": text})]
    };
    messages.extend(output(&first, "rain"));
    let second = world.complete(asking("fake-tool_twice", json!({"messages": messages}))).await;
    assert_eq!(second["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "get_time");
    messages.extend(output(&second, "noon"));
    world.complete(asking("fake-tool_twice", json!({"messages": messages}))).await;
    let truth = world.truth();
    assert_eq!((truth.inputs.len(), &truth.inputs[0]["content"]), (1, &json!("noon")));
    assert_eq!((json!(truth.continues), json!(truth.turn)), (second["id"].clone(), first["id"].clone()));
    assert_eq!(truth.choices[0].content.as_deref(), Some("The tools said: noon. You said: hi there"));
}

#[tokio::test]
async fn the_conversation_is_handed_over_by_the_function_that_says_so() {
    let world = World::new(Script::default()).await;
    let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
    let tools = json!([tool("get_weather"), tool("transfer_to_cashier")]);
    let first = world.complete(asking("fake-handoff", json!({ "tools": tools }))).await;
    let message = &first["choices"][0]["message"];
    let call = &message["tool_calls"][0];
    assert_eq!(call["function"], json!({"name": "transfer_to_cashier", "arguments": "{}"}));
    let output = json!({"role": "tool", "tool_call_id": call["id"], "content": "done"});
    let messages = json!([{"role": "user", "content": "hi there"}, message, output]);
    world.complete(asking("fake-handoff", json!({"messages": messages, "tools": tools}))).await;
    let said = |truth: &ExpectedCompletion| truth.choices[0].content.clone().unwrap();
    assert_eq!(said(&world.truth()), "The tools said: done. You said: hi there");
    world.complete(asking("fake-handoff", json!({}))).await;
    assert_eq!(said(&world.truth()), "You said: hi there");
}

#[tokio::test]
async fn a_functions_result_continues_the_completion_that_called_it_after_the_same_words() {
    let world = World::new(Script::default()).await;
    let first = world.complete(asking("fake-function", json!({}))).await;
    let message = first["choices"][0]["message"].clone();
    let name = message["function_call"]["name"].clone();
    let asked = |text: &str, name: &Value| {
        let result = json!({"role": "function", "name": name, "content": "rain"});
        json!({"messages": [{"role": "user", "content": text}, message.clone(), result]})
    };
    for (text, name, continued) in [
        ("hi there", &name, &first["id"]),
        ("hello", &name, &Value::Null),
        ("hi there", &json!("other"), &Value::Null),
    ] {
        world.complete(asking("fake-function", asked(text, name))).await;
        assert_eq!(json!(world.truth().continues), *continued, "{text} {name}");
    }
}

#[tokio::test]
async fn usage_comes_where_the_script_says() {
    let asked = json!({"include_usage": true});
    for (usage, options, told_at) in [
        (StreamedUsage::Asked, Value::Null, ""),
        (StreamedUsage::Asked, asked.clone(), "last, no choice"),
        (StreamedUsage::AskedWithChoice, asked.clone(), "last, a choice"),
        (StreamedUsage::Finish, Value::Null, "last, a choice, finished"),
        (StreamedUsage::Every, Value::Null, "last, a choice, finished, every"),
    ] {
        let chat = ChatShape { usage, ..ChatShape::default() };
        let world =
            World::new(Script { wire: WireShape { chat, ..WireShape::default() }, ..Script::default() })
                .await;
        let body = asking("gpt-5", json!({"stream": true, "stream_options": options}));
        let (chunks, _) = world.stream("/chat/completions", body).await;
        let last = chunks.last().unwrap();
        assert_eq!(
            last["usage"],
            world.truth().usage.map_or(Value::Null, |usage| usage.object()),
            "{usage:?}"
        );
        let mut seen = Vec::new();
        if last["usage"].is_object() {
            seen.push("last");
            seen.push(if last["choices"] == json!([]) { "no choice" } else { "a choice" });
        }
        if last["usage"].is_object() && last["choices"][0]["finish_reason"].is_string() {
            seen.push("finished");
        }
        if chunks.iter().all(|chunk| chunk["usage"].is_object()) {
            seen.push("every");
        }
        assert_eq!(seen.join(", "), told_at, "{usage:?}");
    }
    let world = World::new(Script { usage: UsageTiming::Never, ..Script::default() }).await;
    assert!(world.complete(asking("gpt-5", json!({}))).await["usage"].is_null());
}

#[tokio::test]
async fn azure_filters_before_and_after() {
    for async_filter in [false, true] {
        let chat = ChatShape { async_filter, ..ChatShape::default() };
        let fake = Assistants::start(Script {
            wire: WireShape { chat, ..WireShape::default() },
            ..Script::default()
        })
        .await
        .unwrap();
        let client = Client::new(&format!("http://{}/openai/deployments/shop", fake.addr()));
        let world = World { fake, client };
        let mut body = asking("", json!({"stream": true}));
        body.as_object_mut().unwrap().remove("model");
        let (chunks, _) = world.stream("/chat/completions?api-version=2024-10-21", body).await;
        assert!(chunks[0]["prompt_filter_results"].is_array() && chunks[0]["id"] == "");
        let bare = chunks.iter().filter(|chunk| chunk["choices"][0]["content_filter_offsets"].is_object());
        assert_eq!(bare.count(), usize::from(async_filter));
        assert_eq!(
            (merged(&chunks), world.truth().model.as_str()),
            (world.truth().choices, "shop-2026-08-01")
        );
    }
}

#[tokio::test]
async fn a_stream_can_tell_an_error_or_break_off() {
    let world = World::new(Script::default()).await;
    let (chunks, done) =
        world.stream("/chat/completions", asking("fake-error", json!({"stream": true}))).await;
    assert!(!done && chunks.len() > 2);
    assert_eq!(world.truth().error, Some(chunks.last().unwrap()["error"].clone()));
    for (model, status) in [("fake-error", 500), ("fake-fail_early", 429)] {
        let answered =
            world.client.send(Method::POST, "/chat/completions", &asking(model, json!({}))).await.unwrap();
        assert_eq!(answered.status, status);
    }
    world.fake.reshape(WireShape {
        cut: Some(Cut { after_bytes: 700, how: CutKind::Close }),
        ..WireShape::default()
    });
    world.stream("/chat/completions", asking("gpt-5", json!({"stream": true}))).await;
    world.until_abandoned().await;
    world.fake.reshape(WireShape::default());
    let body = asking("fake-stall", json!({"stream": true}));
    let mut answered = world.client.send(Method::POST, "/chat/completions", &body).await.unwrap();
    answered.event().await.unwrap();
    drop(answered);
    world.until_abandoned().await;

    world.fake.reshape(WireShape { tail: Tail::Nothing, ..WireShape::default() });
    let body = asking("gpt-5", json!({"stream": true}));
    let answered = world.client.send(Method::POST, "/chat/completions", &body).await.unwrap();
    assert!(answered.bytes().await.unwrap().ends_with(b"\n\ndata: [DONE]"));
}

#[tokio::test]
async fn stored_completions_can_be_read_again_and_the_legacy_endpoints_leave_no_truth() {
    let world = World::new(Script::default()).await;
    let stored = world.complete(asking("gpt-5", json!({"store": true, "metadata": {"k": "v"}}))).await;
    let path = format!("/chat/completions/{}", stored["id"].as_str().unwrap());
    let read = async |path: &str| world.client.json(Method::GET, path, &Value::Null).await.unwrap();
    assert_eq!(read(&path).await, stored);
    assert_eq!(read("/chat/completions").await["data"], json!([stored]));
    assert_eq!(read(&format!("{path}/messages")).await["data"][0]["content"], "hi there");
    let changed = world.client.json(Method::POST, &path, &json!({"metadata": {"k": "w"}})).await.unwrap();
    assert_eq!(changed["metadata"]["k"], "w");
    world.client.json(Method::DELETE, &path, &Value::Null).await.unwrap();
    assert_eq!(read("/chat/completions").await["data"], json!([]));

    let count = world.fake.completions().len();
    let post = async |path: &str, body: Value| world.client.json(Method::POST, path, &body).await.unwrap();
    let completed = post("/completions", json!({"model": "m", "prompt": "hi"})).await;
    assert_eq!(completed["choices"][0]["text"], "You said: hi");
    assert_eq!(
        post("/embeddings", json!({"model": "m", "input": ["a", "b"]})).await["data"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(world.fake.completions().len(), count);
}
