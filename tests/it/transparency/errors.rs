use std::net::SocketAddr;
use std::time::Duration;

use http::Method;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::http2::{self, Http2};
use crate::support::{Raw, Rig, Upstream};

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

/// Reads an answer of threadtap's own and checks all of it.
async fn expect_error(client: &mut Raw, status: &str, token: &str) {
    let head = client.head().await;
    assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
    assert!(head.contains(&format!("x-threadtap-error: {token}\r\n")), "{head}");
    assert!(head.contains("content-type: application/json\r\n"), "{head}");
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()).unwrap();
    let body: serde_json::Value =
        serde_json::from_slice(&client.exactly(length.parse().unwrap()).await).unwrap();
    assert_eq!(body["error"]["type"], "threadtap_upstream_error");
    assert_eq!(body["error"]["code"], token);
    assert!(body["error"]["message"].is_string());
}

async fn to(url: &str) -> (Rig, Raw) {
    let url = url.to_owned();
    let rig = Rig::start_with(|settings| {
        settings.proxy.upstream = url.parse().unwrap();
        settings.proxy.connect_timeout = Duration::from_millis(500);
    })
    .await;
    let mut client = rig.client().await;
    client.send(GET).await;
    (rig, client)
}

#[tokio::test]
async fn x1_an_upstream_that_refuses_connections_is_a_502() {
    let closed = Upstream::bind().await.address;
    let (_rig, mut client) = to(&format!("http://{closed}")).await;
    expect_error(&mut client, "502 Bad Gateway", "upstream_unreachable").await;
}

#[tokio::test]
async fn x2_an_upstream_without_an_address_is_a_502() {
    // No resolver is asked for a name that is longer than names can be.
    let (_rig, mut client) = to(&format!("http://{}.invalid", "a".repeat(64))).await;
    expect_error(&mut client, "502 Bad Gateway", "upstream_dns").await;
}

#[tokio::test]
async fn x3_an_upstream_that_speaks_no_tls_is_a_502() {
    let mut upstream = Upstream::bind().await;
    let (_rig, mut client) = to(&format!("https://{}", upstream.address)).await;
    tokio::spawn(async move {
        upstream.accept().await.send("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    });
    expect_error(&mut client, "502 Bad Gateway", "upstream_tls").await;
}

#[tokio::test]
async fn x4_an_upstream_that_does_not_take_the_connection_in_time_is_a_504() {
    // One that accepts and does not go on with TLS, and one whose backlog is full.
    let silent = Upstream::bind().await;
    let (_rig, mut client) = to(&format!("https://{}", silent.address)).await;
    expect_error(&mut client, "504 Gateway Timeout", "upstream_timeout").await;
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        waiting.push(stream.unwrap());
    }
    let (_rig, mut client) = to(&format!("http://{address}")).await;
    expect_error(&mut client, "504 Gateway Timeout", "upstream_timeout").await;
}

#[tokio::test]
async fn x5_an_upstream_that_closes_instead_of_answering_is_a_502() {
    let mut rig = Rig::start().await;
    for reset in [false, true] {
        let (mut client, mut upstream) =
            rig.forward("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx").await;
        upstream.until("\r\n\r\nx").await;
        if reset {
            upstream.reset()
        } else {
            drop(upstream)
        }
        expect_error(&mut client, "502 Bad Gateway", "upstream_closed").await;
        let (mut client, mut upstream) = rig.forward(GET).await;
        upstream.head().await;
        if reset {
            upstream.reset()
        } else {
            drop(upstream)
        }
        expect_error(&mut client, "502 Bad Gateway", "upstream_closed").await;
    }
}

#[tokio::test]
async fn x6_an_answer_that_is_not_http_is_a_502() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward(GET).await;
    upstream.head().await;
    upstream.send("SSH-2.0-OpenSSH\r\n\r\n").await;
    expect_error(&mut client, "502 Bad Gateway", "upstream_answer").await;
}

#[tokio::test]
async fn x10_paths_of_threadtap_itself_are_not_forwarded() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    client.send("POST /_threadtap/feedback HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n").await;
    expect_error(&mut client, "404 Not Found", "not_found").await;
}

