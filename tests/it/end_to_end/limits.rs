use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::launch::{Launch, Threadtap};
use crate::support::http2::{Http2, text};
use crate::support::{Raw, soon};

const GET: &str = "GET /v1/stream HTTP/1.1\r\nHost: h\r\n\r\n";

/// An upstream each of whose responses has a first piece, and a last one when it is told to.
struct Held {
    address: std::net::SocketAddr,
    open: Arc<AtomicUsize>,
    go_on: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Held {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (go_on, told) = watch::channel(false);
        let open = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&open);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(Self::serve(stream, told.clone(), Arc::clone(&counted)));
            }
        });
        Self { address, open, go_on, task }
    }

    async fn serve(
        mut stream: TcpStream,
        mut told: watch::Receiver<bool>,
        open: Arc<AtomicUsize>,
    ) -> std::io::Result<()> {
        let mut read = Vec::new();
        loop {
            while !read.ends_with(b"\r\n\r\n") {
                if stream.read_buf(&mut read).await? == 0 {
                    return Ok(());
                }
            }
            read.clear();
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").await?;
            open.fetch_add(1, Ordering::SeqCst);
            told.wait_for(|go_on| *go_on).await.ok();
            open.fetch_sub(1, Ordering::SeqCst);
            stream.write_all(b"4\r\nlast\r\n0\r\n\r\n").await?;
        }
    }

    /// Waits until so many responses are in progress.
    async fn has_open(&self, count: usize) {
        soon(&format!("{count} streams"), async {
            while self.open.load(Ordering::SeqCst) != count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    fn go_on(&self) {
        self.go_on.send_replace(true);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A `threadtap` with so many open files before an upstream that holds its responses.
struct Small {
    upstream: Held,
    threadtap: Threadtap,
    connections: usize,
    upstream_connections: usize,
    status: Value,
    _home: TempDir,
}

impl Small {
    async fn start(soft: u32, hard: u32) -> Self {
        Self::start_with(soft, hard, "").await
    }

    async fn start_with(soft: u32, hard: u32, settings: &str) -> Self {
        let upstream = Held::start().await;
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("threadtap.toml");
        // So that the limits are the same on every machine.
        std::fs::write(&file, format!("[server]\nworkers = 2\n{settings}")).unwrap();
        let threadtap = Launch::on_free_ports(home.path())
            .flag("--config", file)
            .flag("--upstream", format!("http://{}", upstream.address))
            .flag("--data-dir", home.path().join("data"))
            .with_open_files(soft, hard)
            .start()
            .await;
        let status: Value = serde_json::from_str(&threadtap.ask("/api/v1/status").await.1).unwrap();
        let limit = |name: &str| usize::try_from(status["limits"][name].as_u64().unwrap()).unwrap();
        let (connections, upstream_connections) = (limit("connections"), limit("upstream_connections"));
        Self { upstream, threadtap, connections, upstream_connections, status, _home: home }
    }

    async fn client(&self) -> Raw {
        Raw::connect(self.threadtap.listen).await
    }

    /// Requests get their response, whole.
    async fn serves(&self) {
        let mut client = self.client().await;
        client.send(GET).await;
        client.until("\r\n0\r\n\r\n").await;
    }
}

/// Reads a response to its end and checks that it is upstream's.
async fn finish(client: &mut Raw) {
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let body = client.until("0\r\n\r\n").await;
    assert!(body.contains("first") && body.contains("last"), "{body}");
}

#[tokio::test]
async fn more_streams_than_files_may_be_open_wait_and_none_of_them_fails() {
    let mut small = Small::start(256, 256).await;
    assert!((50..110).contains(&small.connections), "{}", small.status);
    assert_eq!(small.status["limits"]["open_files"], json!(256));
    assert_eq!(small.status["limits"]["connections_wanted"], json!(16_384));
    let warned = |lines: &[String]| lines.iter().any(|line| line.contains("server.max_connections"));
    small.threadtap.stderr.wait_for(warned).await;

    let mut clients = Vec::new();
    for _ in 0..300 {
        let mut client = small.client().await;
        client.send(GET).await;
        clients.push(client);
    }
    small.upstream.has_open(small.connections).await;
    assert_eq!(small.threadtap.ask("/healthz").await.0, 200);
    assert_eq!(small.threadtap.ask("/readyz").await.0, 200);
    let limit = small.threadtap.metric("threadtap_connections_limit").await;
    assert!((limit - f64::from(u32::try_from(small.connections).unwrap())).abs() < 0.1, "{limit}");
    small.upstream.go_on();
    for client in &mut clients {
        finish(client).await;
    }
    assert!(!small.threadtap.ask("/metrics").await.1.contains("threadtap_upstream_errors_total{"));
    // Once, however many had to wait.
    let lines = small.threadtap.stderr.lines();
    assert_eq!(lines.iter().filter(|line| line.contains("\"WARN\"")).count(), 1, "{lines:#?}");
}

#[tokio::test]
async fn clients_that_keep_their_connection_and_ask_nothing_give_way_to_those_that_ask() {
    let small = Small::start(256, 256).await;
    small.upstream.go_on();
    let mut kept = Vec::new();
    for _ in 0..small.connections {
        let mut client = small.client().await;
        client.send(GET).await;
        finish(&mut client).await;
        kept.push(client);
    }
    for _ in 0..200 {
        small.serves().await;
    }
    // The first one has gone, and nothing was cut off.
    assert_eq!(kept[0].closed().await, b"");
    assert!(small.threadtap.metric("threadtap_connections_closed_total").await > 0.5);
}

#[tokio::test]
async fn streams_of_http2_beyond_the_connections_to_upstream_wait_for_one() {
    let small = Small::start(256, 256).await;
    let mut clients =
        [Http2::connect(small.threadtap.listen).await, Http2::connect(small.threadtap.listen).await];
    let answers: Vec<_> = clients
        .iter_mut()
        .flat_map(|client| (0..150).map(|_| client.get("/v1/stream")).collect::<Vec<_>>())
        .collect();
    small.upstream.has_open(small.upstream_connections).await;
    small
        .threadtap
        .wait_for_metric("threadtap_upstream_waiting", (300 - small.upstream_connections) as f64)
        .await;
    small.upstream.go_on();
    for answer in answers {
        let answer = answer.head().await;
        assert_eq!(answer.status(), 200);
        assert_eq!(text(answer).await, "firstlast");
    }
    small.threadtap.wait_for_metric("threadtap_upstream_waiting", 0.0).await;
}

#[tokio::test]
async fn the_soft_limit_of_open_files_is_raised_to_the_hard_one() {
    let mut small = Small::start_with(128, 4096, "max_connections = 500").await;
    assert_eq!(small.status["limits"]["open_files"], json!(4096));
    assert_eq!(small.connections, 500);
    let mut clients = Vec::new();
    for _ in 0..400 {
        let mut client = small.client().await;
        client.send(GET).await;
        clients.push(client);
    }
    small.upstream.has_open(400).await;
    small.upstream.go_on();
    for client in &mut clients {
        finish(client).await;
    }
    small.threadtap.terminate();
    small.threadtap.ended().await;
    let lines = small.threadtap.stderr.lines();
    assert!(!lines.iter().any(|line| line.contains("open files")), "{lines:#?}");
}

#[tokio::test]
async fn clients_that_connect_and_say_nothing_give_way_to_those_that_ask() {
    let small = Small::start(256, 256).await;
    small.upstream.go_on();
    let mut kept = small.client().await;
    kept.send(GET).await;
    finish(&mut kept).await;
    let mut silent = Vec::new();
    for number in 0..1000 {
        let mut client = small.client().await;
        match number % 3 {
            0 => {}
            1 => client.send("GET / HTTP/1.1\r\nHo").await,
            _ => client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await,
        }
        silent.push(client);
    }
    for _ in 0..20 {
        small.serves().await;
    }
    // Who was served before is not among those that go.
    kept.send(GET).await;
    finish(&mut kept).await;
}

#[tokio::test]
async fn whatever_clients_of_the_admin_listener_leave_undone_others_are_answered_and_the_proxy_goes_on() {
    let small = Small::start(256, 256).await;
    small.upstream.go_on();
    let mut held = Vec::new();
    for undone in [
        "",
        "GET /healthz HTTP/1.1\r\nHo",
        "POST /api/v1/resend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{",
        "POST /api/v1/feedback HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{",
        &"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(500),
    ] {
        for _ in 0..300 {
            let mut client = Raw::connect(small.threadtap.admin).await;
            // It may be closed for the next one before all of it is sent.
            tokio::time::timeout(Duration::from_millis(200), client.try_send(undone.as_bytes())).await.ok();
            held.push(client);
            if undone.len() > 1000 && held.len() % 300 == 100 {
                break;
            }
        }
        for path in ["/healthz", "/readyz", "/metrics"] {
            assert_eq!(small.threadtap.ask(path).await.0, 200, "{path} {undone:.40}");
        }
        small.serves().await;
    }
    assert!(small.threadtap.metric("threadtap_admin_connections_closed_total").await > 0.5);
}

#[tokio::test]
async fn while_no_file_can_be_opened_requests_and_clients_wait_and_nothing_spins() {
    let mut small = Small::start_with(1024, 1024, "[proxy]\nconnect_timeout = \"60s\"").await;
    small.upstream.go_on();
    let pid = Pid::from_raw(i32::try_from(small.threadtap.pid()).unwrap());
    let allow = |files| {
        prlimit(pid, Resource::Nofile, Rlimit { current: Some(files), maximum: Some(1024) }).unwrap();
    };
    let mut admin = Raw::connect(small.threadtap.admin).await;
    let mut metrics = async || {
        admin.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        let head = admin.head().await.to_ascii_lowercase();
        let length =
            head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()).unwrap();
        String::from_utf8(admin.exactly(length.parse().unwrap()).await).unwrap()
    };
    let mut wait_for = async |line: &str| {
        soon(line, async {
            while !metrics().await.lines().any(|shown| shown == line) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    };
    let mut accepted = small.client().await;
    wait_for("threadtap_connections 1").await;
    // What is open stays open.
    allow(3);
    accepted.send(GET).await;
    wait_for("threadtap_upstream_connections 1").await;
    let mut waiting = small.client().await;
    waiting.send(GET).await;
    let failed = |line: &&String| line.contains("cannot accept connections");
    small.threadtap.stderr.wait_for(|lines| lines.iter().filter(failed).count() > 2).await;
    allow(1024);
    finish(&mut accepted).await;
    finish(&mut waiting).await;
    let lines = small.threadtap.stderr.lines();
    assert!(lines.iter().filter(failed).count() < 200, "{lines:#?}");
}

#[tokio::test]
async fn web_pages_are_refused_where_no_key_is_set() {
    let small = Small::start(1024, 1024).await;
    let threadtap = &small.threadtap;
    let body = r#"{"id":"u"}"#;
    let check = async |address, line: &str, headers: &str, expected: u16| {
        let mut client = Raw::connect(address).await;
        let length = if line.starts_with("POST") { body.len() } else { 0 };
        let head = format!(
            "{line} HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        client.send(format!("{head}\r\n{}", &body[..length])).await;
        let answer = client.head().await;
        assert_eq!(answer.split(' ').nth(1).unwrap(), expected.to_string(), "{head} {answer}");
    };
    for (address, line, open) in [
        (threadtap.listen, "POST /_threadtap/users", 200),
        (threadtap.admin, "POST /api/v1/users", 200),
        (threadtap.admin, "GET /metrics", 200),
        (threadtap.admin, "GET /api/v1/status", 200),
    ] {
        check(address, line, "Host: localhost:8080", open).await;
        check(address, line, "Host: 127.0.0.1\r\nUser-Agent: Prometheus/3.0", open).await;
        check(address, line, "Host: 127.0.0.1\r\nSec-Fetch-Site: none", open).await;
        check(address, line, "Host: evil.example", 403).await;
        check(address, line, "Host: localhost\r\nOrigin: http://evil.example", 403).await;
        check(address, line, "Host: evil.example\r\nOrigin: http://evil.example", 403).await;
        check(address, line, "Host: localhost\r\nOrigin: null", 403).await;
        check(address, line, "Host: localhost\r\nSec-Fetch-Site: cross-site", 403).await;
    }
    for path in ["GET /healthz", "GET /readyz"] {
        check(threadtap.admin, path, "Host: 10.1.2.3:9090\r\nUser-Agent: kube-probe/1.33", 200).await;
    }
    let refused =
        threadtap.metric("threadtap_access_refused_total{listener=\"proxy\",reason=\"cross_site\"}").await;
    assert!((refused - 4.0).abs() < 0.1, "{refused}");
}

#[tokio::test]
async fn a_flood_of_wrong_keys_is_slowed_down_and_holds_up_neither_the_right_one_nor_the_proxy() {
    let small = Small::start_with(4096, 4096, "[intake]\nkey = \"sesame\"").await;
    small.upstream.go_on();
    let ask = |key: &str| {
        format!(
            "POST /_threadtap/users HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nx-threadtap-key: {key}\r\n\
             Content-Length: 10\r\n\r\n{{\"id\":\"u\"}}"
        )
    };
    let mut wrong = Vec::new();
    for number in 0..500 {
        let mut client = small.client().await;
        client.send(ask(&format!("guess{number}"))).await;
        wrong.push(client);
    }
    for _ in 0..20 {
        let mut client = small.client().await;
        client.send(ask("sesame")).await;
        assert!(client.head().await.starts_with("HTTP/1.1 200 "));
        small.serves().await;
    }
    let mut statuses = [0, 0];
    for client in &mut wrong {
        match client.head().await.split(' ').nth(1).unwrap() {
            "401" => statuses[0] += 1,
            "429" => statuses[1] += 1,
            other => panic!("{other}"),
        }
    }
    assert!(statuses[0] >= 64 && statuses[1] > 0, "{statuses:?}");
    let counted = async |reason: &str| {
        let name = format!("threadtap_access_refused_total{{listener=\"proxy\",reason=\"{reason}\"}}");
        small.threadtap.metric(&name).await
    };
    assert!((counted("key").await - 500.0).abs() < 0.1);
    assert!((counted("many_keys").await - f64::from(statuses[1])).abs() < 0.1);
    assert_eq!(small.threadtap.client().send(Method::GET, "/x", &Value::Null).await.unwrap().status, 200);
}

/// The table of docs/operations.md names what holds its promises.
#[test]
fn the_tests_that_the_operators_guide_names_exist() {
    let read =
        |path: &str| std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let guide = read("docs/operations.md");
    let tests = read("tests/it/end_to_end/limits.rs") + &read("src/store/tests.rs");
    let table = guide.split("| test | what it holds |").nth(1).unwrap().split("\n\n").next().unwrap();
    let named: Vec<&str> =
        table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert!(named.len() > 5, "{named:?}");
    for name in named {
        assert!(tests.contains(&format!("fn {name}()")), "{name}");
    }
}
