use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::*;
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

    /// The status and the error's message of a request that is refused.
    async fn refusal(&self, method: Method, path: &str, body: Value) -> (u16, String) {
        let answered = self.client.send(method, path, &body).await.unwrap();
        let status = answered.status.as_u16();
        let error: Value = serde_json::from_slice(&answered.bytes().await.unwrap()).unwrap();
        assert_eq!(error["error"]["type"], "invalid_request_error", "{error}");
        (status, error["error"]["message"].as_str().unwrap().to_owned())
    }

    /// A new thread with one user message.
    async fn thread(&self, text: &str) -> String {
        let thread = self.post("/threads", json!({"messages": [{"role": "user", "content": text}]})).await;
        format!("/threads/{}", thread["id"].as_str().unwrap())
    }

    /// The address of a new run.
    async fn run(&self, thread: &str, assistant: &str) -> String {
        let run = self.post(&format!("{thread}/runs"), json!({ "assistant_id": assistant })).await;
        format!("{thread}/runs/{}", run["id"].as_str().unwrap())
    }

    async fn poll(&self, run: &str) -> Value {
        self.client.poll(run).await.unwrap()
    }

    /// The events of a stream, names and data.
    async fn stream(&self, path: &str, body: Value) -> Vec<(String, Value)> {
        let mut answered = self.client.send(Method::POST, path, &body).await.unwrap();
        assert_eq!(answered.headers["content-type"], "text/event-stream; charset=utf-8");
        let mut events = Vec::new();
        while let Some(event) = answered.event().await.unwrap() {
            let data = serde_json::from_str(&event.data).unwrap_or(Value::String(event.data));
            events.push((event.name, data));
        }
        events
    }

    fn truth(&self) -> ExpectedRun {
        self.fake.snapshot().pop().unwrap()
    }
}

/// The names of a stream's events without `thread.`, repeated deltas once.
fn names(events: &[(String, Value)]) -> String {
    let mut names: Vec<&str> =
        events.iter().map(|(name, _)| name.strip_prefix("thread.").unwrap_or(name)).collect();
    names.dedup();
    names.join(" ")
}

fn texts(messages: &[ExpectedMessage]) -> Vec<&str> {
    messages.iter().map(|message| message.text.as_str()).collect()
}

#[tokio::test]
async fn a_stream_tells_a_run_in_the_order_of_the_api_and_the_state_agrees() {
    let world = World::new(Script::default()).await;
    let thread = world.thread("What are the hours?").await;
    let body = json!({"assistant_id": "asst_echo", "stream": true,
                      "additional_messages": [{"role": "user", "content": "And today?"}]});
    let events = world.stream(&format!("{thread}/runs"), body).await;
    assert_eq!(
        names(&events),
        "run.created run.queued run.in_progress run.step.created run.step.in_progress message.created \
         message.in_progress message.delta message.completed run.step.completed run.completed done"
    );
    let said = "You said: What are the hours? / And today?";
    let deltas: String = events
        .iter()
        .filter(|(name, _)| name == "thread.message.delta")
        .map(|(_, data)| data["delta"]["content"][0]["text"]["value"].as_str().unwrap())
        .collect();
    assert_eq!(deltas, said);
    let (_, run) = &events[events.len() - 2];
    assert_eq!(run["usage"], json!({"prompt_tokens": 16, "completion_tokens": 9, "total_tokens": 25}));

    let truth = world.truth();
    assert_eq!((truth.status.as_str(), truth.run.as_str()), ("completed", run["id"].as_str().unwrap()));
    assert_eq!(texts(&truth.inputs), ["What are the hours?", "And today?"]);
    assert_eq!(texts(&truth.outputs), [said]);
    assert_eq!(truth.usage.unwrap().object(), run["usage"]);

    let list = world.read(&format!("{thread}/messages?limit=1&run_id={}", truth.run)).await;
    assert_eq!(list["data"][0]["content"][0]["text"]["value"], said);
    assert_eq!(list["has_more"], false);
    let steps = world.read(&format!("{thread}/runs/{}/steps", truth.run)).await;
    assert_eq!(steps["data"][0]["step_details"]["message_creation"]["message_id"], list["data"][0]["id"]);
    let step = steps["data"][0]["id"].as_str().unwrap();
    assert_eq!(world.read(&format!("{thread}/runs/{}/steps/{step}", truth.run)).await, steps["data"][0]);
}

