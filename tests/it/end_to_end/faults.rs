use std::net::TcpListener;
use std::time::Duration;

use serde_json::{Value, json};
use threadtap_testkit::assistants::{Cut, CutKind, Script, Split, WireShape};
use threadtap_testkit::collector::Reaction;

use super::front::{Front, Vanishing};
use super::launch::{Launch, Threadtap};
use super::talk::{Talk, read_deltas};
use super::world::{World, check_payload, check_record, payload_of};
use crate::support::{Raw, Upstream, soon};

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_a_502_in_the_shape_of_the_api() {
    let home = tempfile::tempdir().unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let threadtap =
        Launch::on_free_ports(home.path()).flag("--upstream", format!("http://{closed}")).start().await;
    for count in 1..=2 {
        let answered = threadtap.client().send(http::Method::POST, "/threads", &json!({})).await.unwrap();
        assert_eq!(answered.status, 502);
        assert_eq!(answered.headers["content-type"], "application/json");
        let token = answered.headers["x-threadtap-error"].to_str().unwrap().to_owned();
        let body: Value = serde_json::from_slice(&answered.bytes().await.unwrap()).unwrap();
        let error = body["error"].as_object().unwrap();
        assert_eq!(error.keys().collect::<Vec<_>>(), ["message", "type", "param", "code"]);
        assert_eq!(body["error"]["type"], "threadtap_upstream_error");
        assert_eq!(body["error"]["code"], json!(token));
        assert!(body["error"]["message"].as_str().unwrap().starts_with("threadtap: "), "{body}");
        let counted = format!("threadtap_upstream_errors_total{{kind=\"{token}\"}}");
        threadtap.wait_for_metric(&counted, f64::from(count)).await;
    }
    assert_eq!(threadtap.ask("/readyz").await.0, 200);
}

#[tokio::test]
async fn compressed_answers_reach_the_client_compressed_and_are_captured() {
    let wire = WireShape { compress: true, split: Split::Random(50), ..WireShape::default() };
    let world = World::with(Script { wire, ..Script::default() }, []).await;
    let threadtap = world.start().await;
    for coding in ["gzip", "deflate", "zstd"] {
        // The fake's client reads no compressed JSON; what it needs it takes from the server itself.
        let direct = threadtap_testkit::client::Client::new(&world.assistants.base_url());
        let client = threadtap.client().with_header("accept-encoding", coding);
        let thread = super::talk::post(&direct, "/threads", &json!({})).await;
        let talk = Talk::resume(client, thread["id"].as_str().unwrap());
        let message = json!({"role": "user", "content": format!("squeezed by {coding}")});
        let run = json!({"assistant_id": "asst_echo", "stream": true});
        for (path, body) in [("/messages", message), ("/runs", run)] {
            let sent = talk.client.send(http::Method::POST, &talk.path(path), &body).await.unwrap();
            assert_eq!(sent.headers["content-encoding"], coding);
            soon("the answer", sent.bytes()).await.unwrap();
        }
    }
    let records = threadtap.records(3).await;
    let delivered = world.delivered(3).await;
    for (record, truth) in records.iter().zip(&world.assistants.snapshot()) {
        let mut record = record.clone();
        // The thread was made behind threadtap's back.
        assert_eq!(record["inputs"][0]["id"], json!(truth.inputs[0].id));
        record["inputs_complete"] = json!(true);
        check_record(&record, truth);
        check_payload(&payload_of(&delivered, &record), truth);
    }
    assert!(!threadtap.ask("/metrics").await.1.contains("threadtap_capture_problems_total{"));
}

#[tokio::test]
async fn a_stream_that_breaks_off_aborts_the_client_and_a_poll_completes_the_run() {
    for how in [CutKind::Close, CutKind::Reset] {
        let world = World::new().await;
        let threadtap = world.start().await;
        let talk = Talk::begin(threadtap.client(), &["will you get to the end?"]).await;
        let cut = Some(Cut { after_bytes: 4000, how });
        world.assistants.reshape(WireShape { cut, ..WireShape::default() });
        let mut stream = talk.open_stream("asst_echo").await;
        let broken = soon("the abort", async {
            loop {
                match stream.event().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return false,
                    Err(_) => return true,
                }
            }
        })
        .await;
        assert!(broken, "{how:?} was turned into a clean end");
        let run = world.assistants.snapshot()[0].run.clone();
        assert_eq!(talk.poll(&run).await["status"], "completed");
        threadtap.records(0).await;
        talk.list().await;
        let record = threadtap.records(1).await.remove(0);
        let truth = world.assistants.snapshot().remove(0);
        check_record(&record, &truth);
        check_payload(&payload_of(&world.delivered(1).await, &record), &truth);
    }
}

