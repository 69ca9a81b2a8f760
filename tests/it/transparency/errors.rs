use std::net::SocketAddr;
use std::time::Duration;

use http::Method;
use threadtap::metrics::KindLabel;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::http2::{self, Http2};
use crate::support::{Raw, Rig, Upstream};

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const POST: &str = "POST /tapped HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}";

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
    let rig = Rig::start_with(|settings| settings.proxy.upstream = url.parse().unwrap()).await;
    let mut client = rig.client().await;
    client.send(GET).await;
    (rig, client)
}

/// The same, with an upstream that is not waited for.
async fn to_in_vain(url: &str) -> (Rig, Raw) {
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
    let (_rig, mut client) = to_in_vain(&format!("https://{}", silent.address)).await;
    expect_error(&mut client, "504 Gateway Timeout", "upstream_timeout").await;
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = timeout(Duration::from_secs(1), TcpStream::connect(address)).await {
        waiting.push(stream.unwrap());
    }
    let (_rig, mut client) = to_in_vain(&format!("http://{address}")).await;
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
        "HTTP/1.1  200 OK\r\n",
        "HTTP/1.1\t200\tOK\r\n",
        "HTTP/1.1 200 Fr\u{fc}h\r\n",
        "HTTP/1.1 200 O\x01K\0\r\n",
        "HTTP/1.1 200 O\rK\r\n",
        "HTTP/1.0 200 OK\r\n",
        "HTTP/1.2 200 OK\r\n",
        "HTTP/1.10 200 OK\r\n",
        "HTTP/2.0 200 OK\r\n",
        "HTTP/2 200\r\n",
        "\r\nHTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\n folded\r\n",
        "HTTP/1.1 200 OK\nA: 1\n",
        "HTTP/1.1 200 OK\r\nA: 1\r\n  folded\r\n",
        "HTTP/1.1 200 OK\r\nA : 1\r\n",
        "HTTP/1.1 200 OK\r\nbad name: 1\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n",
        "HTTP/1.1 200 OK\r\n: no name\r\n",
        "HTTP/1.1 200 OK\r\nA: \x01\x7f\r\n",
        "HTTP/1.1 200 OK\r\nA: 1\0\r\n",
        "HTTP/1.1 200 OK\r\nA: 1\rB: 2\r\n",
        "HTTP/1.1 200 OK\r\nA: 1\r\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n",
        "HTTP/1.1 200 OK\r\nConnection: upgrade\r\nUpgrade: h2,h2c\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: \r\nContent-Encoding: nonsense\r\n",
        &format!("HTTP/1.1 200 OK\r\n{many}"),
        &format!("HTTP/1.1 200 OK\r\n{long}"),
    ] {
        let (mut client, mut upstream) = rig.forward(POST).await;
        upstream.until("\r\n\r\n{}").await;
        upstream.send(format!("{head}Content-Length: 2\r\nConnection: close\r\n\r\nok")).await;
        let answer = client.head().await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{head:?}: {answer}");
        assert_eq!(answer.to_lowercase().matches("content-length: ").count(), 1, "{head:?}: {answer}");
        assert!(answer.contains("Content-Length: 2\r\n"), "{head:?}: {answer}");
        client.expect("ok").await;
    }
}

/// What cannot be read as one length is none, so that only upstream's close ends the body. No other response is read of such
/// a connection.
#[tokio::test]
async fn x8_a_length_that_cannot_be_read_is_no_length() {
    let mut rig = Rig::start().await;
    for length in
        ["", "+2", "-2", "0x2", "2.0", "2 2", "two", "2,", ", 2", "1, 2", "99999999999999999999", "\u{b2}"]
    {
        let head = format!("HTTP/1.1 200 OK\r\nA: 1\r\nContent-Length: {length}\r\n\r\nok");
        unread_length(&mut rig, &head).await;
    }
    let two = "HTTP/1.1 200 OK\r\nA: 1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok";
    unread_length(&mut rig, two).await;
}

async fn unread_length(rig: &mut Rig, response: &str) {
    let (mut client, mut upstream) = rig.forward(POST).await;
    upstream.until("\r\n\r\n{}").await;
    upstream.send(response).await;
    client.expect_head(&["HTTP/1.1 200 OK", "A: 1", "transfer-encoding: chunked"]).await;
    client.expect("2\r\nok\r\n").await;
    upstream.send("more").await;
    client.expect("4\r\nmore\r\n").await;
    drop(upstream);
    client.expect("0\r\n\r\n").await;
    // The client's connection goes on, and takes another to upstream.
    client.send(GET).await;
    let mut upstream = rig.upstream.accept().await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    client.expect_head(&["HTTP/1.1 200 OK", "Content-Length: 0"]).await;

    let answer = Http2::connect(rig.address).await.get("/");
    upstream.head().await;
    upstream.send(response).await;
    drop(upstream);
    let answer = answer.head().await;
    assert!(!answer.headers().contains_key("content-length"), "{response:?}");
    assert_eq!(http2::text(answer).await, "ok", "{response:?}");
}

