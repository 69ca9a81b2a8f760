use crate::support::{Raw, Rig, Upstream};

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

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
        settings.proxy.connect_timeout = std::time::Duration::from_secs(2);
    })
    .await;
    let mut client = rig.client().await;
    client.send(GET).await;
    (rig, client)
}

#[tokio::test]
async fn an_upstream_that_refuses_connections() {
    let closed = Upstream::bind().await.address;
    let (_rig, mut client) = to(&format!("http://{closed}")).await;
    expect_error(&mut client, "502 Bad Gateway", "upstream_unreachable").await;
}

#[tokio::test]
async fn an_upstream_without_an_address() {
    let (_rig, mut client) = to("http://nowhere.invalid").await;
    let head = client.head().await;
    // Some resolvers do not answer for unknown names in time.
    assert!(head.contains("upstream_dns") || head.contains("upstream_timeout"), "{head}");
}

#[tokio::test]
async fn an_upstream_that_speaks_no_tls() {
    let mut upstream = Upstream::bind().await;
    let (_rig, mut client) = to(&format!("https://{}", upstream.address)).await;
    tokio::spawn(async move {
        upstream.accept().await.send("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    });
    expect_error(&mut client, "502 Bad Gateway", "upstream_tls").await;
}

#[tokio::test]
async fn an_upstream_that_closes_instead_of_answering_is_asked_once() {
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
async fn an_answer_that_is_not_http() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward(GET).await;
    upstream.head().await;
    upstream.send("SSH-2.0-OpenSSH\r\n\r\n").await;
    expect_error(&mut client, "502 Bad Gateway", "upstream_answer").await;
}

#[tokio::test]
async fn a_malformed_body_is_the_clients_fault() {
    let mut rig = Rig::start().await;
    let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (mut client, mut upstream) = rig.forward(head).await;
    upstream.head().await;
    client.send("nonsense\r\n").await;
    expect_error(&mut client, "400 Bad Request", "client_body").await;
    assert_eq!(upstream.closed().await, b"");
}

#[tokio::test]
async fn what_is_refused_does_not_reach_upstream() {
    let rig = Rig::start().await;
    for (request, status, token) in [
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400 Bad Request", "client_host"),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "501 Not Implemented", "connect"),
        (
            "POST /_threadtap/feedback HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
            "404 Not Found",
            "not_found",
        ),
    ] {
        let mut client = rig.client().await;
        client.send(request).await;
        expect_error(&mut client, status, token).await;
    }
}

#[tokio::test]
async fn an_error_of_upstream_passes_as_it_is() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward(GET).await;
    upstream.head().await;
    upstream.send("HTTP/1.1 502 Oh\r\nContent-Length: 2\r\n\r\nno").await;
    client.expect_head(&["HTTP/1.1 502 Oh", "Content-Length: 2"]).await;
    client.expect("no").await;
}