#[tokio::test]
async fn a_client_that_leaves_its_stream_and_polls_later_has_one_record() {
    let world =
        World::with(Script { pace: threadtap_testkit::assistants::Pace::Human, ..Script::default() }, [])
            .await;
    let threadtap = world.start().await;
    let talk = Talk::begin(threadtap.client(), &["I will not stay to hear all of it"]).await;
    let mut stream = talk.open_stream("asst_echo").await;
    let run = read_deltas(&mut stream, 2).await;
    drop(stream);
    assert_eq!(talk.poll(&run).await["status"], "completed");
    talk.list().await;
    let record = threadtap.records(1).await.remove(0);
    check_record(&record, &world.assistants.snapshot()[0]);
    world.delivered(1).await;
}

/// What upstream answers, and the problem it counts as.
const ODD: [(&str, &[u8], &str); 7] = [
    ("Content-Type: application/json\r\n", b"{\"object\": \"thread.run\", ", "invalid_json"),
    ("Content-Type: application/json\r\n", b"[[[1, null, \xff\xfe]]]", "invalid_json"),
    ("Content-Type: application/json\r\n", b"[1, 2]", "unexpected_shape"),
    (
        "Content-Type: application/json\r\n",
        b"{\"object\":\"thread.run\",\"id\":7,\"status\":{}}",
        "unexpected_shape",
    ),
    ("Content-Type: text/html\r\n", b"<html><body>Bad gateway</body></html>", "unexpected_type"),
    (
        "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
        b"\x1f\x8bnot gzip at all",
        "content_encoding",
    ),
    (
        "Content-Type: text/event-stream\r\n",
        b"event: thread.run.created\ndata: {not json\n\n",
        "invalid_json",
    ),
];

#[tokio::test]
async fn odd_answers_pass_byte_for_byte_and_are_counted() {
    let home = tempfile::tempdir().unwrap();
    let mut upstream = Upstream::bind().await;
    let launch =
        Launch::on_free_ports(home.path()).flag("--upstream", format!("http://{}", upstream.address));
    let threadtap = launch.start().await;
    let mut expected = std::collections::BTreeMap::new();
    for (headers, body, problem) in ODD {
        exchange(&threadtap, &mut upstream, "200 OK", headers, body).await;
        *expected.entry(problem).or_insert(0.0) += 1.0;
        let counted = format!("threadtap_capture_problems_total{{kind=\"{problem}\"}}");
        threadtap.wait_for_metric(&counted, expected[problem]).await;
    }
    // An answer that is no success tells nothing, in whatever form, and is no problem.
    exchange(&threadtap, &mut upstream, "502 Bad Gateway", "Content-Type: text/html\r\n", b"<h1>oh</h1>")
        .await;
    threadtap.wait_for_metric("threadtap_exchanges_total{result=\"5xx\"}", 1.0).await;
    for (problem, count) in expected {
        let counted = format!("threadtap_capture_problems_total{{kind=\"{problem}\"}}");
        threadtap.wait_for_metric(&counted, count).await;
    }
    threadtap.records(0).await;
    assert_eq!(threadtap.metric("threadtap_capture_dropped_total{reason=\"panic\"}").await as u64, 0);
}

