use std::collections::BTreeMap;

use http::Method;
use serde_json::{Value, json};
use threadtap_testkit::client::Client;
use threadtap_testkit::collector::{Collector, Received};

use super::launch::{Launch, Threadtap};
use super::talk::{Talk, post, text};
use super::world::World;
use crate::support::soon;

const COLLECT: &str = "/ingestion.v1alpha.IngestionService/CollectEvents";

/// A world with an Align beside its Reconify; both are told of everything at once.
struct Aligned {
    world: World,
    align: Collector,
}

impl Aligned {
    async fn new() -> Self {
        Self { world: World::new().await, align: Collector::start([]).await.unwrap() }
    }

    fn launch(&self, settings: &str) -> Launch {
        let align = format!(
            "[[sinks]]\ntype = \"align\"\nhost = \"{}\"\napi_key = \"key\"\nproject_id = \"project\"\nlinger = \"50ms\"\n",
            self.align.url("")
        );
        self.world.launch_with(&format!("{settings}\nSINK{align}"))
    }

    /// Waits until Align has taken so many events, and returns them in the order they came, each once.
    async fn events(&self, count: usize) -> Vec<Value> {
        let enough = |received: &[Received]| events_of(received).len() >= count;
        let received = soon(&format!("{count} events"), self.align.wait_until(enough)).await;
        let events = events_of(&received);
        assert_eq!(events.len(), count, "{events:#?}");
        events
    }
}

fn events_of(received: &[Received]) -> Vec<Value> {
    let mut seen = BTreeMap::new();
    let mut events = Vec::new();
    for received in received {
        assert_eq!((received.method.as_str(), received.target.as_str()), ("POST", COLLECT));
        assert_eq!(received.headers["authorization"], "Bearer key");
        for event in received.body["events"].as_array().unwrap() {
            assert_eq!(event["projectId"], "project");
            let known = seen.insert(text(&event["id"]), event.clone());
            match known {
                Some(known) => assert_eq!(known, *event, "an event that comes again is the same"),
                None => events.push(event.clone()),
            }
        }
    }
    events
}

/// An event in a few words: its type, session, and what matters of it.
fn brief(event: &Value) -> String {
    let properties = &event["properties"];
    match text(&event["type"]).as_str() {
        "user_recognize" => format!("user {}", text(&properties["userProperties"]["userId"])),
        "session_open" => format!("open by {}", text(&properties["sessionProperties"]["userId"])),
        "session_close" => "close".to_owned(),
        "message_create" => {
            let message = &properties["messageProperties"];
            format!("{} {}", message["messageIndexHint"], text(&message["messageRole"]))
        }
        "feedback_create" => {
            let feedback = &properties["feedbackProperties"];
            format!(
                "{} {} {}",
                text(&feedback["type"]),
                text(&feedback["feedbackTarget"]),
                feedback["messageIndexHint"]
            )
        }
        other => panic!("{other}"),
    }
}

fn briefs(events: &[Value]) -> Vec<String> {
    events.iter().map(brief).collect()
}