#[tokio::test]
async fn x8_an_answer_with_two_framings_passes_with_one() {
    let mut rig = Rig::start().await;
    for (head, is_certain) in [
        ("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", false),
        ("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", false),
        ("Content-Length: +3\r\nTransfer-Encoding: chunked\r\n", false),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", true),
        ("Transfer-Encoding: chunked, chunked\r\n", true),
        ("Transfer-Encoding: , chunked,\r\n", true),
        ("Transfer-Encoding: identity, chunked\r\n", true),
        ("Transfer-Encoding:\r\n chunked\r\n", true),
    ] {
        let (mut client, mut upstream) = rig.forward(GET).await;
        upstream.head().await;
        upstream.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n2\r\nok\r\n0\r\n\r\n")).await;
        client.expect_head(&["HTTP/1.1 200 OK", "Transfer-Encoding: chunked"]).await;
        client.expect("2\r\nok\r\n0\r\n\r\n").await;
        if !is_certain {
            assert_eq!(upstream.closed().await, b"", "{head:?}: its connection was kept");
        }
        drop(upstream);

        let answer = Http2::connect(rig.address).await.get("/");
        let mut upstream = rig.upstream.accept().await;
        upstream.head().await;
        upstream.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n2\r\nok\r\n0\r\n\r\n")).await;
        drop(upstream);
        assert_eq!(answer.text().await, "ok");
    }
}

/// A client that does not undo the coding could not undo chunks around it either: it reads until the close, as it would directly.
#[tokio::test]
async fn x8_a_coding_that_only_the_close_ends_passes_until_the_close() {
    let mut rig = Rig::start().await;
    for coding in ["gzip", "chunked, gzip", "xchunked", "chunked;x"] {
        for length in ["", "Content-Length: 6\r\n"] {
            let (mut client, mut upstream) = rig.forward(GET).await;
            upstream.head().await;
            upstream
                .send(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n{length}\r\npacked"))
                .await;
            let coding = format!("Transfer-Encoding: {coding}");
            client.expect_head(&["HTTP/1.1 200 OK", &coding, "connection: close"]).await;
            client.expect("packed").await;
            drop(upstream);
            assert_eq!(client.rest().await.unwrap(), b"", "{coding}");
        }
        // Cut off, it must not look whole.
        let (mut client, mut upstream) = rig.forward(GET).await;
        upstream.head().await;
        upstream.send(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\npacked")).await;
        client.until("\r\n\r\npacked").await;
        upstream.reset();
        assert!(client.rest().await.is_err(), "{coding}");
    }
}

#[tokio::test]
async fn x8_chunks_are_read_however_they_are_written() {
    let mut rig = Rig::start().await;
    let many: String = (0..300).map(|n| format!("t{n}: {n}\r\n")).collect();
    let too_many: String = (0..1001).map(|n| format!("t{n}: {n}\r\n")).collect();
    let long = format!("t: {}\r\n", "y".repeat(100_000));
    for (body, trailers) in [
        ("2\nok\n0\n\n", ""),
        ("2\r\nok\n0\r\n\n", ""),
        ("2;x=y\nok\r\n0\r\n\r\n", ""),
        (" 2\r\nok\r\n\t0 \r\n\r\n", ""),
        ("0000000000000000000000000002  ; x\r\nok\r\n00\r\n\r\n", ""),
        ("2\r\nok\r\n0\r\nt: 1\nu: 2\n\n", "t: 1\r\nu: 2\r\n"),
        ("2\r\nok\r\n0\r\nt: 1\r\n  2\r\n\r\n", "t: 1 2\r\n"),
        ("2\r\nok\r\n0\r\nno colon\r\nt: 1\r\nx y: 2\r\nu: \x01\r\n\r\n", "t: 1\r\n"),
        (&format!("2\r\nok\r\n0\r\n{many}\r\n"), &many),
        (&format!("2\r\nok\r\n0\r\n{long}\r\n"), &long),
        (&format!("2\r\nok\r\n0\r\n{too_many}\r\n"), ""),
    ] {
        let (mut client, mut upstream) = rig.forward(POST).await;
        upstream.until("\r\n\r\n{}").await;
        upstream.send(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}")).await;
        client.expect_head(&["HTTP/1.1 200 OK", "Transfer-Encoding: chunked"]).await;
        client.expect(&format!("2\r\nok\r\n0\r\n{trailers}\r\n")).await;
        // Nothing was left of it: both connections go on.
        client.send(GET).await;
        upstream.head().await;
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
        client.expect_head(&["HTTP/1.1 200 OK", "Content-Length: 0"]).await;
    }
    // The end of such trailers is not waited for, and their connection not used again.
    let (mut client, mut upstream) = rig.forward(POST).await;
    upstream.until("\r\n\r\n{}").await;
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nt: ").await;
    let sending = tokio::spawn(async move { while upstream.try_send(&[b'y'; 65_536]).await.is_ok() {} });
    client.until("\r\n\r\n2\r\nok\r\n0\r\n\r\n").await;
    sending.await.unwrap();
}

#[tokio::test]
async fn x8_lines_that_are_none_are_left_out_and_counted() {
    let mut rig = Rig::start().await;
    let left_out =
        |rig: &Rig, kind| rig.metrics.lines_left_out.get_or_create_owned(&KindLabel { kind }).get();
    let response =
        "HTTP/1.1 200 OK\r\nno colon\r\n goes on\r\nA B: 1\r\nC: \x0b\r\nContent-Length: 0\r\n\r\n";
    let (mut client, mut upstream) = rig.forward(GET).await;
    upstream.head().await;
    upstream.send(response).await;
    client.expect_head(&["HTTP/1.1 200 OK", "C: \x0b", "Content-Length: 0"]).await;
    assert_eq!((left_out(&rig, "malformed"), left_out(&rig, "http2")), (2, 0));
    let answer = Http2::connect(rig.address).await.get("/");
    upstream.head().await;
    upstream.send(response).await;
    let answer = answer.head().await;
    assert_eq!(answer.headers().len(), 1, "{answer:?}");
    assert_eq!((left_out(&rig, "malformed"), left_out(&rig, "http2")), (4, 1));
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