#[tokio::test]
async fn llm_traffic_that_is_not_recorded_is_counted_and_logged_once() {
    let home = tempfile::tempdir().unwrap();
    let mut upstream = Upstream::bind().await;
    let launch =
        Launch::on_free_ports(home.path()).flag("--upstream", format!("http://{}", upstream.address));
    let threadtap = launch.start().await;
    for (path, status) in
        [("/v1/messages", "401 N"), ("/v1/messages", "200 OK"), ("/v1/messages", "200 OK"), ("/x", "200 OK")]
    {
        let mut client = Raw::connect(threadtap.listen).await;
        let body = r#"{"model":"m","messages":[]}"#;
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {}", body.len());
        client.send(format!("{head}\r\n\r\n{body}")).await;
        let mut answering = upstream.accept().await;
        answering.until(body).await;
        answering
            .send(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"))
            .await;
        client.until("{}").await;
    }
    for (api, result, count) in
        [("anthropic_messages", "4xx", 1.0), ("anthropic_messages", "2xx", 2.0), ("other", "2xx", 1.0)]
    {
        let counted = format!("threadtap_uncaptured_exchanges_total{{api=\"{api}\",result=\"{result}\"}}");
        threadtap.wait_for_metric(&counted, count).await;
    }
    threadtap.records(0).await;
    assert_eq!(threadtap.metric("threadtap_captured_exchanges_total").await as u64, 0);
    let lines = threadtap.stderr.lines();
    let logged = |api: &str| {
        lines.iter().filter(|line| line.contains("does not record") && line.contains(api)).count()
    };
    assert_eq!((logged("anthropic_messages"), logged("other")), (1, 1), "{lines:?}");
}

/// One exchange with an upstream that answers this, which the client must get as it was sent.
async fn exchange(threadtap: &Threadtap, upstream: &mut Upstream, status: &str, headers: &str, body: &[u8]) {
    let mut client = Raw::connect(threadtap.listen).await;
    client
        .send("POST /v1/threads/thread_1/runs HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        .await;
    let mut answering = upstream.accept().await;
    answering.until("\r\n\r\n{}").await;
    let head =
        format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    answering.send(&head).await;
    answering.send(body).await;
    let got = client.head().await;
    assert!(got.starts_with(&format!("HTTP/1.1 {status}\r\n{headers}")), "{got}");
    assert!(got.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{got}");
    assert_eq!(client.rest().await.unwrap(), body);
}

/// Holds some conversations. A client that waited for the backend would not come to their end: `stream` loses its patience.
async fn converse(threadtap: &Threadtap) {
    for number in 0..10 {
        let talk = Talk::begin(threadtap.client(), &[]).await;
        talk.say(&format!("question {number}")).await;
        assert_eq!(talk.stream("asst_echo").await["status"], "completed");
    }
}

#[tokio::test]
async fn a_dead_backend_and_a_slow_one_are_not_felt_by_the_client_and_get_everything_later() {
    let reactions = [Reaction::Status(500, None), Reaction::Reset, Reaction::Slow(Duration::from_secs(3600))];
    for reaction in reactions {
        let world = World::with(Script::default(), reaction.times(1000)).await;
        let settings = "[delivery]\nmin_backoff = \"20ms\"\nmax_backoff = \"100ms\"\nSINK";
        let threadtap = world.launch_with(settings).start().await;
        converse(&threadtap).await;
        let records = threadtap.records(10).await;
        world.collector.recover();
        let delivered = world.delivered(10).await;
        for (record, truth) in records.iter().zip(&world.assistants.snapshot()) {
            check_record(record, truth);
            check_payload(&payload_of(&delivered, record), truth);
        }
    }
}

#[tokio::test]
async fn a_backend_that_is_not_there_at_all_is_not_felt_by_the_client() {
    let world = World::new().await;
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let threadtap = world.launch().variable("RECONIFY_URL", format!("http://{closed}/track")).start().await;
    converse(&threadtap).await;
    threadtap.records(10).await;
    threadtap.wait_for_metric("threadtap_delivery_queue_depth{sink=\"reconify\"}", 10.0).await;
}

#[tokio::test]
async fn an_http2_connection_to_a_backend_that_vanished_is_replaced() {
    let world = World::new().await;
    let backend = Vanishing::start().await;
    let settings = format!(
        "[delivery]\nattempt_timeout = \"1s\"\nmin_backoff = \"20ms\"\n[[sinks]]\ntype = \"reconify\"\n\
         url = \"https://{}/track\"\napp_key = \"app\"\napi_key = \"api\"\n",
        backend.address
    );
    let launch = world.launch_with(&settings).variable("SSL_CERT_FILE", Front::trusted());
    let threadtap = launch.start().await;
    for count in 1..=3 {
        Talk::begin(threadtap.client(), &["are you there?"]).await.stream("asst_echo").await;
        backend.answered(count).await;
    }
    threadtap.wait_for_metric("threadtap_delivery_queue_depth{sink=\"reconify\"}", 0.0).await;
}