#[tokio::test]
async fn polls_move_a_run_through_its_statuses_and_a_second_run_takes_only_what_is_new() {
    let world = World::new(Script::default()).await;
    let thread = world.thread("one").await;
    let created = world.post(&format!("{thread}/runs"), json!({"assistant_id": "asst_echo"})).await;
    let run = format!("{thread}/runs/{}", created["id"].as_str().unwrap());
    let mut statuses = vec![created["status"].clone()];
    for _ in 0..2 {
        statuses.push(world.read(&run).await["status"].clone());
    }
    let last = world.poll(&run).await;
    assert_eq!(statuses, ["queued", "in_progress", "completed"]);
    assert!(
        last["usage"]["total_tokens"].is_u64()
            && last["completed_at"].is_u64()
            && last["expires_at"].is_null()
    );
    assert_eq!(world.poll(&run).await, last);

    world.post(&format!("{thread}/messages"), json!({"role": "assistant", "content": "a note"})).await;
    let parts =
        json!([{"type": "text", "text": "two"}, {"type": "image_url", "image_url": {"url": "http://x/y"}}]);
    world.post(&format!("{thread}/messages"), json!({"role": "user", "content": parts})).await;
    let run = world.run(&thread, "asst_messages").await;
    world.poll(&run).await;
    let truth = world.truth();
    assert_eq!(texts(&truth.inputs), ["a note", "two\n[image_url http://x/y]"]);
    assert_eq!(texts(&truth.outputs), ["Let me think.", "You said: a note / two\n[image_url http://x/y]"]);
    let runs = world.read(&format!("{thread}/runs")).await;
    assert_eq!(runs["data"][0]["id"], truth.run.as_str());
    assert_eq!(runs["data"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn every_behaviour_ends_alike_streamed_and_polled_and_in_the_order_of_the_api() {
    let head = "run.created run.queued run.in_progress";
    let open = "run.step.created run.step.in_progress message.created message.in_progress message.delta";
    let answer = format!("{open} message.completed run.step.completed");
    let tools = "run.step.created run.step.in_progress run.step.delta";
    let cases = [
        (
            "cancel",
            "cancelled",
            format!("{head} {open} run.cancelling message.incomplete run.step.cancelled run.cancelled done"),
        ),
        ("code", "completed", format!("{head} {tools} run.step.completed {answer} run.completed done")),
        ("empty", "completed", format!("{head} run.completed done")),
        ("error", "failed", format!("{head} {open} error")),
        ("expire", "expired", format!("{head} {open} message.incomplete run.step.expired run.expired done")),
        ("fail", "failed", format!("{head} {open} message.incomplete run.step.failed run.failed done")),
        ("fail_early", "failed", "run.created run.queued run.failed done".to_owned()),
        (
            "incomplete",
            "incomplete",
            format!("{head} {open} message.incomplete run.step.completed run.incomplete done"),
        ),
        ("long", "completed", format!("{head} {answer} run.completed done")),
        ("messages", "completed", format!("{head} {answer} {answer} run.completed done")),
        ("refuse", "completed", format!("{head} {answer} run.completed done")),
        ("shop", "completed", format!("{head} {answer} run.completed done")),
        ("slow", "completed", format!("{head} {answer} run.completed done")),
        ("tool", "requires_action", format!("{head} {tools} run.requires_action done")),
        ("tools", "requires_action", format!("{head} {tools} run.requires_action done")),
    ];
    let world = World::new(Script { poll_after: Some(Duration::ZERO), ..Script::default() }).await;
    for (behaviour, status, order) in cases {
        let assistant = format!("asst_{behaviour}");
        let thread = world.thread("hello there").await;
        let events =
            world.stream(&format!("{thread}/runs"), json!({"assistant_id": assistant, "stream": true})).await;
        assert_eq!(names(&events), order, "{behaviour}");
        let id = events[0].1["id"].as_str().unwrap();
        let streamed = world.poll(&format!("{thread}/runs/{id}")).await;
        let streamed_truth = world.truth();
        assert_eq!(streamed["status"], status, "{behaviour}");

        let thread = world.thread("hello there").await;
        let run = world.run(&thread, &assistant).await;
        let polled = world.poll(&run).await;
        let truth = world.truth();
        assert_eq!((&polled["status"], &truth.status), (&json!(status), &status.to_owned()), "{behaviour}");
        assert_eq!(polled["usage"], streamed["usage"], "{behaviour}");
        assert_eq!(
            (polled["last_error"].clone(), polled["incomplete_details"].clone()),
            (streamed["last_error"].clone(), streamed["incomplete_details"].clone()),
            "{behaviour}"
        );
        assert_eq!(texts(&truth.outputs), texts(&streamed_truth.outputs), "{behaviour}");
        assert_eq!(truth.usage.is_some(), status != "requires_action", "{behaviour}");
    }
}

#[tokio::test]
async fn a_tool_loop_is_one_run_over_several_streams() {
    let world = World::new(Script::default()).await;
    let thread = world.thread("weather?").await;
    let body = json!({"assistant_id": "asst_tool_twice", "stream": true});
    let mut events = world.stream(&format!("{thread}/runs"), body).await;
    let run = format!("{thread}/runs/{}", events[0].1["id"].as_str().unwrap());
    for output in ["sunny", "noon"] {
        let (_, waiting) = &events[events.len() - 2];
        let call = &waiting["required_action"]["submit_tool_outputs"]["tool_calls"][0];
        serde_json::from_str::<Value>(call["function"]["arguments"].as_str().unwrap()).unwrap();
        let outputs = json!([{"tool_call_id": call["id"], "output": output}]);
        let body = json!({"tool_outputs": outputs, "stream": true});
        events = world.stream(&format!("{run}/submit_tool_outputs"), body).await;
        assert!(names(&events).starts_with("run.step.completed run.queued run.in_progress run.step.created"));
    }
    let truth = world.truth();
    assert_eq!(texts(&truth.outputs), ["The tools said: sunny, noon. You said: weather?"]);
    let calls: Vec<_> =
        truth.tool_calls.iter().map(|call| (call.name.as_str(), call.output.as_deref())).collect();
    assert_eq!(calls, [("get_weather", Some("sunny")), ("get_time", Some("noon"))]);
}

#[tokio::test]
async fn a_thread_is_locked_while_its_run_is_active_and_refusals_speak_as_openai_does() {
    let world = World::new(Script::default()).await;
    let thread = world.thread("x").await;
    let run = world.run(&thread, "asst_tool").await;
    let thread_id = thread.strip_prefix("/threads/").unwrap();
    let run_id = run.rsplit('/').next().unwrap();
    let message = json!({"role": "user", "content": "y"});
    assert_eq!(
        world.refusal(Method::POST, &format!("{thread}/messages"), message.clone()).await,
        (400, format!("Can't add messages to {thread_id} while a run {run_id} is active."))
    );
    assert_eq!(
        world.refusal(Method::POST, &format!("{thread}/runs"), json!({"assistant_id": "asst_echo"})).await,
        (400, format!("Thread {thread_id} already has an active run {run_id}."))
    );
    let submit = format!("{run}/submit_tool_outputs");
    let (status, _) = world.refusal(Method::POST, &submit, json!({"tool_outputs": []})).await;
    assert_eq!(status, 400);
    assert_eq!(world.poll(&run).await["status"], "requires_action");
    let (status, message) = world.refusal(Method::POST, &submit, json!({"tool_outputs": []})).await;
    assert!(status == 400 && message.starts_with("Expected tool outputs for call_ids"), "{message}");
    world.post(&format!("{run}/cancel"), Value::Null).await;
    assert_eq!(world.poll(&run).await["status"], "cancelled");
    let (_, message) = world.refusal(Method::POST, &format!("{run}/cancel"), Value::Null).await;
    assert_eq!(message, "Cannot cancel run with status 'cancelled'.");
    for (method, path) in [
        (Method::GET, "/threads/thread_0"),
        (Method::GET, "/threads/thread_0/messages"),
        (Method::POST, "/threads/thread_0/runs"),
        (Method::GET, "/nothing"),
        (Method::PUT, "/threads"),
    ] {
        assert_eq!(world.refusal(method, path, json!({})).await.0, 404, "{path}");
    }
    assert_eq!(world.refusal(Method::POST, &format!("{thread}/runs"), json!({})).await.0, 400);
    let missing = json!({"assistant_id": "asst_missing"});
    assert_eq!(world.refusal(Method::POST, "/threads/runs", missing).await.0, 404);
}

#[tokio::test]
async fn a_stalled_stream_ends_when_the_run_is_cancelled_or_expires() {
    for expire in [false, true] {
        let world = World::new(Script::default()).await;
        let thread = world.thread("x").await;
        let body = json!({"assistant_id": "asst_stall", "stream": true});
        let mut answered = world.client.send(Method::POST, &format!("{thread}/runs"), &body).await.unwrap();
        while answered.event().await.unwrap().unwrap().name != "thread.message.delta" {}
        let truth = world.truth();
        assert_eq!(truth.status, "in_progress");
        if expire {
            world.fake.expire(&truth.run);
        } else {
            world.post(&format!("{thread}/runs/{}/cancel", truth.run), json!({})).await;
        }
        let mut names = Vec::new();
        while let Some(event) = answered.event().await.unwrap() {
            names.push(event.name);
        }
        assert_eq!(names.last().unwrap(), "done");
        assert_eq!(world.truth().status, if expire { "expired" } else { "cancelled" });
    }
}

#[tokio::test]
async fn a_run_goes_on_when_the_client_of_its_stream_leaves() {
    let script = Script { pace: Pace::Even(Duration::from_millis(1)), ..Script::default() };
    let world = World::new(script).await;
    let thread = world.thread("one two three").await;
    let body = json!({"assistant_id": "asst_echo", "stream": true});
    let mut answered = world.client.send(Method::POST, &format!("{thread}/runs"), &body).await.unwrap();
    answered.event().await.unwrap();
    drop(answered);
    let run = world.truth().run;
    assert_eq!(world.poll(&format!("{thread}/runs/{run}")).await["status"], "completed");
    assert_eq!(texts(&world.truth().outputs), ["You said: one two three"]);
}

#[tokio::test]
async fn progress_can_be_immediate_manual_or_by_time() {
    let world = World::new(Script { progress: Progress::Immediate, ..Script::default() }).await;
    let thread = world.thread("x").await;
    let run = world.post(&format!("{thread}/runs"), json!({"assistant_id": "asst_echo"})).await;
    assert_eq!(run["status"], "completed");

    let world = World::new(Script { progress: Progress::Manual, ..Script::default() }).await;
    let thread = world.thread("x").await;
    let run = world.run(&thread, "asst_echo").await;
    assert_eq!(world.read(&run).await["status"], "queued");
    assert!(world.fake.advance(&world.truth().run));
    assert_eq!(world.read(&run).await["status"], "in_progress");
    while world.fake.advance(&world.truth().run) {}
    assert_eq!(world.read(&run).await["status"], "completed");

    let world = World::new(Script { progress: Progress::Time, ..Script::default() }).await;
    let thread = world.thread("x").await;
    let run = world.run(&thread, "asst_tool").await;
    let waiting = world.poll(&run).await;
    let call = &waiting["required_action"]["submit_tool_outputs"]["tool_calls"][0]["id"];
    let body = json!({"tool_outputs": [{"tool_call_id": call, "output": "fine"}]});
    world.post(&format!("{run}/submit_tool_outputs"), body).await;
    assert_eq!(world.poll(&run).await["status"], "completed");
}

#[tokio::test]
async fn usage_can_be_late_or_never_come_and_creation_can_say_201() {
    let script = Script { usage: UsageTiming::Late, created_status: 201, ..Script::default() };
    let world = World::new(script).await;
    let answered = world.client.send(Method::POST, "/threads", &json!({})).await.unwrap();
    assert_eq!(answered.status, 201);
    let run = world.run(&world.thread("x").await, "asst_echo").await;
    assert!(world.poll(&run).await["usage"].is_null());
    assert!(world.poll(&run).await["usage"].is_object());
    let thread = world.thread("x").await;
    let events =
        world.stream(&format!("{thread}/runs"), json!({"assistant_id": "asst_echo", "stream": true})).await;
    assert!(events[events.len() - 2].1["usage"].is_null());

    let world = World::new(Script { usage: UsageTiming::Never, ..Script::default() }).await;
    let run = world.run(&world.thread("x").await, "asst_echo").await;
    assert!(world.poll(&run).await["usage"].is_null());
    assert_eq!(world.truth().usage, None);
}

#[tokio::test]
async fn threads_and_messages_can_be_modified_and_deleted() {
    let world = World::new(Script::default()).await;
    let thread = world.thread("one").await;
    let message = world.post(&format!("{thread}/messages"), json!({"role": "user", "content": "two"})).await;
    let address = format!("{thread}/messages/{}", message["id"].as_str().unwrap());
    let modified = world.post(&address, json!({"metadata": {"k": "v"}})).await;
    assert_eq!(modified, world.read(&address).await);
    assert_eq!(modified["metadata"]["k"], "v");
    let deleted = world.client.json(Method::DELETE, &address, &Value::Null).await.unwrap();
    assert_eq!(deleted["object"], "thread.message.deleted");
    world.poll(&world.run(&thread, "asst_echo").await).await;
    assert_eq!(texts(&world.truth().inputs), ["one"]);
    world.client.json(Method::DELETE, &thread, &Value::Null).await.unwrap();
    assert!(world.truth().thread_deleted);
    assert_eq!(world.refusal(Method::GET, &thread, Value::Null).await.0, 404);
}

#[tokio::test]
async fn a_request_can_be_refused_or_its_answer_lost() {
    let world = World::new(Script::default()).await;
    let thread = world.thread("x").await;
    let (runs, body) = (format!("{thread}/runs"), json!({"assistant_id": "asst_echo", "stream": true}));
    world.fake.spoil([Mishap::Refuse(503), Mishap::LoseAnswer]);
    let refused = world.client.send(Method::POST, &runs, &body).await.unwrap();
    assert_eq!((refused.status.as_u16(), world.fake.snapshot().len()), (503, 0));
    world.client.send(Method::POST, &runs, &body).await.unwrap_err();
    let run = format!("{runs}/{}", world.truth().run);
    assert_eq!(world.poll(&run).await["status"], "completed");
}

/// The bytes of one stream, and how it ended.
async fn raw_stream(script: Script, accept: &str) -> (Vec<u8>, io::Result<()>, usize) {
    let world = World::new(script).await;
    let thread = world.thread("héllo wörld").await;
    let client = Client::new(&world.fake.base_url()).with_header("accept-encoding", accept);
    let body = json!({"assistant_id": "asst_echo", "stream": true});
    let mut answered = client.send(Method::POST, &format!("{thread}/runs"), &body).await.unwrap();
    let (mut bytes, mut chunks) = (Vec::new(), 0);
    loop {
        match answered.chunk().await {
            Ok(Some(chunk)) => {
                bytes.extend_from_slice(&chunk);
                chunks += 1;
            }
            Ok(None) => return (bytes, Ok(()), chunks),
            Err(error) => return (bytes, Err(error), chunks),
        }
    }
}

fn with(wire: WireShape) -> Script {
    Script { wire, ..Script::default() }
}

#[tokio::test]
async fn a_stream_can_be_split_anywhere_and_framed_in_every_way() {
    let (plain, _, events) = raw_stream(Script::default(), "").await;
    let length = plain.len();
    for split in [Split::Bytes, Split::Random(7)] {
        let (split_up, _, chunks) = raw_stream(with(WireShape { split, ..WireShape::default() }), "").await;
        // Other draws of the seed, other ids: only their number is the same.
        assert_eq!(split_up.len(), length, "{split:?}");
        assert!(chunks > 10 * events, "{split:?}: {chunks}");
    }
    let shape = WireShape { line_end: LineEnd::CrLf, done: false, comments: true, ..WireShape::default() };
    let (bytes, _, _) = raw_stream(with(shape), "").await;
    let text = String::from_utf8(bytes).unwrap();
    assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
    assert!(text.contains("\r\n:") && !text.contains("[DONE]") && text.ends_with("\r\n\r\n"));
    let shape = WireShape { framing: Framing::Wrapped, line_end: LineEnd::Cr, ..WireShape::default() };
    let (bytes, _, _) = raw_stream(with(shape), "").await;
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.starts_with("data: {\"data\":{") && text.contains(",\"event\":\"thread.run.queued\"}\r\r"));
    assert!(!text.contains('\n') && text.ends_with("data: [DONE]\r\r"));
}

#[tokio::test]
async fn a_stream_is_compressed_as_the_client_accepts_and_can_be_decoded_at_once() {
    use std::io::Read;

    let (plain, _, _) = raw_stream(Script::default(), "gzip").await;
    assert!(plain.starts_with(b"event: "), "compression must be asked for by the script too");
    for accept in ["gzip, deflate", "deflate;q=1, gzip;q=0", "br, zstd"] {
        let script = with(WireShape { compress: true, ..WireShape::default() });
        let (bytes, _, chunks) = raw_stream(script, accept).await;
        let mut text = String::new();
        match bytes[0] {
            0x1f => flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap(),
            0x78 => flate2::read::ZlibDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap(),
            _ => zstd::stream::read::Decoder::new(&bytes[..]).unwrap().read_to_string(&mut text).unwrap(),
        };
        assert!(
            text.starts_with("event: thread.run.created") && text.ends_with("data: [DONE]\n\n"),
            "{accept}"
        );
        assert!(chunks > 10, "{accept}: {chunks}");
    }
}

#[tokio::test]
async fn a_stream_can_break_off_cleanly_or_not() {
    for how in [CutKind::CleanEnd, CutKind::Close, CutKind::Reset] {
        let cut = Some(Cut { after_bytes: 1000, how });
        let (bytes, ending, _) = raw_stream(with(WireShape { cut, ..WireShape::default() }), "").await;
        match how {
            CutKind::CleanEnd => assert!(bytes.len() == 1000 && ending.is_ok(), "{ending:?}"),
            CutKind::Close => assert!(bytes.len() == 1000 && ending.is_err()),
            CutKind::Reset => {
                let message = ending.unwrap_err().to_string();
                assert!(bytes.len() <= 1000 && message.contains("reset"), "{message}");
            }
        }
    }
}

#[tokio::test]
async fn requests_are_kept_to_the_byte_when_the_script_says_so() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let world = World::new(Script { keep_requests: true, ..Script::default() }).await;
    let request = b"POST /v1/threads?a=%2f HTTP/1.1\r\nHost: x\r\nX-OdD:  y\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    let mut socket = tokio::net::TcpStream::connect(world.fake.addr()).await.unwrap();
    socket.write_all(request).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(world.fake.raw_input(), [request.to_vec()]);
    let [recorded] = &world.fake.requests()[..] else { panic!("one request was sent") };
    assert_eq!((recorded.method.as_str(), recorded.target.as_str()), ("POST", "/v1/threads?a=%2f"));
    assert_eq!((&recorded.body[..], world.fake.request_count()), (&b"{}"[..], 1));
}

#[tokio::test]
async fn below_the_paths_of_azure_it_speaks_as_azure_does() {
    let fake = Assistants::start(Script::default()).await.unwrap();
    let host = format!("http://{}", fake.addr());
    let mut made = Vec::new();
    for prefix in ["/openai", "/openai/v1", "/api/projects/shop"] {
        let client = Client::new(&format!("{host}{prefix}"));
        made.push(client.json(Method::POST, "/threads", &json!({})).await.unwrap()["id"].clone());
        let refused =
            client.send(Method::GET, "/threads/thread_none?api-version=v1", &Value::Null).await.unwrap();
        assert!(refused.headers.contains_key("apim-request-id"), "{prefix}");
        let body: Value = serde_json::from_slice(&refused.bytes().await.unwrap()).unwrap();
        let expected = json!({"code": "NotFound", "message": "No thread found with id 'thread_none'."});
        assert_eq!(body, json!({ "error": expected }), "{prefix}");
        let listed = client.json(Method::GET, "/threads?limit=100", &Value::Null).await.unwrap();
        let ids: Vec<&Value> =
            listed["data"].as_array().unwrap().iter().map(|thread| &thread["id"]).collect();
        assert_eq!(ids, made.iter().rev().collect::<Vec<_>>(), "{prefix}");
    }
    let client = Client::new(&fake.base_url());
    let refused = client.send(Method::GET, "/threads", &Value::Null).await.unwrap();
    assert_eq!((refused.status.as_u16(), refused.headers.contains_key("openai-version")), (404, true));
}