/// Posts to one of threadtap's own endpoints: status and answer.
async fn tell(at: &str, path: &str, headers: &[(&'static str, &str)], body: &Value) -> (u16, Value) {
    let mut client = Client::new(at);
    for (name, value) in headers {
        client = client.with_header(name, value);
    }
    let answered = soon(path, client.send(Method::POST, path, body)).await.unwrap();
    let status = answered.status.as_u16();
    (status, serde_json::from_slice(&answered.bytes().await.unwrap()).unwrap())
}

fn at(threadtap: &Threadtap) -> String {
    format!("http://{}", threadtap.listen)
}

#[tokio::test]
async fn align_is_told_of_users_sessions_and_numbered_messages_also_across_a_kill() {
    let aligned = Aligned::new().await;
    let threadtap = aligned.launch("").start().await;
    let ada = |threadtap: &Threadtap| threadtap.client().with_header("x-threadtap-user", "ada");
    let talk = Talk::begin(ada(&threadtap), &["one"]).await;
    talk.stream("asst_echo").await;
    aligned.events(4).await;
    talk.say("two").await;
    talk.say("three").await;
    talk.stream("asst_echo").await;
    aligned.events(7).await;
    threadtap.kill().await;

    let threadtap = aligned.launch("").start().await;
    let again = Talk::resume(ada(&threadtap), &talk.thread);
    again.say("four").await;
    again.stream("asst_echo").await;
    aligned.events(9).await;
    soon("the deletion", again.client.json(Method::DELETE, &again.path(""), &Value::Null)).await.unwrap();
    let events = aligned.events(10).await;
    let expected = [
        "user ada",
        "open by ada",
        "1 ROLE_USER",
        "2 ROLE_ASSISTANT",
        "3 ROLE_USER",
        "4 ROLE_USER",
        "5 ROLE_ASSISTANT",
        "6 ROLE_USER",
        "7 ROLE_ASSISTANT",
        "close",
    ];
    assert_eq!(briefs(&events), expected);
    let sessions = events[1..].iter().map(|event| {
        let properties = event["properties"].as_object().unwrap().values().next().unwrap();
        text(&properties["sessionId"])
    });
    assert!(sessions.into_iter().all(|session| session == talk.thread));
}

#[tokio::test]
async fn a_run_that_was_recorded_when_its_grace_was_over_is_told_to_nobody_again_after_a_kill() {
    let aligned = Aligned::new().await;
    let settings = "[correlation]\noutputs_grace = \"1s\"";
    let threadtap = aligned.launch(settings).start().await;
    let talk = Talk::begin(threadtap.client(), &["one"]).await;
    let run = talk.start("asst_echo", &[]).await;
    talk.poll(&run).await;
    // What no run has claimed keeps the conversation's journal, with the run in it, until after its grace.
    talk.say("two").await;
    aligned.events(2).await;
    threadtap.kill().await;

    let threadtap = aligned.launch(settings).start().await;
    talk_on(&threadtap, &talk.thread).await;
    let events = aligned.events(4).await;
    assert_eq!(briefs(&events)[1..], ["1 ROLE_USER", "2 ROLE_USER", "3 ROLE_ASSISTANT"]);
    let told = threadtap.metric("threadtap_interactions_total{status=\"completed\"}").await;
    assert!((told - 1.0).abs() < 0.1, "{told} interactions");
}

async fn talk_on(threadtap: &Threadtap, thread: &str) {
    Talk::resume(threadtap.client(), thread).stream("asst_echo").await;
}

#[tokio::test]
async fn a_named_session_goes_on_over_threads_and_closes_when_nothing_happens() {
    let aligned = Aligned::new().await;
    let threadtap = aligned.launch("[sessions]\nidle = \"1s\"").start().await;
    let client = threadtap.client().with_header("x-threadtap-session", "visit");
    for question in ["here", "and there"] {
        Talk::begin(client.clone(), &[question]).await.stream("asst_echo").await;
    }
    let events = aligned.events(6).await;
    let briefs = briefs(&events);
    assert_eq!(briefs[1..], ["1 ROLE_USER", "2 ROLE_ASSISTANT", "3 ROLE_USER", "4 ROLE_ASSISTANT", "close"]);
    assert!(briefs[0].starts_with("open by anonymous-"), "{briefs:?}");
    threadtap.wait_for_metric("threadtap_sessions", 0.0).await;
}

#[tokio::test]
async fn feedback_finds_the_message_it_is_about_by_any_of_its_ids() {
    let aligned = Aligned::new().await;
    let threadtap = aligned.launch("").start().await;
    let talk = Talk::begin(threadtap.client(), &["one"]).await;
    let run = talk.stream("asst_echo").await;
    let answer = text(&talk.list().await["data"][0]["id"]);
    aligned.events(3).await;
    let told = [
        (json!({"message_id": answer, "rating": "thumbs_up"}), "thumbs_up TARGET_MESSAGE 2"),
        (
            json!({"run_id": run["id"], "thread_id": talk.thread, "rating": "thumbs_down"}),
            "thumbs_down TARGET_MESSAGE 2",
        ),
        (
            json!({"thread_id": talk.thread, "rating": "thumbs_up", "comment": "quick", "score": 5}),
            "thumbs_up TARGET_SESSION null",
        ),
    ];
    for (number, (body, expected)) in told.iter().enumerate() {
        let (status, answer) = tell(&at(&threadtap), "/_threadtap/feedback", &[], body).await;
        assert_eq!((status, &answer["status"]), (200, &json!("recorded")), "{answer}");
        let events = aligned.events(4 + number).await;
        assert_eq!(brief(events.last().unwrap()), *expected);
    }
    let properties = &aligned.events(6).await[5]["properties"]["customProperties"];
    assert_eq!(*properties, json!({"comment": {"stringValue": "quick"}, "score": {"stringValue": "5"}}));

    // Said again under the same key it counts once; also where an operator may say it.
    let body = json!({"run_id": run["id"], "rating": "thumbs_up"});
    let key = [("idempotency-key", "once")];
    let admin = format!("http://{}", threadtap.admin);
    let (status, first) = tell(&admin, "/api/v1/feedback", &key, &body).await;
    assert_eq!(status, 200, "{first}");
    assert_eq!(tell(&at(&threadtap), "/_threadtap/feedback", &key, &body).await, (200, first));
    aligned.events(7).await;
    assert!(
        (threadtap.metric("threadtap_intake_total{endpoint=\"feedback\",outcome=\"recorded\"}").await - 5.0)
            .abs()
            < 0.1
    );
}

#[tokio::test]
async fn feedback_about_a_run_whose_record_is_awaited_is_held_over_a_kill_until_it_comes() {
    let aligned = Aligned::new().await;
    let threadtap = aligned.launch("").start().await;
    let talk = Talk::begin(threadtap.client(), &["one"]).await;
    let run = talk.start("asst_echo", &[]).await;
    talk.poll(&run).await;
    let body = json!({"run_id": run, "rating": "thumbs_up"});
    let (status, answer) = tell(&at(&threadtap), "/_threadtap/feedback", &[], &body).await;
    assert_eq!((status, &answer["status"]), (202, &json!("held")), "{answer}");
    threadtap.kill().await;

    let threadtap = aligned.launch("").start().await;
    let again = Talk::resume(threadtap.client(), &talk.thread);
    // The kill may have come before what the last poll told was written.
    again.poll(&run).await;
    again.list().await;
    let events = aligned.events(4).await;
    assert_eq!(brief(&events[3]), "thumbs_up TARGET_MESSAGE 2", "{events:#?}");
}

#[tokio::test]
async fn feedback_that_cannot_be_is_refused_with_the_reason() {
    let aligned = Aligned::new().await;
    let threadtap = aligned.launch("[intake]\nkey = \"sesame\"").start().await;
    let talk = Talk::begin(threadtap.client(), &["one"]).await;
    let run = talk.stream("asst_echo").await;
    threadtap.records(1).await;
    let open = [("x-threadtap-key", "sesame")];
    let refused =
        async |headers: &[(&'static str, &str)], body: Value, status: u16, field: Value, reason: &str| {
            let (got, answer) = tell(&at(&threadtap), "/_threadtap/feedback", headers, &body).await;
            assert_eq!((got, &answer["error"]["param"]), (status, &field), "{answer}");
            assert!(text(&answer["error"]["message"]).contains(reason), "{answer}");
        };
    let good = json!({"run_id": run["id"], "rating": "thumbs_up"});
    refused(&[], good.clone(), 401, Value::Null, "x-threadtap-key").await;
    refused(&[("x-threadtap-key", "wrong")], good.clone(), 401, Value::Null, "x-threadtap-key").await;
    refused(&open, json!({"run_id": run["id"], "rating": "fine"}), 400, json!("rating"), "thumbs_up").await;
    refused(&open, json!({"run_id": "run_unknown", "rating": "thumbs_up"}), 404, Value::Null, "run_unknown")
        .await;
    let elsewhere = json!({"run_id": run["id"], "thread_id": "thread_other", "rating": "thumbs_up"});
    refused(&open, elsewhere, 404, json!("thread_id"), "belong to that thread").await;
    // Without a body the client says no content type either.
    refused(&open, Value::Null, 415, Value::Null, "application/json").await;
    assert_eq!(tell(&at(&threadtap), "/_threadtap/feedback", &open, &good).await.0, 200);
    assert_eq!(tell(&at(&threadtap), "/_threadtap/other", &open, &good).await.0, 404);
    let get = Client::new(&at(&threadtap)).with_header("x-threadtap-key", "sesame");
    let got = get.send(Method::GET, "/_threadtap/feedback", &Value::Null).await.unwrap();
    assert_eq!(got.status, 405);

    let off = Aligned::new().await;
    let threadtap = off.launch("[intake]\non_proxy = false").start().await;
    let (status, answer) = tell(&at(&threadtap), "/_threadtap/feedback", &[], &good).await;
    assert_eq!((status, &answer["error"]["code"]), (404, &json!("not_found")), "{answer}");
}

#[tokio::test]
async fn a_user_told_by_the_app_is_recognized_and_known_from_then_on() {
    let aligned = Aligned::new().await;
    let threadtap = aligned.launch("").start().await;
    let profile = json!({"id": "ada", "display_name": "Ada", "email": "ada@example.org", "ip": "192.0.2.7",
        "country": "gb", "created_at": "2024-01-02T03:04:05Z", "properties": {"plan": "pro"}});
    let (status, answer) = tell(&at(&threadtap), "/_threadtap/users", &[], &profile).await;
    assert_eq!(status, 200, "{answer}");
    let expected = json!({
        "userProperties": {"userId": "ada", "userDisplayName": "Ada", "userEmail": "ada@example.org", "userIp": "192.0.2.7",
            "userLocation": {"countryCode": "GB"}, "userCreateTime": "2024-01-02T03:04:05.000Z"},
        "customProperties": {"plan": {"stringValue": "pro"}},
    });
    assert_eq!(aligned.events(1).await[0]["properties"], expected);
    // The same said again is nothing new.
    assert_eq!(tell(&at(&threadtap), "/_threadtap/users", &[], &profile).await.0, 200);
    threadtap.kill().await;

    let threadtap = aligned.launch("").start().await;
    let client = threadtap.client().with_header("x-threadtap-user", "ada");
    Talk::begin(client, &["hello"]).await.stream("asst_echo").await;
    let events = aligned.events(4).await;
    assert_eq!(briefs(&events)[1..], ["open by ada", "1 ROLE_USER", "2 ROLE_ASSISTANT"]);
    let delivered = aligned.world.delivered(1).await;
    let payload: Value = serde_json::from_slice(delivered.values().next().unwrap()).unwrap();
    assert_eq!(payload["user"], json!({"userId": "ada", "email": "ada@example.org", "firstName": "Ada"}));

    let (status, answer) =
        tell(&at(&threadtap), "/_threadtap/users", &[], &json!({"id": "ada", "country": "england"})).await;
    assert_eq!((status, &answer["error"]["param"]), (400, &json!("country")), "{answer}");
}

#[tokio::test]
async fn nothing_of_threadtaps_own_reaches_upstream() {
    let aligned = Aligned::new().await;
    let threadtap = aligned.launch("").start().await;
    post(&threadtap.client(), "/threads", &json!({})).await;
    let before = aligned.world.assistants.request_count();
    tell(&at(&threadtap), "/_threadtap/users", &[], &json!({"id": "u"})).await;
    tell(&at(&threadtap), "/_threadtap/anything", &[], &json!({})).await;
    assert_eq!(aligned.world.assistants.request_count(), before);
}