#[tokio::test]
async fn x7_an_error_of_upstreams_passes_as_it_is() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward(GET).await;
    for status in ["500 Internal Server Error", "502 Oh", "503 Busy", "504 Late", "429 Slow Down", "401 Who"]
    {
        upstream.head().await;
        upstream.send(format!("HTTP/1.1 {status}\r\nretry-after: 1\r\nContent-Length: 2\r\n\r\nno")).await;
        client.expect_head(&[&format!("HTTP/1.1 {status}"), "retry-after: 1", "Content-Length: 2"]).await;
        client.expect("no").await;
        client.send(GET).await;
    }
}

/// SDKs would repeat the POST.
#[tokio::test]
async fn x8_a_success_of_upstreams_is_never_turned_into_an_error() {
    let mut rig = Rig::start().await;
    let many: String = (0..990).map(|n| format!("h{n}: {n}\r\n")).collect();
    let long = format!("Long: {}\r\n", "x".repeat(200_000));
    for head in [
        "HTTP/1.1 200\r\n",
        "HTTP/1.1 200 \r\n",
        "HTTP/1.1 200 Fr\u{fc}h\r\n",
        "HTTP/1.0 200 OK\r\n",
        "\r\nHTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\nA: 1\n",
        "HTTP/1.1 200 OK\r\nA: 1\r\n  folded\r\n",
        "HTTP/1.1 200 OK\r\nA : 1\r\n",
        "HTTP/1.1 200 OK\r\nbad name: 1\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n",
        "HTTP/1.1 200 OK\r\n: no name\r\n",
        "HTTP/1.1 200 OK\r\nA: \x01\x7f\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
        "HTTP/1.1 200 OK\r\nConnection: upgrade\r\nUpgrade: h2,h2c\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: \r\nContent-Encoding: nonsense\r\n",
        &format!("HTTP/1.1 200 OK\r\n{many}"),
        &format!("HTTP/1.1 200 OK\r\n{long}"),
    ] {
        let post = "POST /tapped HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}";
        let (mut client, mut upstream) = rig.forward(post).await;
        upstream.until("\r\n\r\n{}").await;
        upstream.send(format!("{head}Content-Length: 2\r\nConnection: close\r\n\r\nok")).await;
        let answer = client.head().await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{head:?}: {answer}");
        client.expect("ok").await;
    }
}

#[tokio::test]
async fn x8_an_answer_with_two_framings_passes_with_one() {
    let mut rig = Rig::start().await;
    for head in [
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let (mut client, mut upstream) = rig.forward(GET).await;
        upstream.head().await;
        upstream.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n2\r\nok\r\n0\r\n\r\n")).await;
        drop(upstream);
        let answer = client.head().await.to_lowercase();
        assert!(answer.starts_with("http/1.1 200 ok\r\n"), "{answer}");
        assert!(answer.contains("\r\ntransfer-encoding: chunked\r\n"), "{answer}");
        assert!(!answer.contains("content-length"), "{answer}");
        client.expect("2\r\nok\r\n0\r\n\r\n").await;

        let answer = Http2::connect(rig.address).await.get("/");
        let mut upstream = rig.upstream.accept().await;
        upstream.head().await;
        upstream.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n2\r\nok\r\n0\r\n\r\n")).await;
        drop(upstream);
        assert_eq!(answer.text().await, "ok");
    }
}

#[tokio::test]
async fn x9_errors_look_the_same_on_http2() {
    let closed = Upstream::bind().await.address;
    let (rig, _client) = to(&format!("http://{closed}")).await;
    let response = Http2::connect(rig.address).await.get("/").head().await;
    assert_eq!(response.status(), 502);
    assert_eq!(response.headers()["x-threadtap-error"], "upstream_unreachable");
    assert_eq!(response.headers()["content-type"], "application/json");
    let body: serde_json::Value = serde_json::from_str(&http2::text(response).await).unwrap();
    assert_eq!(body["error"]["code"], "upstream_unreachable");
}

#[tokio::test]
async fn x9_an_error_answered_to_head_on_http2_has_no_body() {
    let mut rig = Rig::start().await;
    let mut client = Http2::connect(rig.address).await;
    for _ in 0..2 {
        let head = http2::request(Method::HEAD, "/").body(http2::whole("")).unwrap();
        let answer = client.send(head);
        drop(rig.upstream.accept().await);
        let answer = answer.head().await;
        assert_eq!(answer.status(), 502);
        assert!(answer.headers().contains_key("content-length"));
        assert_eq!(http2::text(answer).await, "");
    }
}
